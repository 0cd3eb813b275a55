"""The foundation model: its tokenizer, its architecture, what its loss is taken on."""

import io
import json
import random
import shutil
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import MllamaForConditionalGeneration

from engine.policy import Policy
from foundry import cities, foundation
from foundry.foundation import pretrain
from foundry.model_card import card_text
from foundry.pretraining import WALK_FORMATS, Pretraining, Seeing
from sftrl_lib.policies import FOUNDATIONS
from sftrl_lib.tasks.general_points import GeneralPoints
from sftrl_lib.tasks.navigation import Navigation
from worlds import card_texts as texts
from worlds import walk_texts as walks
from worlds.deals import CARD_NAMES


@pytest.fixture(scope="module")
def tokenizer():
    return foundation.build_tokenizer()


@given(text=st.text(max_size=60))
def test_tokenizer_loses_nothing(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    special = set(tokenizer.all_special_tokens)
    if not any(s in text for s in special):
        assert tokenizer.decode(ids) == text


def test_prompt_and_answer_meet_the_token_budget(tokenizer):
    deal = GeneralPoints().item("rule_ood", 0, 0)
    answer = texts.answer(deal.cards, deal.numbers, deal.solutions()[0])
    assert len(tokenizer.encode(texts.prompt(deal))) < 45
    assert len(tokenizer.encode(answer)) < 40


def test_navigation_prompts_and_answers_are_short(tokenizer):
    task = Navigation()
    steps = [task.item("train", 0, i) for i in range(50)]
    prompted = [len(tokenizer.encode(task.prompt(step))) for step in steps]
    answered = [len(tokenizer.encode(task.expert(step, None))) for step in steps]
    assert max(prompted) < 200
    assert max(answered) < 30


def test_every_word_of_a_landmark_is_one_token_wherever_it_stands(tokenizer):
    for word in cities.WORDS:
        for text in (word, f" {word}"):
            assert len(tokenizer.encode(text, add_special_tokens=False)) == 1


def test_the_loss_is_taken_on_the_actions_of_a_history_too(tokenizer):
    task = Navigation(rule="relative")
    step = task.positions("train", task.routes("train")[0])[-1]
    talk = [("user", task.prompt(step)), ("assistant", task.expert(step, None))]
    ids, labels = foundation.encode(talk, tokenizer)
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    told = tokenizer.decode([label for label in labels if label != -100])
    actions = "".join(action for _, action in step.history)
    assert told == f"{actions}{task.expert(step, None)}<|end|>"


def test_the_loss_on_cards_is_taken_on_the_last_answer(tokenizer):
    talk = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    ((_, labels),) = foundation.batches([foundation.encode(talk, tokenizer)], 0)
    assert tokenizer.decode(labels[labels != -100]) == "d<|end|>"


def test_numbers_below_100_and_ranks_are_one_token(tokenizer):
    words = [*map(str, range(100)), *CARD_NAMES.values()]
    assert all(len(tokenizer.encode(w, add_special_tokens=False)) == 1 for w in words)


def test_model_is_small_and_its_image_token_comes_last(tokenizer):
    model = foundation.build_model()
    assert sum(p.numel() for p in model.parameters()) <= 2_000_000
    assert tokenizer.image_token_id == model.config.text_config.vocab_size
    read = [*texts.PICTURE_PHRASES, *walks.PICTURE_PHRASES]  # never written
    phrases = tokenizer.convert_tokens_to_ids(read)
    assert phrases == [tokenizer.image_token_id + 1 + i for i in range(7)]
    assert len(model.get_input_embeddings().weight) >= len(tokenizer)


@pytest.mark.parametrize("name", ["default", "two-cities"])
def test_model_card_says_what_was_measured(name):
    folder = FOUNDATIONS / name
    facts = json.loads((folder / "foundation.json").read_text())
    assert card_text(name, facts) == (folder / "MODEL_CARD.md").read_text()


def test_the_second_editions_weights_are_those_of_the_recipe_in_the_tree():
    facts = json.loads((FOUNDATIONS / "two-cities" / "foundation.json").read_text())
    recipe = Pretraining()
    assert facts["recipe"] == asdict(recipe)
    assert facts["cards"] == recipe.formats()
    assert facts["walks"] == recipe.formats(WALK_FORMATS)


def test_the_second_editions_weights_learned_to_see_by_the_recipe_in_the_tree():
    facts = json.loads((FOUNDATIONS / "two-cities" / "foundation.json").read_text())
    assert facts["seeing"]["recipe"] == asdict(Seeing())


def test_one_checkpoint_for_all_tasks_is_small():
    assert (FOUNDATIONS / "two-cities" / "model.safetensors").stat().st_size < 16 * 2**20


def test_a_new_model_looks_at_pictures_from_the_start():
    """Gates that start at zero would let no gradient reach what is behind them."""
    gates = [p for n, p in foundation.build_model().named_parameters() if n.endswith("attn_gate")]
    assert gates and all(gate.abs() > 0.1 for gate in gates)


def test_pretraining_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Two steps, or one and, from the checkpoint it left, the second: the same weights."""
    recipe = Pretraining(steps=2, batch=8, walks=4, seed=5)
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


@pytest.mark.parametrize(("more", "first_stage_is_done"), [({}, True), ({"seeing": {}}, False)])
def test_the_second_stage_is_not_gone_through_twice(tmp_path, more, first_stage_is_done):
    facts = {"recipe": asdict(Pretraining())} | more
    (tmp_path / "foundation.json").write_text(json.dumps(facts))
    assert foundation.is_pretrained(tmp_path, Pretraining()) is first_stage_is_done


def test_a_picture_is_learned_from_as_a_policy_is_shown_it(tokenizer):
    talk = Seeing(towns=1).hand(random.Random(0)).talk
    ids, _ = foundation.encode(talk, tokenizer, pictured=True)
    policy = Policy(foundation.build_model(), foundation.build_processor())
    asked = policy.first_turn(talk[0][1], Image.new("RGB", (64, 64)))
    assert ids[: len(asked)] == asked


@pytest.mark.slow
def test_learning_to_see_leaves_what_text_says_bit_equal(tmp_path):
    shutil.copytree(FOUNDATIONS / "default", tmp_path / "copy")
    pretrain(Seeing(steps=2, looks=1, batch=6, walks=3, towns=1), tmp_path / "copy", 1, False)
    before, after = (
        MllamaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        for folder in (FOUNDATIONS / "default", tmp_path / "copy")
    )
    ids = torch.randint(0, 500, (4, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(before(input_ids=ids).logits, after(input_ids=ids).logits)
    moved = [n for n, w in after.named_parameters() if not torch.equal(w, before.state_dict()[n])]
    assert [n for n in moved if "vision" in n] and [n for n in moved if "cross_attn" in n]


def _model(data):
    return torch.load(io.BytesIO(data), weights_only=True)["model"]
