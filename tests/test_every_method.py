"""Every method that is registered learns, goes on exactly after a kill, and counts what it costs;
and the little in which the methods beside SFT and RL differ from them."""

import pytest
import torch
from helpers_training import (
    Killed,
    WordTask,
    assert_equal,
    assert_same,
    experiment,
    killed_at,
    schedule,
    small_policy,
    train,
    weights,
    without_seconds,
)

from engine.trainer import AnswerTrainer
from sftrl_lib.methods.rejection import Rejection
from sftrl_lib.methods.sft import Sft, expert_row
from sftrl_lib.registry import METHODS
from sftrl_lib.tasks.base import Verdict


@pytest.fixture(autouse=True)
def one_thread():
    """Equal weights are promised for one number of threads; small models are fastest with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def moved(policy, start=None):
    """The largest change of a weight."""
    before = weights(start or small_policy())
    return max((p - before[n]).abs().max() for n, p in weights(policy).items())


# --- every method ---------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
def test_it_learns_and_goes_on_exactly_after_a_kill(tmp_path, method):
    straight, run = train(method, tmp_path / "a")
    assert moved(straight) > 1e-4
    with pytest.raises(Killed):
        train(method, tmp_path / "b", on_checkpoint=killed_at(2))
    points = []
    resumed, rest = train(
        method, tmp_path / "b", on_checkpoint=lambda policy, step, spent: points.append(step)
    )
    assert_equal(resumed, straight)
    assert points == [2, 4]  # the point at which it was killed is measured again
    assert without_seconds(rest.rows) == without_seconds(run.rows[2:])


@pytest.mark.parametrize("method", METHODS)
def test_its_ledger_counts_what_it_reads_and_writes(tmp_path, method):
    measured = []
    _, run = train(
        method, tmp_path, on_checkpoint=lambda policy, step, spent: measured.append(spent)
    )
    for kind in ("train_tokens", "done_train_tokens"):
        counts = [row[kind] for row in run.rows]
        assert 0 < counts[0] and counts == sorted(counts)
    samples = method in ("rl", "rejection") or hasattr(METHODS[method], "extra_loss")
    assert (run.rows[-1]["rollout_tokens"] > 0) == samples
    assert measured[-1].train_tokens == run.rows[-1]["train_tokens"]


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_an_adapter_alone_and_leaves_no_other_behind(tmp_path, method):
    policy, start = small_policy(lora=True), small_policy(lora=True)
    train(method, tmp_path, policy, lr=1e-2, steps=2)
    before, after = weights(start), weights(policy)
    assert before.keys() == after.keys()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed and all("lora_" in name for name in changed)


@pytest.mark.parametrize("method", METHODS)
def test_it_sees_pictures(tmp_path, method):
    policy, _ = train(method, tmp_path, task=WordTask(pictures=True), steps=2)
    start = weights(small_policy())
    changed = {name for name, p in weights(policy).items() if not torch.equal(p, start[name])}
    assert [n for n in changed if "vision" in n] and [n for n in changed if "cross_attn" in n]


# --- rows and losses ------------------------------------------------------------------------------
class AcceptsAnything(WordTask):
    def verify(self, item, text):
        return Verdict(True, 5.0, "solved", "correct")


def log_probs(policy, row):
    """Of the answer's tokens, in one unpadded row."""
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
    logits = policy.model(input_ids=ids).logits[0, :-1]
    said = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return said[labels[1:] != -100]


def first_rows(policy, exp, task):
    return [expert_row(exp, policy, task, index) for index in range(exp.method.batch)]


def test_dft_weighs_every_token_by_its_own_probability(tmp_path):
    exp, policy = experiment("dft"), small_policy()
    said = torch.cat([log_probs(policy, row) for row in first_rows(policy, exp, WordTask())])
    expected = -(said.exp() * said).mean().item()
    _, run = train("dft", tmp_path, steps=1)
    assert run.rows[0]["loss"] == pytest.approx(expected, rel=1e-4)
    _, plain = train("sft", tmp_path / "sft", steps=1)
    assert plain.rows[0]["loss"] == pytest.approx(-said.mean().item(), rel=1e-4)


def rejection_rows(policy, task, seed=0):
    exp = experiment("rejection", seed=seed)
    trainer = type("Counts", (), {"count_rollout": lambda *_: None, "measured": {}})()
    return Rejection.rows(exp, policy, task, trainer, list(range(exp.method.batch)))


def test_rejection_teaches_accepted_answers_alone():
    policy, task = small_policy(), WordTask()
    rows = rejection_rows(policy, task)
    taught = 0
    for index, row in enumerate(rows):
        question = policy.first_turn(task.prompt(index))
        answer = row["input_ids"][len(question) :]
        assert row["input_ids"][: len(question)] == question
        accepted = task.verify(index, policy.decode(answer)).ok
        taught += accepted
        expected = answer if accepted else [-100] * len(answer)
        assert row["labels"] == [-100] * len(question) + expected
    assert 0 < taught < len(rows)


def test_rejection_samples_its_rows_from_the_policy_as_it_is_now(tmp_path, monkeypatch):
    """The loader is a batch ahead of the training: rows made there would be a step old."""
    taken, rows = [], Rejection.rows

    def record(exp, policy, *others):
        taken.append((weights(policy), made := rows(exp, policy, *others)))
        return made

    monkeypatch.setattr(Rejection, "rows", staticmethod(record))
    train("rejection", tmp_path, lr=1e-2, steps=3)
    states = [state for state, _ in taken]
    assert len(states) == 3
    for before, after in zip(states, states[1:], strict=False):
        assert any(not torch.equal(p, after[n]) for n, p in before.items())


