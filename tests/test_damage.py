"""Damaged and foreign folders: all of it is read, or a sentence says what to do. Nothing is
executed, nothing is written."""

import gc
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from helpers_training import FakeRun, experiment, small_policy, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from commons.errors import SftrlError
from engine import checkpoints
from engine.generation import answer
from sftrl_lib import runner, runs
from sftrl_lib.experiment import Experiment, sweep
from sftrl_lib.methods import fit
from sftrl_lib.places import ROOT
from sftrl_lib.policies import load_policy
from sftrl_lib.registry import METHODS
from sftrl_lib.results import results_table
from sftrl_lib.runner import INIT
from sftrl_lib.runs import Run, read_manifest
from sftrl_lib.tasks import make_task

SETTINGS = {
    "batch": 4, "group": 2, "tries": 1, "eval_tries": 1, "eval_episodes": 2, "final_episodes": 2,
    "max_new_tokens": 4,
}  # fmt: skip
EXP, OTHER = (experiment("sft", seed=seed, **SETTINGS) for seed in (7, 8))
STRANGE = [
    None, True, -1, 1.5, 10**30, 10**400, float("nan"), float("inf"), "", "x" * 10_000, "\ud800",
    "\x00", [], {}, [[1]], {"a": {"b": 1}}, "2", "done",
]  # fmt: skip


# In a quick run; the whole thousand by DAMAGED_FOLDERS=1000.
FOLDERS = int(os.environ.get("DAMAGED_FOLDERS", 150))


class Stopped(KeyboardInterrupt):
    pass


@pytest.fixture(scope="module", autouse=True)
def quick():
    """One thread, no look at the machine, and a garbage collector that does not go through the
    imports again and again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "machine", lambda exp: {"device": "cpu"})
        yield
    gc.unfreeze()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    """{name: root} of a finished run and one that was stopped after its third step of four, of EXP
    and of OTHER, which differs in its seed alone. Step 2 was measured."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "start_policy", lambda exp: small_policy())
        patch.setattr(runner, "recorded_init", lambda exp: None)
        patch.setattr(fit, "SAVE_EVERY", 0.0)
        log = Run.log
        for name, exp in (("mine", EXP), ("other", OTHER)):
            made[f"finished {name}"] = root = tmp_path_factory.mktemp("finished")
            runner.run_experiment(exp, root, progress=False)
            made[f"stopped {name}"] = root = tmp_path_factory.mktemp("stopped")

            def stop(run, **row):
                if row["step"] == 4:
                    raise Stopped
                log(run, **row)

            with pytest.MonkeyPatch.context() as inner, pytest.raises(Stopped):
                inner.setattr(Run, "log", stop)
                runner.run_experiment(exp, root, progress=False)
    return made


# --- ways to damage a file ------------------------------------------------------------------------
def cut(path, rng, _):
    os.truncate(path, rng.randrange(path.stat().st_size))


def flip(path, rng, _):
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 3))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def remove(path, rng, _):
    path.unlink()


def zeros(path, rng, _):
    """As a file system leaves the end of a file after a loss of power."""
    data = path.read_bytes()
    at = rng.randrange(len(data))
    path.write_bytes(data[:at] + bytes(len(data) - at))


def exchange(path, rng, other):
    shutil.copyfile(other, path)


def lines(path, rng, _):
    """One is lost, doubled, or stands elsewhere."""
    rows = path.read_bytes().splitlines(keepends=True)
    row = rows.pop(rng.randrange(len(rows)))
    for _ in range(rng.randrange(3)):
        rows.insert(rng.randrange(len(rows) + 1), row)
    path.write_bytes(b"".join(rows))


def nodes(value, found):
    for key in value if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            nodes(value[key], found)
    return found


def retype(path, rng, _):
    """A value of another type, or an unknown or missing key, somewhere in the JSON."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = (
            [json.loads(text)]
            if path.suffix == ".json"
            else list(map(json.loads, text.split("\n")[:-1]))
        )
    except ValueError:  # a binary file
        rows = []
    if not rows:
        return flip(path, rng, None)
    where, key = rng.choice(nodes(rows, []))
    if isinstance(where, dict) and rng.random() < 0.2:
        where[f"{key}_2"] = where.pop(key)
    else:
        where[key] = rng.choice(STRANGE)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def nest(path, rng, _):
    deep = 500 if path.suffix == ".yaml" else 100_000  # YAML takes its time
    path.write_text('{"step": ' + "[" * deep + "\n")


def recode(path, rng, _):
    text = path.read_bytes().decode("latin-1")
    path.write_bytes(text.encode(rng.choice(("utf-16", "utf-32-be", "utf-8-sig"))))


def directory(path, rng, _):
    path.unlink()
    path.mkdir()


def link(path, rng, other):
    """To the same file elsewhere, to another run's, or to nothing."""
    aside = path.parents[1] / "aside"
    os.replace(path, aside)
    path.symlink_to(rng.choice((aside, other, "nowhere")))


