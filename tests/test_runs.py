"""Run folders: resume, damage, locks, and a results table that is rebuilt byte by byte."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from commons.errors import SftrlError
from engine.compute import Compute
from sftrl_lib import cli, results, runs
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.results import COLUMNS, condition, load_results, results_table, write_results
from sftrl_lib.runs import RUNS, Run, experiment_of, find_run, is_done, read_jsonl, read_manifest
from study.grids import STUDIED, first_edition
from study.registration import sections

EXP = Experiment(method="rl", seed=3)


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    """The machine's facts are tested once; here they would only cost an import."""
    monkeypatch.setattr(runs, "machine", lambda exp: {"device": "cpu"})


def row(step=10, split="rule_ood", tries=1, successes=3, n=10, **other):
    facts = dict(step=step, split=split, tries=tries, successes=successes, n=n, metric="success")
    return facts | dict(compute=1e9, compute_done=5e8, value=successes / n, lo=0.1, hi=0.6) | other


def test_compute_is_the_papers_formula():
    spent = Compute(train_tokens=10, rollout_tokens=7, done_train_tokens=4, done_rollout_tokens=6)
    assert spent.flops(100) == 6 * 100 * 10 + 2 * 100 * 7
    assert spent.done_flops(100) == 6 * 100 * 4 + 2 * 100 * 6
    assert Compute(**json.loads(json.dumps(asdict(spent)))) == spent


def test_a_finished_run_is_done_and_says_what_it_was(tmp_path):
    with Run.open(EXP, tmp_path) as run:
        assert run.manifest["state"] == "running" and not run.done
        run.note(precision="full", n_active=7)
    saved = json.loads((run.path / "manifest.json").read_text())
    assert run.path.name == f"gp-l-rl-tiny-s3-{EXP.hash[:8]}"
    assert saved["config"]["seed"] == 3 and saved["hash"] == EXP.hash
    assert saved["state"] == "done" and saved["precision"] == "full" and saved["wall_s"] >= 0
    assert saved["peak_memory_mb"] > 10
    assert Run.open(EXP, tmp_path).done
    FileLock(run.path / ".lock").acquire(blocking=False).lock.release()  # it is free


def test_ctrl_c_leaves_an_interrupted_run_that_opens_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), Run.open(EXP, tmp_path) as run:
        run.log(step=1, loss=2.0)
        raise KeyboardInterrupt
    assert read_manifest(run.path)["state"] == "interrupted"
    with Run.open(EXP, tmp_path) as again:
        again.log(step=2, loss=1.0)
    assert list(again.metrics().step) == [1, 2]
    assert again.done


def test_kill_9_loses_no_logged_step_and_frees_the_lock(tmp_path):
    """A real process is killed in the middle of a log line; the next one cuts the torn line."""
    code = (
        "import sys, time; from sftrl_lib import runs; from sftrl_lib import Experiment\n"
        "runs.machine = lambda exp: {}\n"
        "run = runs.Run.open(Experiment(method='rl', seed=3), sys.argv[1])\n"
        "[run.log(step=i) for i in range(5)]\n"
        "run.add_evals([dict(step=4, split='x', metric='y', value=0.5)])\n"
        "open(run.path / 'metrics.jsonl', 'a').write('{\"step\": 5, \"lo')\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    with pytest.raises(SftrlError, match="being written by another process"):
        Run.open(EXP, tmp_path)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    run = Run.open(EXP, tmp_path)
    assert list(run.metrics().step) == [0, 1, 2, 3, 4]
    assert (run.path / "metrics.jsonl").read_text().endswith('{"step": 4}\n')
    assert list(run.evals().value) == [0.5]
    run.finish()


def test_wall_time_adds_up_over_sessions(tmp_path):
    run = Run.open(EXP, tmp_path)
    run._started -= 100
    run.finish("interrupted")
    again = Run.open(EXP, tmp_path)
    again._started -= 50
    again.finish()
    assert 150 <= again.manifest["wall_s"] < 160


def test_another_configuration_is_refused_by_name(tmp_path):
    with Run.open(EXP, tmp_path) as run:
        pass
    manifest = run.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(EXP.hash, "0123456789ab"))
    with pytest.raises(SftrlError, match=f"has the hash {EXP.hash}, not 0123456789ab.*delete"):
        Run.open(EXP, tmp_path)


def test_settings_that_change_the_result_change_the_folder(tmp_path):
    with Run.open(EXP, tmp_path) as one, Run.open(EXP.replace(kl_weight=0.1), tmp_path) as other:
        assert one.path != other.path
    with Run.open(EXP.replace(report_to="tensorboard"), tmp_path) as same:
        assert same.path == one.path


