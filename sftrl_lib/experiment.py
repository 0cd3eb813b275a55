"""One experiment, as data: nested settings, resolved from flat names by one plain function.

    Experiment(task="gp-l", method="rl", seed=7, tries=5).method.tries == 5

Every setting has one name, whichever section it belongs to, on the command line, in YAML and in
Python. What is not given comes, in this order, from what the task was tuned to for the preset and
the method, from the preset, from the task, and from the default of the field.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, SerializeAsAny

from commons.errors import SftrlError, check
from commons.settings import Count, CountOrAuto, Section, Share, Temperature, Text
from engine.presets import PRESETS
from engine.settings import ModelSettings

from .registry import METHODS, TASKS


class TaskSettings(Section):
    """What is played; a task declares its own (`registry.register_task`)."""

    name: str

    def data(self) -> dict[str, str]:
        """Hashes of what it reads from folders of a user's; nothing where the data is ours."""
        return {}


class MethodSettings(Section):
    """How the policy is trained; a method that needs more declares its own."""

    name: str
    lr: Share = Field(description="learning rate")
    steps: Count = Field(description="optimizer steps")
    batch: Count = Field(description="answers (SFT) or episodes (RL) a step")
    warmup: Share = Field(0.03, description="share of the steps in which the rate rises")


class EvaluationSettings(Section):
    """How precisely is measured."""

    eval_points: Count = Field(6, description="points of the curve")
    eval_episodes: Count = Field(description="episodes a point and split")
    final_episodes: Count = Field(description="episodes a split at the end")
    eval_tries: Count = Field(description="verification iterations in evaluation")
    eval_temperature: Temperature = Field(1.0, description="sampling temperature in evaluation")


class MachineSettings(Section):
    """What decides the price of a run, and nothing of its result."""

    micro_batch: CountOrAuto = Field(
        description="rows a backward pass; auto: what fits into the GPU's free memory"
    )
    generation_batch_size: CountOrAuto = Field(
        description="answers written side by side; auto: as above"
    )
    report_to: Text = Field("none", description="tracker of the transformers Trainer")
    keep: Literal["final", "none"] = Field(
        "final", description="final | none: weights that a run keeps (an init always does)"
    )

    def identity(self) -> dict[str, Any]:
        return {}


ROWS = ("micro_batch", "generation_batch_size")  # at a time
SECTIONS = ("task", "model", "method", "evaluation", "machine")


def sections(task: str, method: str) -> dict[str, type[Section]]:
    """The classes of the sections of an arm; SftrlError for an unknown task or method."""
    own = (TASKS[task].settings_class, ModelSettings, METHODS[method].settings_class)
    return dict(zip(SECTIONS, (*own, EvaluationSettings, MachineSettings), strict=True))


def all_settings() -> dict[str, Any]:
    """{name: pydantic's FieldInfo} of every setting of every task and method."""
    found: dict[str, Any] = {}
    for task, method in product(TASKS, METHODS):
        for section in sections(task, method).values():
            found = section.model_fields | found
    return {name: field for name, field in found.items() if name != "name"}


def unknown_settings(names: Iterable[str]) -> list[str]:
    """Those that are no setting of any task or method."""
    return sorted(set(names) - {"task", "method", "seed", *all_settings()})


def defaults(task: str, method: str, model: ModelSettings) -> dict[str, Any]:
    """The numbers of an arm that are not the defaults of their fields."""
    kind, way, preset = TASKS[task], METHODS[method], model.tier
    like = way.like or method
    tuned = {} if model.model else kind.tuned.get(preset.name, {}).get(like, {})
    pushed = preset.methods.get(like, {})
    sizes = {k: kind.numbers[k] for k in ("eval_episodes", "final_episodes")}
    fewer = {k: max(1, round(preset.measured * n)) for k, n in sizes.items()}
    rows = dict.fromkeys(ROWS, "auto") if preset.auto else {}
    return {**kind.numbers, **fewer, **preset.numbers, **rows, **pushed, **way.numbers, **tuned}


def resolve(given: Mapping[str, Any], lenient: bool = False) -> dict[str, Any]:
    """{section: {setting: value}, "seed": ...} from flat names, from nested sections, or from both.

    Raises SftrlError on an unknown setting; on one of another task or method, too, unless
    `lenient`: then it is left out, as in a file that several arms share.
    """
    flat = flatten(given)
    task, method = flat.pop("task", "gp-l"), flat.pop("method", "rl")
    known = sections(task, method)
    which = {name: flat.get(name, usual) for name, usual in (("preset", "tiny"), ("model", ""))}
    for name, value in which.items():
        check(name, value, isinstance(value, str), "text", change=name)
    check("preset", which["preset"], which["preset"] in PRESETS, PRESETS, change="preset")
    values = defaults(task, method, ModelSettings.model_construct(**which)) | flat
    made: dict[str, Any] = {"seed": flat.pop("seed", 0)}
    for name, section in known.items():
        made[name] = {k: values[k] for k in section.model_fields if k in values}
        flat = {k: v for k, v in flat.items() if k not in section.model_fields}
    made["task"]["name"], made["method"]["name"] = task, method
    refuse_unknown(flat)
    if flat and not lenient:
        raise SftrlError(
            f"{', '.join(sorted(flat))} is no setting of task {task} with method {method}; leave "
            "it out, or choose another task or method."
        )
    return made


