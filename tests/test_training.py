"""SFT and RL: what is learned, at what cost, and that a stopped run goes on exactly."""

import contextlib
import gc
import math
import os
import random
import signal
from dataclasses import replace
from types import SimpleNamespace

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from helpers_training import (
    FakeRun,
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
from hypothesis import given
from hypothesis import strategies as st
from transformers import Trainer, TrainerCallback
from transformers.models.mllama.modeling_mllama import MllamaTextSelfAttention
from trl import SFTConfig

from commons.errors import SftrlError
from engine import trainer
from engine.memory import ADAMW
from sftrl_lib.experiment import Experiment
from sftrl_lib.methods import fit
from sftrl_lib.methods.grpo import discounted_returns, episode_row, group_advantages
from sftrl_lib.methods.sft import expert_row
from sftrl_lib.policies import load_policy
from sftrl_lib.registry import METHODS
from sftrl_lib.rollout import rollout
from sftrl_lib.tasks.general_points import GeneralPoints


@pytest.fixture(autouse=True, scope="module")
def quick_garbage_collection():
    """Every trainer collects garbage first; what the imports made need not be looked at again."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def one_thread():
    """Equal weights are promised for one number of threads; small models are fastest with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- credit --------------------------------------------------------------------------------------
def test_returns_count_a_try_and_what_follows_it():
    assert discounted_returns([-1, -2, 5], 0.5) == [-1 + 0.5 * (-2 + 0.5 * 5), -2 + 0.5 * 5, 5]


def test_failed_first_try_gains_nothing_from_a_later_success():
    late, *mates = group_advantages([[-1, 5], [5], [5], [5]], discount=0.9)
    assert late[0] < 0 < mates[0][0]
    assert late[1] >= 0


def test_failed_first_try_gains_nothing_without_discount_either():
    """Rewards 1/0: the return of the late success is 1, like that of its mates."""
    late, *_ = group_advantages([[0, 1], [1], [1]], discount=1.0)
    assert late[0] <= 0


def test_second_try_is_compared_with_second_tries():
    solved, failed, _ = group_advantages([[-1, 5], [-1, -1], [5]], discount=0.9)
    assert failed[1] < 0 < solved[1]
    assert solved[1] == pytest.approx(-failed[1])


def test_group_without_spread_has_no_advantage():
    assert group_advantages([[-1, -1, -1]] * 8, 0.9) == [[0.0] * 3] * 8
    assert group_advantages([[5]] * 8, 0.9) == [[0.0]] * 8


def test_with_one_try_the_advantage_is_the_one_of_grpo():
    rewards = torch.tensor([5.0, -1, -2, -1])
    grpo = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    ours = group_advantages([[r] for r in rewards.tolist()], 0.9)
    torch.testing.assert_close(torch.tensor(ours)[:, 0], grpo)


def test_episode_credit_gives_every_try_the_advantage_of_the_first():
    rewards = [[-1, 5], [5], [-1, -1]]
    episode = group_advantages(rewards, 0.9, "episode")
    firsts = group_advantages([[discounted_returns(r, 0.9)[0]] for r in rewards], 0.9)
    assert [len(a) for a in episode] == [2, 1, 2]
    assert all(a == pytest.approx(f * len(a)) for a, f in zip(episode, firsts, strict=True))


@given(st.lists(st.lists(st.sampled_from([-3, -2, -1, 5]), min_size=1, max_size=4), min_size=2))
def test_advantages_of_one_try_sum_to_zero_over_the_group(rewards):
    advantages = group_advantages(rewards, 0.9)
    for t in range(4):
        here = [a[t] for a in advantages if t < len(a)]
        assert math.fsum(here) == pytest.approx(0, abs=1e-6)


# --- rows ----------------------------------------------------------------------------------------
def test_sft_trains_the_very_tokens_that_a_rollout_reads_and_writes():
    policy, task, exp = small_policy(), GeneralPoints(), experiment("sft")
    row = expert_row(exp, policy, task, 7)
    question = policy.first_turn(task.prompt(task.item("train", exp.seed, 7)))
    answer = row["input_ids"][len(question) :]
    assert row["input_ids"][: len(question)] == question
    assert row["labels"] == [-100] * len(question) + answer
    assert answer[-1] == policy.end_id
    assert task.verify(task.item("train", exp.seed, 7), policy.decode(answer)).ok


def test_episode_row_is_the_conversation_with_the_models_tokens_marked():
    policy = small_policy()
    generator = torch.Generator().manual_seed(0)
    episodes = rollout(
        policy, WordTask(hopeless=0), [1, 2], tries=3, temperature=1.0, generator=generator,
        max_new_tokens=6,
    )  # fmt: skip
    for episode in episodes:
        row = episode_row(episode, [0.5, -1.0, 2.0])
        assert row["prompt_ids"] + row["completion_ids"] == episode.ids()
        written = [i for i, m in zip(row["completion_ids"], row["env_mask"], strict=True) if m]
        assert written == [i for turn in episode.turns for i in turn.completion_ids]
        expected = []
        for turn, advantage in zip(episode.turns, [0.5, -1.0, 2.0], strict=True):
            if expected:
                expected += [0.0] * len(turn.prompt_ids)
            expected += [advantage] * len(turn.completion_ids)
        assert row["advantages"] == expected


@pytest.mark.parametrize("method, deals", [("sft", 48), ("rl", 12)])
def test_both_arms_draw_the_training_stream_in_order_once(tmp_path, method, deals):
    task = WordTask()
    train(method, tmp_path, task=task, seed=3)
    drawn = list(dict.fromkeys(task.asked))
    assert drawn == [("train", 3, i) for i in range(deals)]


# --- against a plain loop ------------------------------------------------------------------------
def log_probs(policy, ids, picture=None):
    """(len(ids) - 1,) log-probability of every token after the first, of one unpadded row."""
    row, seen = torch.tensor([ids]), {}
    if picture:
        seen = dict(policy.processor.image_processor([[picture]], return_tensors="pt"))
        seen.pop("num_tiles")
        after = (row == policy.processor.image_token_id).cumsum(1)
        after = after[:, :, None, None] * seen["aspect_ratio_mask"][:, None]
        seen["cross_attention_mask"] = after  # (rows, tokens, images, tiles)
    logits = policy.model(input_ids=row, **seen).logits[0, :-1]
    said = torch.tensor(ids[1:]).clamp(max=logits.size(-1) - 1)  # the image token is never said
    return logits.log_softmax(-1).gather(1, said[:, None])[:, 0]


def plain_loop(exp, policy, loss_of_step):
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=exp.method.lr, weight_decay=0.0)
    for step in range(exp.method.steps):
        optimizer.zero_grad()
        loss_of_step(step).backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()


