"""The test set is data: what the recorded results were measured on must never change unnoticed."""

import json

import pytest
from digests import KEPT, TASKS, items, tokenizer

EXPECTED = json.loads(KEPT.read_text())


def test_the_tokenizer_is_the_one_the_foundation_was_trained_with():
    assert tokenizer()["tokenizer"] == EXPECTED["tokenizer"]


@pytest.mark.parametrize("task", TASKS)
def test_items_prompts_pictures_and_expert_answers_are_those_of_the_records(task):
    now = items(task)
    assert now == {name: kept for name, kept in EXPECTED.items() if name.startswith(task + " ")}
