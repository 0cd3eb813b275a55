"""Load a policy for any preset: processor, model, quantisation, LoRA; generate; save.

A policy is a model plus the few things the rollout needs: how a turn is spelled in tokens, and how
to sample many answers at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from .config import PRESETS, Experiment
from .errors import SftrlError
from .foundation import FOLDER as FOUNDATIONS

# LoRA adapts the language model; NF4 skips the head and the vision side (DESIGN.md, section 4).
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
NF4_SKIP = ["lm_head", "model.vision_model", "model.multi_modal_projector"]
_SENTINEL = "\u241e"


@dataclass
class Policy:
    """A model that answers. `n_active` counts the parameters a text token passes through."""

    model: torch.nn.Module
    processor: object
    precision: str = "full"
    why: str = ""
    n_active: int = 0
    _between: tuple = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        self.n_active = self.n_active or active_parameters(self.model)
        self.end_id = self.tokenizer.eos_token_id

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _template(self, messages: list[dict]) -> str:
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def first_turn(self, text: str) -> list[int]:
        """Token ids of the first user turn and the cue to answer."""
        return self._ids(self._template([{"role": "user", "content": text}]))

    def next_turn(self, text: str) -> list[int]:
        """Token ids between an answer, which ends with EOS, and the next: the template is asked
        once with sentinels, so any chat template works."""
        if not self._between:
            user, reply, again = (_SENTINEL + c for c in "abc")
            turns = [("user", user), ("assistant", reply), ("user", again)]
            text_ = self._template([{"role": r, "content": c} for r, c in turns])
            before, after = text_.split(reply)[1].split(again)
            before = before.removeprefix(self.tokenizer.eos_token)
            self._between = (before, after)
        return self._ids(self._between[0] + text + self._between[1])

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    @torch.no_grad()
    def generate(
        self, prompts: list[list[int]], max_new_tokens: int, temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[list[int]]:  # fmt: skip
        """Answer every prompt: new token ids, EOS included if reached. Temperature 0 is greedy.

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
        cache = None
        for _ in range(max_new_tokens):
            out = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                use_cache=True, logits_to_keep=1,
            )  # fmt: skip
            cache, logits = out.past_key_values, out.logits[:, -1].float()
            if temperature > 0:
                chances = (logits / temperature).softmax(-1)
                new = torch.multinomial(chances, 1, generator=generator)[:, 0]
            else:
                new = logits.argmax(-1)
            for row, token in zip(rows.tolist(), new.tolist(), strict=True):
                answers[row].append(token)
            going = new != self.end_id
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
            if self.end_id in answer:
                del answer[answer.index(self.end_id) + 1 :]
        return answers

    def save(self, folder: Path) -> None:
        """Weights as fp16 safetensors (full) or a PEFT adapter, beside the processor."""
        folder = Path(folder)
        if hasattr(self.model, "peft_config"):
            self.model.save_pretrained(folder)
        else:  # the copies are rounded, not the model itself
            weights = self.model.state_dict().items()
            halves = {n: t.half() if t.is_floating_point() else t for n, t in weights}
            self.model.save_pretrained(folder, state_dict=halves)
        self.processor.save_pretrained(folder)


def active_parameters(model: torch.nn.Module) -> int:
    """Parameters of the layers a text token passes through: no vision, no cross-attention, no
    embedding look-up (a look-up multiplies nothing)."""
    text = getattr(model.config, "text_config", None)
    skipped = [f"layers.{i}." for i in getattr(text, "cross_attention_layers", None) or ()]
    names = ("vision", "projector", "embed_tokens", "lora_", *skipped)
    used = [p for n, p in model.named_parameters() if not any(s in n for s in names)]
    packed = [getattr(p, "quant_state", None) for p in used]  # NF4: two weights in a byte
    return sum((q.shape if q else p.shape).numel() for p, q in zip(used, packed, strict=True))


def resolve_precision(exp: Experiment) -> tuple[str, str]:
    """(precision, why). `auto` asks the preset; `qlora` is allowed wherever bitsandbytes runs."""
    tier = PRESETS[exp.preset]
    if exp.precision == "auto":
        return tier["precision"], tier["why"]
    return exp.precision, "asked for with precision=" + exp.precision


def quantization_config() -> BitsAndBytesConfig:
    """NF4 with double quantisation, bf16 arithmetic; head and vision side stay as they are."""
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
        llm_int8_skip_modules=NF4_SKIP,
    )  # fmt: skip


def lora_config(rank: int = 16):
    """LoRA on every linear layer of the language model."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"
    )


def load_policy(exp: Experiment, path: str | Path | None = None) -> Policy:
    """An experiment's policy: `path` (weights, or an adapter and where its base lies), else its
    `model`, else the preset's. SftrlError where there are none to load."""
    precision, why = resolve_precision(exp)
    tiny = exp.preset == "tiny" and not exp.model
    source = str(
        path
        or exp.model
        or (FOUNDATIONS / exp.foundation if tiny else PRESETS[exp.preset]["model"])
    )
    adapter = Path(source) / "adapter_config.json"
    adapted = source if adapter.exists() else None
    if adapted:
        source = json.loads(adapter.read_text())["base_model_name_or_path"]
    if tiny and not (Path(source) / "model.safetensors").exists():
        raise SftrlError(
            f"there are no weights (model.safetensors) in {source}; name a folder that has them, "
            f"or build them with 'python -m sftrl_lib foundation --name {exp.foundation}'."
        )
    if exp.preset == "llama-11b" and not torch.cuda.is_available():
        raise SftrlError(
            "preset llama-11b needs a CUDA GPU with 24 GB and this machine has none; "
            "use preset=tiny here, or run the same command on a machine with a GPU."
        )
    options: dict = {"dtype": torch.float32 if precision == "full" else torch.bfloat16}
    if precision == "qlora":
        options["quantization_config"] = quantization_config()
    if torch.cuda.is_available():
        options["device_map"] = "cuda"
    try:
        processor = AutoProcessor.from_pretrained(source)
        try:
            model = AutoModelForImageTextToText.from_pretrained(source, **options)
        except ValueError:  # a text-only architecture
            model = AutoModelForCausalLM.from_pretrained(source, **options)
            processor = AutoTokenizer.from_pretrained(source)
    except (OSError, SafetensorError) as error:
        raise SftrlError(
            f"cannot load {source!r} ({str(error).splitlines()[0]}); for gated weights accept the "
            "licence on the model's page, set HF_TOKEN, and set SFTRL_ONLINE=1, or give the path "
            "of a local copy."
        ) from error
    if precision in ("qlora", "lora") or adapted:
        from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training

        if precision == "qlora":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        if adapted:
            model = PeftModel.from_pretrained(model, adapted, is_trainable=True)
        else:
            model = get_peft_model(model, lora_config())
        for name, parameter in model.named_parameters():
            if "lora_" in name:  # bf16 adapters round small updates away
                parameter.data = parameter.data.float()
    model.eval()
    return Policy(model, processor, precision, why)
