"""Run folders: what was run, with what, and what came out; written whole, read checked.

manifest.json (settings, machine, state), metrics.jsonl (a row a training step), evals.jsonl (a row
a measurement), episodes.jsonl (a sample to look at); `data/README.md` explains every column.
Recorded runs lie in data/runs and are committed; live ones lie in runs/, which git ignores.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from filelock import BaseFileLock
from pydantic import BaseModel, Field

from commons.errors import SftrlError
from commons.files import (
    Checked,
    Scalar,
    Whole,
    content,
    damaged,
    digest,
    line,
    lock,
    parsed,
    plain,
    read_lines,
    unlock,
    write_atomic,
)
from commons.processes import RANK
from engine.machine import facts, peak_memory_mb, revision

from .experiment import Experiment, unknown_settings
from .places import CHECKOUT, HOME, ROOT, writable

RUNS = ROOT / "data" / "runs"  # recorded
LIVE = HOME / "runs"  # this session's
YOURS = LIVE / "yours"  # a reader's: of the command line, or copied from another machine
_SAVE_EVERY = 20.0  # seconds between two writes of the manifest while rows are logged


# --- what the files hold --------------------------------------------------------------------------
class _Step(Checked[float | None]):
    step: Whole


class _Measurement(Checked[float | None]):
    """A row of the results table, without what its run says already."""

    step: Whole
    split: str
    metric: str
    value: float | None
    tries: Whole | None = None
    successes: Whole | None = None
    n: Whole | None = None
    method: str = ""
    seed: Whole = 0
    lr: float = 0.0
    train_tries: Whole = 0
    clusters: dict[str, tuple[Whole, Whole]] | None = None  # (right, of) by hand or route


class _Verdict(Checked[Scalar]):
    reason: str
    message: str
    reward: float


class _Episode(Checked[Scalar]):
    """As `episode_row` makes them."""

    step: Whole
    split: str
    index: Whole
    prompt: str = ""
    solved: bool = False
    turns: list[str] = []
    verdicts: list[_Verdict] = []


class _Manifest(Checked[Scalar | list[Scalar] | dict[str, Scalar]]):
    config: dict[str, Scalar]
    hash: str
    state: Literal["running", "interrupted", "done"]
    wall_s: float = Field(0.0, ge=0)
    peak_memory_mb: Whole | None = None
    compute: float = Field(0.0, ge=0)
    compute_done: float = Field(0.0, ge=0)
    n_active: Whole = 0
    init: str = ""
    data: dict[str, str] = {}
    files: dict[str, str] = {}


_ROWS: dict[str, type[BaseModel]] = {
    "metrics.jsonl": _Step,
    "evals.jsonl": _Measurement,
    "episodes.jsonl": _Episode,
}


# --- reading and writing them ---------------------------------------------------------------------
def read_jsonl(path: Path, repair: bool = False) -> list[dict[str, Any]]:
    """Rows of a run's .jsonl file (`read_lines`); only metrics.jsonl grows line by line."""
    return read_lines(path, _ROWS[path.name], path.name == "metrics.jsonl", repair)


