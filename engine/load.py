"""Load a policy of any size: processor, model, quantisation, adapter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
)

from commons.errors import SftrlError
from commons.files import writable
from commons.processes import LOCAL_RANK

from .adapters import adapt, base_of, fingerprint, read_adapter
from .allocator import SMALL, keep_freed_blocks
from .families import FAMILIES, UNSEEN
from .families.base import Family
from .policy import Policy
from .presets import PRESETS
from .settings import ModelSettings
from .sources import gguf_file

WEIGHTS = "model.safetensors"
BF16 = (8, 0)  # the compute capability (Ampere) from which a GPU has instructions for it


def nf4(kind: str) -> BitsAndBytesConfig:
    """NF4 with double quantisation, for a `model_type`; head and vision side stay as they are."""
    skipped = FAMILIES[kind].not_quantised if kind in FAMILIES else ["lm_head"]
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=unpacked_dtype("qlora"), llm_int8_skip_modules=skipped,
    )  # fmt: skip


def unpacked_dtype(precision: str) -> torch.dtype:
    """Of weights that are not packed: bf16 below adapters on a GPU. A CPU without instructions for
    bf16 is many times slower with it, so there it is fp32."""
    large = precision in ("lora", "qlora")
    return torch.bfloat16 if large and torch.cuda.is_available() else torch.float32


def use_tensor_cores(precision: str) -> None:
    """Have a GPU multiply what is in 32 bits: adapters in TF32, many times as fast, since their
    gradients come through products in bf16 anyway; a model that is all in 32 bits exactly."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "full"


def unpacked(name: str, home: Path) -> str:
    """The folder of a GGUF file's weights and tokenizer as transformers saves them, made under
    `home` on first use. `name` as `gguf_file` takes it."""
    path = gguf_file(name)
    folder = home / path.stem
    if not (folder / WEIGHTS).exists():
        writable(folder)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )  # fmt: skip
        vars(model.config).pop("quantization_config", None)  # the file's: they are unpacked now
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return str(folder)


def load_model(source: str, packed: bool = False, **options: Any) -> tuple[Any, Any]:
    """(model, processor) of what transformers loads as image-text-to-text, or (model, tokenizer) of
    a model of text alone; a folder or a Hub id. `packed`: its linear layers are packed into NF4.

    SftrlError for whatever is wrong with them, tensors that are missing included: transformers
    would draw these at random and go on.
    """
    try:
        safe = {"trust_remote_code": False}  # no code that comes with weights is run
        config = AutoConfig.from_pretrained(source, **safe)
        if packed:
            options["quantization_config"] = nf4(config.model_type)
        kind: Any = AutoModelForCausalLM
        if hasattr(config, "vision_config"):
            kind = AutoModelForImageTextToText
            known = config.model_type in FAMILIES
            processor = (FAMILIES[config.model_type] if known else Family).processor(source, config)
        else:
            processor = AutoTokenizer.from_pretrained(source, **safe)
        model, found = kind.from_pretrained(source, output_loading_info=True, **options, **safe)
        if lost := sorted(found["missing_keys"]):
            raise ValueError(f"{len(lost)} of its tensors are missing, such as {lost[0]}")
    except Exception as error:  # damaged files end in exceptions of every kind
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise SftrlError(
            f"cannot load {source!r} ({why}); for gated weights accept the licence on the model's "
            "page, set HF_TOKEN, and set SFTRL_ONLINE=1, or give the path of a whole local copy."
        ) from error
    return model, processor


def need_machine(own: ModelSettings) -> None:
    """SftrlError where a preset's model, or its precision, is not for the machine at hand."""
    preset = PRESETS[own.preset]
    if preset.gpu and not own.model and not torch.cuda.is_available():
        raise SftrlError(
            f"preset {preset.name} needs a CUDA GPU with {preset.gpu} GB and this machine has none"
            "; use preset=tiny here, or run the same command on a machine with a GPU."
        )
    precision, _ = own.resolved
    if precision == "full" or not torch.cuda.is_available():
        return
    if (found := torch.cuda.get_device_capability(LOCAL_RANK)) < BF16:
        raise SftrlError(
            f"precision {precision} computes in bf16, for which a GPU needs compute capability "
            "{}.{}, and this one has {}.{}".format(*BF16, *found)
            + "; use precision=full, which runs here in 32 bits for a small model (preset=tiny, "
            "preset=smol), or a newer card."
        )


def load_policy(
    own: ModelSettings, usual: Callable[[], str], path: str | Path | None = None, *,
    seed: int = 0, side_by_side: int = 256, pictures_of: str = "",
) -> Policy:  # fmt: skip
    """The policy of `path` (a folder of weights, or of an adapter, which says where its base lies;
    as a string also a Hub id), else of the model that is `usual`. SftrlError where there is none to
    load, and where `pictures_of` something cannot be shown to it. `seed` draws a new adapter;
    `side_by_side` is the number of answers that are written at once."""
    need_machine(own)
    precision, why = own.resolved
    use_tensor_cores(precision)
    source, adapter, base = str(path or usual()), "", ""
    if read_adapter(Path(source)):
        adapter = source
        source, base = base_of(Path(adapter), own.base, usual)
    elif isinstance(path, Path) and not list(path.glob("*.safetensors")):
        raise SftrlError(
            f"there are no weights ({WEIGHTS}, or an adapter) in {source}; name a folder that has "
            "them."
        )
    if Path(source).is_dir():  # an adapter's record of it holds from any working directory
        source = str(Path(source).absolute())
    if not own.ours and not torch.cuda.is_available():
        keep_freed_blocks(SMALL)
    options: dict = {"dtype": unpacked_dtype(precision), "use_safetensors": True}
    if torch.cuda.is_available():
        options["device_map"] = f"cuda:{LOCAL_RANK}"
    model, processor = load_model(source, precision == "qlora", **options)
    if pictures_of and model.config.model_type not in FAMILIES:
        raise SftrlError(
            f"{pictures_of} shows pictures, and the library shows them to models of the families "
            f"{', '.join(FAMILIES)}, not to {model.config.model_type} ({source})"
            f"{UNSEEN.get(model.config.model_type, '')}; use a text task."
        )
    if precision in ("qlora", "lora") or adapter:
        with torch.random.fork_rng():  # a new adapter is drawn
            torch.manual_seed(seed)
            model = adapt(model, own.rank, adapter)
        base = base or fingerprint(source)
    model.eval()
    told = json.loads(own.chat_template_kwargs or "{}")
    return Policy(
        model, processor, precision, why, side_by_side, base=base, chat_template_kwargs=told
    )
