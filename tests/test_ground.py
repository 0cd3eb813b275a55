"""The ground a reader stands on: versions, commands, text sources, offline pages."""

import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from importlib import metadata
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from sftrl_lib import stats
from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import TASKS
from sftrl_lib.results import load_results
from sftrl_lib.runs import read_manifest
from sftrl_lib.tasks import make_task
from sftrl_lib.tasks.general_points import named_cards
from sftrl_lib.tasks.navigation import observed
from sftrl_lib.tasks.navigation_texts import split_landmark
from study import figures
from study.claims import claims_table
from study.notebook import recorded_episodes

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
    from sftrl_lib.methods.trainer import PINNED

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
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


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
    texts = [ROOT / "README.md", ROOT / "book" / "index.md", *(ROOT / "notebooks").glob("*.py")]
    for path in texts:
        text = path.read_text()
        named = set(re.findall(r"`make ([a-z0-9-]+)|^ +make ([a-z0-9-]+)", text, re.MULTILINE))
        assert {a or b for a, b in named} <= make_targets(), path


def test_readme_links_and_pictures_exist():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


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


README_ROWS = (
    ("hands seen in training, same rule", "gp-l", "id_seen", "success"),
    ("unseen hands, same rule", "gp-l", "id_unseen", "success"),
    ("unseen hands, new rule", "gp-l", "rule_ood", "success"),
    ("new rule: formula uses the right numbers", "gp-l", "rule_ood", "numbers_right"),
    ("routes seen in training, same actions", "virl-l", "id_seen", "per_step"),
    ("unseen routes, same actions", "virl-l", "id_unseen", "per_step"),
    ("unseen routes, new actions", "virl-l", "rule_ood", "per_step"),
    ("new actions, turns only", "virl-l", "rule_ood", "turn_accuracy"),
    ("new actions: the due turn, in any words", "virl-l", "rule_ood", "turn_found"),
    ("new actions: a turn in the right words", "virl-l", "rule_ood", "words_right"),
    ("new actions: whole routes", "virl-l", "rule_ood", "success"),
    ("routes in other cities, same actions", "virl-l", "visual_ood", "per_step"),
    ("pictured hands seen in training, same rule", "gp-vl", "id_seen", "success"),
    ("unseen pictured hands, same rule", "gp-vl", "id_unseen", "success"),
    ("unseen pictured hands, new rule", "gp-vl", "rule_ood", "success"),
    ("unseen red hands, same rule", "gp-vl", "visual_ood", "success"),
    ("the most probable answer, no retry: same rule", "gp-vl", "id_unseen", "success_greedy"),
    ("the most probable answer, no retry: new rule", "gp-vl", "rule_ood", "success_greedy"),
    ("the most probable answer, no retry: red hands", "gp-vl", "visual_ood", "success_greedy"),
    ("same rule: cards seen right", "gp-vl", "id_unseen", "recognition"),
    ("same rule: whole hands seen right", "gp-vl", "id_unseen", "hand_read"),
    ("new rule: face cards read as it says", "gp-vl", "rule_ood", "value_reading"),
    ("red hands: cards seen right", "gp-vl", "visual_ood", "recognition"),
    ("red hands: whole hands seen right", "gp-vl", "visual_ood", "hand_read"),
    ("seen routes, street views, same actions", "virl-vl", "id_seen", "per_step"),
    ("unseen routes, street views, same actions", "virl-vl", "id_unseen", "per_step"),
    ("unseen routes, street views, new actions", "virl-vl", "rule_ood", "per_step"),
    ("street views of other cities, same actions", "virl-vl", "visual_ood", "per_step"),
    ("the most probable answer, no retry: same actions", "virl-vl", "id_unseen", "per_step_greedy"),
    ("the most probable answer, no retry: new actions", "virl-vl", "rule_ood", "per_step_greedy"),
    ("the most probable answer, no retry: other cities", "virl-vl", "visual_ood",
     "per_step_greedy"),
    ("whole routes, street views, same actions", "virl-vl", "id_unseen", "success"),
    ("whole routes, street views, new actions", "virl-vl", "rule_ood", "success"),
    ("whole routes, street views of other cities", "virl-vl", "visual_ood", "success"),
    ("street views, new actions: the due turn, in any words", "virl-vl", "rule_ood", "turn_found"),
    ("street views, new actions: a turn in the right words", "virl-vl", "rule_ood", "words_right"),
    ("same actions: crossings seen right", "virl-vl", "id_unseen", "intersection_seen"),
    ("same actions: landmarks seen right", "virl-vl", "id_unseen", "landmark_seen"),
    ("other cities: crossings seen right", "virl-vl", "visual_ood", "intersection_seen"),
    ("other cities: landmarks seen right", "virl-vl", "visual_ood", "landmark_seen"),
)  # fmt: skip


