"""LoRA adapters: made, recorded with what their base was, checked against it, merged."""

import contextlib
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear, Linear4bit
from safetensors import SafetensorError, safe_open
from torch.nn.functional import linear

from commons.errors import SftrlError

from .policy import BASE
from .sources import folder_of

ADAPTER = "adapter_model.safetensors"
LORA_TARGETS = (  # the language model of one that sees, or a model of text alone
    r"(model\.language_model|model\.text_model|model)\.layers\..*"
    r"\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)


def lora_config(rank: int) -> LoraConfig:
    """LoRA on every linear layer of the language model."""
    return LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"
    )


def adapt(model: torch.nn.Module, rank: int, adapter: str = "") -> PeftModel:
    """`model` with a LoRA adapter in fp32 that is trained, a new one or the one in a folder."""
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")  # PEFT asks for it
    # (PEFT's prepare_model_for_kbit_training would blow up what is not packed, half of the bytes.)
    try:
        if adapter:
            model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
        else:
            model = get_peft_model(model, lora_config(rank))
    except Exception as error:  # a damaged adapter ends in exceptions of every kind
        why = " ".join(str(error).split())[:200] or type(error).__name__
        repair = "it is for models whose layers are named as Llama's, others need precision=full"
        if adapter:
            repair = f"restore {adapter}, or name another"
        raise SftrlError(f"no adapter fits {type(model).__name__} ({why}); {repair}.") from error
    for module in model.modules():
        # bitsandbytes repacks weights for CPUs with bf16 once a model has answered, and training
        # goes on through that packing, whose product passes no gradient on.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # bf16 adapters round small updates away
            parameter.data = parameter.data.float()
    return model


def _without_bookkeeping(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """What the `forward` of a LoRA layer of PEFT's computes, in the same operations."""
    (name,) = layer.active_adapters
    down, up, scaling = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    base, packed = layer.get_base_layer(), not isinstance(layer, Linear)

    def forward(x: torch.Tensor) -> torch.Tensor:
        result = base(x) if packed else linear(x, base.weight, base.bias)
        added = linear(linear(x.to(down.dtype), down), up) * scaling
        return result + added.to(result.dtype) if packed else (result + added).to(result.dtype)

    return forward


def _is_plain(module: torch.nn.Module) -> bool:
    """Whether a module is a LoRA layer as `adapt` makes them, with one adapter at work."""
    if not isinstance(module, Linear | Linear4bit) or module.disable_adapters or module.merged:
        return False
    kept = [name for name in module.active_adapters if name in module.lora_A]
    usual = not module.lora_variant and not any(module.lora_bias.values())
    off = all(isinstance(drop, torch.nn.Identity) for drop in module.lora_dropout.values())
    return usual and off and kept == [*module.active_adapters] and len(kept) == 1


@contextlib.contextmanager
def lean(model: torch.nn.Module) -> Iterator[None]:
    """Inside, where answers are written, LoRA layers do without PEFT's choices between adapters,
    whose Python every token pays for in each of hundreds of layers."""
    layers = [m for m in model.modules() if _is_plain(m)] if hasattr(model, "peft_config") else []
    for layer in layers:
        layer.forward = _without_bookkeeping(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def read_adapter(folder: Path, name: str = "adapter_config.json") -> dict:
    """The configuration of the adapter in a folder, or what another JSON file beside it says; {}
    where there is none."""
    file = folder / name
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise SftrlError(
            f"{file} is damaged ({error}), but must hold a JSON object; restore it, or make the "
            "adapter again."
        ) from error


def fingerprint(source: str) -> str:
    """SHA-256 over names, types, shapes and bytes of a model's tensors, so that it does not depend
    on how they are spread over files. Empty where there are no weights."""

    def digest(file: Path, name: str) -> str:
        with safe_open(file, "pt") as weights:
            tensor = weights.get_tensor(name)
        raw = tensor.reshape(-1).view(torch.uint8).numpy()
        return f"{name} {tensor.dtype} {list(tensor.shape)} {hashlib.sha256(raw).hexdigest()}"

    folder, places = folder_of(source), []
    try:
        for file in folder.glob("model*.safetensors") if folder else ():
            with safe_open(file, "pt") as weights:
                places += [(file, name) for name in weights.keys()]  # noqa: SIM118
        with ThreadPoolExecutor(4) as pool:  # hashing runs beside hashing
            tensors = sorted(pool.map(digest, *zip(*places, strict=True))) if places else []
    except (OSError, SafetensorError) as error:
        raise SftrlError(
            f"cannot read the weights in {folder} ({error}); restore them, or name a copy."
        ) from error
    return hashlib.sha256("\n".join(tensors).encode()).hexdigest() if tensors else ""


def base_of(
    adapter: Path, named: str = "", usual: Callable[[], str] | None = None
) -> tuple[str, str]:
    """(source, fingerprint) of the base of an adapter: `named`, or what its configuration names,
    or `usual` where that has the weights that the adapter was trained on. SftrlError for a base
    that is missing or has other weights. An adapter that other software saved has no record of
    its base: that it could not be checked is printed."""
    if not (adapter / ADAPTER).exists():
        raise SftrlError(f"{adapter} has the configuration of an adapter, but no {ADAPTER}.")
    source = named or str(read_adapter(adapter).get("base_model_name_or_path") or "")
    trained_on = read_adapter(adapter, BASE).get("base_sha256")
    found = fingerprint(source)
    if trained_on and not named and usual and found != trained_on:
        with contextlib.suppress(SftrlError):  # this machine has none
            if fingerprint(own := usual()) == trained_on:
                return own, trained_on
    if not found or (trained_on and found != trained_on):
        problem = "whose weights are not those that it was trained on"
        raise SftrlError(
            f"the base of the adapter in {adapter} is {source or 'no model'}, "
            f"{problem if found else 'which is not there'}; name the folder of the right base with "
            "--base FOLDER."
        )
    if not trained_on:
        print(f"The adapter in {adapter} does not say what its base was: whether {source} is the "
              "right one could not be checked.", file=sys.stderr)  # fmt: skip
    return source, found


def merge(adapter: Path, folder: Path, base: str = "") -> None:
    """Write an adapter and its base as one checkpoint that needs neither PEFT nor this library.

    It takes the memory of all weights in 16 bits (22 GB for the 11B model). An adapter that was
    trained beside packed weights is added to the ones they were packed from: measure again.
    """
    if not read_adapter(adapter):
        raise SftrlError(
            f"{adapter} holds no adapter (no adapter_config.json); name a run's weights/."
        )
    from .load import load_model

    source, _ = base_of(adapter, base)
    model, processor = load_model(source, dtype=torch.bfloat16, use_safetensors=True)
    whole = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    whole.save_pretrained(folder)
    processor.save_pretrained(folder)