def farthest_moved(policy, tiles=1):
    before = weights(small_policy(tiles=tiles))
    return max((weights(policy)[n] - w).abs().max() for n, w in before.items())


@contextlib.contextmanager
def recorded_gradients(policy):
    """A list that receives {name: gradient} of every optimizer step, after clipping."""
    seen, step = [], torch.optim.AdamW.step

    def record(self, *args, **kwargs):
        named = policy.model.named_parameters()
        seen.append({name: p.grad.clone() for name, p in named if p.grad is not None})
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", record)
        yield seen


@pytest.mark.parametrize("tiles", [0, 1, 4], ids="no pictures,one tile,up to four tiles".split(","))
def test_sft_equals_a_plain_loop(tmp_path, tiles):
    exp, task = experiment("sft", steps=3), WordTask(pictures=bool(tiles))
    ours, plain = small_policy(tiles=tiles or 1), small_policy(tiles=tiles or 1)
    train("sft", tmp_path, ours, task, steps=3)

    def loss(step):
        first, size = step * exp.method.batch, exp.method.batch
        rows = [expert_row(exp, plain, task, first + i) for i in range(size)]
        targets = [torch.tensor(row["labels"][1:]) != -100 for row in rows]
        pairs = zip(rows, targets, strict=True)
        total = sum(
            -log_probs(plain, row["input_ids"], row["picture"])[mask].sum() for row, mask in pairs
        )
        return total / sum(mask.sum() for mask in targets)

    plain_loop(exp, plain, loss)
    assert_same(ours, plain, rtol=0, atol=1e-5)
    assert farthest_moved(ours, tiles or 1) > 1e-4