RECORDED = {path.parent.name: read_manifest(path.parent) for path in RUNS.glob("*/manifest.json")}


def test_a_recorded_run_has_the_hash_of_its_settings():
    """A setting that came later has, where a manifest does not know it, its default."""
    assert len(RECORDED) >= 62
    for facts in RECORDED.values():
        exp = Experiment(**facts["config"])
        assert exp.hash == facts["hash"]
        assert Experiment(**exp.flat) == exp


def test_every_run_of_the_book_is_recorded():
    """Though settings that came later have changed what a folder would be called today."""
    wanted = [exp for _, grid, _ in first_edition() for exp in grid]
    wanted += [Experiment(task=task, method="init") for task in STUDIED]
    folders = {exp: find_run(exp, RUNS) for exp in wanted}
    left = {exp for exp, folder in folders.items() if not is_done(folder)}
    assert {(exp.method.tries, exp.seed) for exp in left} == {(5, 3), (5, 4)}  # never run
    found = set(folders.values()) - {folders[exp] for exp in left}
    assert len(found) == len(wanted) - len(left)
    smol = {name for name, facts in RECORDED.items() if facts["config"]["preset"] == "smol"}
    first = {name for name, facts in RECORDED.items() if facts["config"]["foundation"] == "default"}
    assert {folder.name for folder in found} | smol == first


def test_every_later_run_was_registered_and_made_on_committed_code():
    registered = {find_run(exp, RUNS).name for runs in sections().values() for exp in runs}
    later = {n: f for n, f in RECORDED.items() if f["config"]["foundation"] != "default"}
    for name, facts in later.items():
        assert facts["state"] == "done" and not facts["git"].endswith("-dirty"), name
        assert facts["config"]["method"] == "init" or name in registered, name


def test_a_recorded_run_is_of_the_condition_in_the_table():
    rows = load_results(yours=None)
    rows = rows[~rows.condition.str.contains("eval_temperature")]  # ends played otherwise, too
    table = dict(rows.drop_duplicates("run_id").set_index("run_id").condition)
    ours = {
        name: condition(experiment_of(facts["config"]), facts.get("data", {}))
        for name, facts in RECORDED.items()
        if name in table or facts["config"]["foundation"] == "default"
    }
    inits = {find_run(Experiment(task=task, method="init"), RUNS).name for task in STUDIED}
    assert {name: table[name] for name in set(ours) - inits} == {
        name: said for name, said in ours.items() if name not in inits
    }
    assert {ours[name] for name in inits} == {"{}"}  # their rows are those of each seed's RL run


def test_the_table_is_rebuilt_byte_for_byte(tmp_path, monkeypatch, capsys):
    again = tmp_path / "results.csv"
    monkeypatch.setattr(write_results, "__defaults__", ((RUNS,), again))
    assert cli.main(["experiments", "--table"]) == 0
    assert again.read_bytes() == results.RESULTS.read_bytes()
    assert "rows in data/results.csv" in capsys.readouterr().out


def test_a_run_is_found_by_its_hash_whatever_its_folder_is_called(tmp_path):
    assert find_run(EXP, tmp_path) == tmp_path / EXP.run_id
    with Run.open(EXP, tmp_path) as run:
        run.add_evals([row()])
    before = run.path.with_name(run.path.name.rpartition("-")[0] + "-01234567")
    run.path.rename(before)
    assert find_run(EXP, tmp_path) == before and Run.open(EXP, tmp_path).done
    other = EXP.replace(tries=7)
    assert find_run(other, tmp_path) == tmp_path / other.run_id


def test_a_folder_under_another_runs_name_is_refused(tmp_path):
    other = EXP.replace(tries=7)
    with Run.open(other, tmp_path) as run:
        run.add_evals([row()])
    run.path.rename(tmp_path / EXP.run_id)
    with pytest.raises(SftrlError, match=f"another run, {other.hash} and not {EXP.hash}"):
        Run.open(EXP, tmp_path)
    (tmp_path / EXP.run_id).rename(tmp_path / "gp-l-rl-tiny-s4-01234567")
    with pytest.raises(SftrlError, match="a folder of a name that begins with gp-l-rl-tiny-s3"):
        results_table([tmp_path])


