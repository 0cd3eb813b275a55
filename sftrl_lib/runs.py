"""Run folders and the results table: what was run, with what, and what came out.

A run is a folder: manifest.json (configuration, machine, state), metrics.jsonl (one row a training
step), evals.jsonl (one row a measurement), episodes.jsonl (a sample to look at), checkpoints while
it runs, and weights/ at its end.
Recorded runs lie in data/runs and are committed; live ones lie in runs/, which git ignores.
`data/README.md` explains every column.
"""

import hashlib
import json
import math
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
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .config import Experiment, resolve_precision, run_name, settings_hash
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


_Whole = Annotated[int, Field(ge=0, lt=2**63)]
_Scalar = str | bool | int | float | None


class _Checked(BaseModel):
    """What a file of a run folder must hold. Fields of a younger version are let through, as long
    as they are scalars."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, _Scalar]


class _Step(_Checked):
    """A line of metrics.jsonl: numbers."""

    __pydantic_extra__: dict[str, float | None]
    step: _Whole


class _Measurement(_Checked):
    """A line of evals.jsonl: a row of the results table, without what its run says already."""

    step: _Whole
    split: str
    metric: str
    value: float | None
    tries: _Whole | None = None
    successes: _Whole | None = None
    n: _Whole | None = None
    compute: float | None = None
    compute_done: float | None = None
    lo: float | None = None
    hi: float | None = None
    method: str = ""
    seed: _Whole = 0
    lr: float = 0.0
    train_tries: _Whole = 0


class _Verdict(_Checked):
    reason: str
    message: str
    reward: float


class _Episode(_Checked):
    """A line of episodes.jsonl, as `episode_row` makes them."""

    step: _Whole
    split: str
    index: _Whole
    prompt: str = ""
    solved: bool = False
    turns: list[str] = []
    verdicts: list[_Verdict] = []


class _Manifest(_Checked):
    """manifest.json, where later code relies on it; the other facts are for people."""

    __pydantic_extra__: dict[str, _Scalar | list[_Scalar] | dict[str, _Scalar]]
    config: dict[str, _Scalar]
    hash: str
    state: Literal["running", "interrupted", "done"]
    wall_s: float = Field(0.0, ge=0)
    peak_memory_mb: _Whole | None = None
    compute: float = Field(0.0, ge=0)
    compute_done: float = Field(0.0, ge=0)
    n_active: _Whole = 0
    init: str = ""
    data: dict[str, str] = {}
    files: dict[str, str] = {}


_ROWS = {"metrics.jsonl": _Step, "evals.jsonl": _Measurement, "episodes.jsonl": _Episode}


def _content(path: Path) -> bytes | None:
    """A file's bytes; None where there is nothing of that name. ValueError if it is no file: one
    does not wait for a pipe."""
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        raise ValueError("it is not a file")
    return path.read_bytes()


def _parsed(text: bytes, kind: type[_Checked] | None) -> dict[str, Any]:
    """A JSON object in UTF-8 with finite numbers, of a known kind; else ValueError."""

    def refuse(number: str) -> None:
        raise ValueError(f"{number} is no JSON")

    try:
        found = json.loads(text.decode("utf-8"), parse_constant=refuse)
        if b"\\ud" in text.lower():  # half of a surrogate pair could not be written again
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"a JSON object must stand there, not {type(found).__name__}")
    if kind:
        kind.model_validate(found)
    return found


def _why(error: Exception) -> str:
    """One line that says what is wrong."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'][:2]))}: {first['msg']}"
    return " ".join(str(error).split())[:200].rstrip(".")


def _damaged(path: Path, error: Exception | str, where: str = "") -> SftrlError:
    why = error if isinstance(error, str) else _why(error)
    return SftrlError(
        f"{path} is damaged{where} ({why}); restore it, or delete the folder {path.parent} and run "
        "the experiment again."
    )


def read_jsonl(path: Path, repair: bool = False) -> list[dict[str, Any]]:
    """Rows of a .jsonl file; [] if there is none. In metrics.jsonl, which grows line by line, a
    last line without its newline was cut off by a kill: it is left out, and with `repair` cut from
    the file. Other damage is an SftrlError."""
    try:
        data = _content(path) or b""
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    whole = data[: data.rfind(b"\n") + 1]
    lines, torn, rows = whole.split(b"\n")[:-1], data[len(whole) :], []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_parsed(line, _ROWS.get(path.name)))
        except ValueError as error:
            raise _damaged(path, error, f" in line {number}") from error
    if torn and not (path.name == "metrics.jsonl" and torn.startswith(b"{")):
        raise _damaged(path, "its last line has no end", f" in line {len(lines) + 1}")
    if torn and repair:
        os.truncate(path, len(whole))
    return rows


def _digest(path: Path) -> str | None:
    """Of a file's lines, however the system ends them; None where there is none."""
    data = _content(path)
    return data and hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()