def pipe(path, rng, _):
    path.unlink()
    os.mkfifo(path)


class Mine:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def pickled(path, rng, _):
    path.write_bytes(pickle.dumps({"config": Mine(path.parents[1] / "canary")}))


DAMAGES = [
    cut, flip, flip, remove, zeros, exchange, lines, retype, retype, retype, nest, recode,
    directory, link, pipe, pickled,
]  # fmt: skip


def everything(root: Path) -> dict[str, object]:
    """What lies below a folder, links and pipes as such."""
    found = {}
    for path in root.rglob("*"):
        kind = (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else 0
        )
        found[str(path.relative_to(root))] = kind
    return found


def damaged(genuine, tmp_path, rng, state, which="*"):
    """A copy of a genuine run, one of whose files is damaged: its root, and the file."""
    root = shutil.copytree(genuine[f"{state} mine"], Path(tempfile.mkdtemp(dir=tmp_path)) / "root")
    files = sorted(p for p in (root / EXP.run_id).glob(which) if p.is_file())
    path = rng.choice(files)
    same = path.relative_to(root / EXP.run_id)
    rng.choice(DAMAGES)(path, rng, genuine[f"{state} other"] / OTHER.run_id / same)
    return root, path


def attempt(read, root, named=""):
    """What was read, or None after an SftrlError of one sentence that names something there."""
    before = everything(root)
    try:
        return read()
    except SftrlError as error:
        assert "\n" not in str(error) and str(error).endswith(".")
        assert (named or str(root)) in str(error)
        assert len(str(error)) < 1000
        assert everything(root) == before
    finally:
        assert not (root / "canary").exists()


def often(share: float):
    """That share of FOLDERS, each damaged by a seed that a failure names."""
    slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    checked = settings(
        max_examples=round(share * FOLDERS), deadline=None, database=None, derandomize=True,
        suppress_health_check=slow,
    )  # fmt: skip
    return lambda test: checked(given(st.integers(0, 2**32).map(random.Random))(test))


# --- run folders ----------------------------------------------------------------------------------
@often(0.3)
def test_of_a_damaged_finished_run_every_row_is_read_or_none(genuine, tmp_path, rng):
    folder = genuine["finished mine"] / EXP.run_id
    whole = results_table([folder.parent])
    run = Run(folder, read_manifest(folder))
    root, _ = damaged(genuine, tmp_path, rng, "finished")
    before = everything(root)
    table = attempt(lambda: results_table([root]), root)
    assert table is None or table.equals(whole)

    def opened():
        again = Run.open(EXP, root)
        if not again.done:
            again.finish("interrupted")
        return again

    again = attempt(opened, root)
    if again and again.done:
        assert again.metrics().equals(run.metrics()) and again.episodes() == run.episodes()
        assert everything(root) == before


@often(0.2)
def test_a_damaged_stopped_run_is_refused_or_goes_on(genuine, tmp_path, rng):
    """What was logged and measured before the kill is there afterwards, or nothing is."""
    root, path = damaged(genuine, tmp_path, rng, "stopped", "*.json*")
    attempt(lambda: results_table([root]), root)

    def opened():
        run = Run.open(EXP, root)
        run.finish("interrupted")
        return run

    run = attempt(opened, root)
    if run:
        assert set(run.metrics().step) == {1, 2, 3} and set(run.evals().step) == {2}


def test_a_last_line_that_a_kill_cut_off_is_all_that_is_mended(genuine, tmp_path):
    root = shutil.copytree(genuine["stopped mine"], tmp_path / "root")
    log = root / EXP.run_id / "metrics.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + whole.splitlines()[-1][:30])
    before = everything(root)
    assert len(Run(log.parent, read_manifest(log.parent)).metrics()) == 3
    assert everything(root) == before
    Run.open(EXP, root).finish("interrupted")
    assert log.read_bytes() == whole


def test_what_a_killed_process_left_beside_its_files_is_removed(genuine, tmp_path):
    """Also where it came no further than that."""
    stopped = shutil.copytree(genuine["stopped mine"], tmp_path / "stopped")
    for root in (stopped, tmp_path / "new"):
        left = root / EXP.run_id / ".manifest.json.123.tmp"
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_text('{"conf')
        Run.open(EXP, root).finish("interrupted")
        assert not left.exists()


def test_a_run_that_was_killed_while_it_tidied_up_is_done(genuine, tmp_path):
    root = shutil.copytree(genuine["finished mine"], tmp_path / "root")
    for left in (".saving", "checkpoint-4"):
        (root / EXP.run_id / left).mkdir()
    assert Run.open(EXP, root).done
    assert everything(root) == everything(genuine["finished mine"])