def test_a_copy_of_a_run_beside_it_is_not_counted_twice(tmp_path):
    with Run.open(EXP, tmp_path) as run:
        run.add_evals([row()])
    shutil.copytree(run.path, tmp_path / "gp-l-rl-tiny-s3-copy")
    with pytest.raises(SftrlError, match="hold the same run, whose rows would count twice"):
        results_table([tmp_path])


@pytest.mark.parametrize("wrong", [{"routes": "0" * 12}, {}])
def test_routes_that_are_gone_are_known_by_their_hash_in_the_manifest(tmp_path, wrong):
    shutil.copytree(ROOT / "data" / "cities" / "unseen", tmp_path / "routes")
    with Run.open(Experiment(task="virl-l", routes=str(tmp_path / "routes")), tmp_path) as run:
        run.add_evals([row()])
    shutil.rmtree(tmp_path / "routes")
    assert len(results_table([tmp_path])) == 1
    manifest = json.loads((run.path / "manifest.json").read_text())
    (run.path / "manifest.json").write_text(json.dumps(manifest | {"data": wrong}))
    with pytest.raises(SftrlError, match=f"has the hash .*, not {manifest['hash']}"):
        results_table([tmp_path])


def test_one_process_does_not_open_a_run_twice(tmp_path):
    run = Run.open(EXP, tmp_path)
    with pytest.raises(SftrlError, match="being written by another process"):
        Run.open(EXP, tmp_path)
    run.finish()
    assert sorted(path.name for path in run.path.iterdir()) == ["manifest.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": {}, "hash": "a", "state": "done"}'])
def test_a_damaged_manifest_is_one_sentence_that_names_the_file(tmp_path, text):
    with Run.open(EXP, tmp_path) as run:
        pass
    (run.path / "manifest.json").write_text(text)
    for use in (lambda: Run.open(EXP, tmp_path), lambda: results_table([tmp_path])):
        with pytest.raises(SftrlError, match=r"manifest\.json is damaged.*delete the folder") as e:
            use()
        assert "\n" not in str(e.value)


def test_damage_before_the_last_line_is_never_passed_over(tmp_path):
    with Run.open(EXP, tmp_path) as run:
        run.log(step=1)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": \n{"step": 3}\n')
    with pytest.raises(SftrlError, match=r"metrics\.jsonl is damaged in line 2"):
        Run.open(EXP, tmp_path)


