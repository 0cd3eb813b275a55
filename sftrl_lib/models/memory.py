"""Estimates the memory each stage needs from the model's configuration; no weight is loaded.

Bytes are counted piece by piece for one process: what stays (weights, adapter, gradient, optimiser)
and, on top, the larger of what a training step and a rollout need for a while. How many rows fit
(`micro_batch`, `generation_batch_size`) does not change a result, only its price. Somebody who
follows one experiment needs `require` alone.
"""

import json
import re
from dataclasses import asdict, dataclass

import pandas as pd
import psutil
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    MllamaConfig,
    PretrainedConfig,
)

from ..errors import SftrlError
from ..experiment import Experiment, resolve_precision
from ..registry import FAMILIES
from ..tasks import make_task
from .adapters import LORA_TARGETS
from .images import VISION_CACHE
from .load import source_of

GB = 2**30
STAGES = ("evaluate", "sft", "rl")
SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)  # rows at a time that are tried
AT_ONCE = (4096, 32_768)  # tokens and words whose chances TRL computes at a time
LOGIT = {"cuda": 12, "cpu": 33}  # bytes each: in place in Triton's kernel, in eight copies without
# Bytes of a weight packed into NF4: 4 bits, a byte a block of 64, doubly quantised.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
BLOCK8 = 2 * (1 + 4 / 256)  # bytes a trained weight of 8-bit AdamW
RUNTIME = {"cuda": 0.9, "cpu": 0.6}  # GB: context and kernels; Python and its libraries
SLACK = 0.05  # share of the rest that an allocator loses

Phases = dict[str, dict[str, float]]  # {phase: {piece: bytes}}


def architecture(exp: Experiment) -> PretrainedConfig:
    """The configuration of an experiment's model; that of the gated 11B is published, and known."""
    if exp.model.tier.needs_gpu and not exp.model.model:
        return MllamaConfig(vision_config={"image_size": 560})
    try:
        return AutoConfig.from_pretrained(source_of(exp))
    except (OSError, ValueError) as error:
        raise SftrlError(
            f"cannot read the configuration of {exp.model.model!r} ({str(error).splitlines()[0]}); "
            "give a local folder, or set SFTRL_ONLINE=1."
        ) from error


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
        # Layers that attend to pictures, and how many patches, of all tiles, they attend to.
        self.cross_layers = len(getattr(text, "cross_attention_layers", None) or ())
        family = FAMILIES[config.model_type] if config.model_type in FAMILIES else None
        self.patches = family.patches(config) if family else 0
        # Numbers that a layer keeps for a token it has read: keys and values.
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        self.keys = 2 * heads * width
        self.looking = 0  # numbers a frozen tower holds for one picture: every layer's output
        if self.patches:
            vision = config.vision_config
            depth = vision.num_hidden_layers + vision.num_global_layers
            widest = vision.vision_output_dim + 4 * vision.hidden_size + vision.intermediate_size
            self.looking = self.patches * (widest + depth * vision.hidden_size + self.patches)


def conversation(exp: Experiment) -> tuple[int, int]:
    """Tokens of (one question and its answer, a whole conversation) of as many tries as training or
    evaluation allows."""
    text = make_task(exp).prompt(make_task(exp).item("train", 0, 0))
    try:
        asked = len(AutoTokenizer.from_pretrained(source_of(exp)).encode(text))
    except (SftrlError, OSError, ValueError):  # there is no tokenizer here
        asked = len(text) // 3
    first = asked + 40 + exp.model.max_new_tokens  # 40: the template
    tries = max(getattr(exp.method, "tries", 1), exp.evaluation.eval_tries)
    return first, first + (tries - 1) * (exp.model.max_new_tokens + 60)


def pieces(
    exp: Experiment, stage: str, shape: Shape, device: str = "cuda",
    lengths: tuple[int, int] | None = None,
) -> Phases:  # fmt: skip
    """Bytes of the phases "stays", "training step" and "rollout". `lengths`: those of
    `conversation`, where they are known better."""
    precision = resolve_precision(exp)[0]
    adapters, trains = precision != "full", stage != "evaluate"
    seen = shape.patches if make_task(exp).pictures else 0
    # Bytes of a weight that is not packed, and of an activation (`load.unpacked_dtype`).
    wide = 2 if adapters and device == "cuda" else 4
    packed = shape.linear if precision == "qlora" else 0
    anchored = trains and bool(getattr(exp.method, "kl_weight", 0))
    trained = shape.adapter if adapters else shape.parameters
    text, whole = shape.text, shape.parameters * wide
    first, length = lengths or conversation(exp)
    stays: dict[str, float] = {"weights": packed * NF4 + (shape.parameters - packed) * wide}
    if anchored and not adapters:
        stays["the init, for the KL"] = whole
    if adapters:
        stays["adapter"] = 4 * trained
    if trains:
        stays["gradient"] = 4 * trained
        stays["optimiser"] = trained * (BLOCK8 if adapters and device == "cuda" else 8)
    if device == "cpu" and seen and adapters:  # with a GPU it lies beside it, in the machine
        deals = exp.method.batch // getattr(exp.method, "group", 1) if trains else 1
        pictures = min(VISION_CACHE, max(deals, exp.evaluation.final_episodes))
        stays["pictures seen before"] = pictures * wide * seen * text.hidden_size
    if device == "cpu" and trains:  # the same
        stays["distributions of the init"] = exp.model.max_new_tokens * text.vocab_size * 128
    looking = {"a picture looked at": shape.looking * wide} if seen else {}
    # Every run is measured, SFT too: by rollouts.
    phases = {"stays": stays, "rollout": _rollout(exp, shape, seen, length, wide) | looking}
    if trains:
        step = first if stage == "sft" else length
        phases["training step"] = _training_step(exp, shape, seen, step, wide, adapters) | looking
        tokens, words = exp.machine.micro_batch * step, text.vocab_size
        if not (stage == "sft" and anchored):  # whose KL takes all words at once
            tokens, words = map(min, (tokens, words), AT_ONCE)
        phases["training step"]["logits"] = tokens * words * LOGIT[device]
        unpacked = text.hidden_size * text.intermediate_size * wide
        phases["training step"]["a layer unpacked"] = unpacked if packed else 0
    return phases


