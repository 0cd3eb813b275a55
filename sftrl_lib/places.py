"""Where things lie: what comes with the library is read there, and what is made is written where
this user may write."""

import os
from pathlib import Path

import platformdirs

from commons import files

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
    """As `files.writable`; of the book's own folders, which no other replaces, it says so."""
    if folder.is_relative_to(ROOT / "data"):
        return files.writable(folder, "use a checkout of the project that you may write to")
    return files.writable(folder)
