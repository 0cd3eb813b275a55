"""Tasks: one file each, found by looking (`registry.TASKS`)."""

from typing import Any

from ..registry import TASKS


def make_task(exp: Any) -> Any:
    """The task of an `Experiment`."""
    return TASKS[exp.task.name].of(exp.task)
