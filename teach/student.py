"""The notebooks for a class: without solutions, as files that JupyterLab opens with a click."""

from pathlib import Path

import jupytext
import nbformat

from sftrl_lib.places import writable
from study.book import NOTEBOOKS  # with the excursions, which have no exercises

from .cells import content


def without_solutions(path: Path) -> nbformat.NotebookNode:
    """A notebook whose exercises are stubs, with their hints."""
    nb = jupytext.read(path)
    for cell in nb.cells:
        made = content(cell, path.stem, solution=False)
        cell.source = cell.source if made is None else made
    nb.metadata.pop("jupytext", None)  # no pair: what a student hands in is this file
    return nb


def write(folder: Path) -> None:
    """All notebooks, in a folder to give out."""
    writable(folder)
    for path in NOTEBOOKS:
        nbformat.write(without_solutions(path), folder / f"{path.stem}.ipynb")
    print(f"{len(NOTEBOOKS)} notebooks without solutions in {folder}")
