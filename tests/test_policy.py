"""A policy: loaded for any preset and precision, saved, and refused with a sentence."""

import copy
import functools
import os
import re
import shutil
import subprocess
import sys

import bitsandbytes as bnb
import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from engine import allocator, load
from engine.adapters import LORA_TARGETS, lean
from engine.generation import answer
from engine.policy import Policy
from foundry import foundation
from sftrl_lib import PRESETS, Experiment, SftrlError, runner
from sftrl_lib.cli import main
from sftrl_lib.evaluate import KlToInit
from sftrl_lib.policies import FOUNDATIONS, load_policy
from sftrl_lib.runs import Run
from sftrl_lib.tasks.general_points import GeneralPoints
from worlds import card_texts as texts

DEALS = [GeneralPoints().item("id_unseen", 0, i) for i in range(4)]
WEIGHTS = FOUNDATIONS / "default"
UNPACKED_DTYPE = load.unpacked_dtype  # as it is: the other tests see a GPU's


@pytest.fixture(scope="module", autouse=True)
def sixteen_bits():
    """What is not packed is in bf16, as on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "unpacked_dtype", as_on_a_gpu)
        yield


def as_on_a_gpu(precision):
    return torch.float32 if precision == "full" else torch.bfloat16


@pytest.fixture(scope="module")
def tiny():
    return load_policy(Experiment())


@pytest.fixture(scope="module")
def qlora():
    return load_policy(Experiment(precision="qlora"))


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, as far as `load_policy` can see."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))


def answers(of):
    asked = [of.first_turn(texts.prompt(deal)) for deal in DEALS]
    return [of.decode(ids) for ids in answer(of, asked, 40)]


def loss(of):
    """Nats a token on right answers."""
    total = tokens = 0
    for deal in DEALS:
        question = of.first_turn(texts.prompt(deal))
        text = texts.answer(deal.cards, deal.numbers, deal.solutions()[0])
        answer = of.tokenizer.encode(text, add_special_tokens=False) + [of.end_id]
        ids = torch.tensor([question + answer], device=of.device)
        with torch.no_grad():
            logits = of.model(input_ids=ids).logits[0, len(question) - 1 : -1].float()
        total += torch.nn.functional.cross_entropy(logits, ids[0, len(question) :]) * len(answer)
        tokens += len(answer)
    return float(total) / tokens


def adapters(of):
    return {n: p.detach() for n, p in of.model.named_parameters() if "lora_" in n}


def refused(exp, path=None):
    """The one sentence with which `load_policy` refuses."""
    with pytest.raises(SftrlError) as caught:
        load_policy(exp, path)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


# --- precision ------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset, precision", [("tiny", "full"), ("llama-11b", "qlora")])
def test_auto_precision_is_the_presets_with_its_reason(preset, precision):
    assert Experiment(preset=preset).model.resolved == (precision, PRESETS[preset].why)


@pytest.mark.parametrize("precision", ["qlora", "lora", "full"])
def test_precision_that_is_asked_for_is_taken_and_said(precision):
    resolved, why = Experiment(preset="llama-11b", precision=precision).model.resolved
    assert resolved == precision and f"precision={precision}" in why


def test_gradients_below_four_bits_are_the_same_after_an_answer(monkeypatch):
    """As of every RL step: on CPUs with bf16 bitsandbytes would pass on no gradient any more."""
    monkeypatch.setattr(load, "unpacked_dtype", UNPACKED_DTYPE)
    of, found = load_policy(Experiment(precision="qlora")), []
    for name, parameter in of.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(20, 40)[None]
    for _ in range(2):
        of.model.zero_grad()
        of.model.train()
        of.model(input_ids=ids, labels=ids).loss.backward()
        found.append({n: p.grad for n, p in of.model.named_parameters() if p.grad is not None})
        answers(of)
        of.model.zero_grad(set_to_none=True)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("precision", ["lora", "qlora"])
def test_a_gpu_without_bf16_is_refused_with_what_would_run(gpu, monkeypatch, precision):
    own = Experiment(precision=precision).model
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    with pytest.raises(
        SftrlError, match="capability 8.0, and this one has 7.5; use precision=full"
    ):
        load.need_machine(own)
    load.need_machine(Experiment(precision="full").model)
    for newer in ((8, 0), (8, 9), (12, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None, n=newer: n)
        load.need_machine(own)


def test_adapters_multiply_in_tf32_and_whole_models_in_32_bits():
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for precision in ("lora", "full", "qlora"):
            load_policy(Experiment(precision=precision))
            assert torch.backends.cuda.matmul.allow_tf32 == (precision != "full")
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_tiny_preset_is_the_foundation_model_in_fp32(tiny):
    stored = load_file(WEIGHTS / "model.safetensors")
    head = stored["language_model.lm_head.weight"]
    assert torch.equal(tiny.model.lm_head.weight, head.float())
    assert {p.dtype for p in tiny.model.parameters()} == {torch.float32}
    assert (tiny.precision, tiny.why) == ("full", PRESETS["tiny"].why)
    assert not tiny.model.training


def test_active_parameters_are_those_that_multiply_a_text_token(tiny):
    """Four self-attention layers (attention, gated MLP, two norms), the last norm, the head."""
    text = tiny.model.config.text_config
    hidden, inner = text.hidden_size, text.intermediate_size
    layer = 4 * hidden**2 + 3 * hidden * inner + 2 * hidden
    assert tiny.n_active == 4 * layer + hidden + text.vocab_size * hidden


@pytest.mark.parametrize("precision", ["qlora", "lora", "full"])
def test_weights_that_are_not_packed_are_in_bf16_on_a_gpu_alone(precision, monkeypatch):
    assert UNPACKED_DTYPE(precision) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert UNPACKED_DTYPE(precision) == as_on_a_gpu(precision)


# --- LoRA and NF4 ---------------------------------------------------------------------------------
def test_llama_is_asked_for_in_nf4_with_adapters_on_its_language_model(gpu, monkeypatch):
    """Everything but the download: what arrives is a small model of the same architecture."""
    asked = {}

    def arrive(source, **options):
        asked.update(options, source=source)
        return foundation.build_model(), {"missing_keys": []}

    config = foundation.build_model().config
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda _, **__: config)
    monkeypatch.setattr(
        AutoProcessor, "from_pretrained", lambda _, **__: foundation.build_processor()
    )
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", arrive)
    loaded = load_policy(Experiment(preset="llama-11b"))
    assert asked["source"] == "meta-llama/Llama-3.2-11B-Vision-Instruct"
    assert (asked["dtype"], asked["device_map"]) == (torch.bfloat16, "cuda:0")
    nf4 = asked["quantization_config"]
    assert nf4.load_in_4bit and nf4.bnb_4bit_use_double_quant
    assert (nf4.bnb_4bit_quant_type, nf4.bnb_4bit_compute_dtype) == ("nf4", torch.bfloat16)
    assert nf4.llm_int8_skip_modules == [
        "lm_head", "model.vision_model", "model.multi_modal_projector",
    ]  # fmt: skip
    assert loaded.precision == "qlora" and adapters(loaded)


def test_lora_targets_are_the_linear_layers_of_the_language_model_alone():
    model = foundation.build_model()
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    found = {n for n, _ in model.named_modules() if re.fullmatch(LORA_TARGETS, n)}
    assert found == {n for n in linear if n.startswith("model.language_model.")}
    assert len(found) == 6 * 7 and linear - found  # self- and cross-attention layers


def test_qlora_quantises_the_language_model_and_nothing_else(qlora):
    small = {n for n, m in qlora.model.named_modules() if isinstance(m, bnb.nn.Linear4bit)}
    every = (n for n, _ in qlora.model.named_modules())
    base = {n for n in every if re.fullmatch(rf"base_model\.model\.{LORA_TARGETS}\.base_layer", n)}
    assert small == base and len(small) == 6 * 7
    for name in small:
        state = qlora.model.get_submodule(name).weight.quant_state
        assert state.quant_type == "nf4" and state.nested, name
    rest = [p for n, p in qlora.model.named_parameters() if n.removesuffix(".weight") not in small]
    assert all(p.is_floating_point() for p in rest)


@pytest.mark.parametrize("precision, base", [("qlora", torch.uint8), ("lora", torch.bfloat16)])
def test_only_adapters_are_trained_and_they_are_fp32(qlora, precision, base):
    of = qlora if precision == "qlora" else load_policy(Experiment(precision=precision))
    trained = {n: p.dtype for n, p in of.model.named_parameters() if p.requires_grad}
    assert trained.keys() == adapters(of).keys() and set(trained.values()) == {torch.float32}
    layer = of.model.get_base_model().model.language_model.layers[0].self_attn.q_proj.base_layer
    assert layer.weight.dtype == base


def test_qlora_answers_about_as_well_as_full_precision(tiny, qlora):
    assert all(answers(qlora))
    assert loss(qlora) < 1.2 * loss(tiny)


@pytest.mark.parametrize("precision", ["qlora", "lora"])
def test_lean_adapters_compute_what_pefts_do_to_the_last_bit(qlora, precision):
    of = qlora if precision == "qlora" else load_policy(Experiment(precision=precision))
    held = copy.deepcopy(of.model.state_dict())
    for name, parameter in of.model.named_parameters():
        if "lora_B" in name:  # at zero it would add nothing
            parameter.data.normal_(std=0.1)
    ids, layers = torch.arange(5, 40)[None], len(adapters(of)) // 2
    with torch.no_grad():
        expected = of.model(input_ids=ids).logits
        with lean(of.model):
            found = of.model(input_ids=ids).logits
            without = [m for m in of.model.modules() if "forward" in vars(m)]
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert len(without) == layers and not any("forward" in vars(m) for m in without)
        with of.model.disable_adapter(), lean(of.model):  # what is switched off stays off
            assert not any("forward" in vars(m) for m in without)
    of.model.load_state_dict(held, strict=False)


def test_qlora_gradients_reach_the_adapters(qlora):
    question = qlora.first_turn(texts.prompt(DEALS[0]))
    ids = torch.tensor([question], device=qlora.device)
    qlora.model(input_ids=ids, labels=ids).loss.backward()
    slopes = {n: p.grad for n, p in qlora.model.named_parameters() if p.grad is not None}
    qlora.model.zero_grad()
    layers = {int(re.search(r"layers\.(\d)", n)[1]) for n, g in slopes.items() if g.abs().max() > 0}
    assert layers == {0, 2, 3, 5}  # 1 and 4 look at images


def test_qlora_gradients_are_those_over_the_unpacked_weights():
    """bitsandbytes warns that a kernel of its CPU path has no gradient of its own: none is lost."""
    qlora = load_policy(Experiment(precision="qlora"))  # evaluation packs the weights otherwise
    torch.manual_seed(0)
    for name, parameter in adapters(qlora).items():
        if "lora_B" in name:  # zero at first, and then lora_A has no gradient
            parameter.normal_(std=0.02)
    ids = torch.tensor([qlora.first_turn(texts.prompt(DEALS[0]))])

    def slopes(model):
        model.train()
        model(input_ids=ids, labels=ids).loss.backward()
        found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        model.eval()
        return found

    plain = copy.deepcopy(qlora.model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, bnb.nn.Linear4bit):
            whole = torch.nn.Linear(module.in_features, module.out_features, bias=False)
            packed = module.weight
            whole.weight.data = bnb.functional.dequantize_4bit(packed.data, packed.quant_state)
            parent, _, child = name.rpartition(".")
            setattr(plain.get_submodule(parent), child, whole.bfloat16().requires_grad_(False))
    ours, theirs = slopes(qlora.model), slopes(plain)
    assert ours.keys() == theirs.keys() and len(ours) == 2 * 4 * 7
    assert all((g - theirs[n]).norm() < 0.1 * theirs[n].norm() for n, g in ours.items())


def test_what_is_not_packed_stays_in_16_bits(qlora):
    """PEFT's preparation for 4 bits would double it: half of the bytes of an 11B model."""
    rest = {n: p for n, p in qlora.model.named_parameters() if "lora_" not in n}
    assert {p.dtype for p in rest.values()} == {torch.uint8, torch.bfloat16}


