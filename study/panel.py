"""The knob panel: turn a setting, see what the run costs, train it in the background, and watch its
curve grow over the recorded band.

The panel is menus before the functions of `study.knobs`. Training is a process of its own, so that
the notebook stays usable, and all that the panel knows of it stands in the run folder: a run that
was stopped goes on, and last week's are still there.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
from html import escape
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
from IPython import get_ipython

from commons.errors import SftrlError
from commons.processes import end_with_parent
from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import METHODS, TASKS
from sftrl_lib.results import load_results
from sftrl_lib.runs import Run, find_run, is_done, read_manifest
from sftrl_lib.tasks import make_task

from . import knobs, plots
from .notebook import live_root
from .side_by_side import run_one, steps_done

FOLDER = "knobs"  # of the panel's runs, in the folder of live ones
EVERY = 1.0  # seconds between two looks at a run


def _train(exp: Experiment, root: Path, said: Connection) -> None:
    """In a process of its own. It says one sentence at the end: what went wrong, or nothing."""
    end_with_parent()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        with contextlib.redirect_stdout(nowhere):
            try:
                measured = dict.fromkeys(make_task(exp).curve_splits, exp.evaluation.eval_episodes)
                run_one(exp, root, {"final": measured, "kl": False})
                said.send("")
            except KeyboardInterrupt:
                said.send("")
            except SftrlError as error:
                said.send(str(error))
            except Exception as error:
                first = (str(error).splitlines() or [""])[0][:200]
                said.send(f"the run failed with {type(error).__name__}: {first}.")


class Training:
    """A run under way in a process of its own, which ends with this one."""

    def __init__(self, exp: Experiment, root: Path) -> None:
        self.exp, self.root, self.is_stopping = exp, root, False
        context = multiprocessing.get_context("spawn")
        self.heard, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_train, args=(exp, root, theirs), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def is_over(self) -> bool:
        """Whether the process has ended, however it did."""
        return not self.process.is_alive()

    def stop(self) -> None:
        """As Ctrl-C: the first saves at the end of the step, another one stops at once."""
        self.is_stopping = True
        if self.process.pid and not self.is_over:
            os.kill(self.process.pid, signal.SIGINT)

    def fault(self) -> str:
        """What went wrong, in a sentence; nothing where it ended well, or was stopped."""
        with contextlib.suppress(EOFError, OSError):
            if self.heard.poll():
                return self.heard.recv()
        if self.is_stopping:
            return ""
        return "the run's process was ended from outside; Start goes on from its last checkpoint."


def _field(kind: type, name: str, **more: Any) -> Any:
    """A field whose name can be read, and as wide as a phone at most."""
    layout = ipywidgets.Layout(width=more.pop("width", "18em"), max_width="100%")
    return kind(description=name, layout=layout, style={"description_width": "5.5em"}, **more)


def _line(text: str, role: str = "") -> str:
    spoken = f' role="{role}"' if role else ""
    return f'<p style="margin: 0"{spoken}>{text}</p>'


def _row(*fields: Any) -> ipywidgets.HBox:
    return ipywidgets.HBox(fields, layout=ipywidgets.Layout(flex_flow="row wrap"))


class Panel(ipywidgets.VBox):
    """The widget of `panel`. `refresh` looks at the run; in a notebook it calls itself."""

    def __init__(self, results: pd.DataFrame, preset: str, task: str, root: Path) -> None:
        self.results, self.preset, self.root = results, preset, root
        self.training: Training | None = None
        self.is_turning = False
        self.drawn_at: list[int] = []  # sizes of the run's files
        self.runs: dict[str, Run] = {}
        self.boxes: dict[str, ipywidgets.Checkbox] = {}
        arms = [(plots.name_of(m), m) for m in METHODS if METHODS[m].is_arm]
        menu, number = ipywidgets.Dropdown, ipywidgets.BoundedIntText
        self.task = _field(menu, "task", options=list(TASKS), value=task)
        self.method = _field(menu, "method", options=arms, value="rl")
        self.steps = _field(number, "steps", value=knobs.STEPS, min=1, max=10_000)
        self.seed = _field(number, "seed", value=0, min=0, max=2**31)
        self.knob, self.place = _field(menu, "setting"), ipywidgets.HBox()
        self.cost, self.bar, self.status = (ipywidgets.HTML() for _ in range(3))
        self.start = ipywidgets.Button(description="Start", button_style="primary")
        self.stop = ipywidgets.Button(description="Stop", disabled=True)
        self.split = _field(menu, "tested on", width="26em")
        self.metric = _field(menu, "metric", width="26em")
        self.picture, self.ticks = ipywidgets.HTML(), ipywidgets.VBox()
        super().__init__(
            [
                _row(self.task, self.method, self.steps, self.seed),
                _row(self.knob, self.place),
                self.cost,
                _row(self.start, self.stop, self.bar),
                self.status,
                _row(self.split, self.metric),
                self.picture,
                ipywidgets.HTML("<b>Runs of this task; those with a tick are drawn</b>"),
                self.ticks,
            ]
        )
        for field, follow in (
            (self.task, self._turn_task), (self.method, self._turn_method),
            (self.knob, self._turn_knob), (self.steps, self._tell), (self.seed, self._tell),
            (self.split, self._turn_split), (self.metric, self._draw),
        ):  # fmt: skip
            field.observe(follow, "value")
        self.start.on_click(self._start)
        self.stop.on_click(self._stop)
        self._move(0, 1)
        self._turn_task()

    # --- what is chosen

    @property
    def arm(self) -> tuple[str, str]:
        """Task and method."""
        return self.task.value, self.method.value

    @property
    def experiment(self) -> Experiment:
        """The run that Start would make; SftrlError where its settings are wrong."""
        given: dict[str, Any] = {"steps": self.steps.value, "seed": self.seed.value}
        value = self.value.value
        if isinstance(self.value, ipywidgets.Text):
            value = knobs.typed(*self.arm, self.knob.value, value)
        if value is not None:
            given[self.knob.value] = value
        return knobs.short(*self.arm, self.preset, **given)

    @contextlib.contextmanager
    def _drawn_once(self):
        """Draw when all menus are filled again, and not at each."""
        outer, self.is_turning = self.is_turning, True
        try:
            yield
        finally:
            self.is_turning = outer
        self._draw()

    def _turn_task(self, _=None) -> None:
        task = TASKS[self.task.value]
        splits = [(task.split_labels.get(s, s), s) for s in reversed(task.curve_splits)]
        with self._drawn_once():
            kept = self.split.value or splits[0][1]  # all tasks have the same
            self.split.options = [*splits, ("its own training, step by step", knobs.TRAINING)]
            self.split.value = kept
            self._turn_method()
            self._list()

    def _turn_method(self, _=None) -> None:
        names, kept = list(knobs.knobs(*self.arm)), self.knob.value
        with self._drawn_once():
            self.knob.options = names
            self.knob.value = kept if kept in names else names[0]
            self._turn_knob()
            self._turn_split()

    def _turn_knob(self, _=None) -> None:
        """A menu where the setting's values can be listed, else a box that shows the usual one."""
        field = knobs.knobs(*self.arm)[self.knob.value]
        usual = knobs.short(*self.arm, self.preset).flat[self.knob.value]
        if listed := knobs.choices(field):
            options = [(str(value), value) for value in listed]
            self.value = _field(ipywidgets.Dropdown, "value", options=options, value=usual)
        else:
            shown = "as usual" if usual in ("", None) else f"{usual}"
            self.value = _field(ipywidgets.Text, "value", placeholder=shown)
        self.value.observe(self._tell, "value")
        self.place.children = (self.value,)
        self._tell()

    def _turn_split(self, _=None) -> None:
        task, kept = TASKS[self.task.value], self.metric.value
        labels, usual = task.metrics, task.headline
        if self.split.value == knobs.TRAINING:
            labels = knobs.logged(self.method.value)
            usual = next(iter(labels))
        with self._drawn_once():
            self.metric.options = [(label, name) for name, label in labels.items()]
            self.metric.value = kept if kept in labels else usual

    def _tell(self, _=None) -> None:
        """What the setting is, and what the run would cost."""
        field = knobs.knobs(*self.arm)[self.knob.value]
        try:
            said = knobs.price(self.experiment, self.root)
            self.start.disabled = self.training is not None
        except SftrlError as error:
            said, self.start.disabled = str(error), True
        what = f"<b>{self.knob.value}</b>: {escape(field.description or '')}"
        self.cost.value = f"{_line(what)}{_line(escape(said), 'status')}"

    # --- the runs that are there

    def _list(self, tick: str = "") -> None:
        """A box for every run of the task; boxes that are there stay as they are."""
        try:
            self.runs = knobs.kept_runs(self.root, self.task.value, self.preset)
        except SftrlError as error:
            self.runs = {}
            self._say(str(error))
        for name in self.runs:
            if name not in self.boxes:
                wide = ipywidgets.Layout(width="auto")
                box = ipywidgets.Checkbox(value=name == tick, indent=False, layout=wide)
                self.boxes[name] = box
                box.observe(self._draw, "value")
            unfinished = "" if self.runs[name].done else ", not finished"
            self.boxes[name].description = name + unfinished
        shown = tuple(self.boxes[name] for name in self.runs) or (ipywidgets.HTML("None yet."),)
        if shown != self.ticks.children:
            self.ticks.children = shown
        self._draw()

    @property
    def ticked(self) -> dict[str, Run]:
        """The runs that are drawn."""
        return {name: run for name, run in self.runs.items() if self.boxes[name].value}

    def _draw(self, _=None) -> None:
        if self.is_turning:
            return
        try:
            figure = knobs.knob_figure(
                self.ticked, self.results, *self.arm, self.split.value, self.metric.value,
                preset=self.preset,
            )  # fmt: skip
            self.picture.value = plots.html(figure)
        except SftrlError as error:
            self.picture.value = f"<p>{escape(str(error))}</p>"

    # --- training

    def _start(self, _=None) -> None:
        exp = self.experiment
        name = knobs.title(exp)
        if is_done(find_run(exp, self.root)):
            self._list()
            self.boxes[name].value = True
            return
        self.training, self.drawn_at = Training(exp, self.root), []
        self.start.disabled, self.stop.disabled = True, False
        self._say(f"{name}: starting.")
        self.refresh()
        if getattr(get_ipython(), "kernel", None):
            self.watch = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while self.training:
            await asyncio.sleep(EVERY)
            self.refresh()

    def _stop(self, _=None) -> None:
        if self.training:
            again = self.training.is_stopping
            self.training.stop()
            self._say("Stopping at once." if again else "Stopping after this step, which is saved.")

    def refresh(self) -> None:
        """Look at the run: move the bar, draw what is new, and say how it ended."""
        if not (training := self.training):
            return
        over = training.is_over  # asked first: what is read after it is all that there will be
        name, folder = knobs.title(training.exp), find_run(training.exp, self.root)
        done, steps = steps_done(training.exp, folder), training.exp.method.steps
        self._move(done, steps)
        files = (folder / "evals.jsonl", folder / "metrics.jsonl")
        sizes = [path.stat().st_size for path in files if path.exists()]
        if sizes != self.drawn_at:
            self.drawn_at = sizes
            if not training.is_stopping:
                self._say(f"{name}: step {done} of {steps}.")
            self._list(name)
        if over:
            self._end(training, name, folder, f"step {done} of {steps}")

    def _end(self, training: Training, name: str, folder: Path, where: str) -> None:
        self.training, self.stop.disabled = None, True
        self._list(name)
        said = training.fault()
        if not said and is_done(folder):
            said = f"finished in {read_manifest(folder)['wall_s']:.0f} seconds."
        self._say(f"{name}: {said or f'stopped at {where}; Start goes on from there.'}")
        self._tell()

    def _move(self, done: int, steps: int) -> None:
        bar = f'<progress value="{done}" max="{steps}" style="width: 9em"></progress>'
        self.bar.value = f"<label>steps {bar} {done} of {steps}</label>"

    def _say(self, text: str) -> None:
        self.status.value = _line(escape(text), "status")


def panel(
    results: pd.DataFrame | None = None,
    preset: str = "tiny",
    task: str = "gp-l",
    root: Path | None = None,
) -> Panel:
    """Choose task, method and a setting; see the estimate; start, stop, compare. The runs lie in
    `root`, by default among the live runs."""
    results = load_results(preset=preset) if results is None else results
    return Panel(results, preset, task, root or live_root() / FOLDER)