@pytest.mark.parametrize("name", [".lock", ".saving", "checkpoint-3", "metrics.jsonl", "weights"])
def test_nothing_is_written_through_a_link(genuine, tmp_path, name):
    root, outside = (
        shutil.copytree(genuine["stopped mine"], tmp_path / "root"),
        tmp_path / "outside",
    )
    outside.mkdir()
    path = root / EXP.run_id / name
    if path.exists():
        os.replace(path, outside / name)
    path.symlink_to(outside / name)
    before = everything(tmp_path)
    with pytest.raises(SftrlError, match=name):
        Run.open(EXP, root)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", [".lock", "manifest.json", "metrics.jsonl", "checkpoint-9"])
def test_folders_and_files_in_each_others_places_are_refused(genuine, tmp_path, name):
    root = shutil.copytree(genuine["stopped mine"], tmp_path / "root")
    path = root / EXP.run_id / name
    if name == "checkpoint-9":
        path.write_text("")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    with pytest.raises(SftrlError, match=name):
        Run.open(EXP, root)
    shutil.rmtree(root / EXP.run_id)
    (root / EXP.run_id).write_text("")
    with pytest.raises(SftrlError, match="is a file, where the run's folder must be"):
        Run.open(EXP, root)


@pytest.mark.parametrize("lost, step", [("metrics.jsonl", 1), ("evals.jsonl", 2)])
def test_a_run_does_not_go_on_over_a_hole(genuine, tmp_path, lost, step):
    root = shutil.copytree(genuine["stopped mine"], tmp_path / "root")
    (root / EXP.run_id / lost).unlink()
    with pytest.raises(SftrlError, match=f"{lost} is damaged .step {step} is missing"):
        Run.open(EXP, root)


def test_a_manifest_of_a_newer_version_is_refused_as_such(genuine, tmp_path):
    root = shutil.copytree(genuine["finished mine"], tmp_path / "root")
    path = root / EXP.run_id / "manifest.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"config": facts["config"] | {"optimiser": "muon"}}))
    with pytest.raises(SftrlError, match="optimiser, which this version does not know.*newer"):
        results_table([root])


def test_another_runs_manifest_does_not_make_its_rows_that_runs(genuine, tmp_path):
    root = shutil.copytree(genuine["stopped mine"], tmp_path / "root")
    other = genuine["stopped other"] / OTHER.run_id / "manifest.json"
    shutil.copyfile(other, root / EXP.run_id / "manifest.json")
    with pytest.raises(SftrlError, match="a folder of a name that begins with gp-l-sft-tiny-s8"):
        results_table([root])


def test_rows_without_a_manifest_are_not_passed_over(genuine, tmp_path):
    root = shutil.copytree(genuine["finished mine"], tmp_path / "root")
    (root / EXP.run_id / "manifest.json").unlink()
    with pytest.raises(SftrlError, match=r"manifest\.json is damaged .it is missing"):
        results_table([root])


# --- checkpoints ----------------------------------------------------------------------------------
def go_on(folder: Path):
    """The last step, from the checkpoint in a folder."""
    policy = small_policy()
    METHODS["sft"].train(EXP, policy, make_task(EXP), FakeRun(folder), progress=False)
    return policy


@often(0.1)
def test_from_a_damaged_checkpoint_a_run_does_not_go_on(genuine, tmp_path, rng):
    root, path = damaged(genuine, tmp_path, rng, "stopped", "checkpoint-3/*")
    before = everything(genuine["stopped mine"])
    policy = attempt(lambda: go_on(root / EXP.run_id), root)
    if policy:  # what was done to it left it as it was
        whole = shutil.copytree(genuine["stopped mine"], root.parent / "whole")
        torch.testing.assert_close(
            weights(policy), weights(go_on(whole / EXP.run_id)), rtol=0, atol=0
        )
    assert everything(genuine["stopped mine"]) == before


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "weights.safetensors", "extra.bin"]
)
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_checkpoint_that_was_made_to_look_whole_executes_nothing(genuine, tmp_path, name, how):
    """Its maker knew how seals are made."""
    folder = shutil.copytree(genuine["stopped mine"], tmp_path / "root") / EXP.run_id
    write = {"pickle": lambda x, p: p.write_bytes(pickle.dumps(x)), "torch": torch.save}[how]
    write(Mine(tmp_path / "canary"), folder / "checkpoint-3" / name)
    checkpoints.seal(folder / "checkpoint-3", EXP.hash)
    if name == "extra.bin":  # nobody reads it
        go_on(folder)
    else:
        with pytest.raises(SftrlError, match="checkpoint-3 cannot be read .* delete that folder"):
            go_on(folder)
    assert not (tmp_path / "canary").exists()