@pytest.mark.parametrize("row", README_ROWS, ids=lambda row: row[0])
def test_results_in_the_readme_are_those_of_the_recorded_runs(row):
    words, task, split, metric = row
    grid = stats.main_grid(load_results(yours=None).query("task == @task and preset == 'tiny'"))
    whole = metric in ("success", TASKS[task].headline)
    tries = stats.headline_tries(grid) if whole else 1
    ends = [dict(stats.last(grid, m, split, metric, tries).value) for m in ("init", "rl", "sft")]
    cells = [f"{100 * fmean(ends[0].values()):.1f}"]
    for end in ends[1:]:
        mean, lo, hi = (100 * x for x in stats.paired_change(ends[0], end)[:3])
        cells.append(f"{100 * fmean(end.values()):.1f} ({mean:+.1f} [{lo:+.1f}, {hi:+.1f}])")
    assert f"| {' | '.join((words, *cells))} |" in (ROOT / "README.md").read_text()


def test_the_twelve_cells_in_the_readme_are_those_of_the_recorded_runs():
    readme, cells = (ROOT / "README.md").read_text(), 0
    for r in claims_table(load_results(yours=None)):
        if r["paper"]:
            arm, change = r["id"].rpartition(".")[2], r["change"]
            paper = 100 * (r["paper"][arm] - r["paper"]["init"])
            ours = [f"{100 * change[key]:+.1f}" for key in ("mean", "lo", "hi")] if change else None
            here = f"{ours[0]} [{ours[1]}, {ours[2]}]" if ours else ""
            assert f"| {r['id']} | {paper:+.1f} | {here} | {r['verdict']} |" in readme
            cells += 1
    assert cells == 12


def test_why_the_readme_calls_a_claim_not_supported():
    rows = [
        r for r in claims_table(load_results(yours=None)) if r["change"] and r["tier"] == "tiny"
    ]
    first = next(r for r in rows if r["id"] == "gp-l.rule.rl")
    readme = " ".join((ROOT / "README.md").read_text().split())
    said = f"(p = {first['change']['p']:.3f}) loses significance once all {len(rows)} claims are"
    assert f"{said} corrected for ({first['p_holm']:.3f}" in readme


@pytest.mark.slow
def test_landmarks_that_are_named_in_the_readme_are_those_of_the_kept_answers():
    task, named = make_task(Experiment(task="virl-vl")), defaultdict(list)
    sides = defaultdict(list)
    for seed, split in product(range(5), ("id_unseen", "rule_ood", "visual_ood")):
        steps = task.test_items(split, seed, 200)
        for method in ("init", "rl", "sft"):
            kept = recorded_episodes(method, split, "tiny", seed, "virl-vl")
            for index, episode in kept.items():
                seen = steps[index].position.seen, observed(episode["turns"][0])
                there, said = (split_landmark(view.partition(";")[0]) for view in seen)
                named[method, all(there)].append(all(said))
                if all(there) and all(said):
                    sides[method].append(said[2] == there[2])
    a, b, c, d = (
        f"{100 * fmean(named[key]):.0f}%" for key in product(("rl", "init"), (True, False))
    )
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"(in {a} of the places that have one, the init in {c};" in readme
    assert f"where there is none, in {b} and {d})" in readme
    x, y = (f"{100 * fmean(sides[method]):.0f}%" for method in ("sft", "init"))
    assert f"gives {x} of those that it names the right side, the init {y}." in readme
    assert f"gets {x} right of those that it names, the init {y}." in (
        " ".join((ROOT / "notebooks/04_ood_evaluation.py").read_text().replace("\n#", "").split())
    )


