"""One experiment, as data: one frozen dataclass for notebooks, command line, YAML, run folders."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from .errors import SftrlError, check

FROM_PRESET = ("lr", "steps", "batch", "micro_batch", "max_new_tokens")  # where they are 0

# What the tiers change, and nothing else (DESIGN.md, section 2): the model, and how hard each
# method pushes it. The tiny tier's numbers were chosen on the development seeds (data/tuning.csv).
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "model": "",  # empty: the foundation model in data/foundation
        "precision": "full",
        "why": "1.5 million parameters: quantising or adapting them would save nothing",
        "init": {"lr": 1e-4, "steps": 60, "batch": 128},
        "sft": {"lr": 3e-4, "steps": 345, "batch": 128},
        "rl": {"lr": 1e-4, "steps": 60, "batch": 256},
        "micro_batch": 64,
        "max_new_tokens": 40,
    },
    "llama-11b": {
        "model": "meta-llama/Llama-3.2-11B-Vision-Instruct",
        "precision": "qlora",
        "why": "10.7 billion parameters in bf16 take 21 GB before the first gradient; "
        "NF4 takes 8.4 GB",
        "init": {"lr": 1e-4, "steps": 400, "batch": 128},
        "sft": {"lr": 1e-4, "steps": 400, "batch": 128},
        "rl": {"lr": 2e-5, "steps": 20, "batch": 256},
        "micro_batch": 2,
        "max_new_tokens": 256,
    },
}

# The notebooks' named fast set: every cell, in seconds. For tests, not for looking at.
FAST: dict[str, Any] = {"live_steps": 2, "live_batch": 16, "episodes": 16}
WORDS = {
    "method": ("init", "sft", "rl"), "preset": PRESETS,
    "precision": ("auto", "qlora", "lora", "full"), "credit": ("try", "episode"),
}  # fmt: skip


def _setting(default: Any, what: str) -> Any:
    return field(default=default, metadata={"help": what})


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the result of one run. Zero in `lr`, `steps`, `batch`, `micro_batch`
    or `max_new_tokens` means: what the preset says, for the method."""

    task: str = _setting("gp-l", "gp-l")
    method: str = _setting("rl", "init | sft | rl")
    preset: str = _setting("tiny", "tiny | llama-11b")
    model: str = _setting("", "a Hub id or folder instead of the preset's model")
    precision: str = _setting("auto", "auto | qlora | lora | full")
    foundation: str = _setting("default", "which foundation model in data/foundation")
    seed: int = _setting(0, "deals, sampling and shuffling")
    # the task
    rule: str = _setting("ten", "training rule: a name or J=7,Q=3,K=12")
    ood_rule: str = _setting("eleven_twelve_thirteen", "rule of the OOD test")
    target: int = _setting(24, "value that the formula must have")
    tries: int = _setting(3, "verification iterations in training (RL)")
    scheme: str = _setting("paper", "reward scheme: paper | binary")
    # the optimisation
    lr: float = _setting(0.0, "learning rate (0: the preset's)")
    steps: int = _setting(0, "optimizer steps (0: the preset's)")
    batch: int = _setting(0, "answers (SFT) or episodes (RL) a step (0: the preset's)")
    group: int = _setting(8, "episodes of one deal (RL)")
    temperature: float = _setting(1.0, "sampling temperature of the rollouts")
    kl_weight: float = _setting(0.0, "weight of the KL to the init (RL)")
    credit: str = _setting("try", "try | episode: what an advantage belongs to")
    discount: float = _setting(0.9, "per try (paper: gamma 0.9)")
    clip: float = _setting(0.2, "PPO clipping range")
    warmup: float = _setting(0.03, "share of the steps")
    micro_batch: int = _setting(0, "rows a backward pass (0: the preset's)")
    max_new_tokens: int = _setting(0, "tokens an answer (0: the preset's)")
    # the evaluation
    eval_points: int = _setting(6, "curve points")
    eval_episodes: int = _setting(300, "episodes a curve point and split")
    final_episodes: int = _setting(1500, "episodes of the last evaluation")
    eval_tries: int = _setting(3, "verification iterations in evaluation")
    report_to: str = _setting("none", "tracker of the transformers Trainer")

    def __post_init__(self) -> None:
        from .tasks.general_points import GeneralPoints  # validates rules, target and scheme

        def need(names: str, allowed: Callable[[Any], bool], what: str) -> None:
            for name in names.split():
                given = getattr(self, name)
                check(name, given, allowed(given), what, change=name)

        need("task", lambda v: v == "gp-l", "gp-l (the other tasks come later)")
        for name, known in WORDS.items():
            need(name, known.__contains__, " or ".join(known))
        if self.method == "init":  # where both arms start: only its end is of interest
            object.__setattr__(self, "eval_points", 1)
        for name in FROM_PRESET:
            if getattr(self, name) == 0:
                object.__setattr__(self, name, self._preset(name))
        counts = "tries steps batch group micro_batch max_new_tokens eval_tries eval_points "
        need(counts + "eval_episodes final_episodes", lambda v: v >= 1, "at least 1")
        need("seed lr temperature kl_weight clip", lambda v: v >= 0, "0 or more")
        need("discount warmup", lambda v: 0 <= v <= 1, "from 0 to 1")
        if self.method == "rl":
            allowed = f"a multiple of group ({self.group}), and group at least 2"
            need("batch", lambda v: self.group >= 2 and v % self.group == 0, allowed)
        GeneralPoints(self.rule, self.ood_rule, target=self.target, scheme=self.scheme)

    def _preset(self, name: str) -> Any:
        tier = PRESETS[self.preset]
        return (tier | tier[self.method])[name]

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Optimizer steps after which the curve is measured; the last is always one of them."""
        points = min(self.eval_points, self.steps)
        return tuple(sorted({round(self.steps * (i + 1) / points) for i in range(points)}))

    @property
    def hash(self) -> str:
        """12 hex digits over everything that changes the result."""
        data = {k: v for k, v in asdict(self).items() if k != "report_to"}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def run_id(self) -> str:
        """The name of this experiment's run folder."""
        return f"{self.task}-{self.method}-{self.preset}-s{self.seed}-{self.hash[:8]}"

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed; an unknown one is an error that lists the known ones.
        What the preset filled in, another preset or method fills in anew."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise SftrlError(
                f"unknown setting {', '.join(unknown)}; the settings are {', '.join(known)}."
            )
        if {"preset", "method"} & set(changes):
            filled = [n for n in FROM_PRESET if getattr(self, n) == self._preset(n)]
            changes = dict.fromkeys(filled, 0) | changes
        return replace(self, **changes)


def resolve_precision(exp: Experiment) -> tuple[str, str]:
    """(precision, why). `auto` asks the preset; `qlora` is allowed wherever bitsandbytes runs."""
    if exp.precision == "auto":
        return PRESETS[exp.preset]["precision"], PRESETS[exp.preset]["why"]
    return exp.precision, "asked for with precision=" + exp.precision
