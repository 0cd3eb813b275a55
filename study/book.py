"""Run the notebooks and make the HTML book: jupytext -> nbclient -> Sphinx, all on this machine."""

import ast
import asyncio
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbclient.output_widget import OutputWidget
from tqdm.auto import tqdm

from commons.errors import SftrlError
from sftrl_lib.places import HOME, ROOT, writable
from sftrl_lib.results import load_results

from . import explorer, figures, hero, pages, playground, predict, reasons, speeds

# A letter after the number marks an excursion, which runs after its notebook: 01b.
NOTEBOOKS = tuple(sorted((ROOT / "notebooks").glob("[0-9][0-9]*_*.py")))
BUILD = HOME / "build"
EXECUTED = BUILD / "notebooks"
HTML = BUILD / "html"

SIDE_BY_SIDE = 4  # notebooks at most: each may hold 2 GB
CELL_TIMEOUT = 1800  # seconds; a cell that takes longer has hung
WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS_BAR = re.compile(r"Progress\(|%\|| ?it/s|it \[")  # how tqdm's widget prints itself
JAVASCRIPT = "application/javascript"  # `setup` has some, for JupyterLab
NO_KERNEL = "(a widget: open this notebook with `make lab` to use it)"


def parameters_of(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Names and defaults assigned in the cell tagged `parameters`."""
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise SftrlError(f"{len(cells)} cells are tagged 'parameters'; a notebook has exactly one.")
    body = [node for node in ast.parse(cells[0].source).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in body}


def inject(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]) -> None:
    """Add a cell that sets other values after the one tagged `parameters`; refuse unknown names."""
    known = parameters_of(notebook)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise SftrlError(
            f"unknown parameter {', '.join(unknown)}; the notebook has {', '.join(known)}."
        )
    if parameters:
        place = [("parameters" in c.metadata.get("tags", [])) for c in notebook.cells].index(True)
        source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
        notebook.cells.insert(place + 1, cell)


class _Output(OutputWidget):
    """Tells the kernel nothing of what it shows: no page keeps a widget, and to send on the channel
    on which a cell's reply is awaited can lose the reply, after which the cell never ends."""

    def send(self, *_: Any, **__: Any) -> None:
        pass


def execute(notebook: Path, parameters: Mapping[str, Any], out: Path) -> Path:
    """Run a jupytext notebook in a fresh kernel and write it, outputs included, to `out` (.ipynb).

    Where a cell fails, what ran is written all the same, and SftrlError says which cell and why.
    """
    return asyncio.run(_execute(notebook, parameters, out))


async def _execute(
    notebook: Path, parameters: Mapping[str, Any], out: Path,
    on_cell: Callable[[str], None] | None = None, **environment: str,
) -> Path:  # fmt: skip
    """`execute`; `on_cell(heading)` is called before each cell with the heading it stands under.
    The kernel has this process's environment, and `environment`."""
    writable(out.parent)
    nb = jupytext.read(notebook)
    inject(nb, parameters)
    heading = ""

    def follow(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal heading
        if cell.cell_type == "markdown":
            titles = [line.lstrip("# ") for line in cell.source.splitlines() if line[:1] == "#"]
            heading = (titles or [heading])[0]
        if on_cell:
            on_cell(heading)

    client = NotebookClient(
        nb, timeout=CELL_TIMEOUT, kernel_name="python3", on_cell_start=follow,
        resources={"metadata": {"path": str(notebook.parent)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )  # fmt: skip
    client.widget_registry["@jupyter-widgets/output"]["OutputModel"] = _Output
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    )
    try:
        await client.async_execute(env=os.environ | environment)
    except CellExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".splitlines()[0]
        raise SftrlError(
            f"{notebook.name} stopped under '{heading}' with {reason}; open {out} to "
            "see the cell, repair it and run the book again."
        ) from error
    except CellTimeoutError as error:
        raise SftrlError(
            f"{notebook.name} stopped under '{heading}': a cell took more than {CELL_TIMEOUT} "
            "seconds; have it do less, for example with --set live_steps=2 --set live_batch=16."
        ) from error
    finally:
        nbformat.write(without_widgets(nb), out)
    return out


async def _execute_all(notebooks: Sequence[Path], parameters: Mapping[str, Any]) -> None:
    """Run notebooks side by side, as many as the machine has cores for, one thread each: small
    models gain nothing from a second. Ctrl-C or a failure stops the others, too."""
    own = {path: parameters_of(jupytext.read(path)) for path in notebooks}
    known = {name for names in own.values() for name in names}
    if unknown := sorted(set(parameters) - known):
        raise SftrlError(
            f"unknown parameter {', '.join(unknown)}; the notebooks have "
            f"{', '.join(sorted(known))}."
        )
    workers = min(SIDE_BY_SIDE, os.cpu_count() or 1)
    threads = {"OMP_NUM_THREADS": "1"} if workers > 1 else {}
    turn, total = asyncio.Semaphore(workers), sum(len(jupytext.read(n).cells) for n in notebooks)
    with tqdm(total=total, unit="cell", bar_format="{l_bar}{bar}| {elapsed}{postfix}") as bar:

        async def run(notebook: Path) -> None:
            def on_cell(heading: str) -> None:
                bar.update()
                bar.set_postfix_str(f"{notebook.stem}: {heading}"[:60])

            given = {k: v for k, v in parameters.items() if k in own[notebook]}
            out = EXECUTED / f"{notebook.stem}.ipynb"
            async with turn:
                await _execute(notebook, given, out, on_cell, **threads)

        running = [asyncio.create_task(run(notebook)) for notebook in notebooks]
        try:
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def without_widgets(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Fold predictions, drop progress bars and scripts, and replace other widgets by a note: no
    kernel stands behind a page."""
    predict.fold(nb)
    for cell in nb.cells:
        kept = []
        for output in cell.get("outputs", []):
            if JAVASCRIPT in output.get("data", {}):
                continue
            if WIDGET not in output.get("data", {}):
                kept.append(output)
            elif not PROGRESS_BAR.search(output.data.get("text/plain", "")):
                kept.append(nbformat.v4.new_output("display_data", {"text/plain": NO_KERNEL}))
        if "outputs" in cell:
            cell.outputs = kept
    nb.metadata.pop("widgets", None)  # their state
    return nb


def build_html(executed: Path = EXECUTED, html: Path = HTML) -> Path:
    """The HTML book from executed notebooks; one never executed appears without outputs."""
    from sphinx.cmd.build import build_main

    source = writable(html.parent) / "book"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "book", source)
    drawn = figures.FOLDER if figures.FOLDER.exists() else ROOT / "figures"
    shutil.copytree(drawn, source / pages.FIGURES)
    pages.write_tables(load_results(yours=None), source / "generated")
    playground.export(source / "_static")
    explorer.export(source / "_static")
    (source / "notebooks").mkdir()
    for notebook in NOTEBOOKS:
        ran = executed / f"{notebook.stem}.ipynb"
        nb = nbformat.read(ran, 4) if ran.exists() else jupytext.read(notebook)
        nbformat.write(nb, source / "notebooks" / ran.name)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(html.parent / "doctrees")]
    if build_main([*options, str(source), str(html)]):
        raise SftrlError(f"Sphinx could not build {html}; mend what it says above and try again.")
    return html / "index.html"


def build(
    only: str = "", parameters: Mapping[str, Any] | None = None, run_notebooks: bool = True
) -> Path:
    """Run the notebooks whose name starts with `only`, refresh figures/, build the pages."""
    if not NOTEBOOKS:
        raise SftrlError(
            "an installed wheel has no notebooks; run this command in a checkout of the project."
        )
    chosen = [n for n in NOTEBOOKS if n.stem.startswith(only)]
    if not chosen:
        names = ", ".join(n.stem for n in NOTEBOOKS)
        raise SftrlError(f"no notebook starts with {only!r}; the notebooks are {names}.")
    if run_notebooks:
        asyncio.run(_execute_all(chosen, parameters or {}))
    results = load_results(yours=None)
    figures.save_all(results)
    hero.save_all(results)
    reasons.save_all(results)
    speeds.save_all(figures.FOLDER)
    return build_html()