def test_a_packed_weight_counts_as_the_weights_it_stands_for(tiny, qlora):
    assert qlora.n_active == tiny.n_active


# --- saving ---------------------------------------------------------------------------------------
def test_saved_weights_come_back_and_saving_changes_none(tiny, tmp_path):
    name, weight = next(iter(tiny.model.named_parameters()))
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1 + 1e-5)  # finer than fp16 can tell
    moved = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
    buffers = {n: b.clone() for n, b in tiny.model.named_buffers()}
    tiny.save(tmp_path)
    assert all(torch.equal(p, moved[n]) for n, p in tiny.model.named_parameters())
    assert all(torch.equal(b, buffers[n]) for n, b in tiny.model.named_buffers())
    with torch.no_grad():
        weight.copy_(before)
    again = load_policy(Experiment(), tmp_path)
    stored = dict(again.model.named_parameters())
    assert all(torch.equal(stored[n], p.half().float()) for n, p in moved.items())
    assert answers(again) == answers(tiny)
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}


def test_saved_adapter_comes_back_on_its_base_and_can_be_trained_on(tmp_path):
    exp = Experiment(precision="qlora")
    first = load_policy(exp)
    torch.manual_seed(0)
    for parameter in adapters(first).values():
        parameter.normal_(std=0.05)
    first.save(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()  # the base stays where it is
    again = load_policy(exp, tmp_path)
    assert adapters(again).keys() == adapters(first).keys()
    assert all(torch.equal(p, adapters(first)[n]) for n, p in adapters(again).items())
    assert answers(again) == answers(first) != answers(load_policy(exp))
    assert all(p.requires_grad for n, p in again.model.named_parameters() if "lora_" in n)


def test_merged_adapter_is_one_checkpoint_without_peft(tmp_path):
    exp = Experiment(precision="lora")
    first = load_policy(exp)
    torch.manual_seed(0)
    for parameter in adapters(first).values():
        parameter.normal_(std=0.05)
    first.save(tmp_path / "adapter")
    assert main(["merge", str(tmp_path / "adapter"), str(tmp_path / "whole")]) == 0
    stored = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    assert not any("lora_" in name for name, _ in stored.named_parameters())
    again = load_policy(Experiment(), tmp_path / "whole")
    assert loss(again) == pytest.approx(loss(first), rel=0.02)
    assert abs(loss(again) - loss(load_policy(Experiment()))) > 0.1


def test_a_folder_without_an_adapter_cannot_be_merged(tmp_path, capsys):
    assert main(["merge", str(tmp_path), str(tmp_path / "whole")]) == 2
    assert f"{tmp_path} holds no adapter" in capsys.readouterr().err


# --- errors ---------------------------------------------------------------------------------------
def test_missing_weights_name_the_folder_and_the_command():
    said = refused(Experiment(foundation="nowhere"))
    assert str(FOUNDATIONS / "nowhere") in said
    assert "python -m sftrl_lib foundation --name nowhere" in said


def test_missing_checkpoint_is_not_replaced_by_the_foundation_model(tmp_path):
    assert str(tmp_path) in refused(Experiment(), tmp_path)


def test_damaged_weights_name_the_folder(tmp_path):
    shutil.copytree(WEIGHTS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes(b"\x10" * 200)
    assert str(tmp_path) in refused(Experiment(), tmp_path)


def test_llama_without_a_gpu_says_what_to_do_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = refused(Experiment(preset="llama-11b"))
    assert "needs a CUDA GPU with 24 GB" in said and "preset=tiny" in said


def test_gated_weights_without_licence_or_token_say_how_to_get_them(gpu, monkeypatch):
    def gated(source, **_):
        raise OSError(f"You are trying to access a gated repo.\nMake sure to be let in: {source}")

    monkeypatch.setattr(AutoConfig, "from_pretrained", gated)
    said = refused(Experiment(preset="llama-11b"))
    assert "'meta-llama/Llama-3.2-11B-Vision-Instruct' (You are trying to access a gated" in said
    assert all(words in said for words in ("accept the licence", "HF_TOKEN", "SFTRL_ONLINE=1"))


@pytest.mark.slow
def test_another_model_has_an_init_of_its_own_and_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "YOURS", tmp_path)
    short = dict(model=str(WEIGHTS), precision="lora", steps=1, batch=8, eval_episodes=2)
    first = Experiment(method="init", model=short["model"], precision="lora")
    arm = Experiment(method="sft", **short)
    with pytest.raises(SftrlError, match="no weights of the init in .*; make them with 'python -m"):
        runner.start_policy(arm)
    base = runner.start_policy(arm.replace(start="model"))
    assert not any(p.abs().max() > 0 for n, p in adapters(base).items() if "lora_B" in n)
    run = runner.run_experiment(
        Experiment(method="init", **short), tmp_path, False, {"id_unseen": 2}
    )
    run.path.rename(tmp_path / first.run_id)  # as if it had the preset's length
    started = runner.start_policy(arm)
    assert adapters(started).keys() == adapters(base).keys()
    again = runner.start_policy(arm.replace(start=str(tmp_path / first.run_id / "weights")))
    assert all(torch.equal(p, adapters(again)[n]) for n, p in adapters(started).items())


def test_an_adapter_of_another_rank_is_no_start(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 4}')
    with pytest.raises(SftrlError, match="has rank 4, and the run's rank is 16; set rank=4"):
        runner.start_policy(Experiment(method="sft", start=str(tmp_path), precision="lora"))


def test_a_package_that_is_not_installed_says_how_to_get_it():
    said = refused(Experiment(model="no_such_package/model.gguf"))
    assert "no package no_such_package" in said and "requirements-smol.txt" in said


def test_model_that_is_nowhere_is_refused_without_asking_the_hub(tmp_path):
    said = refused(Experiment(model=str(tmp_path / "nothing")))
    assert str(tmp_path / "nothing") in said


# --- any other model ------------------------------------------------------------------------------
LLAMAS = """{{ bos_token }}{% set found = namespace(image=false) %}{% for m in messages %}\
{% if m.content is not string and m.content[0].type == 'image' %}{% set found.image = true %}\
{% endif %}{% endfor %}{% if not found.image %}Today: {{ date_string }}<|end|>{% endif %}\
{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}\
{% for part in m.content %}{% if part.type == 'image' %}<|image|>{% else %}{{ part.text }}\
{% endif %}{% endfor %}{% endif %}<|end|>{% endfor %}<|assistant|>"""


def test_a_template_that_knows_of_pictures_is_told_of_one_and_never_of_todays_date(tiny):
    """As Llama-3.2-Vision's does: a system turn with the date, unless there is a picture."""
    processor = foundation.build_processor()
    processor.chat_template = LLAMAS.replace("<|image|>", processor.image_token)
    of = Policy(tiny.model, processor)
    asked = of.tokenizer.decode(of.first_turn("Cards: 7", Image.new("RGB", (64, 64))))
    assert asked.count(processor.image_token) == 1 and "Today" not in asked
    assert "Today: 26 Jul 2024" in of.tokenizer.decode(of.first_turn("Cards: 7"))


def test_a_model_without_a_chat_template_is_refused(tiny):
    processor = foundation.build_processor()
    processor.chat_template = processor.tokenizer.chat_template = None
    with pytest.raises(SftrlError, match="has no chat template"):
        Policy(tiny.model, processor)


def test_a_tokenizer_without_padding_pads_with_the_end(tiny):
    processor = foundation.build_processor()
    processor.tokenizer.pad_token = None
    of = Policy(tiny.model, processor)
    assert of.tokenizer.pad_token_id == of.end_id


@pytest.mark.parametrize(
    ("kind", "why"), [("llava", ""), ("gemma3", ", whose image tokens see one another in both .*")]
)
def test_pictures_are_refused_for_a_model_that_the_library_cannot_show_them(kind, why, monkeypatch):
    model = foundation.build_model()
    model.config.model_type = kind
    monkeypatch.setattr(load, "load_model", lambda *_, **__: (model, None))
    said = refused(Experiment(task="gp-vl", model="some/model"))
    shown = "families mllama, qwen2_5_vl, qwen3_vl, smolvlm, not to"
    assert re.search(rf"{shown} {kind} \(some/model\){why}; use a text task", said)


def test_of_several_inits_one_is_to_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "YOURS", tmp_path)
    arm = Experiment(method="sft", model="no/model")
    for steps in (1, 2):
        Run.open(arm.replace(method="init", steps=steps), tmp_path).finish()
    with pytest.raises(SftrlError, match="several inits fit this run: .*; name one with start="):
        runner.init_folder(arm)
    needs_none = arm.replace(start=str(tmp_path)), arm.replace(method="init", steps=3)
    for exp in needs_none:
        with pytest.raises(SftrlError, match="there are no weights|cannot load 'no/model'"):
            runner.run_experiment(exp, tmp_path / "runs", progress=False)
    usual = Run.open(arm.replace(method="init"), tmp_path)
    usual.finish()
    assert runner.init_folder(arm) == usual.path / "weights"


