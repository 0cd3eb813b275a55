"""The contract of a method: its settings, its looks in figures, and how it trains a policy."""

from collections.abc import Callable
from typing import Any, ClassVar

from ..experiment import Experiment, MethodSettings

# Called with (policy, step, compute spent) at each of the experiment's `eval_steps`.
OnCheckpoint = Callable[[Any, int, Any], None]


class Method:
    """A way to train. One file registers a subclass; figures and statistics go over all that the
    results hold."""

    name: ClassVar[str]  # given by `register_method`
    settings_class: ClassVar[type[MethodSettings]] = MethodSettings
    label: ClassVar[str]
    like: ClassVar[str] = ""  # a method whose numbers in presets and tasks hold for this one too
    numbers: ClassVar[dict[str, Any]] = {}  # settings outside its section that it wants otherwise
    is_arm: ClassVar[bool] = True  # it starts from the init, which itself is none
    measures_init: ClassVar[bool] = False  # on its seed's deals, before it trains
    stage: ClassVar[str] = "sft"  # of `engine.memory`: what its training step is like
    style: ClassVar[dict[str, str]] = {}  # of its lines: color, marker, linestyle

    @staticmethod
    def train(
        exp: Experiment,
        policy: Any,
        task: Any,
        run: Any,
        on_checkpoint: OnCheckpoint | None = None,
        progress: bool = True,
    ) -> None:
        """Train `policy.model` in place, from where the run folder says a stopped run was.

        Ctrl-C saves and raises KeyboardInterrupt; the same call then goes on.
        """
        raise NotImplementedError
