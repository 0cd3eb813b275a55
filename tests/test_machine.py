"""Other machines than the one this was written on: busy ones, read-only ones, ones without a home,
and an installed wheel in place of a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from sftrl_lib import SftrlError, places
from sftrl_lib.cli import main
from sftrl_lib.places import ROOT
from sftrl_lib.registry import COMMANDS
from study import book

PACKAGES = (
    "commons", "engine", "examples", "foundry", "sftrl_lib", "study", "teach", "worlds",
)  # fmt: skip
SHORT = "sft --steps 1 --batch 8 --eval_episodes 1 --final_episodes 1 --eval_points 1".split()


def python(*arguments: object, env: dict, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Ask a fresh interpreter, which inherits nothing; a superuser loses the right to write where
    no permission says so."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, *map(str, arguments)]
    env = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)} | env
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd)


needs_setpriv = pytest.mark.skipif(
    os.name != "posix" or (os.geteuid() == 0 and not shutil.which("setpriv")),
    reason="a superuser without setpriv may write anywhere",
)


# --- threads --------------------------------------------------------------------------------------
TELL = "import engine.threads as t; t.use_threads({}); import torch; print(torch.get_num_threads())"
SMALL, LARGE = TELL.format(""), TELL.format("small=False")


@pytest.mark.parametrize(
    ("code", "env", "policy", "threads"),
    [
        (SMALL, {}, "PASSIVE", 1),
        pytest.param(LARGE, {}, "PASSIVE", min(2, os.cpu_count()), marks=pytest.mark.slow),
        pytest.param(
            LARGE,
            {"OMP_WAIT_POLICY": "ACTIVE"},
            "ACTIVE",
            min(2, os.cpu_count()),
            marks=pytest.mark.slow,
        ),
        pytest.param(LARGE, {"OMP_NUM_THREADS": "1"}, "PASSIVE", 1, marks=pytest.mark.slow),
        # Too late for the policy: nothing to wait for.
        (f"import torch; {LARGE}", {}, None, 1),
        pytest.param(
            f"import torch; {LARGE}",
            {"OMP_WAIT_POLICY": "PASSIVE"},
            "PASSIVE",
            min(2, os.cpu_count()),
            marks=pytest.mark.slow,
        ),
    ],  # fmt: skip
    ids=[
        "a small model",
        "a larger one",
        "the user's policy",
        "the user's threads",
        "torch first",
        "both",
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other OpenMP libraries tell it otherwise")
def test_threads_that_wait_sleep(code, env, policy, threads):
    done = python("-c", code, env=env | {"OMP_DISPLAY_ENV": "TRUE"})  # what the library has read
    assert done.returncode == 0, done.stderr
    assert policy is None or f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
    assert done.stdout == f"{threads}\n"


def test_a_notebook_settles_threads_and_silence_before_torch_loads():
    done = python(
        "-c", "import sys, study; print('engine' in sys.modules, 'torch' in sys.modules)", env={}
    )
    assert done.stdout == "True False\n", done.stderr


@pytest.mark.slow
def test_a_notebooks_kernel_has_threads_that_sleep_though_it_loads_torch_first(tmp_path):
    text = '# %% tags=["parameters"]\nn = 0\n# %%\nimport torch, os\nos.environ["OMP_WAIT_POLICY"]'
    (tmp_path / "torch_first.py").write_text(text)
    out = book.execute(tmp_path / "torch_first.py", {}, tmp_path / "torch_first.ipynb")
    said = nbformat.read(out, 4).cells[-1].outputs[0].data["text/plain"]
    assert said == repr(os.environ["OMP_WAIT_POLICY"])


# --- folders --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A read-only folder into which the wheel was unpacked, as an installer does."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in (*PACKAGES, "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(source)!r})"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (file,) = source.glob("*.whl")
    zipfile.ZipFile(file).extractall(site)
    for path in (site, *site.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    yield site
    for path in (site, *site.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.slow
@needs_setpriv
def test_a_wheel_trains_without_a_home_and_writes_only_where_it_is_told(wheel, tmp_path):
    before = sorted(wheel.rglob("*"))
    env = {"PYTHONPATH": str(wheel), "HOME": "/dev/null", "SFTRL_HOME": str(tmp_path / "mine")}
    done = python("-m", "sftrl_lib", *SHORT, env=env | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "mine" / "runs" / "yours").glob("*/evals.jsonl"))) == 1
    assert sorted(wheel.rglob("*")) == before and [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
@needs_setpriv
def test_a_wheel_has_the_rows_that_the_claims_are_held_to(wheel, tmp_path):
    done = python("-m", "sftrl_lib", "claims", "--json", env={"PYTHONPATH": str(wheel)}, cwd="/")
    here = python("-m", "sftrl_lib", "claims", "--json", env={"SFTRL_HOME": str(tmp_path)})
    assert done.returncode == 0 and done.stdout == here.stdout


@pytest.mark.slow
@needs_setpriv
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (SHORT, ("cannot be written", "set SFTRL_HOME to a folder")),
        (["experiments"], ("use a checkout of the project",)),
        (["book"], ("run this command in a checkout",)),
    ],
    ids=["run", "records", "book"],
)
def test_where_nothing_can_be_written_one_sentence_says_what_to_do(wheel, arguments, words):
    env = {"PYTHONPATH": str(wheel), "HOME": "/dev/null", "PYTHONWARNINGS": "ignore"}
    done = python("-m", "sftrl_lib", *arguments, env=env, cwd="/")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("error: ") and [word for word in words if word not in said] == []


def test_a_checkout_that_cannot_be_written_leaves_its_work_to_the_users_folder(monkeypatch):
    monkeypatch.delenv("SFTRL_HOME", raising=False)
    assert places._home() == ROOT
    monkeypatch.setattr(places.os, "access", lambda path, mode: False)
    assert places._home() == places.platformdirs.user_data_path("sftrl-lib", appauthor=False)


def test_a_user_without_any_home_gets_no_folder_called_tilde(monkeypatch):
    monkeypatch.delenv("SFTRL_HOME", raising=False)
    monkeypatch.setattr(places, "CHECKOUT", False)
    monkeypatch.setattr(places.platformdirs, "user_data_path", lambda *_, **__: Path("~/.local"))
    assert places._home() == Path("/~/.local")


def test_a_full_disk_is_one_sentence(monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", "here")

    monkeypatch.setattr(COMMANDS["claims"], "run", full)
    assert main(["claims"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: here cannot be written") and "No space left" in said


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SftrlError, match="file cannot be written .*set SFTRL_HOME"):
        places.writable(tmp_path / "file")