def test_a_new_adapter_is_drawn_by_the_seed():
    exp = Experiment(precision="lora")
    torch.manual_seed(1)
    first = adapters(load_policy(exp))
    after = torch.rand(1)
    torch.manual_seed(2)
    again, other = adapters(load_policy(exp)), adapters(load_policy(exp.replace(seed=1)))
    assert all(torch.equal(p, again[n]) for n, p in first.items())
    assert not all(torch.equal(p, other[n]) for n, p in first.items())
    torch.manual_seed(1)
    assert after == torch.rand(1)  # nobody else's stream is touched


def test_an_adapter_is_no_start_for_all_weights(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 16}')
    with pytest.raises(SftrlError, match="precision full trains all weights; use precision=lora"):
        runner.start_policy(Experiment(start=str(tmp_path)))


def test_an_adapter_finds_its_base_where_it_lies_on_this_machine(tmp_path):
    load_policy(Experiment(precision="lora")).save(tmp_path)
    told = tmp_path / "adapter_config.json"
    text = told.read_text()
    assert str(WEIGHTS) in text
    told.write_text(text.replace(str(WEIGHTS), "/on/another/machine"))
    assert adapters(load_policy(Experiment(precision="lora"), tmp_path))


@pytest.mark.parametrize("start", ["tianzhechu/GP-L-Init", "folder"])
def test_a_start_is_a_folder_or_a_hub_id(start, tmp_path, monkeypatch):
    name = str(tmp_path) if start == "folder" else start
    monkeypatch.setattr(runner, "load_policy", lambda exp, path: path)
    found = runner.start_policy(Experiment(start=name))
    assert found == (tmp_path if start == "folder" else name)