def plain_grpo(exp, plain, task):
    """A hand-written GRPO with KL: row by row, no padding, no skipping."""
    reference, own = small_policy(), exp.method

    def loss(step):
        deals = [step * 3 + i for i in range(3) for _ in range(own.group)]
        seed = random.Random(f"rollout/{exp.seed}/{step}").getrandbits(63)
        episodes = rollout(
            plain, task, deals, tries=own.tries, temperature=1.0, max_new_tokens=6,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        total, tokens = 0.0, 0
        for start in range(0, len(episodes), own.group):
            group = episodes[start : start + own.group]
            credits = group_advantages([e.rewards for e in group], own.discount, own.credit)
            for episode, credit in zip(group, credits, strict=True):
                ids, end = episode.ids(), 0
                logp = log_probs(plain, ids, episode.picture)
                ref = log_probs(reference, ids, episode.picture).detach()
                for turn, advantage in zip(episode.turns, credit, strict=True):
                    end += len(turn.prompt_ids) + len(turn.completion_ids)
                    said = slice(end - len(turn.completion_ids) - 1, end - 1)
                    ratio = (logp[said] - logp[said].detach()).exp()
                    gap = ref[said] - logp[said]
                    pull = own.kl_weight * (gap.exp() - gap - 1)
                    total += (pull - ratio * advantage).sum()
                    tokens += len(turn.completion_ids)
        return total / tokens

    plain_loop(exp, plain, loss)


@pytest.mark.parametrize("changes", [{}, {"credit": "episode"}, {"tries": 1}])
def test_rl_equals_a_plain_loop(tmp_path, changes):
    """The last step's deals have no spread: its gradient is zero and momentum alone moves."""
    ours, plain = small_policy(), small_policy()
    train("rl", tmp_path, ours, WordTask(hopeless=6), steps=3, **changes)
    plain_grpo(experiment("rl", steps=3, **changes), plain, WordTask(hopeless=6))
    assert_same(ours, plain, rtol=0, atol=1e-5)
    assert farthest_moved(ours) > 1e-4


def test_rl_on_pictures_equals_a_plain_loop(tmp_path):
    """Three tries, and an episode of two or three has its picture before all of them."""
    ours, plain = small_policy(), small_policy()
    train("rl", tmp_path, ours, WordTask(pictures=True), steps=3)
    plain_grpo(experiment("rl", steps=3), plain, WordTask(pictures=True))
    assert_same(ours, plain, rtol=0, atol=1e-5)
    moved = {n for n, w in weights(small_policy()).items() if not torch.equal(w, weights(ours)[n])}
    assert [n for n in moved if "vision" in n] and [n for n in moved if "cross_attn" in n]


def test_rl_of_an_adapter_on_pictures_equals_a_plain_loop(tmp_path):
    """Layers are run again in the backward pass, and the eyes are frozen: no gradient is lost."""
    settings = {"steps": 3, "lr": 1e-2}
    ours, plain, task = *(small_policy(lora=True) for _ in "ab"), WordTask(pictures=True)
    train("rl", tmp_path, ours, task, **settings)
    plain_grpo(experiment("rl", **settings), plain, WordTask(pictures=True))
    assert_same(ours, plain, rtol=0, atol=1e-3)
    before = weights(small_policy(lora=True))
    moved = {n: (w - before[n]).abs().max() for n, w in weights(ours).items()}
    assert all(size == 0 for n, size in moved.items() if "lora_" not in n)
    assert max(size for n, size in moved.items() if "cross_attn" in n) > 1e-2


def test_a_frozen_tower_looks_once_at_the_pictures_of_a_step(tmp_path):
    """Three tries, the training, and twelve episodes of three deals: three looks a step."""
    policy, looks = small_policy(lora=True), []
    tower = policy.model.get_base_model().model.vision_model
    tower.register_forward_hook(lambda module, args, out: looks.append(len(out[0])))
    train("rl", tmp_path, policy, WordTask(pictures=True), steps=2)
    assert looks == [1] * 3 * 2


def test_what_was_seen_is_kept_for_the_last_pictures_only(monkeypatch):
    monkeypatch.setattr("engine.images.VISION_CACHE", 2)
    policy, task = small_policy(lora=True), WordTask(pictures=True)
    played = rollout(policy, task, [0, 1, 2], max_new_tokens=2)
    assert [id(e.picture) for e in played[1:]] == list(policy.vision_cache)


@pytest.mark.parametrize("pictures", [False, True])
def test_gradient_of_the_kl_equals_a_plain_loop(tmp_path, pictures):
    """In the last step nothing but the KL has a gradient. (Gradients and not weights: in the first
    step the KL's is zero up to rounding, which AdamW blows up.)"""
    settings = {"steps": 3, "kl_weight": 0.5}
    a, b = small_policy(), small_policy()
    with recorded_gradients(a) as ours:
        train("rl", tmp_path, a, WordTask(hopeless=6, pictures=pictures), **settings)
    with recorded_gradients(b) as plain:
        plain_grpo(experiment("rl", **settings), b, WordTask(hopeless=6, pictures=pictures))
    a, b = (torch.cat([steps[2][name].flatten() for name in plain[2]]) for steps in (ours, plain))
    assert (a - b).norm() < 0.02 * b.norm() and b.norm() > 1e-3


# --- cost ----------------------------------------------------------------------------------------
def test_skipping_rows_without_advantage_leaves_the_gradient_as_it_is(tmp_path, monkeypatch):
    """Skipped, cut after the last advantage, in micro-batches of 5, against everything in one
    backward pass."""
    settings = {"task": WordTask(hopeless=2), "steps": 1}
    policies = small_policy(), small_policy()
    with recorded_gradients(policies[0]) as thrifty:
        _, run = train("rl", tmp_path / "a", policies[0], **settings)
    monkeypatch.setattr(trainer, "lengths_with_signal", lambda b: b["completion_mask"].sum(1))
    with recorded_gradients(policies[1]) as whole:
        _, full = train("rl", tmp_path / "b", policies[1], micro_batch=12, **settings)
    a, b = run.rows[0], full.rows[0]
    assert 0 < a["trained_rows"] < 1 == b["trained_rows"]
    assert a["done_train_tokens"] < b["done_train_tokens"] < a["train_tokens"]
    assert max(g.abs().max() for g in whole[0].values()) > 1e-3
    torch.testing.assert_close(thrifty[0], whole[0], rtol=1e-4, atol=1e-7)


def test_no_forward_pass_for_a_batch_without_advantage(tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("scored a row that has no gradient")

    monkeypatch.setattr(trainer.EpisodeTrainer, "_get_per_token_logps_and_entropies", forbidden)
    policy, run = train("rl", tmp_path, task=WordTask(hopeless=0))
    assert run.rows[-1]["done_train_tokens"] == 0 < run.rows[-1]["train_tokens"]
    assert_equal(policy, small_policy())


def test_signal_ends_with_the_last_advantage():
    batch = {
        "advantages": torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 0], [1, 0, -1, 0], [1, 0, 0, 9]]),
        "completion_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]),
        "tool_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0]]),
    }
    assert trainer.lengths_with_signal(batch).tolist() == [2, 0, 3, 1]


