"""A model that is named without a preset: its size is read from its files, and decides."""

import functools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import settings
from engine.presets import PRESETS, SIZES
from engine.sources import parameters
from foundry.foundation import build_model
from sftrl_lib import Experiment, runner
from sftrl_lib.evaluate import KlToInit
from sftrl_lib.policies import FOUNDATIONS

WEIGHTS = FOUNDATIONS / "default" / "model.safetensors"


def test_parameters_are_counted_over_all_files(tmp_path):
    count = sum(p.numel() for p in build_model().parameters())
    assert parameters(str(WEIGHTS.parent)) == count
    tensors = load_file(WEIGHTS)
    for number, name in enumerate(tensors, 1):
        file = tmp_path / f"model-{number:05}-of-{len(tensors):05}.safetensors"
        save_file({name: tensors[name]}, file)
    save_file(tensors, tmp_path / "other.safetensors")  # not what transformers loads
    assert parameters(str(tmp_path)) == count


def test_an_adapter_has_the_size_of_its_base(tmp_path):
    told = {"base_model_name_or_path": str(WEIGHTS.parent)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    assert parameters(str(tmp_path)) == parameters(str(WEIGHTS.parent)) > 0


@pytest.mark.parametrize("file", ["model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"\xff" * 100, b"[]"])
def test_a_size_that_cannot_be_read_is_not_known(tmp_path, file, data):
    (tmp_path / file).write_bytes(data)
    assert parameters(str(tmp_path)) == 0


@pytest.mark.parametrize("name", ["", "no/model", "/no/folder", "no_package/model.gguf"])
def test_a_model_that_is_nowhere_has_no_known_size(name):
    assert parameters(name) == 0


def test_a_gguf_file_says_its_size(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("a", np.zeros((3, 32), np.float32))
    writer.add_tensor("b", np.zeros(5, np.float16))
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    assert parameters(str(tmp_path / "model.gguf")) == 101


@pytest.mark.parametrize(
    "count, row", [(10**6, 0), (10**7, 0), (135 * 10**6, 1), (15 * 10**8, 2), (8 * 10**9, 3)]
)
@pytest.mark.parametrize("method", ["init", "sft", "rl"])
def test_a_model_named_alone_has_the_numbers_of_its_size(monkeypatch, count, row, method):
    monkeypatch.setattr(settings, "parameters", lambda source: count)
    exp, size = Experiment(model="a/model", method=method), list(SIZES.values())[row]
    numbers = {**size.numbers, **size.methods[method]}
    numbers |= dict.fromkeys(exp.rows, "auto") if size.auto else {}
    assert {name: exp.flat[name] for name in numbers} == numbers
    assert exp.model.resolved == (size.precision, size.why)
    said = exp.replace(lr=7e-7).defaults_by_size
    assert said.startswith(f"a/model has {count / 1e6:,.1f} million parameters, hence ")
    assert f"steps={exp.method.steps}" in said and said.endswith(size.why)
    assert "lr=" not in said  # which was given


def test_a_model_of_unknown_size_is_taken_for_a_small_real_one():
    exp = Experiment(model="no/model")
    assert exp.model.tier is list(SIZES.values())[1]
    assert "a size not known here" in exp.defaults_by_size


def test_a_preset_that_is_named_holds_for_another_model_too():
    steps = PRESETS["smol"].methods["rl"]["steps"]
    assert Experiment(model="no/model", preset="smol").method.steps == steps
    for preset in PRESETS:
        assert Experiment(preset=preset).defaults_by_size == ""


def test_another_model_fills_in_its_own_numbers():
    alone = Experiment(model="no/model", method="rl")
    assert Experiment(method="rl").replace(model="no/model") == alone
    assert Experiment(method="rl", steps=7).replace(model="no/model") == alone.replace(steps=7)
    assert alone.replace(model="") == Experiment(method="rl")


def test_a_run_says_its_numbers_and_why(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runner, "KlToInit", functools.partial(KlToInit, answers=2))
    torch.manual_seed(0)
    exp = Experiment(model=str(WEIGHTS.parent), method="sft", start="model", steps=1, batch=8,
                     eval_episodes=1)  # fmt: skip
    runner.run_experiment(exp, tmp_path, final={"id_unseen": 1})
    said = capsys.readouterr().out
    assert "has 1.6 million parameters, hence " in said and "lr=0.0003" in said
    assert f"precision full: {list(SIZES.values())[0].why}" in said
