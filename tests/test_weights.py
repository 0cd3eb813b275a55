"""Weights that a run keeps: who can load them, and on which base an adapter stands."""

import copy
import functools
import json
import shutil
import subprocess

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from engine.adapters import fingerprint
from engine.policy import Policy
from sftrl_lib import Experiment, SftrlError, runner
from sftrl_lib.cli import main
from sftrl_lib.evaluate import KlToInit
from sftrl_lib.places import ROOT
from sftrl_lib.policies import FOUNDATIONS, load_policy
from sftrl_lib.runner import INIT, run_experiment, start_policy
from sftrl_lib.runs import Run, is_done, read_manifest
from sftrl_lib.tasks.general_points import GeneralPoints
from worlds import card_texts as texts

DEAL = GeneralPoints().item("id_unseen", 0, 0)
SHORT = dict(method="sft", steps=1, batch=8, lr=1e-2, warmup=0.0, eval_episodes=2)
LORA = Experiment(precision="lora")
FINAL = {"id_unseen": 2}


@pytest.fixture(scope="module", autouse=True)
def short_kl():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "KlToInit", functools.partial(KlToInit, answers=2))
        patch.setattr(torch, "set_num_threads", lambda count: None)
        yield


@torch.no_grad()
def logits(model, processor) -> torch.Tensor:
    turn = [{"role": "user", "content": texts.prompt(DEAL)}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    ids = processor.tokenizer.encode(text, add_special_tokens=False, return_tensors="pt")
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def logits_of(policy: Policy) -> torch.Tensor:
    return logits(policy.model, policy.processor)


@pytest.fixture(scope="module", params=["full", "lora"])
def kept(request, tmp_path_factory):
    """(run, the policy that it trained)."""
    trained = []

    def start(exp):
        trained.append(start_policy(exp))
        return trained[0]

    exp = Experiment(precision=request.param, **SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "start_policy", start)
        run = run_experiment(exp, tmp_path_factory.mktemp("runs"), False, FINAL)
    return run, trained[0]


# --- what a run keeps -----------------------------------------------------------------------------
def test_a_run_keeps_what_transformers_and_peft_load_without_this_library(kept):
    """transformers writes Mllama under the Hub's names and reads them again: nothing may be lost
    but what fp16 rounds."""
    run, trained = kept
    weights = run.path / "weights"
    if trained.precision == "full":
        model = AutoModelForImageTextToText.from_pretrained(weights)
        rounded = copy.deepcopy(trained.model)
        for parameter in rounded.parameters():
            parameter.data = parameter.data.half().float()
        expected = logits(rounded, trained.processor)
    else:
        base = AutoModelForImageTextToText.from_pretrained(INIT / "gp-l" / "default")
        model, expected = PeftModel.from_pretrained(base, weights), logits_of(trained)
    theirs = logits(model.eval(), AutoProcessor.from_pretrained(weights))
    torch.testing.assert_close(theirs, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(theirs, logits_of(trained), rtol=0, atol=0.02)
    untrained = logits_of(start_policy(Experiment(method="sft")))
    assert (theirs - untrained).abs().max() > 1


@pytest.mark.slow
def test_kept_weights_are_measured_and_started_from_by_the_command_line(kept, tmp_path, capsys):
    run, trained = kept
    weights, precision = run.path / "weights", ["--precision", trained.precision]
    assert main(["evaluate", str(weights), "--episodes", "2", "--json", *precision]) == 0
    assert json.loads(capsys.readouterr().out)
    started = start_policy(Experiment(precision=trained.precision, start=str(weights)))
    torch.testing.assert_close(logits_of(started), logits_of(trained), rtol=0, atol=0.02)
    sizes = "--steps 1 --batch 8 --eval_episodes 1 --final_episodes 1 --threads 1".split()
    again = ["sft", "--start", str(weights), "--root", str(tmp_path), "--keep", "none"]
    assert main([*again, *sizes, *precision]) == 0
    (folder,) = tmp_path.iterdir()
    assert is_done(folder) and not (folder / "weights").exists()


def test_what_is_kept_decides_no_result():
    assert Experiment(keep="none").hash == Experiment().hash
    with pytest.raises(SftrlError, match="keep is 'all', but it must be 'final' or 'none'"):
        Experiment(keep="all")


def test_an_init_is_kept_whatever_was_asked(tmp_path):
    exp = Experiment(keep="none", **SHORT | {"method": "init"})
    run = run_experiment(exp, tmp_path, False, FINAL)
    assert (run.path / "weights" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_run_killed_while_it_saves_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    def killed(policy, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    exp = Experiment(**SHORT)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Policy, "save", killed)
        run_experiment(exp, tmp_path, False, FINAL)
    folder = tmp_path / exp.run_id
    assert not is_done(folder) and not (folder / "weights").exists()
    steps = Run(folder, read_manifest(folder)).metrics()
    run = run_experiment(exp, tmp_path, False, FINAL)
    assert run.metrics().equals(steps)  # seconds included: nothing was trained again
    assert "language_model.lm_head.weight" in load_file(folder / "weights" / "model.safetensors")
    left = [p.name for p in folder.iterdir() if p.name.startswith((".", "checkpoint"))]
    assert left == []


def test_weights_of_recorded_runs_are_not_committed_by_accident():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    file = "data/runs/some-run/weights/model.safetensors"
    assert subprocess.run(["git", "check-ignore", "-q", file], cwd=ROOT).returncode == 0


# --- an adapter's base ----------------------------------------------------------------------------
@pytest.fixture
def adapter(tmp_path):
    """An adapter that says something, on a base in tmp_path/base."""
    shutil.copytree(INIT / "gp-l" / "default", tmp_path / "base")
    policy = load_policy(LORA, tmp_path / "base")
    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.05)
    policy.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def refused(call, *arguments, **settings) -> str:
    with pytest.raises(SftrlError) as caught:
        call(*arguments, **settings)
    said = str(caught.value)
    assert "\n" not in said and said.endswith(".")
    return said


@pytest.mark.slow
def test_an_adapter_whose_base_has_moved_is_refused_until_it_is_named(adapter, tmp_path, capsys):
    before = logits_of(load_policy(LORA, adapter))
    (tmp_path / "base").rename(tmp_path / "moved")
    said = refused(load_policy, LORA, adapter)
    assert f"{tmp_path / 'base'}, which is not there" in said and "--base FOLDER" in said
    moved = str(tmp_path / "moved")
    assert torch.equal(logits_of(load_policy(LORA.replace(base=moved), adapter)), before)
    arm = LORA.replace(method="sft", start=str(adapter))
    refused(start_policy, arm)
    assert torch.equal(logits_of(start_policy(arm.replace(base=moved))), before)
    for command in (["evaluate", adapter, "--episodes", 2, "--precision", "lora"],
                    ["merge", adapter, tmp_path / "whole"]):  # fmt: skip
        command = [str(word) for word in command]
        assert main(command) == 2
        assert "--base FOLDER" in capsys.readouterr().err
        assert main([*command, "--base", moved]) == 0
    merged = logits_of(load_policy(Experiment(), tmp_path / "whole"))
    torch.testing.assert_close(merged, before, rtol=0, atol=0.2)  # bf16


def test_another_base_is_refused_wherever_it_lies(adapter, tmp_path):
    other = str(FOUNDATIONS / "default")
    said = refused(load_policy, LORA.replace(base=other), adapter)
    assert f"{other}, whose weights are not those that it was trained on" in said
    file = tmp_path / "base" / "model.safetensors"
    tensors = load_file(file)
    tensors["language_model.lm_head.weight"][0, 0] += 1  # one number of 1.6 million
    save_file(tensors, file, {"format": "pt"})
    assert "whose weights are not those" in refused(load_policy, LORA, adapter)


def test_a_fingerprint_does_not_depend_on_the_files(adapter, tmp_path):
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    names, parts = sorted(tensors, reverse=True), tmp_path / "parts"
    parts.mkdir()
    for number, own in enumerate((names[:7], names[7:])):
        file = parts / f"model-{number + 1:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in own}, file)
    recorded = json.loads((adapter / "sftrl.json").read_text())["base_sha256"]
    assert fingerprint(str(parts)) == fingerprint(str(tmp_path / "base")) == recorded
    assert fingerprint(str(tmp_path)) == fingerprint("no/model") == fingerprint("") == ""


def test_an_adapter_of_other_software_needs_its_base_and_is_said_to_be_unchecked(
    adapter, tmp_path, capsys
):
    before = logits_of(load_policy(LORA, adapter))
    assert "could not be checked" not in capsys.readouterr().err
    (adapter / "sftrl.json").unlink()
    assert torch.equal(logits_of(load_policy(LORA, adapter)), before)
    assert f"whether {tmp_path / 'base'} is the right one" in capsys.readouterr().err
    (tmp_path / "base").rename(tmp_path / "moved")
    assert "--base FOLDER" in refused(load_policy, LORA, adapter)
    assert load_policy(LORA.replace(base=str(tmp_path / "moved")), adapter)


@pytest.mark.parametrize("file", ["sftrl.json", "adapter_config.json"])
@pytest.mark.parametrize("text", ["{", "3", "[1]"])
def test_a_damaged_record_is_refused(tmp_path, file, text):
    (tmp_path / "adapter_config.json").write_text('{"r": 16, "base_model_name_or_path": "."}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / file).write_text(text)
    assert f"{tmp_path / file} is damaged" in refused(load_policy, LORA, tmp_path)


def test_an_adapter_in_a_pickle_is_not_opened(adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "no adapter_model.safetensors" in refused(load_policy, LORA, adapter)
