"""What a stage takes of memory, worked out before anything is loaded."""

import json
from types import SimpleNamespace

import pytest
import torch
from helpers_memory import Held
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from commons.errors import SftrlError
from engine import memory
from engine.adapters import adapt
from engine.divergence import Divergence
from engine.generation import PREFILL
from engine.memory import GB, STAGES, Shape, total
from engine.presets import PRESETS
from sftrl_lib import planning
from sftrl_lib.cli import main
from sftrl_lib.experiment import Experiment
from sftrl_lib.methods.sft_kl import AnchoredSft
from sftrl_lib.planning import architecture, pieces, plan, smallest
from sftrl_lib.policies import load_policy
from sftrl_lib.runs import Run
from study import figures

LLAMA = Experiment(task="gp-vl", preset="llama-11b")
SHAPE = Shape(architecture(LLAMA), 16)


def test_the_architecture_is_the_published_one():
    """10.67 billion parameters; the language model's linear layers hold 8.72 billion of them."""
    assert SHAPE.parameters == 10_670_220_835
    assert round(SHAPE.linear / 1e9, 2) == 8.72
    assert (SHAPE.cross_layers, SHAPE.keys, SHAPE.patches) == (8, 2 * 8 * 128, 4 * 1601)


def test_counts_of_a_small_model_are_those_of_the_loaded_one():
    exp = Experiment(precision="qlora")
    of, shape = load_policy(exp).model, Shape(architecture(exp), exp.model.rank)
    trained = sum(p.numel() for p in of.parameters() if p.requires_grad)
    packed = [p for p in of.parameters() if p.dtype == torch.uint8]
    assert trained == shape.adapter
    assert 2 * sum(p.numel() for p in packed) == shape.linear


def test_packed_weights_take_the_bytes_that_bitsandbytes_gives_them():
    exp = Experiment(precision="qlora")
    packed = [p for p in load_policy(exp).model.parameters() if p.dtype == torch.uint8]
    states = [p.quant_state for p in packed]
    held = sum(p.numel() + s.absmax.numel() + 4 * s.state2.absmax.numel()
               for p, s in zip(packed, states, strict=True))  # fmt: skip
    expected = Shape(architecture(exp), exp.model.rank).linear * memory.NF4
    assert held == pytest.approx(expected, rel=0.01)


def test_nf4_weights_of_the_11b_are_the_measured_8_4_gigabytes():
    assert pieces(LLAMA, "sft", SHAPE)["stays"]["weights"] == pytest.approx(8.4e9, rel=0.01)


@pytest.mark.parametrize(
    ("preset", "task", "parameters", "places"),
    [("gpu-small", "gp-l", 1_543_714_304, 0), ("gpu-vision", "gp-vl", 2_127_532_032, 14**2)],
)
def test_the_students_tiers_fit_into_the_gpu_that_they_ask_for(preset, task, parameters, places):
    """The published counts; a picture of 448 pixels is 14 times 14 states in the text."""
    for stage in STAGES:
        exp = Experiment(task=task, preset=preset, method="rl" if stage == "rl" else "sft")
        shape = Shape(architecture(exp), exp.model.rank)
        assert (shape.parameters, shape.places, shape.patches) == (parameters, places, 0)
        assert total(pieces(exp, stage, shape), "cuda") <= PRESETS[preset].gpu * GB


def test_a_picture_in_the_text_makes_conversations_longer():
    blind, seeing = (Experiment(task=task, preset="gpu-vision") for task in ("gp-l", "gp-vl"))
    shape = Shape(architecture(seeing), 16)
    text, more = (
        pieces(exp, "rl", shape, lengths=(200 + n, 600 + n))["rollout"]["cache of the text"]
        for exp, n in ((seeing, 0), (blind, shape.places))
    )
    assert text == more