def _rollout(exp: Experiment, shape: Shape, seen: int, length: int, wide: int) -> dict[str, float]:
    """Of conversations of `length` tokens and `seen` patches side by side."""
    rows, text = exp.machine.generation_batch_size, shape.text
    own_layers = text.num_hidden_layers - shape.cross_layers
    at_work = 4 * text.hidden_size + 3 * text.intermediate_size
    return {
        "cache of the text": rows * length * own_layers * shape.keys * wide,
        "cache of the picture": rows * seen * shape.cross_layers * shape.keys * wide,
        # its states, and a layer's keys and values repeated for every head
        "picture": rows * seen * 3 * text.hidden_size * wide,
        "what sees which patch": rows * length * seen * 3 * wide,
        "one layer at work": rows * length * at_work * wide,
        "logits": rows * text.vocab_size * 8,
    }


def _training_step(
    exp: Experiment, shape: Shape, seen: int, length: int, wide: int, adapters: bool
) -> dict[str, float]:
    """Of a micro-batch of rows of `length` tokens and `seen` patches, without its logits."""
    rows, hidden = exp.machine.micro_batch, shape.text.hidden_size
    layer = rows * length * (10 * hidden + 4 * shape.text.intermediate_size) * wide
    kept = rows * length * hidden * wide if adapters else layer  # by gradient checkpoints
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


def plan(exp: Experiment, stage: str, memory: float, device: str = "cuda") -> Plan:
    """The most rows at a time, up to the experiment's own, with which a stage fits into `memory`
    bytes; with one row where none does."""
    shape = Shape(architecture(exp), exp.model.rank)

    def with_rows(**rows: int) -> Plan:
        phases = pieces(exp.replace(**rows), stage, shape, device)
        peak = total(phases, device)
        return Plan(stage, **rows, phases=phases, peak=peak, fits=peak <= memory)

    rows = {"micro_batch": 1, "generation_batch_size": 1}
    for name in rows:
        larger = (rows | {name: min(size, getattr(exp.machine, name))} for size in SIZES)
        rows = next((more for more in larger if with_rows(**more).fits), rows)
    return with_rows(**rows)


def smallest(exp: Experiment, stage: str, device: str = "cuda") -> float:
    """GB below which not even one row at a time fits."""
    return plan(exp, stage, 0, device).peak / GB


def require(exp: Experiment, stage: str) -> None:
    """SftrlError, with what to change, where a stage does not fit into this machine's GPU."""
    if exp.model.ours or not torch.cuda.is_available():
        return
    memory = torch.cuda.mem_get_info()[1]
    need = total(pieces(exp, stage, Shape(architecture(exp), exp.model.rank)), "cuda")
    if need <= memory:
        return
    found = plan(exp, stage, memory)
    advice = f"use micro_batch={found.micro_batch} and "
    advice += f"generation_batch_size={found.generation_batch_size}"
    if not found.fits:
        need, least = found.peak, smallest(exp.replace(precision="qlora"), stage)
        advice = f"use a larger GPU, or precision=qlora ({least:.1f} GB at least)"
    raise SftrlError(
        f"{stage} of {exp.model.model or exp.model.preset} takes {need / GB:.1f} GB at precision "
        f"{resolve_precision(exp)[0]}, and this GPU has {memory / GB:.1f}; {advice}."
    )


def main(exp: Experiment, memory: float | None, as_json: bool = False) -> int:
    """`python -m sftrl_lib plan`: 0 if all stages fit into `memory` GB, else 1."""
    gpu = torch.cuda.is_available()
    device = "cuda" if memory or gpu else "cpu"
    if memory is None:
        memory = (torch.cuda.mem_get_info()[1] if gpu else psutil.virtual_memory().total) / GB
    arms = {stage: exp.replace(method="sft" if stage == "sft" else "rl") for stage in STAGES}
    plans = [plan(arms[stage], stage, memory * GB, device) for stage in STAGES]
    need = {p.stage: smallest(arms[p.stage], p.stage, device) for p in plans if not p.fits}
    if as_json:
        facts = {"memory_gb": memory, "device": device, "smallest_gb": need}
        print(json.dumps(facts | {"stages": [asdict(p) for p in plans]}, indent=1))
    else:
        print("precision {}: {}".format(*resolve_precision(exp)))
        print(render(plans))
        for stage, least in need.items():
            print(f"{stage} does not fit into {memory:g} GB: it takes {least:.1f} GB at least.")
    return 1 if need else 0


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
