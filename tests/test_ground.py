"""The ground a reader stands on: versions, commands, text sources, offline pages."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)")


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    matches = {line: PIN.fullmatch(line) for line in lines if line and not line.startswith("#")}
    loose = [line for line, match in matches.items() if match is None]
    assert not loose, f"not exact: {loose}"
    return dict(match.groups() for match in matches.values())


def test_every_requirement_is_pinned_exactly_and_once():
    names = [line.split("==")[0].lower() for line in pins()]
    assert len(names) == len(set(names))


def test_the_private_methods_we_override_belong_to_the_pinned_versions():
    from engine.trainer import PINNED

    assert PINNED and {name: pins()[name] for name in PINNED} == PINNED


def test_installed_versions_are_the_pinned_ones():
    wrong = {}
    for name, version in pins().items():
        found = metadata.version(name).split("+")[0]  # torch's CPU build is called +cpu
        if found != version:
            wrong[name] = found
    assert not wrong


def test_torchvision_is_not_needed():
    assert "torchvision" not in pins()


def test_conda_environment_leads_to_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = environment["dependencies"]
    pip = next(item["pip"] for item in listed if isinstance(item, dict))
    assert pip == ["-r requirements.txt", "--editable ."]
    assert {item.split("=")[0] for item in listed if isinstance(item, str)} == {
        "python", "pip", "make",
    }  # fmt: skip


def test_package_reads_the_same_list_of_versions():
    assert 'dependencies = { file = ["requirements.txt"] }' in (ROOT / "pyproject.toml").read_text()


def make_targets() -> set[str]:
    rules = re.findall(r"^([a-z0-9 -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {target for rule in rules for target in rule.split()}


def test_makefile_has_the_promised_targets():
    promised = {"book", "test", "test-slow", "test-all", "lab", "html", "experiments", "clean"}
    assert promised <= make_targets()


def test_quick_and_slow_tests_are_all_tests():
    said = {}
    for target in ("test", "test-slow", "test-all"):
        command = ["make", "-n", "-o", ".venv/.installed", target]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        (line,) = (line for line in done.stdout.splitlines() if "-m pytest" in line)
        said[target] = line.partition("worksteal")[2].strip()
    assert said == {"test": '-m "not slow"', "test-slow": "-m slow", "test-all": ""}


def test_readme_and_notebooks_name_only_make_targets_that_exist():
    pages = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.py")]
    texts = [ROOT / "README.md", *pages]
    for path in texts:
        text = path.read_text()
        named = set(re.findall(r"`make ([a-z0-9-]+)|^ +make ([a-z0-9-]+)", text, re.MULTILINE))
        assert {a or b for a, b in named} <= make_targets(), path


def test_links_and_pictures_of_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    targets += re.findall(r"src(?:set)?=\"([^\"]+)\"", text)
    assert len(targets) > 15
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_readme_is_short_and_holds_no_result_that_could_go_stale():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 700
    assert re.findall(r"[\d.]+ ?%|(?<!\w)[+-]\d+\.\d", text) == []


def test_makefile_says_what_to_do_without_a_python():
    command = ["make", "-B", "-n", ".venv/.installed", "PYTHON=/nonexistent/python"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "No Python 3.11 or newer at PYTHON=/nonexistent/python" in done.stdout + done.stderr


def test_ci_runs_what_a_reader_runs():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if "test" in line] == ["make test", "make test-slow"]


def test_no_notebook_is_committed_with_outputs():
    folders = [p for p in ROOT.iterdir() if p.is_dir() and p.name not in (".venv", "build")]
    found = [p for folder in folders for p in folder.rglob("*.ipynb")]
    assert [p for p in found if ".ipynb_checkpoints" not in p.parts] == []


def test_code_is_clean():
    folders = [
        "commons",
        "engine",
        "examples",
        "sftrl_lib",
        "study",
        "foundry",
        "worlds",
        "tests",
        "notebooks",
        "benchmarks",
        "book",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *folders], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_import_turns_hub_and_telemetry_off():
    code = (
        "import os; [os.environ.pop(k, None) for k in ('HF_HUB_OFFLINE', 'SFTRL_ONLINE')]; "
        "import sftrl_lib; print(os.environ['HF_HUB_OFFLINE'], os.environ['DO_NOT_TRACK'], "
        "os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1", "1"], done.stderr
