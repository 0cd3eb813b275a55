"""Families of image models: how a picture is spelled, where it stands, and what is left alone.

That answers and training equal plain passes of transformers' models is in `test_generation` and
`test_packing`, for all of them.
"""

import re

import bitsandbytes as bnb
import pytest
import torch
from helpers_families import MARKS, seeing_policy, shown
from helpers_training import WordTask, train, weights
from PIL import Image

from engine import load
from engine.adapters import LORA_TARGETS, merge
from engine.divergence import Divergence
from engine.families import FAMILIES
from engine.generation import Conversations, answer
from engine.images import ImageConditioner
from engine.settings import ModelSettings

QWENS = ["qwen2_5_vl", "qwen3_vl"]
EVERY = pytest.mark.parametrize("kind", MARKS)


def noise(item: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return WordTask(pictures=True).picture(item, 16).resize(size)


def logits(policy, ids, picture):
    with torch.no_grad():
        return policy.model(input_ids=torch.tensor([ids]), **shown(policy, ids, picture)).logits[0]


# --- text -----------------------------------------------------------------------------------------
@EVERY
@pytest.mark.parametrize("size", [(16, 16), (48, 16), (16, 40)])
def test_a_picture_is_spelled_with_a_token_for_each_of_its_states(kind, size):
    policy, picture = seeing_policy(kind), noise(0, size)
    ids = policy.first_turn("Cards: 7", picture)
    assert ids.count(policy.model.config.image_token_id) == {
        "smolvlm": 4, **dict.fromkeys(QWENS, size[0] * size[1] // 64),
    }[kind]  # fmt: skip
    logits(policy, ids, picture)  # which transformers would refuse otherwise
    assert policy.model.config.image_token_id not in policy.first_turn("Cards: 7")


@EVERY
def test_the_text_is_said_whatever_a_template_takes_it_from(kind):
    policy = seeing_policy(kind)
    for ids in (policy.first_turn("Cards: 7"), policy.first_turn("Cards: 7", noise(0))):
        assert "user|>" in policy.tokenizer.decode(ids) and "Cards: 7" in policy.tokenizer.decode(
            ids
        )
    again = policy.tokenizer.decode(policy.next_turn("It was wrong"))
    assert "It was wrong" in again and again.endswith("assistant|>")


def test_pictures_have_a_size_of_whole_squares_that_is_planned_for():
    """Of the real models: 14 pixels by 2 in Qwen2.5-VL, 16 by 2 in Qwen3-VL."""
    for kind, side in (("qwen2_5_vl", 28), ("qwen3_vl", 32)):
        config = load.AutoConfig.for_model(kind)
        size = FAMILIES[kind].image_size(config)
        assert size % side == 0
        assert FAMILIES[kind].patches(config) == (size // side) ** 2


# --- places ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", QWENS)
def test_places_are_those_of_transformers_whatever_the_shape_and_the_padding(kind):
    policy = seeing_policy(kind)
    model, config = policy.model, policy.model.config
    pictures = [noise(n, size) for n, size in enumerate([(16, 16), (48, 16), (16, 40), (24, 32)])]
    rows = [policy.first_turn("Cards: " + "7, " * n, p) for n, p in enumerate(pictures)]
    longest = max(map(len, rows)) + 3
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    seen = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    images = ImageConditioner(policy, pictures)
    theirs, _ = model.model.get_rope_index(
        ids, mm_token_type_ids=(ids == config.image_token_id).int(), attention_mask=seen,
        image_grid_thw=images.of_all("image_grid_thw"),
    )  # fmt: skip
    call = {"input_ids": ids, "attention_mask": seen}
    ours = images.family.condition(images, model, torch.arange(4), call)["position_ids"]
    assert torch.equal(ours * seen, theirs * seen)


@EVERY
def test_two_questions_about_a_picture_share_it(kind):
    policy, picture = seeing_policy(kind), noise(1)
    prompts = [policy.first_turn(text, picture) for text in ("Cards: 7", "Cards: 7, 9", "7?")]
    talk = Conversations(policy, prompts, [picture] * 3)
    assert talk.blocks == 1 and min(talk.shared) > policy.first_turn("", picture).index(
        policy.model.config.image_token_id
    )
    written = talk.answer([0, 1, 2], [[]] * 3, 4)
    for prompt, ids in zip(prompts, written, strict=True):
        plain = logits(policy, prompt + ids, picture)[len(prompt) - 1 : -1]
        assert plain.argmax(-1).tolist() == ids


@EVERY
def test_another_picture_gives_other_logits(kind):
    policy = seeing_policy(kind)
    ids = policy.first_turn("Cards: 7", noise(0))
    one, other = (logits(policy, ids, noise(n)) for n in (0, 3))
    assert (one - other).abs().max() > 0.1
    assert answer(policy, [ids] * 2, 8, pictures=[noise(0), noise(3)]) == [
        answer(policy, [ids], 8, pictures=[noise(n)])[0] for n in (0, 3)
    ]


@EVERY
def test_padded_rows_are_compared_as_they_are(kind):
    policy = seeing_policy(kind)
    rows = [
        (policy.first_turn("Cards: 7" + ", 7" * n, noise(n)), [20 + n, 30, 40][: 2 + n], noise(n))
        for n in (0, 1)
    ]
    found = Divergence(policy, rows, 2, torch.float32).reference[0]
    plain = [logits(policy, p + c, shown_)[len(p) - 1 : -1] for p, c, shown_ in rows]
    torch.testing.assert_close(found, torch.cat(plain).log_softmax(-1), rtol=1e-4, atol=1e-4)


# --- training -------------------------------------------------------------------------------------
@EVERY
@pytest.mark.parametrize("method", ["sft", "rl"])
def test_a_step_moves_adapters_alone_and_looks_once_at_a_picture(kind, method, tmp_path):
    policy, looks = seeing_policy(kind, lora=True), []
    before = weights(policy)
    tower = FAMILIES[kind].eyes(policy.model.get_base_model())[0]
    tower.register_forward_hook(lambda *_: looks.append(1))
    train(method, tmp_path, policy, WordTask(pictures=True), steps=1, tries=2, lr=1e-2)
    moved = {n for n, w in weights(policy).items() if not torch.equal(w, before[n])}
    assert moved and all("lora_B" in name for name in moved)  # lora_A has no gradient yet
    assert len({re.sub("lora_B.*", "", name) for name in moved}) == 2 * 7
    assert len(looks) == {"sft": 12, "rl": 3}[method]  # deals


@EVERY
def test_all_weights_may_be_trained_the_towers_too(kind, tmp_path):
    policy = seeing_policy(kind)
    before = weights(policy)
    train("sft", tmp_path, policy, WordTask(pictures=True), steps=1, batch=4)
    moved = {n for n, w in weights(policy).items() if not torch.equal(w, before[n])}
    eyes = FAMILIES[kind].not_quantised[1:]
    assert all(any(name.startswith(eye) for name in moved) for eye in eyes)


# --- loading --------------------------------------------------------------------------------------
@pytest.fixture(params=MARKS)
def saved(request, tmp_path):
    policy = seeing_policy(request.param)
    policy.save(tmp_path / "model")
    return request.param, str(tmp_path / "model")


def test_language_models_are_adapted_and_packed_and_nothing_else(saved):
    kind, folder = saved
    model, _ = load.load_model(folder, packed=True)
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    spoken = {n for n in linear if re.search(r"(language|text)_model\.layers", n)}
    assert {n for n, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit)} == spoken
    assert {n for n, _ in model.named_modules() if re.fullmatch(LORA_TARGETS, n)} == spoken
    assert len(spoken) == 2 * 7 and len(linear - spoken) > 3


def test_a_model_is_loaded_shown_pictures_and_merged(saved, tmp_path):
    kind, folder = saved
    own = ModelSettings(model=folder, precision="lora", max_new_tokens=8)
    policy = load.load_policy(own, lambda: folder, pictures_of="task gp-vl")
    asked = policy.first_turn("Cards: 7", noise(0))
    fresh = seeing_policy(kind)
    assert asked == fresh.first_turn("Cards: 7", noise(0))
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    policy.save(tmp_path / "adapter")
    merge(tmp_path / "adapter", tmp_path / "whole")
    again = load.load_policy(
        ModelSettings(model="x", precision="full", max_new_tokens=8),
        lambda: str(tmp_path / "whole"),
    )
    said = [answer(p, [asked], 1, pictures=[noise(0)]) for p in (policy, again, fresh)]
    assert said[0] == said[1]
    assert policy.n_active < sum(p.numel() for p in policy.model.parameters())