def read_rows(folder: Path, manifest: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Rows of one of a run's files. A finished run knows its files' digests (the first recorded
    ones do not): SftrlError if one was changed, cut, removed or exchanged since."""
    path = folder / name
    rows = read_jsonl(path)
    if "files" in manifest and _digest(path) != manifest["files"].get(name):
        raise _damaged(path, "it is not as the finished run left it")
    return rows


def _check_config(config: Mapping[str, Any]) -> None:
    """ValueError unless these are the settings of an experiment."""
    known = {f.name: type(f.default) for f in fields(Experiment)}
    if unknown := sorted(set(config) - set(known)):
        raise ValueError(
            f"config has {', '.join(unknown)[:80]}, which this version does not know: was it made "
            "by a newer one? Then update this library"
        )
    for name, value in config.items():
        if type(value) is not known[name] and (known[name], type(value)) != (float, int):
            raise ValueError(f"config.{name} is not of type {known[name].__name__}")
    Experiment(**dict(config) | {"routes": "", "ood_routes": ""})  # which may lie elsewhere


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder. SftrlError unless it is whole: an experiment whose hash and
    folder it has, a state, facts of the right types."""
    path = folder / "manifest.json"
    try:
        if (text := _content(path)) is None:
            raise ValueError("it is missing")
        manifest = _parsed(text, _Manifest)
        _check_config(manifest["config"])
        found = settings_hash(manifest["config"] | manifest.get("data", {}))
        if found != manifest["hash"]:
            raise ValueError(f"its config has the hash {found}, not {manifest['hash']}")
        name = run_name(manifest["config"], found)
        if name != folder.absolute().name:
            raise ValueError(f"it belongs to a folder of the name {name}")
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return manifest


def is_done(folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    return os.path.lexists(folder / "manifest.json") and read_manifest(folder)["state"] == "done"


def _run_folders(root: Path) -> list[Path]:
    """The folders under `root` that hold a run, or what is left of one."""
    names = ("manifest.json", *_ROWS)
    return sorted({path.parent for name in names for path in root.glob(f"*/{name}")})


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
        manifest = {"config": asdict(exp), "hash": exp.hash, "state": "running"}
        run = cls(path, manifest | ({"data": exp.data} if exp.data else {}))
        run._lock = _lock(writable(path))
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
        self.manifest, self._wall_before = manifest, manifest.get("wall_s", 0.0)
        there = {name: {row["step"] for row in self._read(name)} for name in _ROWS}
        if self.done:
            return
        saved = self._saved_step()
        due = {
            "metrics.jsonl": range(1, saved + 1),
            "evals.jsonl": [s for s in points if s < saved],
        }
        for name, steps in due.items():
            if lost := set(steps) - there[name]:
                why = (
                    f"step {min(lost)} is missing, and the checkpoint of step {saved} builds on it"
                )
                raise _damaged(self.path / name, why)
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
        rows = {row["step"]: row for row in self._read("metrics.jsonl")}
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
        return self._read("episodes.jsonl")

    def _read(self, name: str) -> list[dict[str, Any]]:
        return read_rows(self.path, self.manifest, name)

    def _merge(self, name: str, rows: Iterable[Mapping[str, Any]], key: tuple[str, ...]) -> None:
        both = [*self._read(name), *map(_plain, rows)]
        config = self.manifest["config"]  # what a row does not say is its run's: method and seed
        kept = {tuple(row.get(k, config.get(k)) for k in key): row for row in both}
        write_atomic(self.path / name, "".join(map(_line, kept.values())))

    def evals(self) -> pd.DataFrame:
        """This run's rows of the results table."""
        return _typed(pd.DataFrame(_rows(self.path, self.manifest), columns=COLUMNS))

    def finish(self, state: str = "done") -> None:
        """The last note. A finished run knows its files by their digests, and needs no checkpoint
        any more: only then are they removed, so that a kill leaves one or the other."""
        facts: dict[str, Any] = {"state": state}
        if state == "done":
            digests = {name: _digest(self.path / name) for name in _ROWS}
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
    name = path / ".lock"
    while True:
        try:
            file = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
        except OSError as error:
            raise _damaged(name, error) from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise SftrlError(
                f"{path} is being written by another process, and only one may write; wait for it "
                "or stop it, then try again."
            ) from error
        if name.exists() and os.path.samestat(os.fstat(file.fileno()), name.stat()):
            return file
        file.close()  # its owner has just removed it: a third process would not see our lock


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
    return [arm | row for row in read_rows(folder, manifest, "evals.jsonl")]


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
    for folder in (folder for root in roots for folder in _run_folders(Path(root))):
        manifest = read_manifest(folder)
        if manifest["state"] == "done" or not done_only:
            rows += _rows(folder, manifest, source)
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