def test_compute_counts_every_token_of_every_conversation(tmp_path):
    """Of one step of two tries that all fail: what is trained is each conversation once; what was
    executed is less by the questions, which each group read once, and by every last token."""
    _, run = train("rl", tmp_path, task=WordTask(hopeless=0), steps=1, tries=2)
    row, policy, task = run.rows[0], small_policy(), WordTask(hopeless=0)
    seed = random.Random("rollout/0/0").getrandbits(63)
    episodes = rollout(
        policy, task, [i for i in range(3) for _ in range(4)], tries=2, temperature=1.0,
        max_new_tokens=6, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    whole = sum(len(e.ids()) for e in episodes)
    longest = max(len(e.turns[0].prompt_ids) for e in episodes)
    assert (row["train_tokens"], row["rollout_tokens"]) == (whole, whole)
    assert row["done_train_tokens"] == 0
    assert row["done_rollout_tokens"] == sum(e.processed for e in episodes)
    assert row["done_rollout_tokens"] < whole - len(episodes) - 2 * longest


# --- stopping and going on -----------------------------------------------------------------------
@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("method", ["sft", "rl"])
def test_a_large_model_of_which_all_is_trained_runs_its_layers_again(
    tmp_path, method, pictures, monkeypatch
):
    """It learns what it would learn from kept ones; killed, it goes on exactly."""

    def trained(folder, *on_checkpoint):
        return train(method, tmp_path / folder, None, WordTask(pictures=pictures), *on_checkpoint)

    ran = []
    part, forward = MllamaTextSelfAttention, MllamaTextSelfAttention.forward
    monkeypatch.setattr(part, "forward", lambda *a, **k: ran.append(1) or forward(*a, **k))
    kept, _ = trained("kept")
    once, ran[:] = len(ran), []
    monkeypatch.setattr("engine.trainer.RUN_AGAIN", 0)
    again, _ = trained("again")
    assert len(ran) > once
    assert_same(kept, again, rtol=0, atol=1e-6)
    with pytest.raises(Killed):
        trained("killed", killed_at(2))
    assert_equal(again, trained("killed")[0])


@pytest.mark.parametrize("method", ["sft", "rl"])
@pytest.mark.parametrize("lora", [False, True])
def test_killed_run_goes_on_exactly(tmp_path, method, lora):
    changes = {"kl_weight": 0.1} if method == "rl" else {}
    straight, run = train(method, tmp_path / "a", small_policy(lora=lora), **changes)
    stopped = tmp_path / "b"
    with pytest.raises(Killed):
        train(method, stopped, small_policy(lora=lora), None, killed_at(2), **changes)
    points = []
    resumed, rest = train(
        method, stopped, small_policy(lora=lora), None, lambda p, s, c: points.append(s), **changes
    )
    assert_equal(resumed, straight)
    assert points == [2, 4]  # the point at which it was killed is measured again
    assert [row["step"] for row in rest.rows] == [3, 4]
    assert without_seconds(rest.rows) == without_seconds(run.rows[2:])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "rl"])
