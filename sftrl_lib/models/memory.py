"""What a stage takes of memory, worked out from the model's configuration; no weight is loaded.

Bytes are counted piece by piece for one process: what stays (weights, adapter, its gradient and
optimiser) and, on top, the larger of what a training step and what a rollout need for a while. The
numbers of rows that fit (`micro_batch`, `generation_batch_size`) do not change a result, only its
price.
"""

import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property

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
NF4 = (
    0.5 + 1 / 64 + 4 / (64 * 256)
)  # bytes a weight: 4 bits, a byte a block of 64, doubly quantised
BLOCK8 = 2 * (1 + 4 / 256)  # bytes a trained weight of 8-bit AdamW
RUNTIME = {"cuda": 0.9, "cpu": 0.6}  # GB: context and kernels; Python and its libraries
SLACK = 0.05  # share of the rest that an allocator loses


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


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that decide what it takes."""

    config: PretrainedConfig
    rank: int

    @cached_property
    def _counts(self) -> tuple[int, int, int]:
        pictures = hasattr(self.config, "vision_config")
        auto = AutoModelForImageTextToText if pictures else AutoModelForCausalLM
        with torch.device("meta"):
            model = auto.from_config(self.config)
        layers = re.compile(LORA_TARGETS)
        linear = [m for n, m in model.named_modules() if layers.fullmatch(n)]
        adapter = sum(self.rank * (m.in_features + m.out_features) for m in linear)
        every = sum(p.numel() for p in model.parameters())  # a tied head counts once
        return every, sum(m.weight.numel() for m in linear), adapter

    @property
    def parameters(self) -> int:
        """All weights, a tied head once."""
        return self._counts[0]

    @property
    def linear(self) -> int:
        """Weights of the language model's linear layers, which QLoRA packs."""
        return self._counts[1]

    @property
    def adapter(self) -> int:
        """Weights of a LoRA adapter of that rank."""
        return self._counts[2]

    @property
    def text(self) -> PretrainedConfig:
        """The configuration of the language model alone."""
        return self.config.get_text_config()

    @property
    def cross_layers(self) -> int:
        """Layers of the language model that attend to pictures."""
        return len(getattr(self.text, "cross_attention_layers", None) or ())

    @property
    def keys(self) -> int:
        """Numbers a layer keeps for a token it has read: keys and values."""
        heads = self.text.num_attention_heads
        width = getattr(self.text, "head_dim", None) or self.text.hidden_size // heads
        return 2 * (getattr(self.text, "num_key_value_heads", None) or heads) * width

    @property
    def patches(self) -> int:
        """Patches of one picture, all tiles, that the language model attends to."""
        kind = self.config.model_type
        return FAMILIES[kind].patches(self.config) if kind in FAMILIES else 0

    @property
    def looking(self) -> int:
        """Numbers the frozen tower holds while it looks at one picture: every layer's output."""
        vision = self.config.vision_config
        layers = vision.num_hidden_layers + vision.num_global_layers
        widest = vision.vision_output_dim + 4 * vision.hidden_size + vision.intermediate_size
        return self.patches * (widest + layers * vision.hidden_size + self.patches)


def conversation(exp: Experiment) -> tuple[int, int]:
    """Tokens of (one question and its answer, a whole conversation) of as many tries as training or
    evaluation allows."""
    text = make_task(exp).prompt(make_task(exp).item("train", 0, 0))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source_of(exp))
        asked = len(tokenizer.encode(text)) + 40  # and the template
    except (SftrlError, OSError, ValueError):
        asked = len(text) // 3 + 40
    answer = exp.model.max_new_tokens
    tries = max(getattr(exp.method, "tries", 1), exp.evaluation.eval_tries)
    return asked + answer, asked + answer + (tries - 1) * (answer + 60)


