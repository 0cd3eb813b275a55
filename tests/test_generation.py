"""The generation loop against plain forward passes of whole conversations."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch
from helpers_families import MARKS, seeing_policy, shown
from helpers_training import TOKENIZER, WordTask, small_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from engine import generation
from engine.generation import Conversations, answer, beginnings
from engine.policy import Policy
from sftrl_lib import Experiment, SftrlError
from sftrl_lib.policies import load_policy

ENDS = (7, 8)


def llama(**changes):
    """A Llama of random weights, two heads to a key."""
    torch.manual_seed(0)
    shape = dict(
        vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2,
    )  # fmt: skip
    return Policy(LlamaForCausalLM(LlamaConfig(**shape | changes)).eval(), TOKENIZER)


POLICIES = {
    "text": small_policy,
    "pictures": small_policy,
    "pictures of up to four tiles": lambda: small_policy(tiles=4),
    "adapters": lambda: small_policy(lora=True),
    "adapters and pictures": lambda: small_policy(lora=True),
    "four bits": lambda: load_policy(Experiment(precision="qlora")),
    "grouped heads": llama,
    **{f"pictures, {kind}": partial(seeing_policy, kind) for kind in MARKS},
}


def plain_logits(policy, ids, picture=None):
    """(tokens, vocabulary) logits of one conversation, read in one pass: no cache, no padding."""
    seen = shown(policy, ids, picture) if picture else {}
    with torch.no_grad():
        return policy.model(input_ids=torch.tensor([ids]), **seen).logits[0].float()


@pytest.fixture
def scripted(monkeypatch):
    """Answers are not what the model would say, but random tokens that end at any time: rows leave
    and come back. Returns what was seen: {conversation: {tokens before: logits}}."""
    seen, rng, inside, over = {}, random.Random(0), [], set()

    def watched(name, read):
        def within(self, ids, slots, *more, **named):
            if inside:  # `_next` that reads, or is recorded: what it returns is watched
                return read(self, ids, slots, *more, **named)
            inside.append(name)
            logits = read(self, ids, slots, *more, **named)
            inside.clear()
            ends = (self.visible + slots[:, -1] + 1).tolist()
            if name == "_read":
                over.clear()
            rows = self.rows.tolist()
            for conversation, end, row, last in zip(rows, ends, logits, ids[:, -1], strict=True):
                if name == "_next" and int(last) in ENDS:  # it has ended, and may stay for a while
                    over.add(conversation)
                if conversation not in over:
                    seen.setdefault(conversation, {})[end] = row.clone()
            return logits

        return within

    def drawn(logits, *_):
        return torch.tensor([rng.choice([*ENDS, *range(20, 32)]) for _ in logits])

    for name in ("_read", "_next"):
        monkeypatch.setattr(Conversations, name, watched(name, getattr(Conversations, name)))
    monkeypatch.setattr(generation, "_choose", drawn)
    return seen


def talked(policy, prompts, pictures=(), tries=3, max_new_tokens=9):
    """Whole conversations, as lists of ids, some of which end after a try; and their `answers`."""
    policy.end_ids = set(ENDS)
    rng = random.Random(1)
    talk, whole = Conversations(policy, prompts, pictures), [list(p) for p in prompts]
    active, said = list(range(len(prompts))), [[] for _ in prompts]
    for attempt in range(tries):
        for i, ids in zip(active, talk.answer(active, said, max_new_tokens), strict=True):
            whole[i] += ids
        if attempt + 1 < tries:
            active = sorted(rng.sample(active, -(-3 * len(active) // 4)))
            said = [[rng.randrange(20, 60) for _ in range(rng.randint(1, 6))] for _ in active]
            for i, ids in zip(active, said, strict=True):
                whole[i] += ids
    return whole, talk


def deals(policy, pictures, count=24):
    """Questions that share beginnings of any length, some of them asked up to four times; all that
    ask of one picture begin alike."""
    rng, task = random.Random(2), WordTask(pictures=pictures)
    asked, drawn = [], []
    while len(asked) < count:
        item = rng.randrange(6)
        picture = task.picture(item, policy.image_size)
        prompt = policy.first_turn(task.prompt(item), picture)
        prompt += [rng.randrange(20, 23) for _ in range(rng.randrange(12))]
        times = rng.choice([1, 1, 4])
        asked += [prompt] * times
        drawn += [picture] * times
    return asked, drawn if pictures else []


@pytest.mark.parametrize("kind", POLICIES)
def test_what_is_read_off_is_what_a_plain_pass_of_the_whole_conversation_says(kind, scripted):
    policy = POLICIES[kind]()
    prompts, pictures = deals(policy, "pictures" in kind)
    whole, _ = talked(policy, prompts, pictures)
    agree(policy, whole, prompts, pictures, scripted, 1e-3 if kind == "four bits" else 1e-4)


def agree(policy, whole, prompts, pictures, seen, close):
    """All that was `seen` of these conversations is what a plain pass says."""
    for i, ids in enumerate(whole):
        plain = plain_logits(policy, ids, pictures[i] if pictures else None)
        assert len(prompts[i]) in seen[i] and len(seen[i]) > 1
        for end, logits in seen[i].items():
            found, expected = (x.log_softmax(-1) for x in (logits, plain[end - 1]))
            torch.testing.assert_close(found, expected, rtol=close, atol=close)


@pytest.mark.parametrize("kind", POLICIES)
def test_a_prompt_that_is_read_in_parts_is_the_same_prompt(kind, monkeypatch):
    policy = POLICIES[kind]()
    prompts, pictures = deals(policy, "pictures" in kind, 12)
    prompts = [p + [20 + n] * (n % 5) for n, p in enumerate(prompts)]  # what each reads alone
    calls, said = [], []
    call = Conversations._call

    def watched(self, rows, ids, positions):
        calls.append(tuple(ids.shape))
        said.append(call(self, rows, ids, positions))
        return said[-1]

    monkeypatch.setattr(Conversations, "_call", watched)
    ends = []
    for tokens in (2**30, 60):
        monkeypatch.setitem(generation.PREFILL, "cpu", tokens)
        calls.clear(), said.clear()
        Conversations(policy, prompts, pictures).answer([*range(12)], [[]] * 12, 1)
        ends.append((len(calls), said[-1]))
    (whole, expected), (parts, found) = ends
    assert whole == 2 and parts > 3
    assert all(rows * tokens <= 60 or rows == 1 or tokens == 2 for rows, tokens in calls)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes, kept", [((0,), 1), ((0, 1), 2), ((2, 2), 3)])
def test_of_a_picture_the_tiles_that_are_there_are_kept_and_say_what_all_do(shapes, kept):
    """Of the 11B model's four tiles a square fills one: a quarter of the cache."""
    policy, task = small_policy(tiles=4), WordTask(pictures=True)
    pictures = [task.picture(item, 16) for item in shapes]  # one to three tiles wide
    prompts = [policy.first_turn("Cards: 7, 9", picture) for picture in pictures]
    talk = Conversations(policy, prompts, pictures)
    patches = policy.family.shown(policy.model.config)
    assert talk.layers[1].keys.size(2) == kept * patches < 4 * patches
    assert talk.layers[0].keys.size(2) == talk.width
    read = []
    talk._read, heard = (lambda *a: read.append(heard(*a)) or read[-1]), talk._read
    written = talk.answer([*range(len(prompts))], [[]] * len(prompts), 4)
    for i, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
        plain = plain_logits(policy, prompt + written[i], picture)
        for n, logits in enumerate(read[: len(written[i])]):
            torch.testing.assert_close(logits[i], plain[len(prompt) - 1 + n], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["text", "pictures", "grouped heads", "pictures, qwen3_vl"])