def test_killed_run_in_four_bits_on_pictures_goes_on_exactly(tmp_path, method):
    def fresh():
        return load_policy(Experiment(task="gp-vl", precision="qlora"))

    def go_on(folder, on_checkpoint=None):
        return train(method, folder, fresh(), WordTask(pictures=True), on_checkpoint, steps=2)

    straight, _ = go_on(tmp_path / "a")
    with pytest.raises(Killed):
        go_on(tmp_path / "b", killed_at(1))
    resumed, rest = go_on(tmp_path / "b")
    assert_equal(resumed, straight)
    assert [row["step"] for row in rest.rows] == [2]
    start = weights(fresh())
    assert any(not torch.equal(p, start[n]) for n, p in weights(resumed).items())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("model", [{}, {"peft_config": {}}])
def test_the_optimiser_is_torchs_in_32_bits_with_adapters_on_a_gpu_too(tmp_path, device, model):
    model = SimpleNamespace(parameters=lambda: [], **model)
    policy = SimpleNamespace(device=torch.device(device), model=model)
    assert trainer.arguments(policy, schedule(tmp_path))["optim"] == "adamw_torch"


def test_a_trained_adapter_leaves_its_states_to_torch_and_nothing_to_bitsandbytes(tmp_path):
    policy, held = small_policy(lora=True), []

    class Watched(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer, **_):
            for p, state in optimizer.state.items():
                bytes_ = state["exp_avg"].nbytes + state["exp_avg_sq"].nbytes
                held.append(bytes_ / p.numel())

    own = replace(schedule(tmp_path), steps=1)
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "picture": None}] * own.batch
    trainer.train(
        lambda: trainer.AnswerTrainer.of(policy, own, lambda *_: rows), policy, own,
        lambda _: contextlib.nullcontext(Watched()),
    )  # fmt: skip
    assert held and set(held) == {ADAMW}
    assert not bnb.optim.GlobalOptimManager.get_instance().module_weight_config_triple


class InterruptingTask(WordTask):
    """Ctrl-C while deal `at` is dealt: in the middle of a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def item(self, split, seed, index):
        if index == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().item(split, seed, index)


@pytest.fixture
def default_ctrl_c():
    """A shell lets its background jobs ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("method, deal", [("sft", 30), ("rl", 7)])
