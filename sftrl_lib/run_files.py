"""The files of a run folder: written whole, read checked, never half.

manifest.json (settings, machine, state), metrics.jsonl (one row a training step), evals.jsonl (one
row a measurement), episodes.jsonl (a sample to look at). `data/README.md` explains every column.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import SftrlError
from .experiment import Experiment, unknown_settings


def plain(value: Any) -> Any:
    """Strict JSON: numpy scalars become numbers, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def line(row: Mapping[str, Any]) -> str:
    """A row of a .jsonl file, its newline included."""
    return json.dumps(plain(row), ensure_ascii=False) + "\n"


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
_Extra = TypeVar("_Extra")


class _Checked(BaseModel, Generic[_Extra]):
    """What a file of a run folder must hold. Fields of a younger version are let through, as long
    as they are of the type given."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, _Extra]


class _Step(_Checked[float | None]):
    """A line of metrics.jsonl: numbers."""

    step: _Whole


class _Measurement(_Checked[_Scalar]):
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
    eval_temperature: float | None = None  # where it is not the run's
    clusters: dict[str, tuple[_Whole, _Whole]] | None = None  # (right, of) by hand or route


class _Verdict(_Checked[_Scalar]):
    reason: str
    message: str
    reward: float


class _Episode(_Checked[_Scalar]):
    """A line of episodes.jsonl, as `episode_row` makes them."""

    step: _Whole
    split: str
    index: _Whole
    prompt: str = ""
    solved: bool = False
    turns: list[str] = []
    verdicts: list[_Verdict] = []


class _Manifest(_Checked[_Scalar | list[_Scalar] | dict[str, _Scalar]]):
    """manifest.json, where later code relies on it; the other facts are for people."""

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


ROWS: dict[str, type[_Checked]] = {
    "metrics.jsonl": _Step,
    "evals.jsonl": _Measurement,
    "episodes.jsonl": _Episode,
}


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


def damaged(path: Path, error: Exception | str, where: str = "") -> SftrlError:
    """The error to raise; `where` is a place in the file, such as " in line 3"."""
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
        raise damaged(path, error) from error
    whole = data[: data.rfind(b"\n") + 1]
    lines, torn, rows = whole.split(b"\n")[:-1], data[len(whole) :], []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_parsed(line, ROWS.get(path.name)))
        except ValueError as error:
            raise damaged(path, error, f" in line {number}") from error
    if torn and not (path.name == "metrics.jsonl" and torn.startswith(b"{")):
        raise damaged(path, "its last line has no end", f" in line {len(lines) + 1}")
    if torn and repair:
        os.truncate(path, len(whole))
    return rows


def digest(path: Path) -> str | None:
    """Of a file's lines, however the system ends them; None where there is none."""
    data = _content(path)
    return None if data is None else hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()


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


def _check_settings(manifest: Mapping[str, Any], folder: Path) -> None:
    """ValueError unless its settings are those of an experiment, with its hash, in its folder."""
    config = manifest["config"]
    if unknown := unknown_settings(config):
        raise ValueError(
            f"config has {', '.join(unknown)[:80]}, which this version does not know: was it made "
            "by a newer one? Then update this library"
        )
    exp = experiment_of(config)
    found = exp.hash_on(manifest.get("data", {}))
    if found != manifest["hash"]:
        raise ValueError(f"its config has the hash {found}, not {manifest['hash']}")
    name = exp.run_id.rpartition("-")[0]
    if folder.absolute().name.rpartition("-")[0] != name:
        raise ValueError(f"it belongs to a folder of a name that begins with {name}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder. SftrlError unless it is whole: an experiment whose hash and
    folder it has, a state, facts of the right types."""
    path = folder / "manifest.json"
    try:
        if (text := _content(path)) is None:
            raise ValueError("it is missing")
        manifest = _parsed(text, _Manifest)
        _check_settings(manifest, folder)
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return manifest


def is_done(folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    return os.path.lexists(folder / "manifest.json") and read_manifest(folder)["state"] == "done"


def run_folders(root: Path) -> list[Path]:
    """The folders under `root` that hold a run, or what is left of one."""
    names = ("manifest.json", *ROWS)
    return sorted({path.parent for name in names for path in root.glob(f"*/{name}")})


def find_run(exp: Experiment, root: Path) -> Path:
    """The folder of an experiment's run under `root`: a run is known by the hash in its manifest,
    since settings that came later have changed what folders are called. The folder to make where
    there is none."""
    usual = Path(root) / exp.run_id
    if usual.exists():
        return usual
    alike = usual.name.rpartition("-")[0]
    others = (p for p in run_folders(Path(root)) if p.name.rpartition("-")[0] == alike)
    return next((path for path in others if read_manifest(path)["hash"] == exp.hash), usual)
