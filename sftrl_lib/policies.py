"""The policy of an experiment: which weights its settings mean, and where they lie."""

from functools import partial
from pathlib import Path

from commons.errors import SftrlError
from engine import load
from engine.policy import Policy
from engine.presets import PRESETS

from .experiment import Experiment
from .places import ROOT
from .registry import TASKS
from .runs import LIVE

FOUNDATIONS = ROOT / "data" / "foundation"


def source_of(exp: Experiment) -> str:
    """The folder or Hub id of an experiment's model, before any training of ours."""
    own = exp.model
    if own.ours:
        folder = FOUNDATIONS / own.foundation
        if not (folder / load.WEIGHTS).exists():
            raise SftrlError(
                f"there are no weights ({load.WEIGHTS}) in {folder}; name a folder that has them, "
                f"or build them with 'python -m sftrl_lib foundation --name {own.foundation}'."
            )
        return str(folder)
    source = own.model or PRESETS[own.preset].model
    return load.unpacked(source, LIVE / "models") if source.endswith(".gguf") else source


def load_policy(exp: Experiment, path: str | Path | None = None) -> Policy:
    """An experiment's policy: `path` (a folder of weights, or of an adapter; as a string also a Hub
    id), else its `model`, else the preset's. SftrlError where there are none to load."""
    return load.load_policy(
        exp.model, partial(source_of, exp), path, seed=exp.seed,
        side_by_side=exp.rows["generation_batch_size"],
        pictures_of=f"task {exp.task.name}" if TASKS[exp.task.name].pictures else "",
    )  # fmt: skip
