"""Two processes of one run learn what one process learns, and measure what one measures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sftrl_lib.places import ROOT
from sftrl_lib.runs import Run, read_manifest
from study import side_by_side

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


def launch(method: str, folder: Path, processes: int) -> None:
    folder.mkdir()
    script = [str(HERE / "two_processes.py"), method, str(folder)]
    command = [sys.executable, *script]
    if processes > 1:
        count = ["--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, "-m", "torch.distributed.run", *count, *script]
    paths = os.pathsep.join((str(ROOT), str(HERE)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_accelerate_launch_trains_the_tiny_tier_as_one_process_does(tmp_path):
    """By the command of configs/ddp.yaml: its log, its measurements, its adapter."""
    settings = "--precision lora --steps 2 --batch 16 --warmup 0 --eval_points 1".split()
    settings += "--eval_episodes 1 --final_episodes 2 --threads 1 --root".split()
    config = ["--config_file", ROOT / "configs" / "ddp.yaml", "--num_processes", 2]
    several = ["-m", "accelerate.commands.launch", *config, "-m", "sftrl_lib"]
    runs = []
    for start, name in ((["-m", "sftrl_lib"], "one"), (several, "two")):
        command = [sys.executable, *start, "sft", *settings, tmp_path / name]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=environment, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (folder,) = (tmp_path / name).iterdir()
        runs.append(Run(folder, read_manifest(folder)))
    assert runs[0].done and runs[1].done
    adapters = (load_file(run.path / "weights" / "adapter_model.safetensors") for run in runs)
    torch.testing.assert_close(*adapters, rtol=0, atol=2e-5)
    log = ["step", "loss", "grad_norm", "train_tokens"]
    pd.testing.assert_frame_equal(*(run.metrics()[log] for run in runs), rtol=1e-4)
    kl = [run.evals().query("metric == 'kl_to_init'").value.item() for run in runs]
    assert kl[0] > 0 and kl[1] == pytest.approx(kl[0], rel=1e-3)


@pytest.mark.parametrize("method", ["sft", "rl", "rl-vl", "rl-vl-again"])
def test_two_processes_learn_what_one_learns(tmp_path, method):
    launch(method, tmp_path / "one", 1)
    launch(method, tmp_path / "two", 2)
    one, first, second = (
        load_file(tmp_path / folder / f"weights-{rank}.safetensors")
        for folder, rank in (("one", 0), ("two", 0), ("two", 1))
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, one, rtol=0, atol=2e-5)
    logs = [
        [json.loads(line) for line in next((tmp_path / folder).glob("*/metrics.jsonl")).open()]
        for folder in ("one", "two")
    ]
    for alone, together in zip(*logs, strict=True):
        assert alone["train_tokens"] == together["train_tokens"]
        assert alone["rollout_tokens"] == together["rollout_tokens"]
        assert together["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("method", ["evaluate", "evaluate-vl"])
def test_two_processes_measure_what_one_measures(tmp_path, method):
    """Every token of every try, and so every row; the process that writes nothing knows it too."""
    launch(method, tmp_path / "one", 1)
    launch(method, tmp_path / "two", 2)
    one, first, second = (
        json.loads((tmp_path / folder / f"measured-{rank}.json").read_text())
        for folder, rank in (("one", 0), ("two", 0), ("two", 1))
    )
    assert one == first == second
    turns = one["turns"]["id_unseen"]
    assert len(turns) == 7 and {len(t) for t in turns} > {1}  # some are right at once, some are not
    assert {row["eval_temperature"] for row in one["rows"] if "eval_temperature" in row} == {0, 1}


def test_each_run_of_a_grid_has_a_process_of_its_own(monkeypatch):
    """Else the models of earlier runs, and a GPU's memory with them, stay where later ones are."""
    monkeypatch.setattr(side_by_side, "run_one", os.getpid)
    with side_by_side._engine("processes", 2) as submit:
        found = [future.result() for future in [submit() for _ in range(5)]]
    assert len({*found, os.getpid()}) == 6


def test_a_run_that_fails_in_a_grid_ends_it_with_what_went_wrong(monkeypatch):
    monkeypatch.setattr(side_by_side, "run_one", os.listdir)
    with pytest.raises(NotADirectoryError), side_by_side._engine("processes", 1) as submit:
        waiting = [submit(__file__) for _ in range(3)]
        waiting[0].result()
    assert waiting[-1].cancelled()
