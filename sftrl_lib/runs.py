"""Run folders: what was run, with what, and what came out.

Recorded runs lie in data/runs and are committed; live ones lie in runs/, which git ignores.
"""

import contextlib
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import BaseFileLock, FileLock, Timeout

from .errors import SftrlError
from .experiment import Experiment, resolve_precision
from .places import CHECKOUT, HOME, ROOT, writable
from .run_files import (
    ROWS,
    damaged,
    digest,
    find_run,
    is_done,
    line,
    plain,
    read_jsonl,
    read_manifest,
    read_rows,
    write_atomic,
)

try:  # POSIX only: the peak of memory
    import resource
except ImportError:  # pragma: no cover
    resource = None  # type: ignore[assignment]  # a module, where there is one

# Of the processes that `accelerate launch` starts for one run; the first alone writes.
RANK, LOCAL_RANK = (int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK"))
WORLD = int(os.environ.get("WORLD_SIZE", 1))
RUNS = ROOT / "data" / "runs"  # recorded
LIVE = HOME / "runs"  # this session's
YOURS = LIVE / "yours"  # a reader's: of the command line, or copied from another machine
_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "numpy")
_SAVE_EVERY = 20.0  # seconds between two writes of the manifest while rows are logged


@dataclass
class Compute:
    """Tokens spent by one run. The first two count every row, also those without advantage, as the
    paper does (Fig. 5); `done_*` count what was executed."""

    train_tokens: int = 0
    rollout_tokens: int = 0
    done_train_tokens: int = 0
    done_rollout_tokens: int = 0

    def flops(self, n_active: int) -> float:
        """The paper's X = 6 N D_train + 2 N D_rollout, for N = `n_active` parameters."""
        return float(n_active) * (6 * self.train_tokens + 2 * self.rollout_tokens)

    def done_flops(self, n_active: int) -> float:
        """The same formula on the tokens that were really processed."""
        return float(n_active) * (6 * self.done_train_tokens + 2 * self.done_rollout_tokens)


