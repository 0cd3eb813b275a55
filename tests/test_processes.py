"""Two processes of one run learn what one process learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sftrl_lib.runs import ROOT

HERE = Path(__file__).parent


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


@pytest.mark.parametrize("method", ["sft", "rl", "rl-vl"])
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
