"""Where things lie: what comes with the library is read there, and what is made is written where
this user may write."""

import os
from pathlib import Path

import platformdirs

from .errors import SftrlError

_PACKAGE = Path(__file__).resolve().parent
CHECKOUT = (_PACKAGE.parent / "pyproject.toml").is_file()  # and not an installed wheel
ROOT = _PACKAGE.parent if CHECKOUT else _PACKAGE  # has data/


def _home() -> Path:
    if given := os.environ.get("SFTRL_HOME"):
        return Path(os.path.expanduser(given)).absolute()
    if CHECKOUT and os.access(ROOT, os.W_OK):
        return ROOT
    # A user without any home gets a path that begins with "~", and must not get a folder of it.
    return Path("/", platformdirs.user_data_path("sftrl-lib", appauthor=False))


HOME = _home()  # live runs, figures, the built book, generated cities

if not os.access(os.path.expanduser("~"), os.W_OK):  # some libraries fail where they keep caches
    for _name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "IPYTHONDIR"):
        os.environ.setdefault(_name, str(HOME / "build" / "home" / _name.lower()))


def writable(folder: Path) -> Path:
    """`folder`, made where it is missing; SftrlError where this user may not write to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "permission denied")
    except OSError as error:
        repair = "set SFTRL_HOME to a folder that you may write to, or name another folder"
        if folder.is_relative_to(ROOT / "data"):  # the book's own, which no other folder replaces
            repair = "use a checkout of the project that you may write to"
        raise SftrlError(f"{folder} cannot be written ({error.strerror}); {repair}.") from error
    return folder