def test_greedy_answers_are_those_of_a_plain_loop(kind):
    """Rows end at different times: they leave, and change no token of the others."""
    policy = POLICIES[kind]()
    prompts, pictures = deals(policy, "pictures" in kind, 8)
    policy.end_ids = {int(plain_logits(policy, prompts[0], *pictures[:1])[-1].argmax()), 40}
    together = answer(policy, prompts, 12, pictures=pictures)
    for i, (prompt, ids) in enumerate(zip(prompts, together, strict=True)):
        alone = []
        while len(alone) < 12 and not policy.end_ids.intersection(alone):
            logits = plain_logits(policy, prompt + alone, *pictures[i : i + 1])
            alone.append(int(logits[-1].argmax()))
        assert ids == alone
    assert len({len(ids) for ids in together}) > 1


def test_a_trunk_leaves_with_its_last_conversation(scripted):
    """Of three questions the third, the first, or all but the second are over after one answer."""
    policy, seen = small_policy(), []
    policy.end_ids = set(ENDS)
    prompts = [[20 + n, 40, 41, 42] for n in (0, 0, 1, 1, 2, 2)]
    for left in ([0, 1, 2, 3], [2, 3, 4, 5], [2]):
        talk = Conversations(policy, prompts)
        first = talk.answer(range(6), [[]] * 6, 4)
        talk.answer(left, [[50, 51]] * len(left), 4)
        for i in left:
            ids = prompts[i] + first[i] + [50, 51]
            plain = plain_logits(policy, ids)[-1]
            torch.testing.assert_close(scripted[i][len(ids)], plain, rtol=1e-3, atol=1e-3)
            seen.append(i)
    assert len(seen) == 9


