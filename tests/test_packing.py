"""A packed sequence gives each row the log-probabilities and gradients of a plain forward pass."""

import pytest
import torch
from helpers_families import MARKS, seeing_policy, shown
from helpers_training import WordTask, small_policy

from commons.errors import SftrlError
from engine.images import ImageConditioner
from engine.packing import SIDE_BY_SIDE, Packed, packed_attention, refuse_unusual_attention

QUESTIONS = [[5, 6, 7, 8], [9, 10, 11], [5, 6, 7, 8], [12]]
ANSWERS = [[1, 2, 3], [4, 1, 5, 6, 7], [2], [3, 4]]
ROWS = [q + a for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
ASKED = [len(q) for q in QUESTIONS]


def pack(**changes):
    given = {"rows": ROWS, "asked": ASKED, "device": torch.device("cpu")}
    return Packed(**given | changes)


def plain(policy, row, asked, picture=None):
    """Log-probabilities of a row's answer, of the model as it is."""
    seen = shown(policy, row, picture) if picture else {}
    logits = policy.model(input_ids=torch.tensor([row]), **seen).logits[0, asked - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(row[asked:])[:, None])[:, 0]


def of_packed(policy, packed, images):
    with packed_attention(policy.model), images.of():
        logits = policy.model(
            input_ids=packed.input_ids, position_ids=packed.position_ids, packed=packed
        ).logits[0, packed.before]
        found = logits.log_softmax(-1).gather(1, packed.answers[:, None])[:, 0]
        return found, gradient(policy, found)


def gradient(policy, found):
    policy.model.zero_grad()
    (found * torch.arange(1, len(found) + 1)).sum().backward()
    parameters = policy.model.named_parameters()
    return {n: p.grad.clone() for n, p in parameters if p.grad is not None}


def test_rows_share_their_question_but_for_its_last_token():
    packed = pack()
    shared = len(QUESTIONS[0]) - 1
    assert packed.input_ids.numel() == sum(map(len, ROWS)) - shared
    assert packed.answers.tolist() == [token for answer in ANSWERS for token in answer]
    assert packed.input_ids[0, packed.before].tolist() == [
        token for q, a in zip(QUESTIONS, ANSWERS, strict=True) for token in (q + a)[len(q) - 1 : -1]
    ]


def test_rows_with_different_pictures_share_nothing():
    assert pack(pictures=[0, 1, 2, 3]).input_ids.numel() == sum(map(len, ROWS))
    assert pack(pictures=[0, 1, 0, 3]).input_ids.numel() < sum(map(len, ROWS))


def test_labels_are_the_answers_that_are_taught():
    taught = torch.tensor([True] * 4 + [False] * 7)
    labels = pack().labels(taught)
    assert (labels != -100).sum() == 4
    assert labels[0, pack().before[:4]].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("rows", [len(ROWS), 3 * SIDE_BY_SIDE])
def test_log_probabilities_and_gradients_equal_plain_passes(lora, rows):
    policy = small_policy(lora=lora)
    many, asked = (ROWS * rows)[:rows], (ASKED * rows)[:rows]
    found, slope = of_packed(policy, pack(rows=many, asked=asked), ImageConditioner(policy, []))
    expected = torch.cat([plain(policy, row, n) for row, n in zip(many, asked, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slope, gradient(policy, expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["mllama", *MARKS])
def test_each_row_sees_its_own_picture(kind):
    policy, task = seeing_policy(kind) if kind in MARKS else small_policy(), WordTask(pictures=True)
    pictures = [task.picture(n, policy.image_size) for n in range(3)]
    chosen = [2, 0, 2, 1, 2]
    asked_of = [policy.first_turn(f"Cards: {n}", pictures[c]) for n, c in enumerate(chosen)]
    asked_of[2] = asked_of[0]  # the same question; the last asks another one of that picture
    rows = [q + a for q, a in zip(asked_of, [*ANSWERS, [8, 9]], strict=True)]
    asked = [len(q) for q in asked_of]
    images = ImageConditioner(policy, [pictures[n] for n in chosen])
    packed = pack(rows=rows, asked=asked, pictures=images.numbers([*range(5)]))
    assert packed.input_ids.numel() == sum(map(len, rows)) - (asked[0] - 1)
    found, slope = of_packed(policy, packed, images)
    expected = torch.cat(
        [plain(policy, r, n, pictures[c]) for r, n, c in zip(rows, asked, chosen, strict=True)]
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slope, gradient(policy, expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("given", [{"sliding_window": 4}, {"softcap": 30.0}])
def test_models_that_attend_otherwise_are_refused(given):
    with pytest.raises(SftrlError, match="full attention"):
        refuse_unusual_attention(torch.nn.Linear(1, 1), 5, given)
