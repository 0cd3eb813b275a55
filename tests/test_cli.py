"""The command line: what it lists, and how it refuses: exit code 2, one line, no traceback."""

import json
import math
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import psutil
import pytest
import torch

from engine.presets import PRESETS
from sftrl_lib import Experiment, runner
from sftrl_lib.cli import main
from sftrl_lib.experiment import defaults, sections, sweep
from sftrl_lib.registry import COMMANDS, METHODS, TASKS
from sftrl_lib.runs import YOURS
from study import grids, side_by_side
from study.grids import STUDIED

CELLS = [
    f"{task}.{shift}.{method}"
    for task, shift in (
        ("gp-l", "rule"), ("virl-l", "rule"), ("gp-vl", "rule"), ("virl-vl", "rule"),
        ("gp-vl", "visual"), ("virl-vl", "visual"),
    )
    for method in ("rl", "sft")
]  # fmt: skip


@pytest.fixture(autouse=True)
def threads_of_this_process(monkeypatch):
    """Stay as they are: they change the speed and the last digits of other tests."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


def call(*arguments) -> int:
    try:
        return main([str(a) for a in arguments])
    except SystemExit as end:  # argparse's own way to stop
        return end.code


def refused(capsys, *arguments) -> str:
    """The one line on stderr with which a command is refused."""
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.endswith(".\n")
    assert err.count("\n") == 1
    return err


# --- help -----------------------------------------------------------------------------------------
def test_help_lists_every_command():
    command = [sys.executable, "-m", "sftrl_lib", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")]
    commands = {"foundation", "init", "sft", "rl", "dft", "rejection", "sft+kl", "sft+mix"}
    commands |= {"evaluate", "routes", "experiments", "plan", "merge", "claims", "book"}
    assert done.returncode == 0 and commands <= set(listed)
    assert commands == {*METHODS, *COMMANDS}


def test_help_says_what_each_method_is_in_a_whole_sentence(capsys):
    assert call("--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for method in METHODS.values():
        about = " ".join(sys.modules[method.__module__].__doc__.split())
        (said,) = re.findall(rf"train {re.escape(method.label)}\. (.*?\.)(?= |$)", shown)
        assert about.startswith(said) and len(said) > 30


@pytest.mark.parametrize("command", METHODS)
def test_help_of_a_trainer_shows_its_settings_with_their_defaults(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")  # no line is broken
    assert call(command, "--help") == 0
    shown, own = " ".join(capsys.readouterr().out.split()), {"task", "seed"}
    for section in (s for task in TASKS for s in sections(task, command).values()):
        for name, field in section.model_fields.items():
            own |= {name} - {"name"}
            assert not field.description or field.description in shown
            assert field.is_required() or f"[{field.default}]" in shown
    listed = set(re.findall(r" --(\S+) [A-Z]", shown)) - {"config", "root", "threads"}
    assert listed == own


# --- refusals -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments, words",
    [
        ("rl --preset giant", ("preset is 'giant'", *PRESETS)),
        ("sft --tries 3", ("tries is no setting of", "method sft")),
        ("sft --rule elevens", ("'elevens'", "eleven_twelve_thirteen", "J=7,Q=3,K=12")),
        ("rl --rule J=7,Q=3,K=14", ("14", "13")),
        ("rl --suits SX", ("--suits SX", "--help")),
        ("rl --tries -1", ("tries is '-1'", "at least 1")),
        ("rl --tries many", ("tries is 'many'", "a whole number")),
        ("rl --max_new_tokens -4", ("max_new_tokens is '-4'", "at least 1")),
        ("rl --seed -1", ("seed is '-1'", "at least 0")),
        ("rl --discount 2", ("discount is '2'", "at most 1")),
        ("rl --precision int3", ("precision is 'int3'", "qlora")),
        ("rl --batch 30", ("batch is 30", "multiple of group (8)")),
        ("rl --threads 0", ("--threads", "'0'", "at least 1")),
        ("evaluate somewhere --split sideways", ("'sideways'", "id_unseen", "rule_ood")),
        ("evaluate somewhere --tries 0", ("tries is '0'", "at least 1")),
        ("rl --task chess", ("task is 'chess'", *TASKS)),
        ("rl --task virl-l --rule ten", ("rule is 'ten'", "'absolute' or 'relative'")),
        ("evaluate somewhere --episodes -5", ("--episodes", "'-5'", "at least 1")),
        ("foundation --steps 0", ("--steps", "'0'", "at least 1")),
        ("experiments --workers 0", ("--workers", "'0'", "at least 1")),
        ("book --only 99", ("'99'", "00_start_here")),
        ("fly", ("'fly'", "evaluate", "--help")),
    ],
)
def test_mistake_is_one_line_that_says_what_was_given_and_what_is_allowed(capsys, arguments, words):
    said = refused(capsys, *arguments.split())
    assert [word for word in words if word not in said] == []


@pytest.mark.parametrize("method", ["init", "sft", "rl"])
def test_missing_weights_name_the_folder_and_the_command_that_makes_them(capsys, tmp_path, method):
    said = refused(capsys, method, "--foundation", "nowhere", "--root", tmp_path)
    command = (
        "foundation --name nowhere" if method == "init" else "init --task gp-l --foundation nowhere"
    )
    folder = "foundation/nowhere" if method == "init" else "yours/gp-l-init-tiny-s0-"
    assert f"python -m sftrl_lib {command}" in said and folder in said.split(";")[0]


def test_evaluate_names_the_folder_without_weights(capsys, tmp_path):
    said = refused(capsys, "evaluate", tmp_path)
    assert f"no weights (model.safetensors, or an adapter) in {tmp_path}" in said


def test_llama_without_a_gpu_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = refused(capsys, "rl", "--preset", "llama-11b", "--root", tmp_path)
    assert "needs a CUDA GPU" in said and "preset=tiny" in said


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"hash": 3}', None], ids=["torn", "list", "bare", "none"]
)
def test_damaged_run_folder_names_the_file_and_is_left_as_it_is(capsys, tmp_path, text):
    exp = Experiment(method="rl", steps=3)
    manifest = tmp_path / exp.run_id / "manifest.json"
    manifest.parent.mkdir()
    (manifest.parent / "metrics.jsonl").write_text('{"step": 1}\n')
    if text is not None:
        manifest.write_text(text)
    said = refused(capsys, "rl", "--steps", 3, "--root", tmp_path)
    assert str(manifest) in said and "run the experiment again" in said
    assert (manifest.read_text() if manifest.exists() else None) == text
    assert (manifest.parent / "metrics.jsonl").read_text() == '{"step": 1}\n'


# --- settings from a file -------------------------------------------------------------------------
def test_settings_of_a_file_have_the_types_of_their_fields(tmp_path):
    file = tmp_path / "arm.yaml"
    file.write_text("lr: 3e-4\nsteps: 12\nrule: five\nkl_weight: 1\nprecision: full\n")
    expected = {"lr": 3e-4, "steps": 12, "rule": "five", "kl_weight": 1.0, "precision": "full"}
    (exp,) = sweep(file)
    assert {name: exp.flat[name] for name in expected} == expected
    assert [type(exp.flat[name]) for name in expected] == [float, int, str, float, str]


def test_lists_in_a_file_are_all_combinations(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("method: [sft, rl]\ntask: gp-l\nlr: [1e-4, 3e-4]\nseed: [0, 1, 2]\nsteps: 5\n")
    runs = sweep(file)
    assert {(e.method.name, e.method.lr, e.seed, e.method.steps) for e in runs} == set(
        product(("sft", "rl"), (1e-4, 3e-4), range(3), [5])
    )
    assert runs[0].method.batch != runs[-1].method.batch  # each method has its preset's


def test_runs_that_differ_in_what_their_method_does_not_have_are_one(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("method: [sft, rl]\ntries: [1, 3]\nsteps: 5\n")
    assert [exp.method.name for exp in sweep(file)] == ["sft", "rl", "rl"]


def test_several_values_for_one_run_are_refused(capsys, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("seed: [0, 1]\n")
    said = refused(capsys, "rl", "--config", file)
    assert "several values of seed" in said and f"experiments {file}" in said


def test_a_sweep_runs_into_a_folder_of_its_own_and_can_be_estimated(capsys, tmp_path, monkeypatch):
    file, asked = tmp_path / "sweep.yaml", []
    file.write_text("method: rl\nseed: [0, 1]\nsteps: 2\n")
    monkeypatch.setattr(side_by_side, "run_grid", lambda *a, **engine: asked.append((*a, engine)))
    assert call("experiments", file, "--estimate") == 0 and not asked
    assert "core-minutes left of 2 runs" in capsys.readouterr().out
    assert call("experiments", file, "--workers", 1) == 0
    ((runs, root, workers, engine),) = asked
    assert (len(runs), root, workers) == (2, YOURS, 1)
    assert engine == {"engine": "processes"}


def test_the_inits_of_a_sweep_come_before_the_arms_that_start_from_them(tmp_path, monkeypatch):
    file, asked = tmp_path / "sweep.yaml", []
    file.write_text("preset: smol\nmethod: [sft, init, rl]\n")
    monkeypatch.setattr(side_by_side, "run_grid", lambda runs, *_, **__: asked.append(runs))
    assert call("experiments", file) == 0
    assert [[exp.method.name for exp in runs] for runs in asked] == [["init"], ["sft", "rl"]]


def test_command_line_wins_over_the_file(capsys, tmp_path):
    file = tmp_path / "arm.yaml"
    file.write_text("tries: 2\nrule: five\n")
    assert "tries is '-3'" in refused(capsys, "rl", "--config", file, "--tries", "-3")


@pytest.mark.parametrize(
    "text, words",
    [
        (None, ("cannot read settings", "No such file")),
        ("lr: [1", ("cannot read settings",)),
        ("- lr", ("cannot read settings",)),
        ("steps: 2.5", ("arm.yaml", "steps is 2.5", "a whole number")),
        ("start: null", ("start in", "arm.yaml", "None")),
        ("task: chess", ("arm.yaml", "task is 'chess'")),
        ("speed: 3", ("arm.yaml", "unknown setting speed", "the settings are")),
        ("method: sft", ("for method sft, not rl",)),
    ],
)
def test_bad_settings_file_is_refused(capsys, tmp_path, text, words):
    file = tmp_path / "arm.yaml"
    if text is not None:
        file.write_text(text)
    said = refused(capsys, "rl", "--config", file, "--root", tmp_path)
    assert [word for word in words if word not in said] == []


def test_another_preset_fills_in_its_own_numbers_but_keeps_what_was_set():
    llama = Experiment(method="rl", lr=7e-5).replace(preset="llama-11b")
    assert llama == Experiment(method="rl", lr=7e-5, preset="llama-11b")
    assert llama.method.steps == PRESETS["llama-11b"].methods["rl"]["steps"]
    assert llama.model.max_new_tokens == 256
    assert Experiment().replace(method="sft") == Experiment(method="sft")
    assert Experiment(tries=5).replace(method="sft") == Experiment(method="sft")


@pytest.mark.parametrize("command", ["sft", "rl"])
def test_one_file_drives_tiny_and_11b_and_only_what_the_presets_fill_in_differs(
    monkeypatch, command
):
    asked = []

    def stop(exp, root):
        asked.append(exp)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_experiment", stop)
    file = Path(__file__).parents[1] / "configs" / "gp-vl.yaml"
    for preset in ((), ("--preset", "llama-11b")):
        assert call(command, "--config", file, *preset) == 130
    tiny, llama = asked
    assert tiny == Experiment(task="gp-vl", method=command)  # an init made with it is found again
    differ = {name for name, value in tiny.flat.items() if value != llama.flat[name]}
    filled = {"preset", *defaults("gp-vl", command, llama.model)} - {"tries", "eval_tries"}
    assert differ == filled - {"batch"}
    assert tiny.method.batch == llama.method.batch  # which presets agree on


# --- what runs ------------------------------------------------------------------------------------
def not_json(word):
    raise AssertionError(f"{word} is no JSON")


def test_registered_claims_are_all_there_with_a_verdict_each(capsys):
    assert call("claims", "--registered", "--json") == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=not_json)
    families = [row["family"] for row in rows]
    assert [families.count(name) for name in ("primary", "secondary", "mechanism")] == [6, 12, 4]
    known = {"supported", "contradicted", "equivalent", "inconclusive", "not run"}
    assert {row["verdict"] for row in rows} <= known
    assert all(row["verdict"] == "not run" for row in rows if row["n"] < row["registered"])
    assert call("claims", "--registered") == 0
    text = capsys.readouterr().out
    assert all(row["id"] in text and row["statement"] in text for row in rows)


def test_claims_as_json_hold_the_twelve_cells(capsys):
    assert call("claims", "--json") == 0
    claims = json.loads(capsys.readouterr().out, parse_constant=not_json)
    assert [i for i in dict.fromkeys(c["id"] for c in claims) if i in CELLS] == CELLS  # of any tier
    assert {c["verdict"] for c in claims} <= {"supported", "not supported", "not run"}


@pytest.mark.parametrize("recorded", [True, False])
def test_estimate_says_how_long_and_starts_nothing(capsys, monkeypatch, tmp_path, recorded):
    def started(*_, **__):
        raise AssertionError("a run was started")

    for name in ("run_experiment", "run_grid", "write_tuning"):
        monkeypatch.setattr(grids, name, started)
    for module in (side_by_side, grids):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    known = [(task, method) for task in STUDIED for method in ("rl", "sft")] if recorded else []
    for task, method in known:
        sizes = {"eval_points": 2, "eval_episodes": 10, "final_episodes": 40}
        group = {"tries": 3, "group": 5} if method == "rl" else {}
        exp = Experiment(task=task, method=method, steps=2, batch=10, **sizes, **group)
        folder = tmp_path / exp.run_id
        folder.mkdir()
        steps = [json.dumps({"step": step, "seconds": 30.0}) + "\n" for step in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(steps))
        facts = {"state": "done", "hash": exp.hash, "wall_s": 120.0, "config": exp.flat}
        (folder / "manifest.json").write_text(json.dumps(facts))
    assert call("experiments", "--estimate") == 0
    said = capsys.readouterr().out
    for line, (name, runs, _) in zip(said.splitlines(), grids.second_edition(), strict=True):
        own = [exp.evaluation for exp in runs]
        measured = sum(e.eval_points * e.eval_episodes + e.final_episodes for e in own)
        answers = sum(exp.method.steps * exp.method.batch for exp in runs)
        hours = f"{(3 * answers + measured) / 3600:.1f} core-hours"
        known = hours if recorded or not runs else "a time not yet known"
        assert line == f"{name}: {known}, for {len(runs)} of {len(runs)} runs"


def test_a_time_is_known_for_a_model_only_where_a_run_of_it_was_finished():
    tiny = Experiment(method="sft", seed=7)
    assert side_by_side.estimate([tiny]) > 0
    for other in ({"preset": "llama-11b"}, {"model": "a/model"}, {"precision": "qlora"}):
        assert math.isnan(side_by_side.estimate([tiny.replace(**other)]))


def test_ctrl_c_says_that_the_same_command_goes_on(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(grids, "book_runs", interrupted)
    assert call("experiments") == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_workers_end_with_a_command_that_was_killed(tmp_path):
    script = tmp_path / "grid.py"
    script.write_text(
        "import multiprocessing, os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from commons.processes import end_with_parent\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    pool = ProcessPoolExecutor(1, context, end_with_parent)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 600).result()\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as command:
        worker = int(command.stdout.readline())
        command.kill()
    gone, _ = psutil.wait_procs([psutil.Process(worker)] if psutil.pid_exists(worker) else [], 30)
    assert gone or not psutil.pid_exists(worker) or psutil.Process(worker).status() == "zombie"