@given(micro_batch=st.integers(1, 16), answers=st.integers(1, 64), stage=st.sampled_from(STAGES))
@settings(max_examples=20, deadline=None)
def test_more_rows_never_take_less(micro_batch, answers, stage):
    def peak(**rows):
        return total(pieces(LLAMA.replace(**rows), stage, SHAPE, "cuda", (200, 600)), "cuda")

    now = peak(micro_batch=micro_batch, generation_batch_size=answers)
    assert peak(micro_batch=micro_batch + 1, generation_batch_size=answers) >= now
    assert peak(micro_batch=micro_batch, generation_batch_size=answers + 1) >= now


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_planned_fits_and_is_the_most_that_does(stage, monkeypatch):
    monkeypatch.setattr(planning, "conversation", lambda exp: (200, 600))
    small, large = (plan(LLAMA, stage, gb * GB) for gb in (13, 24))
    assert small.fits and small.peak <= 13 * GB and large.peak <= 24 * GB
    none = plan(LLAMA, stage, 4 * GB)
    rows = [(one.micro_batch, one.generation_batch_size) for one in (none, small, large)]
    assert not none.fits and (1, 1) == rows[0] <= rows[1] <= rows[2]


@pytest.fixture
def gpu_of(monkeypatch):
    def pretend(gb):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (gb * GB, gb * GB))

    return pretend


# --- against what is counted ----------------------------------------------------------------------
PRECISIONS = pytest.mark.parametrize(
    ("kind", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)


def adapted(dtype, hidden, intermediate, layers=4, words=64):
    """A language model of Llama's shape below adapters, at the precision of a GPU or a CPU."""
    config = LlamaConfig(
        vocab_size=words, hidden_size=hidden, intermediate_size=intermediate,
        num_hidden_layers=layers, num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 128,
    )  # fmt: skip
    return adapt(LlamaForCausalLM(config).to(dtype), 4)


@PRECISIONS
def test_adapters_widen_what_a_layer_takes_to_read_a_token(kind, dtype):
    """In bf16 213 kB a token in the 11B model, of which without adapters it would be 119."""
    model = adapted(dtype, 256, 896, layers=1).get_base_model()
    ids = torch.zeros(1, 512, dtype=torch.long)
    with torch.no_grad(), Held() as held:
        model.model(input_ids=ids, use_cache=False)
    planned = memory._at_work(memory.READING[kind], model.config) * ids.numel()
    assert 0.75 < planned / held.peak < 1.15
    assert memory._at_work(memory.READING["bf16"], SHAPE.text) == 212_992


@PRECISIONS
def test_a_layer_at_work_in_training_takes_what_is_planned(kind, dtype):
    planned, counted = [], []
    ids = torch.zeros(1, 256, dtype=torch.long)
    for hidden, intermediate in ((256, 896), (256, 1792), (512, 896)):
        model = adapted(dtype, hidden, intermediate)
        base = model.get_base_model().train()
        base.gradient_checkpointing_enable({"use_reentrant": False})
        with Held() as held:
            base.model(input_ids=ids, use_cache=False).last_hidden_state.float().sum().backward()
        counted.append(held.peak)
        kept = hidden * dtype.itemsize * base.config.num_hidden_layers
        a_layer = memory._at_work(memory.TRAINING[kind], base.config)
        planned.append((kept + a_layer) * ids.numel())
    assert all(0.75 < p / c < 1.15 for p, c in zip(planned, counted, strict=True))
    slopes = [(p[1] - p[0], p[2] - p[0]) for p in (planned, counted)]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.05)


@PRECISIONS
def test_the_measured_kl_takes_what_is_planned(kind, dtype):
    tokens, words = 64, 1000
    policy = SimpleNamespace(model=adapted(dtype, 256, 896, 1, words), device=torch.device("cpu"))
    policy.tokenizer = SimpleNamespace(pad_token_id=0)
    kl = Divergence(policy, [([1], [2] * tokens, None)], 1, torch.float16)
    with Held() as held:
        assert kl(policy) == pytest.approx(0, abs=1e-2)
    assert 0.75 < tokens * words * memory.KL_LOGIT / held.peak < 1.15