def test_reading_does_not_repair(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    assert read_jsonl(path) == [{"step": 1}]
    assert path.read_text().endswith('{"st')
    assert read_jsonl(path, repair=True) == [{"step": 1}]
    assert path.read_text() == '{"step": 1}\n'


def test_numpy_and_nan_become_strict_json(tmp_path):
    with Run.open(EXP, tmp_path) as run:
        run.log(step=np.int64(1), loss=np.float32(0.5), kl=math.nan, many=np.arange(1)[0])
    text = (run.path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == dict(step=1, loss=0.5, kl=None, many=0)


def test_a_step_that_was_repeated_after_a_resume_counts_once(tmp_path):
    with Run.open(EXP, tmp_path) as run:
        for step, loss in ((1, 3.0), (2, 9.0), (2, 2.0)):
            run.log(step=step, loss=loss)
    assert run.metrics().to_dict("list") == {"step": [1, 2], "loss": [3.0, 2.0]}


def test_evals_are_idempotent_and_the_larger_battery_replaces_the_curve_point(tmp_path):
    with Run.open(EXP, tmp_path) as run:
        run.add_evals([row(tries=1), row(tries=2, successes=5)])
        run.add_evals([row(tries=1, seed=3), row(tries=2, successes=50, n=100), row(seed=4)])
        table = run.evals()
    assert sorted(zip(table.seed, table.tries, table.n, strict=True)) == [
        (3, 1, 10), (3, 2, 100), (4, 1, 10),
    ]  # fmt: skip


def test_episodes_are_kept_once(tmp_path):
    with Run.open(EXP, tmp_path) as run:
        for solved in (False, True):
            run.add_episodes([dict(step=1, split="id_unseen", index=7, solved=solved)])
    assert [e["solved"] for e in run.episodes()] == [True]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    run = Run.open(EXP, tmp_path)
    run.add_evals([row()])

    def fail(*_):
        raise OSError("no power")

    monkeypatch.setattr(runs.os, "replace", fail)
    with pytest.raises(OSError, match="no power"):
        run.add_evals([row(successes=9)])
    assert list(run.evals().successes) == [3]


def test_results_have_the_protocols_columns_and_conditions(tmp_path):
    sft = Experiment(method="sft", seed=3)
    for exp in (EXP, EXP.replace(tries=1), EXP.replace(seed=4, eval_episodes=7), sft):
        with Run.open(exp, tmp_path) as run:
            run.add_evals([row()])
    table = results_table([tmp_path])
    assert list(table.columns) == COLUMNS
    assert set(table.run_id.str[:9]) == {"gp-l-rl-t", "gp-l-sft-"}
    main = table[table.condition == "{}"]
    assert len(main) == 3 and set(main.train_tries) == {1, EXP.method.tries}
    assert list(table[table.condition != "{}"].condition) == ['{"tries": 1}']
    assert set(table.source) == {"ours"}


def test_results_file_is_the_same_bytes_whatever_the_order(tmp_path):
    files = []
    for order in (1, -1):
        root = tmp_path / str(order)
        for seed in (0, 1, 2)[::order]:
            with Run.open(EXP.replace(seed=seed), root) as run:
                rows = [row(tries=t, successes=seed + t, value=(seed + t) / 7) for t in (1, 2)]
                run.add_evals(rows[::order])
        files.append(tmp_path / f"results{order}.csv")
        write_results([root], files[-1])
    assert files[0].read_bytes() == files[1].read_bytes()
    table = results_table([tmp_path / "1"])
    loaded = load_results(files[0], paper=tmp_path / "none.csv", yours=None)
    assert list(loaded.value) == list(table.value)
    assert (loaded.dtypes == table.dtypes).all()


def test_your_runs_stand_beside_ours_and_are_marked(tmp_path):
    """Also a folder that was copied from another machine."""
    with Run.open(EXP, tmp_path / "a machine") as run:
        run.add_evals([row()])
    (tmp_path / "yours").mkdir()
    run.path.rename(tmp_path / "yours" / run.path.name)
    table = load_results(tmp_path / "none", yours=tmp_path / "yours")
    assert list(table[table.run_id == run.path.name].source) == ["yours"]
    assert "yours" not in set(load_results(tmp_path / "none", yours=None).source)


def test_unfinished_runs_are_shown_but_not_recorded(tmp_path):
    run = Run.open(EXP, tmp_path)
    run.add_evals([row()])
    assert len(results_table([tmp_path])) == 1
    assert len(write_results([tmp_path], tmp_path / "results.csv")) == 0
    run.finish()
    assert len(write_results([tmp_path], tmp_path / "results.csv")) == 1


def test_a_damaged_results_file_is_named(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("task,method\ngp-l,rl\n")
    with pytest.raises(SftrlError, match=r"results\.csv is not a results table.*experiments"):
        load_results(path)


def test_the_papers_numbers_are_those_of_its_table():
    paper = load_results(ROOT / "none.csv", yours=None)
    assert set(paper.source) == {"paper"}
    table = paper[paper.metric != "success_change"]
    cells = table.groupby(["task", "split"]).apply(
        lambda g: tuple(100 * g.set_index("method").value[["init", "rl", "sft"]])
    )
    printed = {
        ("gp-l", "rule_ood"): (11.5, 15.0, 3.4), ("virl-l", "rule_ood"): (80.8, 91.8, 1.3),
        ("gp-vl", "rule_ood"): (11.2, 14.2, 5.6), ("virl-vl", "rule_ood"): (35.7, 45.0, 2.5),
        ("gp-vl", "visual_ood"): (23.6, 41.2, 13.7), ("virl-vl", "visual_ood"): (16.7, 77.8, 11.1),
    }  # fmt: skip
    assert {k: pytest.approx(v) for k, v in cells.items()} == printed
    known = table.dropna(subset=["successes"])
    assert len(known) == 6
    assert ((known.successes / known.n - known.value).abs() < 5.1e-4).all()
    growth = paper[paper.metric == "success_change"].set_index("train_tries").value * 100
    assert dict(growth) == pytest.approx({1: 0.48, 3: 2.15, 5: 2.99, 10: 5.99})


def test_the_manifest_tells_the_machine(monkeypatch):
    monkeypatch.undo()
    cuda = SimpleNamespace(is_available=lambda: False)
    torch = SimpleNamespace(cuda=cuda, get_num_threads=lambda: 2)
    monkeypatch.setitem(sys.modules, "torch", torch)
    facts = runs.machine(EXP)
    assert facts["precision"] == "full" and "parameters" in facts["precision_why"]
    assert facts["device"] == "cpu" and facts["threads"] == 2
    assert {"torch", "trl", "transformers"} <= set(facts["versions"])
    assert json.dumps(facts)