def _beside_a_gpu(
    exp: Experiment, stage: str, text: PretrainedConfig, picture: int
) -> dict[str, float]:
    """What a GPU's machine keeps outside the GPU; of a picture seen before so many bytes for each
    of the text's hidden units."""
    kept = {}
    if picture:
        group = getattr(exp.method, "group", 1)
        step = {"sft": exp.method.batch, "rl": exp.method.batch // group}.get(stage, 1)
        pictures = min(VISION_CACHE, max(step, exp.evaluation.final_episodes))
        kept["pictures seen before"] = pictures * picture * text.hidden_size
    if stage != "evaluate":
        kept["distributions of the init"] = exp.model.max_new_tokens * text.vocab_size * 128
    return kept


def pieces(
    exp: Experiment, stage: str, shape: Shape, device: str = "cuda",
    lengths: tuple[int, int] | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Bytes by phase ("stays", "training step", "rollout") and piece. `lengths`: those of
    `conversation`, where they are known better."""
    precision = resolve_precision(exp)[0]
    adapters, pictures = precision != "full", make_task(exp).pictures
    # Bytes of a weight that is not packed, and of an activation (`load.unpacked_dtype`).
    wide = 2 if adapters and device == "cuda" else 4
    packed = shape.linear if precision == "qlora" else 0
    stays = {"weights": packed * NF4 + (shape.parameters - packed) * wide}
    anchored = stage != "evaluate" and bool(getattr(exp.method, "kl_weight", 0))
    if anchored and not adapters:
        stays["the init, for the KL"] = shape.parameters * wide
    trained = shape.adapter if adapters else shape.parameters
    if adapters:
        stays["adapter"] = 4 * trained
    if stage != "evaluate":
        eight_bit = adapters and device == "cuda"
        stays["gradient"] = 4 * trained
        stays["optimiser"] = trained * (BLOCK8 if eight_bit else 8)
    text, seen = shape.text, shape.patches if pictures else 0
    looking = {"a picture looked at": shape.looking * wide} if pictures else {}
    if device == "cpu":
        stays |= _beside_a_gpu(exp, stage, text, wide * seen * adapters)
    hidden, inner = text.hidden_size, text.intermediate_size
    own_layers = text.num_hidden_layers - shape.cross_layers
    first, whole = lengths or conversation(exp)
    # Every run is measured, SFT too: by rollouts.
    rows, length = exp.machine.generation_batch_size, whole
    phases = {"stays": stays}
    phases["rollout"] = {
        "cache of the text": rows * length * own_layers * shape.keys * wide,
        "cache of the picture": rows * seen * shape.cross_layers * shape.keys * wide,
        # its states, and a layer's keys and values repeated for every head
        "picture": rows * seen * 3 * hidden * wide,
        "what sees which patch": rows * length * seen * 3 * wide,
        "one layer at work": rows * length * (4 * hidden + 3 * inner) * wide,
        "logits": rows * text.vocab_size * 8,
        **looking,
    }
    if stage != "evaluate":
        rows, length = exp.machine.micro_batch, whole if stage == "rl" else first
        a_layer = rows * length * (10 * hidden + 4 * inner) * wide
        kept = rows * length * hidden * wide * text.num_hidden_layers
        tokens, words = map(min, (rows * length, text.vocab_size), AT_ONCE)
        if stage == "sft" and anchored:  # its KL takes all words at once
            tokens, words = rows * length, text.vocab_size
        phases["training step"] = {
            "inputs of the layers": kept if adapters else a_layer * text.num_hidden_layers,
            "one layer at work": a_layer,
            # the same, and in fp32 what goes into a layer's two adapters that look at it
            "picture": rows * seen * ((3 * hidden + shape.keys) * wide + 8 * hidden * adapters),
            "what sees which patch": rows * length * seen * 3 * wide,
            "logits": tokens * words * LOGIT[device],
            "a layer unpacked": hidden * inner * wide if packed else 0,
            **looking,
        }
    return phases


def total(phases: dict[str, dict[str, float]], device: str) -> float:
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
    phases: dict[str, dict[str, float]]
    peak: float
    fits: bool


def plan(exp: Experiment, stage: str, memory: float, device: str = "cuda") -> Plan:
    """The most rows at a time, up to the experiment's own, with which a stage fits into `memory`
    bytes; with one row where none does."""
    shape = Shape(architecture(exp), exp.model.rank)

    def peak(now: Experiment) -> float:
        return total(pieces(now, stage, shape, device), device)

    now = exp.replace(micro_batch=1, generation_batch_size=1)
    for name in ("micro_batch", "generation_batch_size"):
        sizes = (min(rows, getattr(exp.machine, name)) for rows in SIZES)
        larger = (now.replace(**{name: rows}) for rows in sizes)
        now = next((one for one in larger if peak(one) <= memory), now)
    phases = pieces(now, stage, shape, device)
    return Plan(
        stage,
        now.machine.micro_batch,
        now.machine.generation_batch_size,
        phases,
        peak(now),
        peak(now) <= memory,
    )


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
    found, less = plan(exp, stage, memory), exp.replace(precision="qlora")
    advice = f"use micro_batch={found.micro_batch} and "
    advice += f"generation_batch_size={found.generation_batch_size}"
    if not found.fits:
        need = found.peak
        advice = f"use a larger GPU, or precision=qlora ({smallest(less, stage):.1f} GB at least)"
    raise SftrlError(
        f"{stage} of {exp.model.model or exp.model.preset} takes {need / GB:.1f} GB at precision "
        f"{resolve_precision(exp)[0]}, and this GPU has {memory / GB:.1f}; {advice}."
    )


def main(exp: Experiment, memory: float | None, as_json: bool = False) -> int:
    """`python -m sftrl_lib plan`: 0 if all stages fit into `memory` GB, else 1."""
    device = "cuda" if memory or torch.cuda.is_available() else "cpu"
    if memory is None:
        gpu = torch.cuda.is_available()
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
    parts = dict.fromkeys(
        (phase, part) for p in plans for phase in p.phases for part in p.phases[phase]
    )
    lines = [["GB", *(p.stage for p in plans)]]
    for phase, part in parts:
        sizes = [p.phases.get(phase, {}).get(part) for p in plans]
        if any(sizes):
            cells = ("-" if size is None else f"{size / GB:.2f}" for size in sizes)
            lines.append([f"{phase}: {part}", *cells])
    lines.append(["peak", *(f"{p.peak / GB:.1f}" for p in plans)])
    lines.append(["rows a training step holds", *(f"{p.micro_batch}" for p in plans)])
    lines.append(["answers written side by side", *(f"{p.generation_batch_size}" for p in plans)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ([cell.rjust(w) for cell, w in zip(x, widths, strict=True)] for x in lines)
    return "\n".join("  ".join([row[0].strip().ljust(widths[0]), *row[1:]]) for row in rows)