@pytest.mark.slow
def test_a_run_on_pictures_in_four_bits_is_kept_loaded_by_peft_and_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "unpacked_dtype", UNPACKED_DTYPE)  # bf16 would take minutes here
    monkeypatch.setattr(runner, "KlToInit", functools.partial(KlToInit, answers=2))
    exp = Experiment(task="gp-vl", method="rl", precision="qlora", steps=1, batch=8, group=4,
                     warmup=0.0, eval_episodes=2)  # fmt: skip
    run = runner.run_experiment(exp, tmp_path, False, {"rule_ood": 2})
    kept = run.path / "weights"
    base = AutoModelForImageTextToText.from_pretrained(runner.init_folder(exp))
    theirs = PeftModel.from_pretrained(base, kept)  # without this library
    theirs, ours = dict(theirs.named_parameters()), adapters(load_policy(exp, kept))
    assert ours and all(torch.equal(p, theirs[n]) for n, p in ours.items())
    assert main(["merge", str(kept), str(tmp_path / "whole")]) == 0
    assert main(["evaluate", str(tmp_path / "whole"), "--task", "gp-vl", "--episodes", "2"]) == 0


def test_the_hub_is_off_whatever_was_imported_first():
    code = "from huggingface_hub import constants as c; import sftrl_lib; print(c.HF_HUB_OFFLINE)"
    clean = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean)
    assert done.stdout == "True\n", done.stderr