def refuse_unknown(names: Iterable[str]) -> None:
    """SftrlError, with all settings that there are, for what is none of any task or method."""
    if unknown := unknown_settings(names):
        listed = ", ".join(sorted({"task", "method", "seed", *all_settings()}))
        given = ", ".join(n if str(n).isprintable() else repr(n) for n in unknown)
        raise SftrlError(f"unknown setting {given}; the settings are {listed}.")


def flatten(given: Mapping[str, Any]) -> dict[str, Any]:
    """{setting: value}: the settings of sections, by the name of the setting alone."""
    flat: dict[str, Any] = {}
    for key, value in given.items():
        if key in SECTIONS and isinstance(value, Section | Mapping):
            inside = value.model_dump() if isinstance(value, Section) else dict(value)
            named = {key: inside.pop("name")} if "name" in inside else {}
            flat |= named | inside
        else:
            flat[key] = value
    return flat


class Experiment(Section):
    """Everything that decides one run and what it costs. Equal identities: the same run."""

    task: SerializeAsAny[TaskSettings]
    model: ModelSettings
    method: SerializeAsAny[MethodSettings]
    evaluation: EvaluationSettings
    machine: MachineSettings
    seed: int = Field(0, ge=0, lt=2**32, description="deals, sampling")

    def __init__(self, /, lenient: bool = False, **given: Any) -> None:
        made = resolve(given, lenient)
        for name, section in sections(made["task"]["name"], made["method"]["name"]).items():
            made[name] = section(**made[name])
        super().__init__(**made)
        TASKS[self.task.name].of(self.task)  # routes that cannot be used are refused here

    @property
    def flat(self) -> dict[str, Any]:
        """{setting: value}, `task` and `method` by their names."""
        return flatten({name: getattr(self, name) for name in (*SECTIONS, "seed")})

    @property
    def _arm(self) -> dict[str, Any]:
        return {"task": self.task.name, "method": self.method.name, "preset": self.model.preset}

    @cached_property
    def differences(self) -> dict[str, Any]:
        """The settings in which it is not the default arm of its task, method and preset."""
        usual = Experiment(**self._arm, model=self.model.model).flat | {"model": ""}
        return {k: v for k, v in self.flat.items() if v != usual[k]}

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed. What task, method and preset decide is decided anew
        where they change; settings that another task or method does not have are left out."""
        resolve(self._arm | changes, lenient=True)  # unknown names are refused
        return type(self)(lenient=True, **self._arm | self.differences | changes)

    @property
    def defaults_by_size(self) -> str:
        """What a model named without a preset was given for its size, and why; else nothing."""
        if not self.model.by_size:
            return ""
        count = self.model.size
        size = f"{count / 1e6:,.1f} million parameters" if count else "a size not known here"
        usual = defaults(self.task.name, self.method.name, self.model)
        given = [f"{k}={v}" for k, v in self.flat.items() if k in usual and usual[k] == v]
        return f"{self.model.model} has {size}, hence {', '.join(given)}: {self.model.tier.why}"

    @property
    def rows(self) -> dict[str, int]:
        """How many at a time. Those that are `auto` are the tier's usual ones as long as no GPU's
        memory has been asked (`planning.settled`)."""
        given = {name: getattr(self.machine, name) for name in ROWS}
        return {k: self.model.tier.numbers[k] if n == "auto" else n for k, n in given.items()}

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Optimizer steps after which the curve is measured; the last is always one of them."""
        steps, points = self.method.steps, min(self.evaluation.eval_points, self.method.steps)
        return tuple(sorted({round(steps * (i + 1) / points) for i in range(points)}))

    @property
    def hash(self) -> str:
        """12 hex digits over everything that decides the result."""
        return self.hash_on({})

    def hash_on(self, data: Mapping[str, str]) -> str:
        """The hash with hashes of `TaskSettings.data` that were taken when the data lay there."""
        whole = {name: getattr(self, name).identity() for name in SECTIONS} | {"seed": self.seed}
        whole["task"] |= data
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def run_id(self) -> str:
        """The name of this experiment's run folder."""
        return (
            f"{self.task.name}-{self.method.name}-{self.model.preset}-s{self.seed}-{self.hash[:8]}"
        )


def read_settings(path: Path) -> dict[str, list[Any]]:
    """{setting: its values, one or several} of a YAML file. SftrlError where it is none."""
    try:
        given = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).items()
    except (OSError, AttributeError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise SftrlError(
            f"cannot read settings from {path} ({reason}); it must be a YAML file with lines such "
            "as 'lr: 3e-4'."
        ) from error
    lists = {str(name): v if isinstance(v, list) else [v] for name, v in given}
    with named(path):  # here, since some names would be parameters of `Experiment` itself
        refuse_unknown(lists)
    for name, values in lists.items():
        where = f"{name} in {path}"
        check(where, values, bool(values), "a value, or a list of some", change=name)
        for value in values:
            check(where, value, isinstance(value, str | int | float), "text or a number", name)
    return lists


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """What is wrong with the settings of a file is said with its name."""
    try:
        yield
    except SftrlError as error:
        raise SftrlError(f"{path}: {error}") from error


def sweep(path: Path) -> list[Experiment]:
    """The experiments of a YAML file: where settings have lists of values, all combinations;
    those that differ only in a setting that their method does not have are one."""
    values = read_settings(path)
    combinations = product(*values.values())
    with named(path):
        made = [Experiment(lenient=True, **dict(zip(values, c, strict=True))) for c in combinations]
        return list({one.hash: one for one in made}.values())
