"""Estimates the memory each stage needs from the model's configuration; no weight is loaded.

Bytes are counted piece by piece for one process: what stays (weights, adapter, gradient, optimiser)
and, on top, the larger of what a training step and a rollout need for a while. How many rows fit
(`micro_batch`, `generation_batch_size`) does not change a result, only its price.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from .adapters import LORA_TARGETS
from .families import FAMILIES
from .generation import PREFILL
from .images import VISION_CACHE

GB = 2**30
STAGES = ("evaluate", "sft", "rl")
SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)  # rows at a time that are tried
AT_ONCE = (4096, 32_768)  # tokens and words whose chances TRL computes at a time
LOGIT = {"cuda": 12, "cpu": 33}  # bytes each: in place in Triton's kernel, in eight copies without
RUN_AGAIN = 1e7  # parameters above which layers are run again in training rather than kept
KL_LOGIT = 20  # bytes each of two distributions that are compared
# Bytes that a layer at work takes a token, for each of its (hidden, intermediate) numbers. Adapters
# are in 32 bits, and so is all that they touch (tests/test_plan.py counts them).
READING = {"full": (16, 12), "bf16": (10, 12), "fp32": (12, 16)}
TRAINING = {"full": (40, 16), "bf16": (49, 14), "fp32": (26, 24)}
# Bytes of a weight packed into NF4: 4 bits, a byte a block of 64, doubly quantised.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
ADAMW = 8  # bytes a trained weight: two averages in 32 bits
RUNTIME = {"cuda": 0.9, "cpu": 0.6}  # GB: context and kernels; Python and its libraries
SLACK = 0.05  # share of the rest that an allocator loses

Phases = dict[str, dict[str, float]]  # {phase: {piece: bytes}}


class Shape:
    """The sizes that decide what a model needs, with LoRA adapters of a rank."""

    def __init__(self, config: PretrainedConfig, rank: int) -> None:
        pictures = hasattr(config, "vision_config")
        auto = AutoModelForImageTextToText if pictures else AutoModelForCausalLM
        with torch.device("meta"):
            model = auto.from_config(config)
        layers = re.compile(LORA_TARGETS)
        linear = [m for name, m in model.named_modules() if layers.fullmatch(name)]
        self.parameters = sum(p.numel() for p in model.parameters())  # a tied head counts once
        self.linear = sum(m.weight.numel() for m in linear)  # what QLoRA packs
        self.adapter = sum(rank * (m.in_features + m.out_features) for m in linear)
        self.text = text = config.get_text_config()
        # Layers that attend to pictures, how many patches, of all tiles, they attend to, and how
        # many stand in the text instead.
        self.cross_layers = len(getattr(text, "cross_attention_layers", None) or ())
        family = FAMILIES[config.model_type] if config.model_type in FAMILIES else None
        seen = family.patches(config) if family else 0
        self.patches: int = 0 if family and family.in_text else seen
        self.filled: int = family.shown(config) if family and self.patches else 0  # of them
        self.places: int = seen - self.patches
        vision = getattr(config, "vision_config", None)
        levels = 1 + len(getattr(vision, "deepstack_visual_indexes", ()))
        self.kept = seen * levels * text.hidden_size  # numbers that are kept of one picture
        # Numbers that a frozen tower holds for one picture.
        self.looking = family.looking(config) if family else 0
        # Numbers that a layer keeps for a token it has read: keys and values.
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        self.keys = 2 * heads * width


@dataclass(frozen=True)
class Work:
    """What is asked of a model in one of STAGES, as far as its memory is concerned."""

    stage: str
    precision: str
    micro_batch: int
    generation_batch_size: int
    max_new_tokens: int
    # tokens of one question and its answer, and of all that are allowed, without a picture's places
    lengths: tuple[int, int]
    pictures: int = 0  # different ones that are shown; 0 where there are none
    anchored: bool = False  # whether a KL in the loss compares the model with what it was
    compared: int = 0  # rows at a time whose KL is measured; never more than `micro_batch`

    @property
    def trains(self) -> bool:
        """Whether there are gradients."""
        return self.stage != "evaluate"


def pieces(work: Work, shape: Shape, device: str = "cuda") -> Phases:
    """Bytes of the phases "stays", "training step" and "rollout"."""
    adapters, trains = work.precision != "full", work.trains
    seen = shape.patches if work.pictures else 0
    # Bytes of a weight that is not packed, and of an activation (`load.unpacked_dtype`).
    wide = 2 if adapters and device == "cuda" else 4
    kind = "full" if not adapters else "bf16" if wide == 2 else "fp32"
    packed = shape.linear if work.precision == "qlora" else 0
    anchored = trains and work.anchored
    trained = shape.adapter if adapters else shape.parameters
    text, whole = shape.text, shape.parameters * wide
    first, length = (n + shape.places * bool(work.pictures) for n in work.lengths)
    stays: dict[str, float] = {"weights": packed * NF4 + (shape.parameters - packed) * wide}
    if anchored and not adapters:
        stays["the init, for the KL"] = whole
    if adapters:
        stays["adapter"] = 4 * trained
    if trains:
        stays["gradient"] = 4 * trained
        stays["optimiser"] = trained * ADAMW
    if device == "cpu" and shape.kept and adapters:  # with a GPU it lies beside it, in the machine
        stays["pictures seen before"] = min(VISION_CACHE, work.pictures) * wide * shape.kept
    if device == "cpu" and trains:  # the same
        stays["distributions of the init"] = work.max_new_tokens * text.vocab_size * 128
    looking = {"a picture looked at": shape.looking * wide} if work.pictures else {}
    # Every run is measured, SFT too: by rollouts.
    asked, told = max(1, first - work.max_new_tokens), min(first, work.max_new_tokens)
    reading = _rollout(work, shape, seen, (asked, length), wide, kind, device)
    phases = {"stays": stays, "rollout": reading | looking}
    if trains:
        step = first if work.stage == "sft" else length
        phases["training step"] = _training_step(work, shape, seen, step, wide, kind) | looking
        tokens, words, each = work.micro_batch * step, text.vocab_size, LOGIT[device]
        if work.stage == "sft" and anchored:  # whose KL takes all words of its answers at once
            tokens, each = work.micro_batch * told, KL_LOGIT
        else:
            tokens, words = map(min, (tokens, words), AT_ONCE)
        phases["training step"]["logits"] = tokens * words * each
        compared = min(work.compared, work.micro_batch)
        phases["KL to the init"] = {
            "logits": compared * told * text.vocab_size * KL_LOGIT,
            "one layer at work": compared * first * _at_work(READING[kind], text),
        }
        unpacked = text.hidden_size * text.intermediate_size * wide
        phases["training step"]["a layer unpacked"] = unpacked if packed else 0
    return phases


def _at_work(bytes_of: tuple[int, int], text: PretrainedConfig) -> int:
    hidden, intermediate = bytes_of
    return hidden * text.hidden_size + intermediate * text.intermediate_size


def _rollout(
    work: Work, shape: Shape, seen: int, lengths: tuple[int, int], wide: int, kind: str, device: str
) -> dict[str, float]:
    """Of conversations side by side that see `seen` patches: lengths of a prompt, and of all."""
    rows, text, (asked, length) = work.generation_batch_size, shape.text, lengths
    own_layers = text.num_hidden_layers - shape.cross_layers
    read = max(1, min(rows, PREFILL.get(device, 2**30) // (asked + seen)))  # rows at once
    filled = min(seen, shape.filled)
    patches = rows * filled + read * seen  # those of the rows that are being read are all there
    return {
        "cache of the text": rows * length * own_layers * shape.keys * wide,
        "cache of the picture": patches * shape.cross_layers * shape.keys * wide,
        # its states, and a layer's keys and values repeated for every head
        "picture": read * seen * 3 * text.hidden_size * wide,
        "what sees which patch": read * asked * seen * 3 * wide,
        "one layer at work": read * asked * _at_work(READING[kind], text),
        "logits": rows * text.vocab_size * 8,
    }


def _training_step(
    work: Work, shape: Shape, seen: int, length: int, wide: int, kind: str
) -> dict[str, float]:
    """Of a micro-batch of rows of `length` tokens and `seen` patches, without its logits."""
    rows, hidden, adapters = work.micro_batch, shape.text.hidden_size, kind != "full"
    layer = rows * length * _at_work(TRAINING[kind], shape.text)
    again = adapters or shape.parameters > RUN_AGAIN
    kept = rows * length * hidden * wide if again else layer  # by gradient checkpoints
    return {
        "inputs of the layers": kept * shape.text.num_hidden_layers,
        "one layer at work": layer,
        # as in a rollout, and in fp32 what goes into a layer's two adapters that look at it
        "picture": rows * seen * ((3 * hidden + shape.keys) * wide + 8 * hidden * adapters),
        "what sees which patch": rows * length * seen * 3 * wide,
    }


def total(phases: Phases, device: str) -> float:
    """Bytes at the peak."""
    sums = {phase: sum(parts.values()) for phase, parts in phases.items()}
    stays = sums.pop("stays")
    return (stays + max(sums.values(), default=0)) * (1 + SLACK) + RUNTIME[device] * GB


@dataclass(frozen=True)
class Plan:
    """What fits: rows at a time by stage, its pieces in bytes, and the peak."""

    stage: str
    micro_batch: int
    generation_batch_size: int
    phases: Phases
    peak: float
    fits: bool


def plan(work: Work, shape: Shape, memory: float, device: str = "cuda") -> Plan:
    """The most rows at a time, up to the work's own, with which it fits into `memory` bytes; with
    one row where none does."""

    def with_rows(**rows: Any) -> Plan:
        phases = pieces(replace(work, **rows), shape, device)
        peak = total(phases, device)
        return Plan(work.stage, **rows, phases=phases, peak=peak, fits=peak <= memory)

    rows = {"micro_batch": 1, "generation_batch_size": 1}
    for name in rows:
        larger = (rows | {name: min(size, getattr(work, name))} for size in SIZES)
        rows = next((more for more in larger if with_rows(**more).fits), rows)
    return with_rows(**rows)


def render(plans: list[Plan]) -> str:
    """The plans as a table, a column a stage, in GB."""
    columns = {
        p.stage: {
            f"{phase}: {part}": size / GB
            for phase in p.phases
            for part, size in p.phases[phase].items()
        }
        for p in plans
    }
    table = pd.DataFrame(columns)
    table = table[table.any(axis=1)].map("{:.2f}".format, na_action="ignore")
    table.loc["peak"] = [f"{p.peak / GB:.1f}" for p in plans]
    table.loc["rows a training step holds"] = [f"{p.micro_batch}" for p in plans]
    table.loc["answers written side by side"] = [f"{p.generation_batch_size}" for p in plans]
    return table.fillna("-").rename_axis("GB", axis=1).to_string()
