"""Run folders and the results table: what was run, with what, and what came out.

A run is a folder: manifest.json (configuration, machine, state), metrics.jsonl (one row a training
step), evals.jsonl (one row a measurement), episodes.jsonl (a sample to look at), checkpoints while
it runs, and weights/ at its end.
Recorded runs lie in data/runs and are committed; live ones lie in runs/, which git ignores.
`data/README.md` explains every column.
"""

import json
import math
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import pandas as pd

from .config import Experiment, resolve_precision
from .errors import SftrlError
from .places import CHECKOUT, HOME, ROOT, writable

try:  # POSIX only: locks, and the peak of memory
    import fcntl
    import resource
except ImportError:  # pragma: no cover
    fcntl = resource = None

# Of the processes that `accelerate launch` starts for one run; the first alone writes.
RANK, LOCAL_RANK = (int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK"))
WORLD = int(os.environ.get("WORLD_SIZE", 1))
RUNS = ROOT / "data" / "runs"  # recorded
LIVE = HOME / "runs"  # this session's
YOURS = LIVE / "yours"  # a reader's: of the command line, or copied from another machine
RESULTS = ROOT / "data" / "results.csv"
PAPER = ROOT / "data" / "paper.csv"
REBUILD = "python -m sftrl_lib experiments"  # makes the recorded runs and the results table

COLUMNS = [
    "task", "method", "preset", "foundation", "seed", "step", "lr", "train_tries", "condition",
    "compute", "compute_done", "split", "metric", "tries", "successes", "n", "value", "lo", "hi",
    "run_id", "source",
]  # fmt: skip
_WHOLE = ("seed", "step", "train_tries", "tries", "successes", "n")
_REAL = ("lr", "compute", "compute_done", "value", "lo", "hi")
# What identifies the arm, or only decides how precisely it is measured. Every other setting that
# differs from the arm's defaults goes into `condition`: "{}" is the main grid and nothing else.
_NOT_A_CONDITION = {
    "task", "method", "preset", "foundation", "seed", "eval_points", "eval_episodes",
    "final_episodes", "eval_tries", "report_to", "micro_batch", "chunk",
    "keep",
}  # fmt: skip
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


def _plain(value: Any) -> Any:
    """Strict JSON: numpy scalars become numbers, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(_plain(row), ensure_ascii=False) + "\n"


def write_atomic(path: Path, text: str) -> None:
    """A reader, or a killed process, sees the old file or the new one, never half of one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_jsonl(path: Path, repair: bool = False) -> list[dict[str, Any]]:
    """Rows of a .jsonl file; [] if there is none. A last line without its newline was cut off by a
    kill: it is left out, and with `repair` cut from the file. Other damage is an SftrlError."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if repair and len(whole) < len(data):
        os.truncate(path, len(whole))
    rows = []
    for number, line in enumerate(whole.split(b"\n")[:-1], 1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise SftrlError(
                f"{path} is damaged in line {number}, where a JSON object must stand; restore the "
                f"file, or delete the folder {path.parent} and run the experiment again."
            ) from error
    return rows


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder, checked for what the results table needs."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        str(manifest["hash"] + manifest["state"]), manifest["config"]["method"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SftrlError(
            f"{path} is damaged or missing ({type(error).__name__}: {error}), but must be JSON "
            f"with config, hash and state; restore it, or delete the folder {folder} and run the "
            "experiment again."
        ) from error
    return manifest


def is_done(folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    return (folder / "manifest.json").exists() and read_manifest(folder)["state"] == "done"


class Run(AbstractContextManager):
    """One run folder. As a context manager it ends as "done", or as "interrupted" on any exception
    (Ctrl-C included), and can then be opened again."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest, self._lock = path, manifest, None
        self._started = self._saved = time.monotonic()
        self._wall_before = float(manifest.get("wall_s", 0.0))

    @classmethod
    def open(cls, exp: Experiment, root: Path | str = LIVE) -> Self:
        """Create the folder of `exp` under `root`, or resume it. SftrlError if the folder holds
        another configuration, is damaged, or is being written by another process."""
        path = Path(root) / exp.run_id
        if RANK:
            state = "done" if is_done(path) else "running"
            return Follower(path, {"config": asdict(exp), "hash": exp.hash, "state": state})
        lock = _lock(writable(path))
        manifest = {"config": asdict(exp), "hash": exp.hash, "state": "running"}
        manifest |= {"data": exp.data} if exp.data else {}
        if any(p.name != ".lock" for p in path.iterdir()):
            manifest = read_manifest(path)
        if manifest["hash"] != exp.hash:
            raise SftrlError(
                f"{path / 'manifest.json'} belongs to configuration {manifest['hash']}, but this "
                f"run is {exp.hash}; delete the folder or choose another one: results are never "
                "mixed."
            )
        for file in ("metrics.jsonl", "evals.jsonl", "episodes.jsonl"):
            read_jsonl(path / file, repair=True)
        run = cls(path, manifest)
        run._lock = lock
        if run.done:
            run._unlock()
        else:
            run.note(state="running", **machine(exp))
        return run

    @property
    def done(self) -> bool:
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
        text = json.dumps(_plain(self.manifest), indent=1, ensure_ascii=False)
        write_atomic(self.path / "manifest.json", text + "\n")

    def log(self, **row: Any) -> None:
        """Append one training step to metrics.jsonl; it survives a kill once this returns."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(_line(row))
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.note()

    def metrics(self) -> pd.DataFrame:
        """The training log, one row a step; of a step repeated after a resume, the last row."""
        rows = {row.get("step"): row for row in read_jsonl(self.path / "metrics.jsonl")}
        return pd.DataFrame(rows.values())

    def add_evals(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep measurements: step, compute, compute_done, split, metric, tries, successes, n,
        value, lo, hi. A row may override a column of its run, e.g. seed (whose deals) or method.
        The same method, seed, step, split, metric and tries replace the earlier row."""
        self._merge("evals.jsonl", rows, ("method", "seed", "step", "split", "metric", "tries"))

    def add_episodes(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep episodes to look at; the same method, seed, step, split, index replace."""
        self._merge("episodes.jsonl", rows, ("method", "seed", "step", "split", "index"))

    def episodes(self) -> list[dict[str, Any]]:
        """The sample of episodes, as `episode_row` makes them."""
        return read_jsonl(self.path / "episodes.jsonl")

    def _merge(self, name: str, rows: Iterable[Mapping[str, Any]], key: tuple[str, ...]) -> None:
        both = [*read_jsonl(self.path / name), *map(_plain, rows)]
        config = self.manifest["config"]  # what a row does not say is its run's: method and seed
        kept = {tuple(row.get(k, config.get(k)) for k in key): row for row in both}
        write_atomic(self.path / name, "".join(map(_line, kept.values())))

    def evals(self) -> pd.DataFrame:
        """This run's rows of the results table."""
        return _typed(pd.DataFrame(_rows(self.path, self.manifest), columns=COLUMNS))

    def finish(self, state: str = "done") -> None:
        self.note(state=state)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            (self.path / ".lock").unlink(missing_ok=True)
            self._lock.close()
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


def _lock(path: Path):
    """Keep other processes out of a run folder; the system frees the lock however we end."""
    if fcntl is None:  # pragma: no cover
        return None
    file = (path / ".lock").open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise SftrlError(
            f"{path} is being written by another process, and only one may write; wait for it or "
            "stop it, then try again."
        ) from error
    return file


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
        "load_average": [round(x, 2) for x in os.getloadavg()] if fcntl else None,
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


def condition(config: Mapping[str, Any]) -> str:
    """JSON of the settings in which a configuration differs from its arm's defaults; "{}" is the
    main grid. Settings with a column of their own (lr, tries) are in it too when they differ."""
    default = asdict(Experiment(**{k: config[k] for k in ("task", "method", "preset")}))
    other = {k: v for k, v in config.items() if k not in _NOT_A_CONDITION and v != default.get(k)}
    return json.dumps(other, sort_keys=True)


def _rows(folder: Path, manifest: Mapping[str, Any], source: str = "ours") -> list[dict[str, Any]]:
    config = manifest["config"]
    arm = {k: config[k] for k in ("task", "method", "preset", "foundation", "seed", "lr")}
    arm |= {"train_tries": config["tries"] if config["method"] == "rl" else 1}
    settings = config | manifest.get("data", {})  # which routes, not where they lay
    arm |= {"condition": condition(settings), "run_id": folder.name, "source": source}
    return [arm | row for row in read_jsonl(folder / "evals.jsonl")]


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """One order and one type a column: the same rows always make the same file."""
    types = dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_REAL, "float64")
    arm = ["source", "task", "method", "preset", "foundation", "condition", "lr", "train_tries"]
    key = [*arm, "seed", "run_id", "step", "split", "metric", "tries"]
    return table[COLUMNS].astype(types).sort_values(key, ignore_index=True)


def results_table(
    roots: Iterable[Path | str] = (RUNS,), done_only: bool = False, source: str = "ours"
) -> pd.DataFrame:
    """All measurements of the runs under `roots`, unfinished ones too unless `done_only`."""
    rows = []
    for path in sorted(p for root in roots for p in Path(root).glob("*/manifest.json")):
        manifest = read_manifest(path.parent)
        if manifest["state"] == "done" or not done_only:
            rows += _rows(path.parent, manifest, source)
    return _typed(pd.DataFrame(rows, columns=COLUMNS))


def write_results(roots: Iterable[Path | str] = (RUNS,), path: Path = RESULTS) -> pd.DataFrame:
    """Rebuild data/results.csv from the finished runs; the same runs give the same bytes."""
    table = results_table(roots, done_only=True)
    write_atomic(path, table.to_csv(index=False, lineterminator="\n"))
    return table


def load_results(
    path: Path | str = RESULTS, paper: Path | str = PAPER, yours: Path | None = YOURS
) -> pd.DataFrame:
    """Our recorded rows, the paper's printed numbers and the finished runs in `yours` (column
    `source`: ours | paper | yours). Where there is no results file, only the others."""
    tables, text = [], {"foundation": str, "condition": str}
    for file in filter(os.path.exists, (path, paper)):
        try:
            tables.append(_typed(pd.read_csv(file, dtype=text)))
        except (KeyError, ValueError, TypeError) as error:
            raise SftrlError(
                f"{file} is not a results table ({error}), whose columns must be "
                f"{', '.join(COLUMNS)}; restore it, or rebuild it from the runs with "
                f"`{REBUILD} --table`."
            ) from error
    if yours:
        tables.append(results_table([yours], done_only=True, source="yours"))
    found = [table for table in tables if len(table)]
    return _typed(pd.concat(found) if found else pd.DataFrame(columns=COLUMNS))


def end_with_parent() -> None:
    """Let a worker die with the command that started it, however that ends (kill -9 included); its
    run goes on from its last checkpoint."""

    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    if parent:
        threading.Thread(target=watch, daemon=True).start()