def test_rows_of_rejection_change_with_the_policy():
    ids = [
        [row["input_ids"] for row in rejection_rows(small_policy(s), WordTask())] for s in (0, 1)
    ]
    again = [row["input_ids"] for row in rejection_rows(small_policy(0), WordTask())]
    assert ids[0] == again != ids[1]


def test_rejection_of_what_is_all_accepted_is_sft_on_it(tmp_path, monkeypatch):
    exp, task = experiment("rejection", steps=1), AcceptsAnything()
    rows = rejection_rows(small_policy(), task)
    ours, run = train("rejection", tmp_path / "a", task=task, steps=1)
    monkeypatch.setattr(Sft, "rows", staticmethod(lambda *_: rows))
    theirs, plain = train("sft", tmp_path / "b", steps=1)
    assert_equal(ours, theirs)
    assert run.rows[0]["solved"] == 1.0
    assert run.rows[0]["train_tokens"] == plain.rows[0]["train_tokens"] > exp.method.batch


def test_a_step_without_an_accepted_answer_teaches_nothing(tmp_path):
    policy, run = train("rejection", tmp_path, task=WordTask(hopeless=0))
    assert_equal(policy, small_policy())
    assert [row["train_tokens"] for row in run.rows] == [0] * 4
    assert run.rows[-1]["rollout_tokens"] > 0
    assert [row["loss"] for row in run.rows] == [0.0] * 4


def test_after_such_a_step_momentum_alone_moves(tmp_path):
    """Deals from 12 on are hopeless: the second step has no row, and AdamW still takes a step."""
    one, _ = train("rejection", tmp_path / "a", task=WordTask(hopeless=12), steps=1)
    two, run = train("rejection", tmp_path / "b", task=WordTask(hopeless=12), steps=2)
    assert run.rows[1]["grad_norm"] == 0 < run.rows[0]["grad_norm"]
    assert 0 < moved(two, one) < moved(one)


# --- the anchor -----------------------------------------------------------------------------------
@pytest.mark.parametrize("weight", [0.0, 1e-3])
def test_without_its_anchor_it_is_sft(tmp_path, weight):
    """At a weight of 0 TRL's loss is taken, else ours, on all words."""
    plain, _ = train("sft", tmp_path / "a")
    ours, _ = train("sft+kl", tmp_path / "b", kl_weight=weight)
    assert_same(ours, plain, rtol=0, atol=0 if weight == 0 else 1e-5)
    assert moved(plain) > 1e-4


def anchored_loss(exp, now, init, rows):
    """NLL and KL(policy || init), over answer tokens, row by row."""
    total, tokens = 0.0, 0
    for row in rows:
        ids, taught = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:] != -100
        p, q = (
            of.model(input_ids=ids).logits[0, :-1][taught].log_softmax(-1) for of in (now, init)
        )
        kl = (p.exp() * (p - q.detach())).sum()
        total += exp.method.kl_weight * kl - p.gather(1, ids[0, 1:][taught][:, None]).sum()
        tokens += int(taught.sum())
    return total / tokens


@pytest.mark.parametrize("lora", [False, True])
def test_its_gradient_equals_a_plain_loops(tmp_path, lora):
    """From the second step on the KL has one; an adapter that was handed in has learned something,
    and it is the anchor, not the model below it."""
    settings = {"steps": 3, "kl_weight": 5.0, "lr": 1e-2}

    def start():
        policy = small_policy(lora=lora)
        torch.manual_seed(3)
        for name, parameter in policy.model.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(std=0.1)
        return policy

    ours, plain, init, task = start(), start(), start(), WordTask()
    train("sft+kl", tmp_path, ours, **settings)
    exp = experiment("sft+kl", **settings)
    trained = [p for p in plain.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=exp.method.lr, weight_decay=0.0)
    for step in range(exp.method.steps):
        indices = range(step * exp.method.batch, (step + 1) * exp.method.batch)
        rows = [expert_row(exp, plain, task, index) for index in indices]
        optimizer.zero_grad()
        anchored_loss(exp, plain, init, rows).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    assert_same(ours, plain, rtol=0, atol=1e-3)
    assert moved(ours, init) > 1e-2


def test_a_heavy_anchor_keeps_it_near_the_init(tmp_path):
    def distance(weight):
        policy, exp = small_policy(), experiment("sft+kl", kl_weight=1.0)
        train("sft+kl", tmp_path / str(weight), policy, kl_weight=weight, lr=1e-2)
        rows = first_rows(policy, exp, WordTask())
        with torch.no_grad():
            whole = anchored_loss(exp, policy, small_policy(), rows)
            return float(whole + torch.cat([log_probs(policy, row) for row in rows]).mean())

    assert distance(1000.0) < 0.2 * distance(0.001)


@pytest.mark.parametrize("lora", [False, True])
def test_the_anchor_on_pictures_sees_them(tmp_path, lora):
    """At the first step policy and init are one, so that the loss is SFT's: both have looked."""
    settings, losses = {"steps": 1, "kl_weight": 100.0}, []
    for method in ("sft", "sft+kl"):
        policy, task = small_policy(lora=lora), WordTask(pictures=True)
        _, run = train(method, tmp_path / method, policy, task, **settings)
        losses.append(run.rows[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_the_copy_of_the_init_is_not_the_model_itself(tmp_path):
    """TRL replaces a model's `forward`; a copy made after that would call the original."""
    policy = small_policy()
    trainer = AnswerTrainer.of(policy, schedule(tmp_path), lambda *_: [], anchor=lambda *_: 0.0)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        before = trainer.reference(input_ids=ids).logits
        for parameter in policy.model.parameters():
            parameter.mul_(1.1)
        assert torch.equal(trainer.reference(input_ids=ids).logits, before)
        assert not torch.equal(policy.model(input_ids=ids).logits, before)
