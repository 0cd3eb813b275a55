"""Load a policy for any preset: processor, model, quantisation, LoRA; generate; save."""

import contextlib
import ctypes
import hashlib
import json
import os
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from jinja2 import TemplateError
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
)

from .config import PRESETS, Experiment, resolve_precision
from .errors import SftrlError
from .places import ROOT, writable
from .runs import LIVE, LOCAL_RANK
from .sources import folder_of, gguf_file

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
BASE = "sftrl.json"  # beside an adapter: what its base was
FOUNDATIONS = ROOT / "data" / "foundation"
# LoRA adapts the language model; NF4 skips the head and the vision side (DESIGN.md, section 4).
LORA_TARGETS = (  # of a Mllama, or of a model of text alone
    r"(model\.language_model|model)\.layers\..*"
    r"\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)
NF4_SKIP = ["lm_head", "model.vision_model", "model.multi_modal_projector"]
LOOKED = 32  # pictures whose states are kept: the deals of a step; of the 11B model 52 MB each
SMALL, LARGE = 2**20, 2**25  # bytes: of freed blocks that are kept (`keep_freed_blocks`)
_kept = 0  # the system's own way
_SENTINEL = "\u241e"
_TODAY = "26 Jul 2024"  # Llama's template writes the date: with today's, prompts change overnight


def keep_freed_blocks(largest: int) -> None:
    """Have the GNU C library keep freed blocks of less than `largest` bytes for later, and give
    larger ones back at once. By itself it comes to keep those of up to 32 MB, with holes that the
    next block does not fit: in training a large model more than all that is in use."""
    global _kept
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages: given back, taken faster
        libc.malloc_trim(0)
        libc.mallopt(-3, largest)  # M_MMAP_THRESHOLD
        _kept = largest


@contextlib.contextmanager
def caches_kept():
    """While answers are written the caches grow by a token at a time, in blocks of some MB: to take
    them anew each time would take as long as the model does."""
    if _kept != SMALL:
        yield
        return
    keep_freed_blocks(LARGE)
    try:
        yield
    finally:
        keep_freed_blocks(SMALL)


@dataclass
class Policy:
    """A model, how a turn is spelled in its tokens, and how to sample many answers at once.
    `n_active` counts the parameters a text token passes through; `base` is the fingerprint of the
    weights below an adapter. An answer ends with any of `end_ids`; `turn_end` is how the chat
    template spells the end of one, up to the token `end_id`."""

    model: torch.nn.Module
    processor: object
    precision: str = "full"
    why: str = ""
    chunk: int = 256  # answers written side by side: what their caches may take
    looked: OrderedDict = field(default_factory=OrderedDict, repr=False)  # see `Sight`
    base: str = ""
    chat_template_kwargs: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        self.n_active = active_parameters(self.model)
        vision = getattr(self.model.config, "vision_config", None)
        self.image_size = getattr(vision, "image_size", 0)
        self._chat = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        if not self._chat:
            raise SftrlError(
                f"the tokenizer of {self.model.config.name_or_path!r} has no chat template, which "
                "spells who says what; use a model that was trained to follow instructions."
            )
        self._find_ends()
        if self.tokenizer.pad_token_id is None:  # padding is masked: any token will do
            self.tokenizer.pad_token = self.tokenizer.convert_ids_to_tokens(self.end_id)

    def _find_ends(self) -> None:
        """The first special token after an answer ends it: <|im_end|> in ChatML, <end_of_turn> in
        Gemma's template. The tokenizer's EOS and those of `generation_config` end one as well."""
        named = getattr(self.model.generation_config, "eos_token_id", None)
        named = named if isinstance(named, list) else [named]
        self.end_ids = {i for i in (self.tokenizer.eos_token_id, *named) if i is not None}
        special = self.end_ids.union(self.tokenizer.all_special_ids)
        special |= {i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        after = self._ids(self._between[0])
        self._ends_spelled = next((n for n, i in enumerate(after, 1) if i in special), 0)
        self.turn_end = after[: self._ends_spelled] or [self.tokenizer.eos_token_id]
        self.end_id = self.turn_end[-1]
        if self.end_id is None:
            raise SftrlError(
                f"neither the tokenizer of {self.model.config.name_or_path!r} nor its chat "
                "template has a token that ends an answer; set the tokenizer's eos_token."
            )
        self.end_ids.add(self.end_id)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _template(self, *turns: tuple[str, str | list]) -> str:
        said = [{"role": role, "content": text} for role, text in turns]
        usual = {"date_string": _TODAY}
        if "enable_thinking" in self._chat:
            usual["enable_thinking"] = False
        ours = {"chat_template": self._chat, "tokenize": False, "add_generation_prompt": True}
        return self.tokenizer.apply_chat_template(said, **usual | self.chat_template_kwargs | ours)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def first_turn(self, text: str, picture: bool = False) -> list[int]:
        """Token ids of the first user turn, which begins with the picture if there is one, and the
        cue to answer."""
        if picture and "image" in self._chat:  # a template that is to know of the picture
            text = [{"type": "image"}, {"type": "text", "text": text}]
        elif picture:
            text = self.processor.image_token + text
        return self._ids(self._template(("user", text)))

    def next_turn(self, text: str) -> list[int]:
        """Token ids between an answer, which ends with `turn_end`, and the next.

        The conversation stays as it was written: a template that leaves things out of earlier turns
        (Qwen3: an empty thought) would spell it anew.
        """
        before, after = self._between
        return self._ids(before + text + after)[self._ends_spelled :]

    @cached_property
    def _between(self) -> tuple[str, str]:
        """What stands around that text, the end of the answer included. Sentinels find it, so any
        chat template works that can spell several turns."""
        user, reply, again = (_SENTINEL + c for c in "abc")
        try:
            whole = self._template(("user", user), ("assistant", reply), ("user", again))
            before, after = whole.split(reply)[1].split(again)
        except (TemplateError, IndexError, ValueError) as error:
            raise SftrlError(
                f"the chat template of {self.model.config.name_or_path!r} does not spell a "
                f"question, an answer and another question ({error}); use another model, or repair "
                "the template."
            ) from error
        return before, after

    def decode(self, ids: list[int]) -> str:
        ids = [i for i in ids if i not in self.end_ids]  # not all are special to every tokenizer
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    @torch.no_grad()
    @caches_kept()
    def generate(
        self, prompts: list[list[int]], max_new_tokens: int, temperature: float = 0.0,
        generator: torch.Generator | None = None, pictures: Sequence[Image.Image] = (),
    ) -> list[list[int]]:  # fmt: skip
        """Answer every prompt: new token ids, the end included if reached. Temperature 0 is greedy.
        `pictures`: none, or one a prompt.

        Left-padded, with a key-value cache; a row that has ended leaves the batch, so that one
        long-winded answer does not make all others wait.
        """
        pad, device = self.tokenizer.pad_token_id, self.device
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        answers: list[list[int]] = [[] for _ in prompts]
        rows = torch.arange(len(prompts), device=device)
        positions = mask.cumsum(1).sub(1).clamp_min(0)
        ends = torch.tensor(sorted(self.end_ids), device=device)
        cache, sight = None, Sight(self, pictures)
        for _ in range(max_new_tokens):
            with sight.of(rows):
                out = self.model(
                    input_ids=ids, attention_mask=mask, position_ids=positions,
                    past_key_values=cache, use_cache=True, logits_to_keep=1,
                )  # fmt: skip
            cache, logits = out.past_key_values, out.logits[:, -1].float()
            if temperature > 0:
                chances = (logits / temperature).softmax(-1)
                new = torch.multinomial(chances, 1, generator=generator)[:, 0]
            else:
                new = logits.argmax(-1)
            for row, token in zip(rows.tolist(), new.tolist(), strict=True):
                answers[row].append(token)
            going = torch.isin(new, ends, invert=True)
            if not going.any():
                break
            # Dropping rows copies the cache: worth it only when a good share has ended.
            if going.float().mean() < 0.8:
                rows, new, mask, positions = rows[going], new[going], mask[going], positions[going]
                cache.batch_select_indices(going.nonzero()[:, 0])
            ids = new[:, None]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            positions = positions[:, -1:] + 1
        for answer in answers:
            end = next((n for n, i in enumerate(answer, 1) if i in self.end_ids), len(answer))
            del answer[end:]
        return answers

    def save(self, folder: Path) -> None:
        """Weights as fp16 safetensors (full) or a PEFT adapter, beside the processor."""
        if hasattr(self.model, "peft_config"):
            self.model.save_pretrained(folder)
            if self.base:
                (Path(folder) / BASE).write_text(json.dumps({"base_sha256": self.base}) + "\n")
        else:  # the copies are rounded, not the model itself
            weights = self.model.state_dict().items()
            halves = {n: t.half() if t.is_floating_point() else t for n, t in weights}
            ends = sorted(self.end_ids)  # where others' `generate` is to stop, too
            self.model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
            self.model.save_pretrained(folder, state_dict=halves)
        self.processor.save_pretrained(folder)


class Sight:
    """Shows pictures to a model, whoever calls it: TRL's trainers do not pass on what Mllama needs.

    Within `of(rows)` each call of the model takes the next of these rows, in order, and sees their
    pictures from the image token on. A picture that several rows share is looked at once a call;
    by a frozen tower once at all, as long as it is among the last `LOOKED`: every try and every
    micro-batch of its deal asks for it again. Without pictures it does nothing.
    """

    def __init__(self, policy: Policy, pictures: Sequence[Image.Image]) -> None:
        self.policy, self.number = policy, []
        if not pictures:
            return
        different = {id(picture): picture for picture in pictures}
        places = {key: place for place, key in enumerate(different)}
        self.pictures = list(different.values())
        self.number = torch.tensor([places[id(picture)] for picture in pictures])
        images = [[picture] for picture in self.pictures]
        seen = policy.processor.image_processor(images, return_tensors="pt")
        self.seen = {k: v for k, v in seen.items() if isinstance(v, torch.Tensor)}
        self.tiles = seen["aspect_ratio_mask"]  # (pictures, 1, tiles): 1 where there is one

    def _states(self, pictures: torch.Tensor) -> torch.Tensor:
        """(pictures, patches of the tiles, hidden): what the language model attends to."""
        eyes = self.model.model.vision_model, self.model.model.multi_modal_projector
        tower, projector = ([p.requires_grad for p in module.parameters()] for module in eyes)
        if not any(tower + projector):
            return torch.cat([self._once(number) for number in pictures.tolist()])
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(tower)):
            patches = self._patches(pictures)
        return self._projected(patches)

    @torch.no_grad()
    def _once(self, number: int) -> torch.Tensor:
        """The states of one picture; kept outside the GPU."""
        picture, looked = self.pictures[number], self.policy.looked
        if id(picture) not in looked:  # whose picture is held, so that no other gets its id
            looked[id(picture)] = picture, self._projected(self._patches([number])).cpu()
        looked.move_to_end(id(picture))
        while len(looked) > LOOKED:
            looked.popitem(last=False)
        return looked[id(picture)][1].to(self.policy.device)

    def _patches(self, pictures: torch.Tensor | list[int]) -> torch.Tensor:
        seen = {key: value[pictures].to(self.policy.device) for key, value in self.seen.items()}
        return self.model.model.vision_model(**seen).last_hidden_state

    def _projected(self, patches: torch.Tensor) -> torch.Tensor:
        states = self.model.model.multi_modal_projector(patches)
        return states.reshape(len(patches), -1, states.shape[-1])

    def _show(self, module, args, kwargs):
        ids, cache = kwargs["input_ids"], kwargs.get("past_key_values")
        rows, self.rows = self.rows[: len(ids)], self.rows[len(ids) :]
        number = self.number[rows]
        if cache is None or cache.get_seq_length() == 0:
            different, place = number.unique(return_inverse=True)
            kwargs["cross_attention_states"] = self._states(different)[place]
            shown = (ids == self.model.config.image_token_index).cumsum(1) > 0
        else:  # the keys of the picture are in the cache
            shown = torch.ones_like(ids)
        tiles = self.tiles[number][:, None].to(ids.device)
        mask = shown[:, :, None, None] * tiles
        kwargs["cross_attention_mask"] = mask.to(self.model.dtype)  # spread over all patches
        return args, kwargs

    @contextlib.contextmanager
    def of(self, rows: torch.Tensor, model: torch.nn.Module | None = None):
        """Show the pictures of these rows (indices into `pictures`), to the policy's model or to
        another one."""
        if not len(self.number):
            yield
            return
        model = model or self.policy.model
        model = getattr(model, "module", model)  # of several processes
        self.model = model.get_base_model() if hasattr(model, "peft_config") else model
        self.rows = rows.cpu()
        handle = self.model.register_forward_pre_hook(self._show, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def active_parameters(model: torch.nn.Module) -> int:
    """Parameters of the layers a text token passes through: no vision, no cross-attention, no
    embedding look-up (a look-up multiplies nothing)."""
    text = getattr(model.config, "text_config", None)
    skipped = [f"layers.{i}." for i in getattr(text, "cross_attention_layers", None) or ()]
    names = ("vision", "projector", "embed_tokens", "lora_", *skipped)
    used = [p for n, p in model.named_parameters() if not any(s in n for s in names)]
    packed = [getattr(p, "quant_state", None) for p in used]  # NF4: two weights in a byte
    return sum((q.shape if q else p.shape).numel() for p, q in zip(used, packed, strict=True))


def lora_config(rank: int = 16) -> LoraConfig:
    """LoRA on every linear layer of the language model."""
    targets, alpha = LORA_TARGETS, 2 * rank
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM")


def nf4() -> BitsAndBytesConfig:
    """NF4 with double quantisation; head and vision side stay as they are."""
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=unpacked_dtype("qlora"), llm_int8_skip_modules=NF4_SKIP,
    )  # fmt: skip


def unpacked_dtype(precision: str) -> torch.dtype:
    """Of weights that are not packed: bf16 below adapters on a GPU. A CPU without instructions for
    bf16 is many times slower with it, so there it is fp32."""
    large = precision in ("lora", "qlora")
    return torch.bfloat16 if large and torch.cuda.is_available() else torch.float32


def source_of(exp: Experiment) -> str:
    """The folder or Hub id of an experiment's model, before any training of ours."""
    if exp.tiny:
        folder = FOUNDATIONS / exp.foundation
        if not (folder / WEIGHTS).exists():
            raise SftrlError(
                f"there are no weights ({WEIGHTS}) in {folder}; name a folder that has them, or "
                f"build them with 'python -m sftrl_lib foundation --name {exp.foundation}'."
            )
        return str(folder)
    source = exp.model or PRESETS[exp.preset]["model"]
    return unpacked(source) if source.endswith(".gguf") else source


def unpacked(name: str) -> str:
    """The folder of a GGUF file's weights and tokenizer as transformers saves them, made on first
    use. `name` as `gguf_file` takes it."""
    path = gguf_file(name)
    folder = LIVE / "models" / path.stem
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


def load_model(source: str, **options) -> tuple[torch.nn.Module, object]:
    """(model, processor) of what transformers loads as image-text-to-text, or (model, tokenizer) of
    a model of text alone; a folder or a Hub id."""
    try:
        if hasattr(AutoConfig.from_pretrained(source), "vision_config"):
            processor = AutoProcessor.from_pretrained(source)
            return AutoModelForImageTextToText.from_pretrained(source, **options), processor
        tokenizer = AutoTokenizer.from_pretrained(source)
        return AutoModelForCausalLM.from_pretrained(source, **options), tokenizer
    except (OSError, ValueError, SafetensorError) as error:
        raise SftrlError(
            f"cannot load {source!r} ({str(error).splitlines()[0]}); for gated weights accept the "
            "licence on the model's page, set HF_TOKEN, and set SFTRL_ONLINE=1, or give the path "
            "of a local copy."
        ) from error


def adapt(model: torch.nn.Module, rank: int, adapter: str = "") -> PeftModel:
    """`model` with a LoRA adapter in fp32 that is trained, a new one or the one in a folder."""
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")  # PEFT asks for it
    # (PEFT's prepare_model_for_kbit_training would blow up what is not packed, half of the bytes.)
    try:
        if adapter:
            model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
        else:
            model = get_peft_model(model, lora_config(rank))
    except ValueError as error:
        raise SftrlError(
            f"no adapter fits {type(model).__name__} ({str(error).splitlines()[0][:120]}); it is "
            "for models whose layers are named as Llama's, others need precision=full."
        ) from error
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # bf16 adapters round small updates away
            parameter.data = parameter.data.float()
    return model


def read_record(file: Path) -> dict:
    """What a JSON file beside an adapter says; {} where there is none."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise SftrlError(
            f"{file} is damaged ({error}), but must hold a JSON object; restore it, or make the "
            "adapter again."
        ) from error


def read_adapter(folder: Path) -> dict:
    """The configuration of the adapter in a folder; {} where there is none."""
    return read_record(folder / "adapter_config.json")


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
    trained_on = read_record(adapter / BASE).get("base_sha256")
    found = fingerprint(source)
    if trained_on and not named and usual and found != trained_on:
        with contextlib.suppress(SftrlError):  # this machine has none
            if fingerprint(own := usual()) == trained_on:
                return own, trained_on
    if not found:
        problem = f"{source or 'no model'}, which is not there"
    elif trained_on and found != trained_on:
        problem = f"{source}, whose weights are not those that it was trained on"
    else:
        if not trained_on:
            print(f"The adapter in {adapter} does not say what its base was: whether {source} is "
                  "the right one could not be checked.", file=sys.stderr)  # fmt: skip
        return source, found
    raise SftrlError(
        f"the base of the adapter in {adapter} is {problem}; name the folder of the right base "
        "with --base FOLDER."
    )


def need_machine(exp: Experiment) -> None:
    """SftrlError where a preset's model is not for the machine at hand."""
    if exp.preset == "llama-11b" and not torch.cuda.is_available():
        raise SftrlError(
            "preset llama-11b needs a CUDA GPU with 24 GB and this machine has none; "
            "use preset=tiny here, or run the same command on a machine with a GPU."
        )


def load_policy(exp: Experiment, path: str | Path | None = None) -> Policy:
    """An experiment's policy: `path` (a folder of weights, or of an adapter, which says where its
    base lies; as a string also a Hub id), else its `model`, else the preset's. SftrlError where
    there are none to load."""
    need_machine(exp)
    precision, why = resolve_precision(exp)
    source, adapter, base = str(path or source_of(exp)), "", ""
    if read_adapter(Path(source)):
        adapter = source
        source, base = base_of(Path(adapter), exp.base, partial(source_of, exp))
    elif isinstance(path, Path) and not list(path.glob("*.safetensors")):
        raise SftrlError(
            f"there are no weights ({WEIGHTS}, or an adapter) in {source}; name a folder that has "
            "them."
        )
    if Path(source).is_dir():  # an adapter's record of it holds from any working directory
        source = str(Path(source).absolute())
    if not exp.tiny and not torch.cuda.is_available():
        keep_freed_blocks(SMALL)
    options: dict = {"dtype": unpacked_dtype(precision), "use_safetensors": True}
    if precision == "qlora":
        options["quantization_config"] = nf4()
    if torch.cuda.is_available():
        options["device_map"] = f"cuda:{LOCAL_RANK}"
    model, processor = load_model(source, **options)
    if exp.task.endswith("-vl") and model.config.model_type != "mllama":
        raise SftrlError(
            f"task {exp.task} shows pictures, and the library shows them to Mllama alone, not to "
            f"{model.config.model_type} ({source}); use a text task (gp-l | virl-l)."
        )
    if precision in ("qlora", "lora") or adapter:
        with torch.random.fork_rng():  # a new adapter is drawn
            torch.manual_seed(exp.seed)
            model = adapt(model, exp.rank, adapter)
        base = base or fingerprint(source)
    model.eval()
    told = json.loads(exp.chat_template_kwargs or "{}")
    return Policy(model, processor, precision, why, exp.chunk, base=base, chat_template_kwargs=told)


def merge(adapter: Path, folder: Path, dtype: torch.dtype = torch.bfloat16, base: str = "") -> None:
    """Write an adapter and its base as one checkpoint that needs neither PEFT nor this library.

    It takes the memory of all weights in 16 bits (22 GB for the 11B model). An adapter that was
    trained beside packed weights is added to the ones they were packed from: measure again.
    """
    if not read_adapter(adapter):
        raise SftrlError(
            f"{adapter} holds no adapter (no adapter_config.json); name a run's weights/."
        )
    source, _ = base_of(adapter, base)
    model, processor = load_model(source, dtype=dtype, use_safetensors=True)
    whole = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    whole.save_pretrained(folder)
    processor.save_pretrained(folder)
