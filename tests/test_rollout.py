"""The rollout: one batched multi-turn function for RL and evaluation."""

import pytest
import torch

from engine.policy import Policy
from foundry import foundation
from sftrl_lib import SftrlError
from sftrl_lib.rollout import rollout
from sftrl_lib.tasks.general_points import GeneralPoints
from worlds import card_texts as texts


@pytest.fixture(scope="module")
def policy():
    """A random tiny Mllama whose answers end early now and then."""
    torch.manual_seed(0)
    model = foundation.build_model(seed=1).eval()
    return Policy(model, foundation.build_processor())


class Scripted:
    """A policy that answers from a list, and what it was asked."""

    end_id = image_size = 0
    turn_end = [0]
    generation_batch_size = 256

    def __init__(self, monkeypatch, answers):
        self.answers, self.asked = answers, []
        self.model = torch.nn.Identity()
        monkeypatch.setattr("sftrl_lib.rollout.Conversations", self.talk)

    def talk(self, policy, prompts, pictures):
        self.prompts, self.processed = prompts, [0] * len(prompts)
        return self

    def answer(self, ids, said, *_):
        first = not any(said)
        self.asked.append([self.prompts[i] if first else s for i, s in zip(ids, said, strict=True)])
        return [[self.answers.pop(0), self.end_id] for _ in ids]

    def first_turn(self, text, picture):
        return [1]

    def next_turn(self, text):
        return [2, 3]

    def decode(self, ids):
        return GOLD if ids[0] == 9 else "no formula"


task = GeneralPoints()
items = [task.item("id_unseen", 0, i) for i in range(6)]
GOLD = ""


def _gold(deal):
    return texts.answer(deal.cards, deal.numbers, deal.solutions()[0])


def test_a_solved_episode_leaves_the_batch(monkeypatch):
    monkeypatch.setattr(f"{__name__}.GOLD", _gold(items[0]))
    policy = Scripted(monkeypatch, [9, 5, 9])
    episodes = rollout(policy, task, [items[0], items[0]], tries=3)
    assert [len(batch) for batch in policy.asked] == [2, 1]
    assert [[t.verdict.ok for t in e.turns] for e in episodes] == [[True], [False, True]]


def test_a_retry_reads_the_message_and_nothing_twice(monkeypatch):
    policy = Scripted(monkeypatch, [5, 6])
    rollout(policy, task, items[:1], tries=2)
    assert policy.asked == [[[1]], [[2, 3]]]


def test_each_episode_has_its_own_tries(monkeypatch):
    episodes = rollout(Scripted(monkeypatch, [5] * 5), task, [items[0]] * 3, tries=[2, 1, 2])
    assert [len(e.turns) for e in episodes] == [2, 1, 2]


def test_episodes_come_back_in_order_with_tries_at_most(policy, monkeypatch):
    monkeypatch.setattr(policy, "generation_batch_size", 4)
    episodes = rollout(policy, task, items, tries=2, max_new_tokens=6)
    assert [e.item for e in episodes] == items
    assert all(1 <= len(e.turns) <= 2 for e in episodes)


def test_no_tries_is_refused(policy):
    with pytest.raises(SftrlError, match="tries is 0"):
        rollout(policy, task, items, tries=0)


def test_turns_spell_the_conversation_as_the_chat_template_does(policy):
    first, answer, again = "a question", "an answer", "a message"
    turns = [("user", first), ("assistant", answer), ("user", again)]
    whole = policy.tokenizer.apply_chat_template(
        [{"role": r, "content": c} for r, c in turns], add_generation_prompt=True, tokenize=False
    )
    said = [*policy._ids(answer), policy.end_id]
    spelled = policy.first_turn(first) + said + policy.next_turn(again)
    assert spelled == policy._ids(whole)