def test_another_runs_checkpoint_is_refused(genuine, tmp_path):
    """Its weights would fit."""
    folder = shutil.copytree(genuine["stopped mine"], tmp_path / "root") / EXP.run_id
    shutil.rmtree(folder / "checkpoint-3")
    shutil.copytree(
        genuine["stopped other"] / OTHER.run_id / "checkpoint-3", folder / "checkpoint-3"
    )
    with pytest.raises(SftrlError, match=f"it is checkpoint-3 of the run {OTHER.hash}"):
        go_on(folder)


def test_a_checkpoint_under_another_name_is_refused(genuine, tmp_path):
    folder = shutil.copytree(genuine["stopped mine"], tmp_path / "root") / EXP.run_id
    os.replace(folder / "checkpoint-3", folder / "checkpoint-4")
    with pytest.raises(SftrlError, match=f"it is checkpoint-3 of the run {EXP.hash}"):
        go_on(folder)


# --- weights --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Weights of another model of the same family."""
    folder = tmp_path_factory.mktemp("foreign")
    small_policy().save(folder)
    return folder


def deformed(path, rng, _):
    """A tensor of another shape, under another name, or none."""
    if path.suffix != ".safetensors":
        return flip(path, rng, None)
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    tensor = tensors.pop(name)
    changed = rng.choice(({}, {name: tensor[:1].clone()}, {f"{name}.2": tensor}))
    save_file(tensors | changed, path, {"format": "pt"})


@often(0.15)
def test_damaged_weights_are_a_policy_that_answers_or_a_sentence(foreign, tmp_path, rng):
    folder = Path(tempfile.mkdtemp(dir=tmp_path)) / "weights"
    shutil.copytree(INIT / "gp-l" / "default", folder)
    names = sorted(path.name for path in folder.iterdir() if (foreign / path.name).exists())
    name = rng.choice((*names, "model.safetensors", "model.safetensors"))
    damages = [damage for damage in DAMAGES if damage not in (link, pipe)]
    rng.choice((*damages, deformed, deformed))(folder / name, rng, foreign / name)
    policy = attempt(lambda: load_policy(EXP, folder), folder.parent)
    if policy:
        answer(policy, [policy.first_turn("Cards: 1, 2")], 2)


def test_another_models_weights_are_not_loaded(foreign, tmp_path):
    folder = shutil.copytree(INIT / "gp-l" / "default", tmp_path / "weights")
    shutil.copyfile(foreign / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(SftrlError, match="cannot load"):
        load_policy(EXP, folder)


def test_tensors_that_are_missing_are_not_drawn_at_random(tmp_path):
    folder = shutil.copytree(INIT / "gp-l" / "default", tmp_path / "weights")
    tensors = load_file(folder / "model.safetensors")
    del tensors["language_model.lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SftrlError, match="1 of its tensors are missing, such as lm_head.weight"):
        load_policy(EXP, folder)


# --- kill -9 -------------------------------------------------------------------------------------
@pytest.mark.slow
def test_killed_at_random_moments_runs_end_as_those_that_were_not(tmp_path):
    """benchmarks/kill.py itself, with a small policy."""
    code = (
        "import sys, kill; from helpers_training import small_policy\n"
        "kill.runner.start_policy = lambda exp: small_policy()\n"
        "kill.runner.recorded_init = lambda exp: None\n"
        "kill.main(['--trials', '4', '--out', sys.argv[1]])"
    )
    folders = ROOT, ROOT / "benchmarks", ROOT / "tests"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", code, tmp_path / "kill.json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "kill.json").read_text())
    assert found["trials"] == 4 <= found["kills"]
    assert all(trial["equal"] for trial in found["each"]), found["each"]


def test_the_recorded_kills_hit_every_phase_and_all_ended_equal():
    found = json.loads((ROOT / "data" / "benchmarks" / "kill.json").read_text())
    assert found["trials"] == found["equal"] == len(found["each"]) == 100
    assert {"training", "saving", "measuring"} <= set(found["kills_by_phase"])
    assert all(trial["equal"] and trial["kills"] for trial in found["each"])


# --- settings -------------------------------------------------------------------------------------
YAML = """method: [rl, sft]
seed: [100, 101]
lr: 3e-4
steps: 5
batch: 16
rule: J=7,Q=3,K=12
"""


@often(0.4)
def test_a_damaged_configuration_is_experiments_or_a_sentence(tmp_path, rng):
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "sweep.yaml"
    path.write_text(YAML)
    other = tmp_path / "other.yaml"
    other.write_text("a: &a [1, 1]\nb: &b [*a, *a]\nseed: [*b, *b]\n")
    damages = [cut, flip, flip, remove, zeros, exchange, lines, nest, recode, directory, pickled]
    rng.choice(damages)(path, rng, other)
    found = attempt(lambda: sweep(path), path.parent, named=" ")  # it may name the setting alone
    assert found is None or all(isinstance(exp, Experiment) for exp in found)