class Run(AbstractContextManager):
    """One run folder. As a context manager it ends as "done", or as "interrupted" on any exception
    (Ctrl-C included), and can then be opened again."""

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
        if RANK:
            state = "done" if is_done(path) else "running"
            return Follower(path, {"config": exp.flat, "hash": exp.hash, "state": state})
        if path.is_file():
            raise SftrlError(
                f"{path} is a file, where the run's folder must be; move it away and try again."
            )
        writable(path)
        facts = {"config": exp.flat, "hash": exp.hash, "state": "running"}
        run = cls(path, facts | ({"data": data} if (data := exp.task.data()) else {}))
        run._lock = _lock(path)
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
        there = {name: {row["step"] for row in self._read(name)} for name in ROWS}
        if self.done:
            return
        saved = self._saved_step()
        due = {
            "metrics.jsonl": range(1, saved + 1),
            "evals.jsonl": [s for s in points if s < saved],
        }
        for name, steps in due.items():
            if lost := set(steps) - there[name]:
                first = f"step {min(lost)} is missing"
                why = f"{first}, and the checkpoint of step {saved} builds on it"
                raise damaged(self.path / name, why)
        read_jsonl(self.path / "metrics.jsonl", repair=True)
        self.manifest["state"] = "running"

    def _saved_step(self) -> int:
        """The step of the last checkpoint, 0 if there is none."""
        checkpoints = list(self.path.glob("checkpoint-*"))
        for path in checkpoints:
            if not (path.is_dir() and path.name.partition("-")[2].isdecimal()):
                raise SftrlError(f"{path} is no checkpoint; move it away and try again.")
        return max((int(path.name.partition("-")[2]) for path in checkpoints), default=0)

    @property
    def done(self) -> bool:
        """Whether it came to its last step: it is then only read."""
        return self.manifest["state"] == "done"

    def note(self, **facts: Any) -> None:
        """Put facts (device, precision and why, parameters, ...) into the manifest, and save it."""
        self._saved = time.monotonic()
        wall = round(self._wall_before + self._saved - self._started, 1)
        # Of the whole process, so far; 0 where the system does not say. macOS counts bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else 0
        peak = peak // (2**20 if sys.platform == "darwin" else 2**10)
        peak = max(self.manifest.get("peak_memory_mb") or 0, peak)
        self.manifest.update(facts, wall_s=wall, peak_memory_mb=peak)
        text = json.dumps(plain(self.manifest), indent=1, ensure_ascii=False)
        write_atomic(self.path / "manifest.json", text + "\n")

    def log(self, **row: Any) -> None:
        """Append one training step to metrics.jsonl; it survives a kill once this returns."""
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

    def add_episodes(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep episodes to look at; the same method, seed, step, split, index replace."""
        self._merge("episodes.jsonl", rows, ("method", "seed", "step", "split", "index"))

    def episodes(self) -> list[dict[str, Any]]:
        """The sample of episodes, as `episode_row` makes them."""
        return self._read("episodes.jsonl")

    def _read(self, name: str) -> list[dict[str, Any]]:
        return read_rows(self.path, self.manifest, name)

    def _merge(self, name: str, rows: Iterable[Mapping[str, Any]], key: tuple[str, ...]) -> None:
        both = [*self._read(name), *map(plain, rows)]
        config = self.manifest["config"]  # what a row does not say is its run's: method and seed
        kept = {tuple(row.get(k, config.get(k)) for k in key): row for row in both}
        write_atomic(self.path / name, "".join(map(line, kept.values())))

    def evals(self) -> pd.DataFrame:
        """This run's rows of the results table."""
        from .results import run_rows  # which reads run folders, too

        return run_rows(self.path, self.manifest)

    def finish(self, state: str = "done") -> None:
        """The last note. A finished run knows its files by their digests, and needs no checkpoint
        any more: only then are they removed, so that a kill leaves one or the other."""
        facts: dict[str, Any] = {"state": state}
        if state == "done":
            digests = {name: digest(self.path / name) for name in ROWS}
            facts["files"] = {name: digest for name, digest in digests.items() if digest}
        self.note(**facts)
        if self.done:
            self._sweep()
        self._unlock()

    def _sweep(self) -> None:
        for left in (*self.path.glob("checkpoint-*"), self.path / ".saving"):
            shutil.rmtree(left, ignore_errors=True)

    def _unlock(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(PermissionError):  # Windows removes it on release
                (self.path / ".lock").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def __exit__(self, kind, value, trace) -> None:
        if not self.done:
            self.finish("interrupted" if kind else "done")


class Follower(Run):
    """The run folder as every process but the first has it: read, and never written."""

    def note(self, **facts: Any) -> None:
        self.manifest.update(facts)

    def log(self, **row: Any) -> None:
        pass

    def _merge(self, *_) -> None:
        pass

    def _sweep(self) -> None:  # the first process may still be saving
        pass


def _lock(path: Path) -> BaseFileLock:
    """Keep other processes out of a run folder; the system frees the lock however we end."""
    lock = FileLock(path / ".lock")
    if (path / ".lock").is_symlink():
        raise damaged(path / ".lock", "it is a link")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise SftrlError(
            f"{path} is being written by another process, and only one may write; wait for it or "
            "stop it, then try again."
        ) from error
    except OSError as error:
        raise damaged(path / ".lock", error) from error
    return lock


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
    """What a run's speed and last digits depend on: "same seed, same result" is a promise for one
    machine and thread count."""
    import torch  # here, so that figures and claims start quickly

    precision, why = resolve_precision(exp)
    return {
        "precision": precision,
        "precision_why": why,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": [round(x, 2) for x in os.getloadavg()]
        if hasattr(os, "getloadavg")
        else None,
        "python": platform.python_version(),
        "versions": {p: metadata.version(p) for p in _PACKAGES},
        "git": _git_revision(),
    }


def _git_revision() -> str | None:
    if not CHECKOUT:  # the repository around an installed wheel is another's
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.SubprocessError):
        return None


def end_with_parent() -> None:
    """Let a worker die with the command that started it, however that ends (kill -9 included); its
    run goes on from its last checkpoint."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
