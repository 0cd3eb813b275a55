"""The rollout: one batched multi-turn function for RL and evaluation."""

import pytest
import torch

from foundry import foundation
from sftrl_lib import SftrlError
from sftrl_lib.models.policy import Policy
from sftrl_lib.rollout import rollout
from sftrl_lib.tasks import general_points_texts as texts
from sftrl_lib.tasks.general_points import GeneralPoints


@pytest.fixture(scope="module")
def policy():
    """A random tiny Mllama whose answers end early now and then."""
    torch.manual_seed(0)
    model = foundation.build_model(seed=1).eval()
    return Policy(model, foundation.build_processor())


class Scripted:
    """A policy that answers from a list, and remembers what it was asked."""

    end_id = image_size = 0
    turn_end = [0]
    generation_batch_size = 256

    def __init__(self, answers):
        self.answers, self.asked = answers, []
        self.model = torch.nn.Identity()

    def first_turn(self, text, picture):
        return [1]

    def next_turn(self, text):
        return [2, 3]

    def generate(self, prompts, max_new_tokens, temperature, generator, pictures):
        self.asked.append([list(p) for p in prompts])
        return [[self.answers.pop(0), self.end_id] for _ in prompts]

    def decode(self, ids):
        return GOLD if ids[0] == 9 else "no formula"


task = GeneralPoints()
items = [task.item("id_unseen", 0, i) for i in range(6)]
GOLD = ""


def _gold(deal):
    return texts.answer(deal.cards, deal.numbers, deal.solutions()[0])


def test_a_solved_episode_leaves_the_batch(monkeypatch):
    monkeypatch.setattr(f"{__name__}.GOLD", _gold(items[0]))
    policy = Scripted([9, 5, 9])
    episodes = rollout(policy, task, [items[0], items[0]], tries=3)
    assert [len(batch) for batch in policy.asked] == [2, 1]
    assert [[t.verdict.ok for t in e.turns] for e in episodes] == [[True], [False, True]]


def test_a_retry_reads_the_whole_conversation():
    policy = Scripted([5, 6])
    rollout(policy, task, items[:1], tries=2)
    assert policy.asked == [[[1]], [[1, 5, 0, 2, 3]]]


def test_episodes_come_back_in_order_with_tries_at_most(policy, monkeypatch):
    monkeypatch.setattr(policy, "generation_batch_size", 4)
    episodes = rollout(policy, task, items, tries=2, max_new_tokens=6)
    assert [e.item for e in episodes] == items
    assert all(1 <= len(e.turns) <= 2 for e in episodes)


def test_no_tries_is_refused(policy):
    with pytest.raises(SftrlError, match="tries is 0"):
        rollout(policy, task, items, tries=0)


def test_cached_batched_generation_equals_one_at_a_time_without_cache(policy):
    """Left padding, the cache, and rows that leave the batch change no token."""
    prompts = [policy.first_turn(task.prompt(i)) + [7] * n for n, i in enumerate(items)]
    ends = policy.end_ids
    policy.end_ids = {40}  # a token that this random model writes: rows end at different times
    try:
        together = policy.generate(prompts, 24)
        for prompt, answer in zip(prompts, together, strict=True):
            ids, alone = list(prompt), []
            while len(alone) < 24 and (not alone or alone[-1] not in policy.end_ids):
                with torch.no_grad():
                    logits = policy.model(input_ids=torch.tensor([ids])).logits[0, -1]
                alone.append(int(logits.argmax()))
                ids.append(alone[-1])
            assert answer == alone
    finally:
        policy.end_ids = ends


def test_sampling_is_reproducible_and_seeded(policy):
    prompts = [policy.first_turn(task.prompt(items[0]))] * 4

    def sample(seed):
        return policy.generate(prompts, 8, 1.0, torch.Generator().manual_seed(seed))

    assert sample(1) == sample(1) != sample(2)


def test_turns_spell_the_conversation_as_the_chat_template_does(policy):
    first, answer, again = "a question", "an answer", "a message"
    turns = [("user", first), ("assistant", answer), ("user", again)]
    whole = policy.tokenizer.apply_chat_template(
        [{"role": r, "content": c} for r, c in turns], add_generation_prompt=True, tokenize=False
    )
    said = [*policy._ids(answer), policy.end_id]
    spelled = policy.first_turn(first) + said + policy.next_turn(again)
    assert spelled == policy._ids(whole)