def test_a_kl_in_the_loss_takes_what_is_planned():
    now = torch.randn(64, 1000, dtype=torch.bfloat16, requires_grad=True)
    own = Experiment(method="sft+kl").method
    with Held() as held:
        logs = now.float().log_softmax(-1)
        loss = torch.nn.functional.nll_loss(logs, torch.zeros(64).long())
        loss = loss + AnchoredSft.extra_loss(own, logs, now.detach().float().log_softmax(-1))
        del logs
        loss.backward()
    assert 0.75 < now.numel() * memory.KL_LOGIT / held.peak < 1.15


# --- cards ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("stage", STAGES)
def test_on_every_card_rows_are_the_most_that_fit(stage, monkeypatch):
    monkeypatch.setattr(planning, "conversation", lambda exp: (438, 1070))
    monkeypatch.setattr(planning, "shape_of", lambda exp: SHAPE)
    exp, rows = LLAMA.replace(method="sft" if stage == "sft" else "rl"), (1, 1)
    for gb in (12, 16, 24, 48, 80):
        made = plan(exp, stage, gb * GB)
        assert made.fits == (made.peak <= gb * GB) == (gb > 12 or stage != "rl")
        if made.fits:
            assert rows <= (rows := (made.micro_batch, made.generation_batch_size))
            twice = exp.replace(micro_batch=made.micro_batch, generation_batch_size=2 * rows[1])
            more = total(pieces(twice, stage, SHAPE, lengths=(438, 1070)), "cuda")
            assert rows[1] == memory.SIZES[0] or more > gb * GB
    assert rows[1] >= 256


def test_of_a_picture_a_tile_is_kept_a_row_and_all_four_while_it_is_read():
    rollout = pieces(LLAMA, "rl", SHAPE, lengths=(438, 1070))["rollout"]
    one = SHAPE.cross_layers * SHAPE.keys * 2 * 1601
    at_once = PREFILL["cuda"] // (438 - LLAMA.model.max_new_tokens + 4 * 1601)
    assert rollout["cache of the picture"] == one * (16 + 4 * at_once) and at_once < 16


# --- rows at a time -------------------------------------------------------------------------------
FREE = LLAMA.replace(method="rl")  # whose rows are `auto`


def test_rows_are_as_many_as_the_free_memory_holds(gpu_of, monkeypatch):
    monkeypatch.setattr(planning, "conversation", lambda exp: (200, 600))
    found = []
    for gb in (16, 24, 80):
        gpu_of(gb)
        made = planning.settled(FREE, "rl")
        phases = pieces(made, "rl", SHAPE, lengths=(200, 600))
        assert total(phases, "cuda") <= planning.AUTO * gb * GB
        assert made.hash == FREE.hash and made.rows == {n: made.flat[n] for n in made.rows}
        found.append(made.rows["generation_batch_size"])
    assert found[0] < FREE.rows["generation_batch_size"] <= found[1] < found[2]


def test_rows_go_by_what_is_free_and_not_by_what_there_is(monkeypatch, gpu_of):
    monkeypatch.setattr(planning, "conversation", lambda exp: (200, 600))
    gpu_of(24)
    alone = planning.settled(FREE, "rl").rows
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (16 * GB, 24 * GB))
    shared = planning.settled(FREE, "rl").rows
    assert shared["generation_batch_size"] < alone["generation_batch_size"]


def test_a_number_that_is_given_wins_and_a_cpu_has_the_usual_ones(gpu_of):
    assert planning.settled(FREE, "rl").rows == FREE.rows
    usual = PRESETS["llama-11b"].numbers
    assert FREE.rows == {name: usual[name] for name in FREE.rows}
    gpu_of(80)
    made = planning.settled(FREE.replace(micro_batch=3), "rl")
    assert made.machine.micro_batch == 3 < made.machine.generation_batch_size
    tiny = Experiment()
    assert planning.settled(tiny, "rl") is tiny and "auto" not in tiny.machine.model_dump().values()


