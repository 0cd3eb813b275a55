"""Loaded before every test module."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from hypothesis import settings

import sftrl_lib  # noqa: F401  (before torch, so that threads which wait do not spin)
from sftrl_lib.places import ROOT

settings.register_profile("busy", deadline=None)  # how long a test takes, other programs decide
settings.load_profile("busy")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def chromium():
    """A headless browser. Of a module, and not of all: while it is there its event loop runs, and
    what would start one of its own fails."""
    path = next(filter(None, map(shutil.which, BROWSERS)), "")
    if not path:
        pytest.skip("no Chromium on this machine (Debian, Ubuntu: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def serious():
    """A function: what axe finds serious or worse on a page, or in a part of it."""
    from axe_playwright_python.sync_playwright import Axe

    def found(page, part: str = "") -> list[tuple[str, str]]:
        faults = Axe().run(page, part or None).response["violations"]
        return [(f["id"], f["nodes"][0]["html"][:200]) for f in faults if f["impact"] in SERIOUS]

    return found


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """JupyterLab on this machine: a function that opens a notebook of one cell, run by keyboard."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.token=t"]
    options += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log: Path = folder / "log"
    with log.open("w") as errors:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", *options], env=environment, stderr=errors
        )

        def run(call: str, module: str = "touch"):
            code = "from pathlib import Path\nfrom sftrl_lib.results import load_results\n"
            code += f"from study import {module}\n{module}.{call}"
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
            cells, name = [nbformat.v4.new_code_cell(code)], f"{call.partition('(')[0]}.ipynb"
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / name)
            page = chromium.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(240_000)
            while f":{port}/lab" not in log.read_text():
                assert server.poll() is None, log.read_text()
                time.sleep(0.5)
            page.goto(f"http://127.0.0.1:{port}/doc/tree/{name}?token=t")
            page.get_by_text("| Idle").wait_for()  # a cell run before is not run at all
            page.locator(".jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Shift+Enter")
            return page

        try:
            yield run
        finally:
            server.terminate()
            server.wait()
