"""Registries of what one file can add by declaring itself.

The modules of a registry's own package are found by looking; those of other packages name
themselves in the entry-point group "sftrl_lib". Nothing is imported before the first look-up.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import metadata, resources
from typing import Any

from commons.errors import check

GROUP = "sftrl_lib"  # of entry points: modules whose import registers something


class Registry(Mapping[str, Any]):
    """What has registered itself, by name, in the order of its `rank` and then of its name: by the
    modules of the package `place`, or by those of other packages."""

    def __init__(self, what: str, place: str = "") -> None:
        self.what, self.place = what, place
        self._known: dict[str, tuple[int, Any]] = {}

    def __call__(self, name: str, rank: int = 100) -> Callable[[Any], Any]:
        """A decorator that registers a class or a function under a name, which it gets as `.name`.
        Lower ranks come first in menus and figures."""

        def register(thing: Any) -> Any:
            thing.name = name
            self._known[name] = rank, thing
            return thing

        return register

    def __getitem__(self, name: str) -> Any:
        """The thing of that name; SftrlError, with the names that there are, for another one."""
        check(f"the {self.what}", name, name in self, tuple(self))
        return self._known[name][1]

    def __contains__(self, name: object) -> bool:
        load(self.place)
        return isinstance(name, str) and name in self._known

    def __iter__(self) -> Iterator[str]:
        load(self.place)
        return iter(sorted(self._known, key=lambda name: (self._known[name][0], name)))

    def __len__(self) -> int:
        load(self.place)
        return len(self._known)


@cache
def load(place: str) -> None:
    """Import every module that may register something for the registry of that place. Not the
    others: families of models need torch, and a typo on the command line is answered without."""
    if not place:
        for entry in metadata.entry_points(group=GROUP):
            importlib.import_module(entry.value)
        return
    load("")
    package = importlib.import_module(place)
    for path in sorted(resources.files(package).iterdir(), key=lambda path: path.name):
        # Only those that register something: others may be slow to import.
        if path.name.endswith(".py") and "\n@register_" in path.read_text(encoding="utf-8"):
            importlib.import_module(f"{package.__name__}.{path.name[:-3]}")