def test_a_run_goes_on_with_the_rows_that_it_was_begun_with(gpu_of, tmp_path):
    """Else its next answers would be drawn otherwise than without the interruption."""
    began = FREE.replace(micro_batch=5, generation_batch_size=6)
    with Run.open(began, tmp_path) as run:
        gpu_of(80)
        assert planning.settled(FREE, "rl", run.path).rows == began.rows


def test_several_processes_have_the_usual_rows(gpu_of, monkeypatch):
    gpu_of(80)
    monkeypatch.setattr(planning, "WORLD", 2)
    assert planning.settled(FREE, "rl").rows == FREE.rows


@pytest.mark.parametrize(
    ("precision", "gb", "advice"),
    [("full", 80, "precision=qlora"), ("qlora", 12.5, "use micro_batch="), ("qlora", 6, "larger")],
)
def test_a_run_that_does_not_fit_is_refused_with_what_to_change(precision, gb, advice, gpu_of):
    exp = LLAMA.replace(precision=precision, method="sft", micro_batch=4)
    gpu_of(gb)
    with pytest.raises(
        SftrlError, match=f"GB at precision {precision}, and this GPU has {gb:.1f}"
    ) as e:
        planning.require(exp, "sft")
    assert advice in str(e.value)


def test_what_fits_is_not_refused(gpu_of):
    gpu_of(24)
    planning.require(LLAMA.replace(method="sft"), "sft")


def test_evaluation_is_refused_too(gpu_of, capsys):
    gpu_of(12)
    assert main(["evaluate", "some/model", "--preset", "llama-11b", "--precision", "full"]) == 2
    assert "evaluate of llama-11b takes" in capsys.readouterr().err


def test_the_kl_of_all_weights_needs_a_copy_of_them():
    full = LLAMA.replace(precision="full", kl_weight=0.1)
    stays = pieces(full, "rl", SHAPE, lengths=(200, 600))["stays"]
    assert stays["the init, for the KL"] == stays["weights"]
    for other, stage in ((full, "evaluate"), (LLAMA.replace(kl_weight=0.1), "rl")):
        stays = pieces(other, stage, SHAPE, lengths=(200, 600))["stays"]
        assert "the init, for the KL" not in stays


def test_the_figure_of_memory_is_as_long_as_the_peaks():
    made = plan(LLAMA, "sft", 24 * GB)
    axis = figures.memory({"qlora": [made]}).axes[0]
    assert sum(bar.get_width() for bar in axis.patches) == pytest.approx(made.peak / GB)
    assert [line.get_xdata()[0] for line in axis.lines] == [24, 80]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == [
        f"qlora: sft\n{made.peak / GB:.1f} GB"
    ]
    assert not axis.texts  # no number stands on a card's line


def test_what_fits_is_a_table_and_0(capsys):
    assert main(["plan", "--gpu-memory", "24GB"]) == 0
    said = capsys.readouterr().out
    assert all(words in said for words in ("evaluate", "stays: weights", "peak", "side by side"))


def test_what_does_not_fit_is_1_and_the_least_that_would_do(capsys):
    assert main(["plan", "--gpu-memory", "80", "--precision", "full"]) == 1
    said = capsys.readouterr().out
    least = smallest(LLAMA.replace(precision="full", method="sft"), "sft")
    assert f"sft does not fit into 80 GB: it takes {least:.1f} GB at least." in said
    assert "evaluate does not" not in said


def test_json_says_the_same(capsys):
    assert main(["plan", "--gpu-memory", "24", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [stage["stage"] for stage in told["stages"]] == list(STAGES)
    assert told["memory_gb"] == 24 and told["smallest_gb"] == {}


@pytest.mark.parametrize("size", ["", "lots", "-3GB", "24XB"])
def test_a_size_that_is_none_is_refused(size, capsys):
    with pytest.raises(SystemExit):
        main(["plan", f"--gpu-memory={size}"])
    assert "is not a size such as 24GB" in capsys.readouterr().err
