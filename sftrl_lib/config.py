"""One experiment, as data: one frozen dataclass for notebooks, command line, YAML, run folders."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from .errors import SftrlError

METHODS = ("init", "sft", "rl")
PRECISIONS = ("auto", "qlora", "lora", "full")
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


def _check(name: str, given: Any, allowed: bool, what: str) -> None:
    if not allowed:
        raise SftrlError(
            f"{name} is {given!r}, but it must be {what}; change {name} and try again."
        )


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the result of one run. Zero in `lr`, `steps`, `batch`, `micro_batch`
    or `max_new_tokens` means: what the preset says, for the method."""

    task: str = field(default="gp-l", metadata={"help": "gp-l"})
    method: str = field(default="rl", metadata={"help": "init | sft | rl"})
    preset: str = field(default="tiny", metadata={"help": "tiny | llama-11b"})
    model: str = field(
        default="", metadata={"help": "a Hub id or folder instead of the preset's model"}
    )
    precision: str = field(default="auto", metadata={"help": "auto | qlora | lora | full"})
    foundation: str = field(
        default="default", metadata={"help": "which foundation model in data/foundation"}
    )
    seed: int = field(default=0, metadata={"help": "deals, sampling and shuffling"})
    # the task
    rule: str = field(default="ten", metadata={"help": "training rule: a name or J=7,Q=3,K=12"})
    ood_rule: str = field(
        default="eleven_twelve_thirteen", metadata={"help": "rule of the OOD test"}
    )
    target: int = field(default=24, metadata={"help": "value that the formula must have"})
    tries: int = field(default=3, metadata={"help": "verification iterations in training (RL)"})
    scheme: str = field(default="paper", metadata={"help": "reward scheme: paper | binary"})
    # the optimisation
    lr: float = field(default=0.0, metadata={"help": "learning rate (0: the preset's)"})
    steps: int = field(default=0, metadata={"help": "optimizer steps (0: the preset's)"})
    batch: int = field(
        default=0, metadata={"help": "answers (SFT) or episodes (RL) a step (0: the preset's)"}
    )
    group: int = field(default=8, metadata={"help": "episodes of one deal (RL)"})
    temperature: float = field(
        default=1.0, metadata={"help": "sampling temperature of the rollouts"}
    )
    kl_weight: float = field(default=0.0, metadata={"help": "weight of the KL to the init (RL)"})
    credit: str = field(
        default="try", metadata={"help": "try | episode: what an advantage belongs to"}
    )
    discount: float = field(default=0.9, metadata={"help": "per try (paper: gamma 0.9)"})
    clip: float = field(default=0.2, metadata={"help": "PPO clipping range"})
    warmup: float = field(default=0.03, metadata={"help": "share of the steps"})
    micro_batch: int = field(default=0, metadata={"help": "rows a backward pass (0: the preset's)"})
    max_new_tokens: int = field(default=0, metadata={"help": "tokens an answer (0: the preset's)"})
    # the evaluation
    eval_points: int = field(default=6, metadata={"help": "curve points"})
    eval_episodes: int = field(default=300, metadata={"help": "episodes a curve point and split"})
    final_episodes: int = field(default=1500, metadata={"help": "episodes of the last evaluation"})
    eval_tries: int = field(default=3, metadata={"help": "verification iterations in evaluation"})
    report_to: str = field(default="none", metadata={"help": "tracker of the transformers Trainer"})

    def __post_init__(self) -> None:
        from .tasks.general_points import GeneralPoints  # validates rules, target and scheme

        _check("task", self.task, self.task == "gp-l", "gp-l (the other tasks come later)")
        _check("method", self.method, self.method in METHODS, " or ".join(METHODS))
        _check("preset", self.preset, self.preset in PRESETS, " or ".join(PRESETS))
        _check("precision", self.precision, self.precision in PRECISIONS, " or ".join(PRECISIONS))
        _check("credit", self.credit, self.credit in ("try", "episode"), "try or episode")
        if self.method == "init":  # where both arms start: only its end is of interest
            object.__setattr__(self, "eval_points", 1)
        for name in FROM_PRESET:
            if getattr(self, name) == 0:
                object.__setattr__(self, name, self._preset(name))
        for name in (
            "tries", "steps", "batch", "group", "micro_batch", "max_new_tokens", "eval_tries",
            "eval_points", "eval_episodes", "final_episodes",
        ):  # fmt: skip
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("seed", "lr", "temperature", "kl_weight", "clip"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        for name in ("discount", "warmup"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "from 0 to 1")
        if self.method == "rl":
            whole = self.group >= 2 and self.batch % self.group == 0
            allowed = f"a multiple of group ({self.group}), and group at least 2"
            _check("batch", self.batch, whole, allowed)
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

    def but(self, **changes: Any) -> Experiment:
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
