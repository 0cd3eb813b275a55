"""Files that a kill never leaves half written, and that are not believed before they are checked.

JSON objects, one a file or one a line; what one must hold is a `Checked` model. Whatever is wrong
with a file is one sentence (SftrlError) that names it.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from filelock import BaseFileLock, FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import SftrlError

Whole = Annotated[int, Field(ge=0, lt=2**63)]
Scalar = str | bool | int | float | None
_Extra = TypeVar("_Extra")


class Checked(BaseModel, Generic[_Extra]):
    """What a file must hold where later code relies on it. Fields of a younger version are let
    through, as long as they are of the type given."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, _Extra]


def damaged(path: Path, error: Exception | str, where: str = "") -> SftrlError:
    """The error to raise; `where` is a place in the file, such as " in line 3"."""
    why = " ".join(str(error).split())[:200].rstrip(".")
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:2]))
        why = f"{place}: {first['msg']}" if place else first["msg"]
    return SftrlError(
        f"{path} is damaged{where} ({why}); restore it, or delete the folder {path.parent} and run "
        "the experiment again."
    )


def plain(value: Any) -> Any:
    """Strict JSON: numpy scalars become numbers, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def line(row: Mapping[str, Any]) -> str:
    """A row of a .jsonl file."""
    return json.dumps(plain(row), ensure_ascii=False) + "\n"


def write_atomic(path: Path, text: str) -> None:
    """A reader, or a killed process, sees the old file or the new one, never half of one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


_USUAL = "set SFTRL_HOME to a folder that you may write to, or name another folder"


def writable(folder: Path, repair: str = _USUAL) -> Path:
    """`folder`, made where it is missing; SftrlError where this user may not write to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "permission denied")
    except OSError as error:
        raise SftrlError(f"{folder} cannot be written ({error.strerror}); {repair}.") from error
    return folder


def content(path: Path) -> bytes | None:
    """A file's bytes; None where there is nothing of that name. ValueError if it is no file: one
    does not wait for a pipe."""
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        raise ValueError("it is not a file")
    return path.read_bytes()


def parsed(text: bytes, kind: type[BaseModel]) -> dict[str, Any]:
    """A JSON object of a kind, as it stands in the file; ValueError for anything else."""
    kind.model_validate_json(text)
    return json.loads(text)


def read_lines(
    path: Path, kind: type[BaseModel], grows: bool = False, repair: bool = False
) -> list[dict[str, Any]]:
    """Rows of a .jsonl file, each of a `kind`; [] if there is none. Where it `grows` line by line,
    a last line without its newline was cut off by a kill: it is left out, and with `repair` cut
    from the file. Other damage is an SftrlError."""
    try:
        data = content(path) or b""
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    *lines, torn = data.split(b"\n")
    rows = []
    for number, text in enumerate(lines, 1):
        try:
            rows.append(parsed(text, kind))
        except ValueError as error:
            raise damaged(path, error, f" in line {number}") from error
    if torn and not (grows and torn.startswith(b"{")):
        raise damaged(path, "its last line has no end", f" in line {len(lines) + 1}")
    if torn and repair:
        os.truncate(path, len(data) - len(torn))
    return rows


def digest(path: Path) -> str | None:
    """Of a file's lines, however the system ends them; None where there is none."""
    data = content(path)
    return None if data is None else hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()


def lock(folder: Path) -> BaseFileLock:
    """Keep other processes out of a folder; the system frees the lock however we end."""
    path = folder / ".lock"
    taken = FileLock(path)
    if path.is_symlink():
        raise damaged(path, "it is a link")
    try:
        taken.acquire(blocking=False)
    except Timeout as error:
        raise SftrlError(
            f"{folder} is being written by another process, and only one may write; wait for it or "
            "stop it, then try again."
        ) from error
    except OSError as error:
        raise damaged(path, error) from error
    return taken


def unlock(taken: BaseFileLock) -> None:
    """Let others in again, and leave no file behind."""
    with contextlib.suppress(PermissionError):  # Windows removes it on release
        Path(taken.lock_file).unlink(missing_ok=True)
    taken.release()
