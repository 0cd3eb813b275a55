"""Runs on a Ray cluster of this machine: what a run is does not depend on who carried it out."""

import json

import pytest

from sftrl_lib import Experiment, SftrlError
from sftrl_lib.runs import find_run
from study import side_by_side

SHORT = dict(method="sft", steps=1, batch=8, eval_episodes=2)


def test_a_missing_ray_is_told_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(SftrlError, match="pip install -r requirements-ray.txt"):
        side_by_side.run_grid([Experiment(**SHORT)], tmp_path, engine="ray")


@pytest.mark.slow
def test_runs_on_ray_are_those_of_processes(tmp_path):
    pytest.importorskip("ray", reason="an optional install: requirements-ray.txt")
    runs = [Experiment(**SHORT, seed=seed) for seed in (0, 1)]
    for engine in ("processes", "ray"):
        root, final = tmp_path / engine, {"id_unseen": 2}
        side_by_side.run_grid(runs, root, workers=1, final=final, engine=engine)
    for run in runs:
        losses = [
            json.loads((find_run(run, tmp_path / engine) / "metrics.jsonl").read_text())["loss"]
            for engine in ("processes", "ray")
        ]
        assert losses[0] == losses[1]