def read_rows(folder: Path, manifest: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Rows of one of a run's files. A finished run knows its files' digests (the first recorded
    ones do not): SftrlError if one was changed, cut, removed or exchanged since."""
    path = folder / name
    rows = read_jsonl(path)
    if "files" in manifest and digest(path) != manifest["files"].get(name):
        raise damaged(path, "it is not as the finished run left it")
    return rows


def experiment_of(config: Mapping[str, Any]) -> Experiment:
    """The experiment of a run's settings, without the routes that it read: these may have changed
    since, or gone. The manifest's `data` says which they were."""
    return Experiment(**dict(config) | dict.fromkeys(("routes", "ood_routes") & config.keys(), ""))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder. SftrlError unless it is whole: settings of an experiment whose
    hash and folder it has, a state, facts of the right types."""
    path = folder / "manifest.json"
    try:
        if (text := content(path)) is None:
            raise ValueError("it is missing")
        manifest = parsed(text, _Manifest)
        if unknown := unknown_settings(manifest["config"]):
            raise ValueError(
                f"config has {', '.join(unknown)[:80]}, which this version does not know: was it "
                "made by a newer one? Then update this library"
            )
        exp = experiment_of(manifest["config"])
        found, name = exp.hash_on(manifest.get("data", {})), _name(exp.run_id)
        if found != manifest["hash"]:
            raise ValueError(f"its config has the hash {found}, not {manifest['hash']}")
        if _name(folder.absolute().name) != name:
            raise ValueError(f"it belongs to a folder of a name that begins with {name}")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return manifest


def _name(folder: str) -> str:
    """A folder's name without the hash, which settings that came later have changed."""
    return folder.rpartition("-")[0]


def is_done(folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    return os.path.lexists(folder / "manifest.json") and read_manifest(folder)["state"] == "done"


def run_folders(root: Path) -> list[Path]:
    """The folders under `root` that hold a run, or what is left of one."""
    names = ("manifest.json", *_ROWS)
    return sorted({path.parent for name in names for path in root.glob(f"*/{name}")})


def find_run(exp: Experiment, root: Path) -> Path:
    """The folder of an experiment's run under `root`, known by the hash in its manifest; the folder
    to make where there is none."""
    usual = Path(root) / exp.run_id
    if usual.exists():
        return usual
    others = (p for p in run_folders(Path(root)) if _name(p.name) == _name(usual.name))
    return next((path for path in others if read_manifest(path)["hash"] == exp.hash), usual)


# --- a run ----------------------------------------------------------------------------------------
class Run(AbstractContextManager):
    """One run folder. As a context manager it ends as "done", or as "interrupted" on any exception
    (Ctrl-C included), and can then be opened again. Of several processes the first alone writes."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self._lock: BaseFileLock | None = None
        self._started = self._saved = time.monotonic()
        self._wall_before = float(manifest.get("wall_s", 0.0))

    @classmethod
    def open(cls, exp: Experiment, root: Path | str = LIVE) -> "Run":
        """Create the folder of `exp` under `root`, or resume it. SftrlError if the folder holds
        another configuration, is damaged, or is being written by another process."""
        path = find_run(exp, Path(root))
        run = cls(path, {"config": exp.flat, "hash": exp.hash, "state": "running"})
        if RANK:
            run.manifest["state"] = "done" if is_done(path) else "running"
            return run
        if path.is_file():
            raise SftrlError(
                f"{path} is a file, where the run's folder must be; move it away and try again."
            )
        if data := exp.task.data():
            run.manifest["data"] = data
        run._lock = lock(writable(path))
        try:
            run._resume(exp.eval_steps)
        except BaseException:
            run._unlock()
            raise
        if run.done:
            run._sweep()
            run._unlock()
        else:
            run.note(**machine(exp))
        return run

    def _resume(self, points: Iterable[int]) -> None:
        """Take up what is in the folder. What was logged and, at `points`, measured before the last
        checkpoint could not be made again, for its model is gone: a run does not go on without."""
        for entry in self.path.iterdir():
            if entry.is_symlink():  # through which something elsewhere would be written or removed
                raise SftrlError(
                    f"{entry} is a link, and a run is only written into files of its own folder; "
                    "put the file itself there, or delete the folder."
                )
            if entry.name.startswith(".") and entry.suffix == ".tmp":  # of a killed process
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if all(entry.name.startswith(".") for entry in self.path.iterdir()):
            return
        manifest = read_manifest(self.path)
        if manifest["hash"] != self.manifest["hash"]:
            why = f"it is of another run, {manifest['hash']} and not {self.manifest['hash']}"
            raise damaged(self.path / "manifest.json", why)
        self.manifest, self._wall_before = manifest, manifest.get("wall_s", 0.0)
        there = {name: {row["step"] for row in self._read(name)} for name in _ROWS}
        if self.done:
            return
        saved = self._saved_step()
        measured = [step for step in points if step < saved]
        for name, due in (("metrics.jsonl", range(1, saved + 1)), ("evals.jsonl", measured)):
            if lost := set(due) - there[name]:
                why = (
                    f"step {min(lost)} is missing, and the checkpoint of step {saved} builds on it"
                )
                raise damaged(self.path / name, why)
        read_jsonl(self.path / "metrics.jsonl", repair=True)
        self.manifest["state"] = "running"

    def _saved_step(self) -> int:
        """The step of the last checkpoint, 0 if there is none."""
        steps = [0]
        for path in self.path.glob("checkpoint-*"):
            step = path.name.partition("-")[2]
            if not (path.is_dir() and step.isdecimal()):
                raise SftrlError(f"{path} is no checkpoint; move it away and try again.")
            steps.append(int(step))
        return max(steps)

    @property
    def done(self) -> bool:
        """Whether it came to its last step: it is then only read."""
        return self.manifest["state"] == "done"

    def note(self, **facts: Any) -> None:
        """Put facts (device, precision and why, parameters, ...) into the manifest, and save it."""
        self.manifest.update(facts)
        if RANK:
            return
        self._saved = time.monotonic()
        wall = round(self._wall_before + self._saved - self._started, 1)
        peak = max(self.manifest.get("peak_memory_mb") or 0, peak_memory_mb())
        self.manifest.update(wall_s=wall, peak_memory_mb=peak)
        text = json.dumps(plain(self.manifest), indent=1, ensure_ascii=False)
        write_atomic(self.path / "manifest.json", text + "\n")

    def log(self, **row: Any) -> None:
        """Append one training step to metrics.jsonl; it survives a kill once this returns."""
        if RANK:
            return
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line(row))
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.note()

    def metrics(self) -> pd.DataFrame:
        """The training log, one row a step; of a step repeated after a resume, the last row."""
        rows = {row["step"]: row for row in self._read("metrics.jsonl")}
        return pd.DataFrame(rows.values())

    def add_evals(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep measurements: step, compute, compute_done, split, metric, tries, successes, n,
        value, lo, hi. A row may override a column of its run, e.g. seed (whose deals) or method.
        The same method, seed, step, split, metric, tries and temperature replace the earlier row.
        """
        same = ("method", "seed", "step", "split", "metric", "tries", "eval_temperature")
        self._merge("evals.jsonl", rows, same)

    def evals(self) -> pd.DataFrame:
        """This run's rows of the results table."""
        from .results import run_rows  # which reads run folders, too

        return run_rows(self.path, self.manifest)

    def add_episodes(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep episodes to look at; the same method, seed, step, split, index replace."""
        self._merge("episodes.jsonl", rows, ("method", "seed", "step", "split", "index"))

    def episodes(self) -> list[dict[str, Any]]:
        """The sample of episodes, as `episode_row` makes them."""
        return self._read("episodes.jsonl")

    def _read(self, name: str) -> list[dict[str, Any]]:
        return read_rows(self.path, self.manifest, name)

    def _merge(self, name: str, rows: Iterable[Mapping[str, Any]], key: tuple[str, ...]) -> None:
        if RANK:
            return
        both = [*self._read(name), *map(plain, rows)]
        config = self.manifest["config"]  # what a row does not say is its run's: method and seed
        kept = {tuple(row.get(k, config.get(k)) for k in key): row for row in both}
        write_atomic(self.path / name, "".join(map(line, kept.values())))

    def finish(self, state: str = "done") -> None:
        """The last note. A finished run knows its files by their digests, and needs no checkpoint
        any more: only then are they removed, so that a kill leaves one or the other."""
        facts: dict[str, Any] = {"state": state}
        if state == "done":
            digests = {name: digest(self.path / name) for name in _ROWS}
            facts["files"] = {name: digest for name, digest in digests.items() if digest}
        self.note(**facts)
        if self.done:
            self._sweep()
        self._unlock()

    def _sweep(self) -> None:
        if RANK:  # the first process may still be saving
            return
        for left in (*self.path.glob("checkpoint-*"), self.path / ".saving"):
            shutil.rmtree(left, ignore_errors=True)

    def _unlock(self) -> None:
        if self._lock is not None:
            unlock(self._lock)
            self._lock = None

    def __exit__(self, kind, value, trace) -> None:
        if not self.done:
            self.finish("interrupted" if kind else "done")


def episode_row(prompt: str, episode: Any, **facts: Any) -> dict[str, Any]:
    """A rollout's episode as a plain dict. `facts`: step, split, index, ..."""
    verdicts = [turn.verdict for turn in episode.turns]
    return {
        **facts,
        "prompt": prompt,
        "solved": bool(verdicts and verdicts[-1].ok),
        "turns": [turn.text for turn in episode.turns],
        "verdicts": [dict(reason=v.reason, message=v.message, reward=v.reward) for v in verdicts],
    }


def machine(exp: Experiment) -> dict[str, Any]:
    """What a run's speed and last digits depend on (`engine.machine`), and its code."""
    precision, why = exp.model.resolved
    git = revision(ROOT) if CHECKOUT else None  # around an installed wheel it is another's
    return {"precision": precision, "precision_why": why, **facts(), "git": git}
