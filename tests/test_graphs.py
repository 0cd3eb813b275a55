"""Replayed steps: a stand-in for CUDA graphs on a CPU repeats operations, and runs no Python."""

import pytest
import torch
from helpers_graphs import Tape, Watched
from helpers_training import small_policy
from test_generation import POLICIES, agree, deals, scripted, talked

from engine import generation, graphs
from engine.generation import Conversations, answer
from engine.images import ImageConditioner

__all__ = ["scripted"]  # a fixture


@pytest.fixture
def tapes(monkeypatch):
    """Steps are recorded as on a GPU, and soon. Returns what was recorded."""
    made = []
    monkeypatch.setitem(graphs.RECORDERS, "cpu", lambda: made.append(Tape()) or made[-1])
    monkeypatch.setattr(generation, "PAYS", 1)
    for module in (generation, graphs):
        monkeypatch.setattr(module, "WARM_UP", 1)
    return made


@pytest.mark.parametrize("kind", POLICIES)
def test_what_is_read_off_replayed_is_what_a_plain_pass_says(kind, scripted, tapes):  # noqa: F811
    """Several tries, whose rows end at any time; a step sees nothing but its buffers."""
    policy = POLICIES[kind]()
    prompts, pictures = deals(policy, "pictures" in kind)
    whole, _ = talked(policy, prompts, pictures)
    assert len(tapes) > 3 and sum(tape.replays for tape in tapes) > 12
    agree(policy, whole, prompts, pictures, scripted, 1e-3 if kind == "four bits" else 1e-4)


@pytest.mark.parametrize("kind", ["adapters and pictures", "grouped heads"])
def test_answers_are_the_same_by_python_and_replayed(kind, request):
    """Greedy and drawn, at the ends of a plain loop; and recorded anew where the cache is longer
    than a recording reaches."""
    policy = POLICIES[kind]()
    prompts, pictures = deals(policy, "pictures" in kind, 12)
    policy.end_ids = set(range(100, 170))

    def written():
        heat = [0.0, 1.0] * 6
        talk = Conversations(policy, prompts, pictures)
        return talk.answer([*range(12)], [[]] * 12, 24, heat, torch.Generator().manual_seed(0))

    plain, tapes = written(), request.getfixturevalue("tapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "REACH", 8)
        assert written() == plain
    assert len({len(ids) for ids in plain}) > 2
    assert len(tapes) > 2 and all(tape.replays <= 8 for tape in tapes)


@pytest.mark.parametrize("kind", [kind for kind in POLICIES if kind != "four bits"])
def test_a_step_needs_nothing_of_the_host(kind, monkeypatch):
    """On a device without numbers none can be asked for, and what comes from elsewhere shows."""
    policy = POLICIES[kind]()
    prompts, pictures = deals(policy, "pictures" in kind, 8)
    talk, rows = Conversations(policy, prompts, pictures), [*range(8)]
    talk.answer(rows, [[]] * 8, 3)
    policy.model.to("meta")
    if pictures:
        monkeypatch.setattr(policy.family, "filled", lambda *_: talk.images.filled)
    talk.device, talk.images = policy.device, ImageConditioner(policy, pictures)
    for layer in talk.layers:
        if layer.keys is not None:
            layer.keys, layer.values = layer.keys.to("meta"), layer.values.to("meta")
        layer.own = [own.to("meta") for own in layer.own]
    talk._select(rows, dict.fromkeys(rows, 2))
    ids = torch.zeros(8, 1, dtype=torch.long, device="meta")
    with torch.no_grad():
        talk._read(ids, ids, 3)  # what is prepared once
        with Watched("meta") as watched:
            talk._read(ids, ids, 3)
    assert watched.operations > 100


def test_a_step_is_recorded_only_if_enough_follow(monkeypatch):
    """And rows that have ended stay, until half of them have, and recording anew is worth it."""
    policy, recorded, prompts = small_policy(), [], [[20 + n, 40] for n in range(4)]
    policy.end_ids = set()
    monkeypatch.setitem(graphs.RECORDERS, "cpu", lambda: recorded.append(Tape()) or recorded[-1])
    enough = graphs.WARM_UP + graphs.PAYS
    for tokens, made in ((enough, 0), (enough + 1, 1)):
        answer(policy, prompts, tokens)
        assert len(recorded) == made
    assert recorded[0].replays == graphs.PAYS


def test_what_cannot_be_recorded_is_said_once_and_answered_all_the_same(tapes, monkeypatch):
    policy, prompts = small_policy(), [[20 + n, 40] for n in range(4)]
    policy.end_ids = set()
    plain, model, made = [], policy.model.model.language_model, []
    handle = model.register_forward_hook(lambda _, __, out: made.append(out[0].sum().item()))
    with pytest.warns(
        UserWarning, match="not replayed, which is slower: .*_local_scalar_dense"
    ) as w:
        plain = [answer(policy, prompts, 12) for _ in range(2)]
    assert len(w) == 1 and len(tapes) == 1 and tapes[0].replays == 0 and plain[0] == plain[1]
    handle.remove()
    assert "cpu" not in graphs.RECORDERS
    assert answer(policy, prompts, 12) == plain[0]