HOLES = """
import psutil, torch
from engine.allocator import SMALL, keep_freed_blocks
keep_freed_blocks(SMALL)
torch.ones(6_000_000)  # from now on the C library would keep blocks of up to 24 MB
before, held = psutil.Process().memory_info().rss, []
for _ in range(50):
    held += [torch.ones(1_000_000), torch.ones(1_000)]
del held[::2]
print((psutil.Process().memory_info().rss - before) // 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of the GNU C library")
def test_freed_memory_goes_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True)
    assert 0 <= int(done.stdout or pytest.fail(done.stderr)) < 20  # of 190 MB; 190 if it did not


def test_beside_a_large_model_the_caches_of_a_rollout_alone_are_kept(monkeypatch):
    said = []
    for module in (allocator, load):
        monkeypatch.setattr(module, "keep_freed_blocks", said.append)
    # A test before this one may have loaded a large one.
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    load_policy(Experiment())
    with allocator.caches_kept():
        assert said == []  # a small one pays more for it than it saves
    load_policy(Experiment(model=str(WEIGHTS)))
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(allocator.SMALL))
    with pytest.raises(KeyboardInterrupt), allocator.caches_kept():
        assert said == [allocator.SMALL, allocator.LARGE]
        raise KeyboardInterrupt
    assert said[2:] == [allocator.SMALL]
