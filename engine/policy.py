"""A policy: a model, how a turn is spelled in its tokens, and how it is saved."""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image

from commons.errors import SftrlError

from .families import FAMILIES

BASE = "sftrl.json"  # beside an adapter: what its base was
_SENTINEL = "\u241e"
_TODAY = "26 Jul 2024"  # Llama's template writes the date: with today's, prompts change overnight


@dataclass
class Policy:
    """A model, how a turn is spelled in its tokens, and how to sample many answers at once.
    `n_active` counts the parameters a text token passes through; `base` is the fingerprint of the
    weights below an adapter. An answer ends with any of `end_ids`; `turn_end` is how the chat
    template spells the end of one, up to the token `end_id`."""

    model: Any  # of transformers, or PEFT's around one
    processor: Any  # of transformers: a tokenizer where it sees no pictures
    precision: str = "full"
    why: str = ""
    generation_batch_size: int = 256  # answers written side by side: what their caches may take
    vision_cache: OrderedDict = field(default_factory=OrderedDict, repr=False)  # see `images`
    base: str = ""
    chat_template_kwargs: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        self.n_active = active_parameters(self.model)
        config = self.model.config
        self.family: Any = FAMILIES[config.model_type] if config.model_type in FAMILIES else None
        self.image_size = self.family.image_size(config) if self.family else 0
        self._chat = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        if not self._chat:
            raise SftrlError(
                f"the tokenizer of {self.model.config.name_or_path!r} has no chat template, which "
                "spells who says what; use a model that was trained to follow instructions."
            )
        # Some templates write nothing of a text that is not in a list of parts.
        self._as_parts = _SENTINEL not in self._template(("user", _SENTINEL))
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
        """Where the weights are, and what the model reads must be."""
        return next(self.model.parameters()).device

    def _template(self, *turns: tuple[str, str | list]) -> str:
        said: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
        for turn in said if getattr(self, "_as_parts", False) else ():
            if isinstance(turn["content"], str):
                turn["content"] = [{"type": "text", "text": turn["content"]}]
        usual: dict[str, Any] = {"date_string": _TODAY}
        if "enable_thinking" in self._chat:
            usual["enable_thinking"] = False
        ours = {"chat_template": self._chat, "tokenize": False, "add_generation_prompt": True}
        return self.tokenizer.apply_chat_template(said, **usual | self.chat_template_kwargs | ours)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def first_turn(self, text: str, picture: Image.Image | None = None) -> list[int]:
        """Token ids of the first user turn, which begins with the picture if there is one, and the
        cue to answer."""
        if not picture:
            return self._ids(self._template(("user", text)))
        mark = self.processor.image_token
        if "image" in self._chat:  # a template that is to know of the picture
            shown = [{"type": "image"}, {"type": "text", "text": text}]
            written = self._template(("user", shown))
        else:
            written = self._template(("user", mark + text))
        spelled = self.family.spelled(self.model.config, self.processor, picture)
        return self._ids(written.replace(mark, spelled, 1))

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
        """The text of an answer, without its end and other special tokens."""
        ids = [i for i in ids if i not in self.end_ids]  # not all are special to every tokenizer
        return self.tokenizer.decode(ids, skip_special_tokens=True)

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


def active_parameters(model: Any) -> int:
    """Parameters of the layers a text token passes through: no vision, no cross-attention, no
    embedding look-up (a look-up multiplies nothing)."""
    text = getattr(model.config, "text_config", None)
    skipped = [f"layers.{i}." for i in getattr(text, "cross_attention_layers", None) or ()]
    names = ("vision", "visual", "projector", "connector", "embed_tokens", "lora_", *skipped)
    used = [p for n, p in model.named_parameters() if not any(s in n for s in names)]
    packed = [getattr(p, "quant_state", None) for p in used]  # NF4: two weights in a byte
    return sum((q.shape if q else p.shape).numel() for p, q in zip(used, packed, strict=True))
