"""The foundation model: what its data may hold, its tokenizer and architecture."""

import io
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sftrl_lib import foundation, prompts
from sftrl_lib.tasks import general_points as gp

RECIPE = foundation.Pretraining(batch=64)


@pytest.fixture(scope="module")
def tokenizer():
    return foundation.build_tokenizer()


@pytest.fixture(scope="module")
def deals():
    rng = random.Random("test")
    return [RECIPE.deal(rng) for _ in range(3000)]


def test_pretraining_never_sees_a_named_or_held_out_rule(deals):
    seen = {(deal.rule.j, deal.rule.q, deal.rule.k) for deal, _ in deals}
    named = {(rule.j, rule.q, rule.k) for rule in gp.NAMED_RULES.values()}
    assert not seen & (named | set(gp.HELD_OUT_MAPPINGS))
    assert len(seen) > 1000  # and yet it sees very many


def test_pretraining_never_sees_a_held_out_multiset_with_the_task_target(deals):
    assert not [d for d, _ in deals if d.target == 24 and gp.held_out(d.numbers)]


def test_pretraining_formulas_solve_their_deals(deals):
    assert all(gp.verify_formula(f, d.numbers, d.target).ok for d, f in deals[:500])


def test_conversations_end_with_a_right_answer_after_wrong_ones():
    talks = [c for c in RECIPE.batch_of(0) if len(c) > 2]
    assert 5 < len(talks) < 30  # a quarter of 64, less those whose wrong answer was right
    for talk in talks:
        assert [role for role, _ in talk][-3:] == ["assistant", "user", "assistant"]
        assert talk[-2][1].startswith("You failed this trial because ")


def test_json_switch_leaves_the_tasks_format_out():
    recipe = foundation.Pretraining(batch=400, json=0.0)
    assert not [c for c in recipe.batch_of(0) if "JSON" in c[0][1]]
    assert [c for c in foundation.Pretraining(batch=400).batch_of(0) if "JSON" in c[0][1]]


def test_batches_are_the_same_for_the_same_seed_and_step():
    assert RECIPE.batch_of(3) == RECIPE.batch_of(3) != RECIPE.batch_of(4)


def test_worked_steps_are_true_and_refuse_fractions():
    assert foundation.worked_steps("(10-4)*3+6") == ["10-4=6", "6*3=18", "18+6=24"]
    assert foundation.worked_steps("8/(3-8/3)") is None


@given(st.lists(st.integers(1, 13), min_size=4, max_size=4), st.integers(0, 10**6))
def test_random_formula_value_is_what_the_verifier_computes(numbers, seed):
    formula, value = foundation.random_formula(numbers, random.Random(seed))
    verdict = gp.verify_formula(formula, numbers, 24)
    assert verdict.value == value
    assert verdict.reason in (("illegal_formula",) if value is None else ("solved", "wrong_value"))


@given(text=st.text(max_size=60))
def test_tokenizer_loses_nothing(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    special = set(tokenizer.all_special_tokens)
    if not any(s in text for s in special):
        assert tokenizer.decode(ids) == text


def test_prompt_and_answer_meet_the_token_budget(tokenizer):
    deal = gp.GeneralPoints().item("rule_ood", 0, 0)
    answer = prompts.gp_answer(deal.cards, deal.numbers, deal.solutions()[0])
    assert len(tokenizer.encode(prompts.gp_prompt(deal))) < 45
    assert len(tokenizer.encode(answer)) < 40


def test_numbers_below_100_and_ranks_are_one_token(tokenizer):
    words = [*map(str, range(100)), *gp.CARD_NAMES.values()]
    assert all(len(tokenizer.encode(w, add_special_tokens=False)) == 1 for w in words)


def test_model_is_small_and_its_image_token_comes_last(tokenizer):
    model = foundation.build_model()
    assert sum(p.numel() for p in model.parameters()) <= 2_000_000
    assert tokenizer.image_token_id == model.config.text_config.vocab_size == len(tokenizer) - 1


def test_pretraining_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Two steps, or one and, from the checkpoint it left, the second: the same weights."""
    recipe = foundation.Pretraining(steps=2, batch=8, seed=5)
    monkeypatch.setattr(foundation, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(foundation, "write", lambda *_: None)
    state = tmp_path / "training.pt"
    kept = {}
    replace = type(state).replace

    def keep(self, target):
        replace(self, target)
        kept[len(kept)] = target.read_bytes()

    monkeypatch.setattr(type(state), "replace", keep)
    arguments = (0, 1, recipe, tmp_path, f"file://{tmp_path}/point", False)
    foundation._pretrain_worker(*arguments)
    whole = _model(kept[1])
    state.write_bytes(kept[0])
    foundation._pretrain_worker(*arguments)
    again = _model(kept[2])
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def _model(data):
    return torch.load(io.BytesIO(data), weights_only=True)["model"]
