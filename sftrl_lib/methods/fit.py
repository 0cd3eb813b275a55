"""An experiment's run around a trainer of the engine: log, curve points, progress, Ctrl-C."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from engine.policy import Policy
from engine.trainer import Schedule, preserved_rng, train

from ..experiment import Experiment
from ..registry import METHODS
from ..runs import Run
from .base import OnCheckpoint

SAVE_EVERY = 45.0  # seconds of wall time between two checkpoints, at the next step's end
LOGGED = ("loss", "grad_norm", "learning_rate", "reward", "entropy", "kl", "mean_token_accuracy")


class _Boundary(TrainerCallback):
    """Progress, log, curve points, checkpoints and Ctrl-C: all at the end of a step, where no
    generation is half used."""

    def __init__(self, trainer, exp, policy, run, on_checkpoint, progress, describe) -> None:
        self.trainer, self.exp, self.policy, self.run = trainer, exp, policy, run
        self.on_checkpoint, self.describe = on_checkpoint, describe
        label, steps = METHODS[exp.method.name].label, exp.method.steps
        self.bar = tqdm(total=steps, desc=label, unit="step", disable=not progress)
        self.interrupted = self.evaluating = False

    def on_train_begin(self, args, state, control, **_) -> None:
        self.bar.initial = self.bar.n = state.global_step
        self._curve_point(state.global_step)  # of a resumed run: it may have been killed in it
        self.saved = self.began = time.monotonic()

    def on_step_end(self, args, state, control, **_) -> None:
        due = time.monotonic() - self.saved > SAVE_EVERY
        if due or self.interrupted or state.global_step in self.exp.eval_steps:
            control.should_save = True

    def on_log(self, args, state, control, logs=None, **_) -> None:
        state.log_history.clear()  # metrics.jsonl keeps it
        if "loss" not in logs:  # the summary at the end
            return
        row = {key: logs[key] for key in LOGGED if key in logs} | self.trainer.measured
        row["seconds"] = round(time.monotonic() - self.began, 3)  # without saving and measuring
        self.run.log(step=state.global_step, **row, **asdict(self.trainer.ledger))
        self.bar.update(state.global_step - self.bar.n)
        self.bar.set_postfix_str(self.describe.format(**logs))
        self.began = time.monotonic()

    def on_save(self, args, state, control, **_) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self._curve_point(state.global_step)
        self.saved = self.began = time.monotonic()

    def _curve_point(self, step: int) -> None:
        if self.on_checkpoint and step in self.exp.eval_steps:
            self.evaluating = True
            self.policy.model.eval()
            with preserved_rng():
                self.on_checkpoint(self.policy, step, replace(self.trainer.ledger))
            self.evaluating = False

    def _on_sigint(self, *_) -> None:
        if self.evaluating or self.interrupted:  # nothing to lose: the last checkpoint stands
            raise KeyboardInterrupt
        self.interrupted = True
        tqdm.write("Stopping after this step, which will be saved; Ctrl-C again stops at once.")

    @contextlib.contextmanager
    def around(self) -> Iterator["_Boundary"]:
        """The first Ctrl-C waits for the end of the step. (A thread cannot be interrupted.)"""
        try:
            previous = signal.signal(signal.SIGINT, self._on_sigint)
        except ValueError:
            previous = None
        try:
            yield self
        finally:
            self.bar.close()
            if previous is not None:
                signal.signal(signal.SIGINT, previous)
        if self.interrupted:
            raise KeyboardInterrupt


def fit(
    build: Callable[[Schedule], Any], exp: Experiment, policy: Policy, run: Run,
    on_checkpoint: OnCheckpoint | None, progress: bool, describe: str,
) -> None:  # fmt: skip
    """Train to the last step with the trainer that `build` makes, from the run folder's checkpoint
    if there is one. `describe` formats the progress line from the logged metrics."""
    own = exp.method
    schedule = Schedule(
        run.path, exp.hash, own.steps, own.batch, own.lr, own.warmup, exp.seed,
        getattr(own, "group", 1), exp.rows["micro_batch"], exp.machine.report_to,
    )  # fmt: skip
    told = exp, policy, run, on_checkpoint, progress, describe
    train(
        lambda: build(schedule), policy, schedule,
        lambda trainer: _Boundary(trainer, *told).around(),
    )  # fmt: skip