def test_one_question_alone_is_answered_by_heads_that_share_keys(scripted):
    """Its rows are one block; in the second try each reads several tokens at once."""
    policy, prompt = llama(), [20, 21, 22, 23]
    whole, _ = talked(policy, [prompt] * 3, tries=2)
    for i, ids in enumerate(whole):
        plain = plain_logits(policy, ids)
        for end, logits in scripted[i].items():
            torch.testing.assert_close(logits, plain[end - 1], rtol=1e-4, atol=1e-4)


def test_beginnings_are_run_once():
    """Four times one question, and one that parts from it after two tokens."""
    policy = small_policy()
    prompts = [[20, 21, 22, 23]] * 4 + [[20, 21, 30]]
    talk = Conversations(policy, prompts)
    answers = talk.answer(range(5), [[]] * 5, 3)
    own = [1] * 4 + [1]  # of the question, beside what is shared
    assert sum(talk.processed) == 3 + sum(own) + sum(len(ids) - 1 for ids in answers)


def test_every_conversation_counts_once(scripted):
    policy = small_policy()
    prompts, _ = deals(policy, False)
    whole, talk = talked(policy, prompts)
    read = [max(scripted[i]) for i in range(len(whole))]
    assert sum(talk.processed) < sum(read)
    assert sum(talk.processed) > sum(read) - sum(map(len, prompts))


@given(
    st.lists(
        st.lists(st.integers(1, 3), min_size=1, max_size=8).map(tuple), min_size=1, unique=True
    ),
    st.data(),
)
@settings(max_examples=50, deadline=None)
def test_trunks_are_beginnings_and_never_cost_more_than_they_save(prompts, data):
    times = data.draw(st.lists(st.integers(1, 9), min_size=len(prompts), max_size=len(prompts)))
    found = beginnings(prompts, times)
    for prompt, (trunk, shared) in zip(prompts, found, strict=True):
        assert 0 <= shared < len(prompt)
        assert prompts[trunk][:shared] == prompt[:shared]
    trunks = sum(len(prompts[t]) for t in {trunk for trunk, _ in found})
    tails = sum(n * (len(p) - s) for p, n, (_, s) in zip(prompts, times, found, strict=True))
    apart = sum(n * len(p) for p, n in zip(prompts, times, strict=True))
    assert trunks + tails <= apart + max(map(len, prompts))


def test_same_seed_same_answers_whatever_was_sampled_before():
    policy = small_policy()
    prompts, _ = deals(policy, False)

    def sampled(seed):
        return answer(policy, prompts, 8, 1.0, torch.Generator().manual_seed(seed))

    first = sampled(1)
    torch.rand(5)
    assert first == sampled(1) != sampled(2)


def test_an_answer_does_not_depend_on_its_neighbours(monkeypatch):
    """Alone or beside others, with the same draws."""
    policy = small_policy()
    prompts, _ = deals(policy, False)
    draws = torch.rand(len(prompts), 8)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: draws[: shape[0]])
    assert answer(policy, prompts, 8, 1.0)[:3] == answer(policy, prompts[:3], 8, 1.0)


def test_tokens_are_drawn_with_the_chances_of_the_model():
    """One uniform number a row; temperature 2 flattens."""
    logits = torch.tensor([0.5, -1.0, 2.0, -torch.inf]).expand(20_000, -1)
    draws = torch.rand(len(logits), generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 2.0):
        new = generation._choose(logits, torch.full((len(logits),), temperature), draws)
        share = torch.bincount(new, minlength=4) / len(new)
        torch.testing.assert_close(share, (logits[0] / temperature).softmax(0), rtol=0, atol=0.01)
    greedy = generation._choose(logits, torch.arange(len(logits)) % 2 * 1.0, draws)
    assert set(greedy[::2].tolist()) == {2} and len(greedy[1::2].unique()) == 3


def test_a_model_that_attends_in_another_way_is_refused():
    policy = llama()
    for layer in policy.model.model.layers:
        forward = layer.self_attn.forward
        layer.self_attn.forward = lambda *a, f=forward, **k: f(*a, softcap=30.0, **k)
    with pytest.raises(SftrlError, match="softcap"):
        answer(policy, [[20, 21]], 2)


def test_the_models_own_attention_is_back_afterwards():
    policy = small_policy()
    before = policy.model.config.text_config._attn_implementation
    answer(policy, [[20, 21]], 2)
    assert policy.model.config.text_config._attn_implementation == before
