"""The forecast of a seed on a GPU: its counts are the project's own, its tables the record's, and
the page's sentences too."""

import importlib
import json
from dataclasses import replace

import pytest
import torch
from transformers.models.mllama.modeling_mllama import _prepare_aspect_ratio_attention_mask

from engine import graphs
from sftrl_lib import evaluate, planning
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.tasks import make_task
from study import costs, forecast, pages
from study.speeds import record

CARD = costs.Card("none", 100e12, 1e12)


@pytest.fixture(scope="module")
def script():
    """The benchmark; what it remembers of models is forgotten again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        for module, name in ((planning, "shape_of"), (costs, "shape_of"), (costs, "look")):
            patch.setattr(module, name, getattr(module, name))
        found = importlib.import_module("forecast")
        found.remember_sizes()
        yield found


def page() -> str:
    return " ".join((ROOT / "book" / "tiers.md").read_text().split())


def test_answers_of_tests_are_those_that_an_evaluation_plays(script, monkeypatch):
    """Of an arm: three points of its curve, and its end."""
    exp, played = Experiment(**script.SEED, method="sft"), []
    task = make_task(exp)

    class Asked(list):
        """Episodes, as many as were asked for."""

    def rollout(policy, task, items, *, tries, **_):
        played.append(len(items) * tries)
        return Asked(items)

    monkeypatch.setattr(evaluate, "rollout", rollout)
    monkeypatch.setattr(evaluate, "score", lambda *_: [])
    monkeypatch.setattr(evaluate.torch, "Generator", lambda *_: evaluate.torch.default_generator)
    policy = type("None", (), {"device": "cpu"})
    each = dict.fromkeys(task.curve_splits, exp.evaluation.eval_episodes)
    for _ in exp.eval_steps[:-1]:
        evaluate.evaluate(policy, task, exp, each, False)
    full = evaluate.full_battery(exp, task)
    evaluate.evaluate(policy, task, exp, full, False, evaluate.TEMPERATURES)
    arm = script.of_today(exp, 24)
    assert sum(play.answers for play in arm.measured) == sum(played)


def test_a_step_takes_the_longer_of_host_and_card(script):
    arm = script.of_today(Experiment(**script.SEED), 80)
    play = arm.rollout

    def seconds(step: float, rows: int = arm.generation_batch_size) -> float:
        host = {"decode_step": step, "micro_batch": 0.0}
        now = replace(arm, generation_batch_size=rows)
        return script.Price(now, CARD, host, 60).writing(play)

    assert seconds(2.0) == pytest.approx(2.0 * 60 * play.tries)  # one pass of 256 rows
    assert seconds(2.0, 16) == pytest.approx(16 * seconds(2.0))
    card = seconds(0.0)
    assert 0 < card < seconds(2.0) and card == seconds(card / 60 / play.tries / 2)
    assert seconds(0.0, 16) > card  # weights are read more often


def test_replayed_steps_are_paid_for_from_the_first_recording_on(script):
    arm = replace(script.of_today(Experiment(**script.SEED), 80), replayed=True)
    play, host = arm.rollout, {"decode_step": 2.0, "replayed_step": 1.0, "operations": 0}

    def seconds(answer: int, **other) -> float:
        return script.Price(arm, CARD, host | other, answer).writing(play) / play.tries

    few = graphs.WARM_UP + graphs.PAYS  # of so many tokens the first is read off the question
    assert seconds(few) == pytest.approx(2.0 * few)
    python = graphs.WARM_UP + 1
    assert seconds(60) == pytest.approx(2.0 * python + 1.0 * (60 - python))
    assert seconds(60, operations=3 / script.KERNEL) > 3 * (60 - python)  # the card is slower


def test_reading_again_costs_more_and_sharing_less(script):
    arm = script.of_today(Experiment(**script.SEED), 24)
    host = {"decode_step": 0.08, "micro_batch": 0.3}
    shared, again = (script.Price(one, CARD, host, 60) for one in (arm, replace(arm, again=True)))
    assert again.reading(arm.rollout) > 4 * shared.reading(arm.rollout)
    assert again.training() > shared.training()
    assert again.hours()["rollouts"] > shared.hours()["rollouts"]


def test_a_narrow_model_is_as_deep_as_the_real_one(script):
    host = importlib.import_module("host")
    for preset in ("llama-11b", "gpu-small", "gpu-vision"):
        config = planning.architecture(Experiment(preset=preset))
        text = config.get_text_config()
        names = "num_hidden_layers", "cross_attention_layers"
        before = [getattr(text, name, None) for name in names]
        narrow = host.narrow(config, 300).get_text_config()
        assert [getattr(narrow, name, None) for name in names] == before
        assert narrow.hidden_size == 64 < 1000


@pytest.mark.slow
def test_the_record_follows_from_its_settings_and_host_times(script):
    kept = record("forecast")
    known = json.loads(json.dumps(kept["settings_before"]))
    for name, made in (
        ("seed", script.before_and_after(known, kept["host"])),
        ("by_card", script.by_card(kept["host"])),
        ("eight", script.eight(kept["host"]["after"])),
    ):
        assert json.loads(json.dumps(made)) == kept[name], name


def test_tables_of_the_page_show_the_record():
    kept = record("forecast")
    tables = forecast.tables(kept)
    text = (ROOT / "book" / "tiers.md").read_text()
    for name, (head, rows) in tables.items():
        assert f"generated/{name}.md" in text
        assert pages.markdown(head, rows).count("\n") == len(rows) + 2
        assert {len(row) for row in rows} == {len(head)}
    row = next(r for r in kept["seed"] if (r["gb"], r["answers"], r["edition"]) == AFTER)
    cells = next(r for r in tables["forecast"][1] if r[:2] == ("24 GB, 60 tokens", "after"))
    assert cells[-2:] == (f"{row['total']:.1f}", "1.0")
    for kind, *cells in tables["cards"][1]:
        assert "GPU" not in cells[-1], kind
    assert "**No GPU has been measured.**" in text


AFTER = (24, "usual", "after")


def test_what_the_page_says_of_the_forecast():
    kept, said = record("forecast"), page()
    rows = {(r["gb"], r["answers"], r["edition"]): r for r in kept["seed"]}
    host = kept["host"]["after"]
    step, low, high = (1000 * x for x in (host["decode_step"], *host["from_to"]))
    words = f"is {step:.0f} ms of Python, whatever the card ({low:.0f} to {high:.0f}, beside other"
    assert words in said and (kept["load"] > 1) == ("beside other programs" in said)
    assert kept["share"] == costs.SHARE == 0.3 and "at 30% of its peak" in said
    assert kept["before"] in said
    times = {(gb, kind): rows[gb, kind, "before"]["times_after"] for gb, kind, _ in rows}
    assert times[80, "longest"] >= 6 > max(times[80, "usual"], times[24, "longest"])
    words = "reached with long answers ({:.1f} times) and missed with short ones ({:.1f})"
    assert words.format(times[80, "longest"], times[80, "usual"]) in said
    assert "is missed: {:.1f} and {:.1f} times".format(
        times[24, "usual"], times[24, "longest"]
    ) in said  # fmt: skip
    left = rows[AFTER]
    steps = left["hours"]["init"]["training"] + left["hours"]["sft"]["training"]
    assert f"{steps:.1f} of the {left['total']:.1f} hours that are left" in said
    parts = costs.counted(costs.setup_of("11B, pictures, 4 bits", "sft"))
    share = parts["picture"] / sum(parts.values())
    assert f"Looking at pictures is {share:.0%} of their operations" in said
    first, second = (rows[gb, "usual", "after"]["rows"]["rl"][1] for gb in (24, 80))
    assert f"24 GB hold {first} answers side by side, where 80 GB hold {second}" in said
    assert f"from answers of {kept['answers']['usual']} tokens" in said


def test_what_the_page_says_of_replays():
    kept, said = record("forecast"), page()
    host, rows = kept["host"]["after"], {}
    for row in kept["seed"]:
        rows.setdefault(row["edition"], []).append(row["total"])
    assert f"leave {1000 * host['replayed_step']:.1f} ms of Python a step" in said
    assert f"by {1e6 * kept['replays']['kernel']:.0f} µs for each of a step's" in said
    assert f"{host['operations']:,} operations" in said
    saved = [1 - b / a for a, b in zip(rows["after"], rows["after, steps replayed"], strict=True)]
    assert f"between {min(saved):.0%} and {max(saved):.0%} less" in said
    assert saved[-1] == max(saved) and kept["seed"][-1]["gb"] == 80  # "large cards, long answers"


def test_what_the_page_says_of_eight():
    rows = {(r["way"], r["answers"]): r["total"] for r in record("forecast")["eight"]}
    kinds = "usual", "longest"
    exp = Experiment(task="gp-vl", preset="llama-11b", method="sft")
    assert f"trains {exp.method.batch // 8} of SFT's {exp.method.batch} rows" in page()
    for kind in kinds:
        given, usual = (rows[f"eight, rows {how}", kind] for how in ("given", "of the preset"))
        assert given < 0.5 * usual and usual < rows["one card", kind]
        together = rows["four seeds, eight arms on eight cards", kind]
        assert together < rows["one card", kind] < rows["four seeds, one card", kind] / 2
    assert "in less time than one card takes for one seed" in page()


def test_a_filled_tile_looks_at_empty_ones_as_the_page_says():
    """Transformers' mask of the tower forbids what is empty to look at what is empty, no more."""
    assert "lets the filled one look at the empty ones" in page()
    tiles = torch.tensor([[1, 0, 0, 0]])
    seen = _prepare_aspect_ratio_attention_mask(tiles, 5, 8, torch.float32)[0, 0] == 0
    filled, empty = slice(0, 5), slice(8, 32)
    assert seen[filled, empty].all() and not seen[empty, empty].any()