def test_what_the_readme_says_of_the_smol_tier_is_what_its_runs_measured():
    rows = load_results(yours=None).query("preset == 'smol'")
    ends = rows[rows.step == rows.groupby(["run_id", "method"]).step.transform("max")]
    ends = ends.set_index(["method", "split", "metric", "tries"])[["successes", "n"]]

    def of(split, metric, *methods, words=", {} and {}"):
        counts = [ends.loc[method, split, metric, 1] for method in methods]
        assert len({count.n for count in counts}) == 1
        first, *others = (f"{count.successes:.0f}" for count in counts)
        return f"{first} of {counts[0].n:.0f}" + words.format(*others)

    arms = "init", "sft", "rl"
    readme = (ROOT / "README.md").read_text()
    legal = of("id_unseen", "legal", "base", *arms, words=", then {}, after SFT {}, after RL {}")
    assert f"legal are as delivered {legal}" in readme
    assert f"read as stated {of('id_unseen', 'value_reading', *arms)}" in readme
    assert f"under the new rule {of('rule_ood', 'value_reading', *arms)}" in readme
    assert "no hand solved" in readme
    solved = [count for key, count in ends.successes.items() if key[2].startswith("success")]
    assert set(solved) == {0}
    folders = [next((ROOT / "data" / "runs").glob(f"gp-l-{arm}-smol-*")) for arm in arms]
    facts = [read_manifest(folder) for folder in folders]
    peaks = "peaks of {:.1f}, {:.1f} and {:.1f} GB".format(
        *(one["peak_memory_mb"] / 1024 for one in facts)
    )
    times = "{:.0f} minutes, then {:.0f} and {:.0f} side by side".format(
        *(one["wall_s"] / 60 for one in facts)
    )
    assert peaks in readme and times in readme


def test_the_control_of_the_colours_in_the_readme_is_the_recorded_one():
    control = load_results(yours=None).query('condition == \'{"color": "red"}\'')
    readme = " ".join((ROOT / "README.md").read_text().split())
    for split, words in {
        "id_unseen": "whole red hands seen right {}, {} after RL, {} after SFT",
        "visual_ood": "{} at the init, {} after RL, {} after SFT",
    }.items():
        ends = [stats.last(control, m, split, "hand_read", 1) for m in ("init", "rl", "sft")]
        assert [len(end) for end in ends] == [1, 1, 1]
        assert words.format(*(f"{100 * end.value.iloc[0]:.1f}" for end in ends)) in readme


def test_what_second_answers_see_in_the_readme_is_that_of_the_kept_episodes():
    grid, task = stats.main_grid(load_results(yours=None)), make_task(Experiment(task="gp-vl"))
    grid = grid[(grid.task == "gp-vl") & (grid.preset == "tiny")]
    marks, again = defaultdict(list), defaultdict(list)
    for method in ("init", "sft", "rl"):
        for seed in sorted(set(grid[grid.method == method].seed)):
            kept = recorded_episodes(method, "id_unseen", "tiny", seed, "gp-vl")
            for index, episode in kept.items():
                first, second = map(named_cards, (episode["turns"] + [""])[:2])
                cards = Counter(task.item("id_unseen", seed, index).cards)
                key = method, episode["verdicts"][0]["reason"]
                if len(episode["turns"]) > 1:
                    marks[key].append((Counter(second[:4]) & cards).total() / 4)
                    again[key].append(first == second)
    i, s, r = (f"{100 * fmean(again[m, 'wrong_value']):.0f}%" for m in ("init", "sft", "rl"))
    a, b, c = (f"{100 * fmean(marks[m, 'wrong_value']):.0f}%" for m in ("init", "sft", "rl"))
    x, y, z = (f"{100 * fmean(marks[m, 'misread_cards']):.0f}%" for m in ("init", "sft", "rl"))
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"in {r} of its second answers, the init in {i}, SFT in {s}, and so {c} of" in readme
    assert f"against {a} and {b}. Told that its cards were misread, it names {z} rightly" in readme
    shown = f"the init {x}, SFT {y} (of {len(marks['sft', 'misread_cards'])} answers): no model"
    assert shown in readme


def test_peaks_of_the_proof_in_the_readme_are_the_recorded_ones():
    _, *stages = json.loads((ROOT / "data/proof/proof_11b.json").read_text())["stages"]
    a, b, c = (f"{stage['peak_gb']:.1f}" for stage in stages)
    x, y, z = (f"{stage['seconds'] / 60:.0f}" for stage in stages)
    readme = (ROOT / "README.md").read_text()
    assert f"peaks of {a}, {b} and {c} GB" in readme and f"then {x}, {y} and {z}, in part" in readme


def test_speeds_in_the_readme_are_those_of_the_recorded_benchmark():
    readme = (ROOT / "README.md").read_text()
    for r in json.loads((ROOT / "data/benchmarks/training.json").read_text())["results"]:
        speed = f"{r['seconds_a_step']:.2f} | {r['tokens_a_second']:,.0f} | {r['matmul_share']:.0%}"
        row = f"| {r['method']}: {r['variant']} | {speed} | {r['trained_rows']:.0%} |"
        assert row in readme


def test_tries_in_the_readme_are_those_of_the_recorded_runs():
    alt = (ROOT / "figures/gp-l-training_tries.alt.txt").read_text()
    ours = alt.split("Ours: ")[1].split(". Paper")[0]
    assert ours in (ROOT / "README.md").read_text()
    assert figures.training_tries(load_results(yours=None)).alt + "\n" == alt