def test_ctrl_c_saves_the_step_and_the_run_goes_on_exactly(tmp_path, method, deal, default_ctrl_c):
    straight, _ = train(method, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        train(method, tmp_path / "b", task=InterruptingTask(deal))
    saved = [p.name for p in (tmp_path / "b").glob("checkpoint-*")]
    assert saved and saved != ["checkpoint-4"]
    resumed, _ = train(method, tmp_path / "b")
    assert_equal(resumed, straight)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_kill_while_saving_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    straight, _ = train("sft", tmp_path / "a")
    save_rng = Trainer._save_rng_state

    def torn(self, folder):
        if self.state.global_step == 4:
            raise Killed
        save_rng(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_rng_state", torn)
        with pytest.raises(Killed):
            train("sft", tmp_path / "b")
    assert [p.name for p in (tmp_path / "b").glob("checkpoint-*")] == ["checkpoint-2"]
    resumed, _ = train("sft", tmp_path / "b")
    assert_equal(resumed, straight)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["checkpoint-4"]


@pytest.mark.parametrize("file", ["weights.safetensors", "compute.json", "seal.json"])
def test_damaged_checkpoint_is_an_error_that_says_what_to_do(tmp_path, file):
    train("sft", tmp_path)
    (tmp_path / "checkpoint-4" / file).write_text("{")
    with pytest.raises(SftrlError, match="checkpoint-4 .* delete"):
        train("sft", tmp_path)


def test_checkpoints_follow_the_clock(tmp_path, monkeypatch):
    saved = []
    save = trainer._Stepwise._save_checkpoint
    monkeypatch.setattr(
        trainer._Stepwise, "_save_checkpoint",
        lambda self, *a: (saved.append(self.state.global_step), save(self, *a)),
    )  # fmt: skip
    train("sft", tmp_path / "a")
    assert saved == [2, 4]
    monkeypatch.setattr(fit, "SAVE_EVERY", 0.0)
    train("sft", tmp_path / "b")
    assert saved == [2, 4, 1, 2, 3, 4]


def test_random_streams_go_on_as_if_nothing_had_been_measured():
    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with trainer.preserved_rng():
        draws()
    assert draws() == expected


@pytest.mark.parametrize("method", ["sft", "rl"])
def test_measuring_does_not_change_the_training(tmp_path, method):
    seen = []

    def measure(policy, step, compute):
        assert not policy.model.training
        seen.append((step, compute.train_tokens))
        torch.rand(3)

    measured, run = train(method, tmp_path / "a", on_checkpoint=measure)
    alone, _ = train(method, tmp_path / "b")
    assert_equal(measured, alone)
    assert seen == [(s, run.rows[s - 1]["train_tokens"]) for s in (2, 4)]


# --- models and surroundings ---------------------------------------------------------------------
@pytest.mark.parametrize("method", ["sft", "rl"])
def test_only_the_adapter_is_trained(tmp_path, method):
    before = weights(small_policy(lora=True))
    policy, _ = train(method, tmp_path, small_policy(lora=True), kl_weight=0.1)
    after = weights(policy)
    assert before.keys() == after.keys()  # TRL's copy for the KL is gone
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed and all("lora_" in name for name in changed)


@pytest.mark.parametrize("method", ["sft", "rl"])
def test_adapters_of_a_quantised_model_stay_float32(tmp_path, method, monkeypatch):
    """TRL casts them to bf16, whose steps are larger than this learning rate's updates."""
    policy = small_policy(lora=True)
    monkeypatch.setattr(type(policy.model), "is_loaded_in_4bit", True, raising=False)
    train(method, tmp_path, policy, lr=1e-6)
    plain, _ = train(method, tmp_path / "plain", small_policy(lora=True), lr=1e-6)
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    assert_equal(policy, plain)


@pytest.mark.parametrize("lora", [False, True])
def test_kl_is_to_the_policy_as_it_was_handed_in(tmp_path, lora):
    _, run = train("rl", tmp_path, small_policy(lora=lora), kl_weight=0.1, lr=1e-2)
    kl = [row["kl"] for row in run.rows]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[-1] > 1e-5


@pytest.mark.parametrize("method", ["sft", "rl"])
def test_the_model_comes_back_as_it_was_lent(tmp_path, method, capfd):
    policy, _ = train(method, tmp_path)
    assert "forward" not in policy.model.__dict__
    assert not policy.model.training
    out, err = capfd.readouterr()
    assert out + err == ""  # no bar was asked for


def test_progress_is_one_line(tmp_path, capfd):
    METHODS["rl"].train(experiment("rl"), small_policy(), WordTask(), FakeRun(tmp_path))
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "RL: 100%" in err and "solved" in err


def test_one_process_trains_on_one_gpu_of_several(tmp_path):
    config = SFTConfig(**trainer.arguments(small_policy(), schedule(tmp_path)))
    config._n_gpu = 4  # as transformers finds them
    assert trainer.one_gpu(config).n_gpu == 1


def test_other_versions_of_trl_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(trainer.PINNED, "trl", "1.15.9")
    with pytest.raises(SftrlError, match="trl==1.15.9"):
        train("sft", tmp_path)


def test_rl_needs_a_temperature(tmp_path):
    with pytest.raises(SftrlError, match="temperature"):
        train("rl", tmp_path, temperature=0.0)
