"""What to run first on a machine with a GPU: `make gpu-check`, planned for ten minutes at most.

No weights are needed: the 11B architecture is drawn at random and packed on the GPU itself (MODEL
names a local copy to take instead). Every step's findings, its failure too, are written to
data/proof/gpu_check.json as soon as they are there; what is wrong is said, and ends with 1. `--cpu`
takes the same steps with two small layers, which shows that they run, and measures nothing of use.
NOT VALIDATED: nobody has run it on a GPU; the tests run it on a CPU.
"""

import argparse
import contextlib
import copy
import gc
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import bitsandbytes as bnb
import torch
from proof_11b import Graded, built

from commons.files import write_atomic
from engine import machine, memory
from engine.generation import Conversations
from engine.graphs import RECORDERS
from engine.images import ImageConditioner
from engine.load import use_tensor_cores
from engine.packing import Packed, packed_attention
from engine.policy import Policy
from sftrl_lib import planning
from sftrl_lib.evaluate import TEMPERATURES, KlToInit, evaluate, full_battery
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.policies import load_policy
from sftrl_lib.registry import METHODS, TASKS
from sftrl_lib.runner import start_policy
from sftrl_lib.runs import Run
from sftrl_lib.tasks import make_task

OUT = ROOT / "data" / "proof" / "gpu_check.json"
SHORT = dict(
    group=2, batch=4, tries=2, eval_tries=2, steps=1, warmup=0.0, max_new_tokens=16, eval_points=1,
    micro_batch=2, generation_batch_size=4, lr=1e-3,
)  # fmt: skip
CLOSE = {"cuda": 0.1, "cpu": 0.02}  # nats a token: in bf16, and in 32 bits, beside NF4
STEPS: dict[str, Callable[["Check"], dict]] = {}


def step(function: Callable) -> Callable:
    """One of the check's, in the order in which they stand here."""
    STEPS[function.__name__] = function
    return function


class Same(Graded):
    """The same four deals in every step, and one answer to each."""

    def item(self, split, seed, index):
        return super().item(split, seed, index % 4)

    def expert(self, item, rng):
        return super().expert(item, random.Random(0))


@dataclass
class Check:
    """What the steps share."""

    device: str
    model: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    policy: Policy | None = None

    def __post_init__(self) -> None:
        own = dict(task="gp-vl", preset="llama-11b", model=self.model, start="model")
        self.full = Experiment(**own)  # as it would be run
        self.exp = self.full.replace(method="sft", **SHORT)
        self.config = planning.architecture(self.full)
        if self.device == "cpu":
            self.config = planning.architecture(Experiment())  # the tiny tier's, of two layers
            text = self.config.text_config
            text.num_hidden_layers, text.cross_attention_layers = 2, [1]
        self.shape = memory.Shape(copy.deepcopy(self.config), self.exp.model.rank)

    def build(self) -> Policy:
        """The policy, drawn or loaded."""
        use_tensor_cores("qlora")
        if self.model:
            return load_policy(self.full)
        return built(copy.deepcopy(self.config), self.exp, self.device)

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"

    def held(self) -> float | None:
        """GB that are taken on the GPU now."""
        gc.collect()
        return torch.cuda.memory_allocated() / memory.GB if self.gpu else None

    def wait(self) -> float:
        """The time, once the GPU has done what it was told."""
        if self.gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, part: Callable) -> dict[str, float]:
        """Seconds until `part` has told the GPU all, and until all is done: of the quickest of
        three calls, so that what other programs take is not counted."""
        part()  # what is prepared once
        found = []
        for _ in range(3):
            began = self.wait()
            part()
            found.append({"host_s": time.perf_counter() - began, "s": self.wait() - began})
        return min(found, key=lambda one: one["s"])

    def train(self, exp: Experiment, folder: str, stop: int = 0) -> list[dict]:
        """The logged rows of a run of the same deals, which ends at the checkpoint `stop`."""

        def killed(policy, at, ledger):
            if at == stop:
                raise InterruptedError

        run = Run.open(exp, Path(folder))
        with contextlib.suppress(InterruptedError), run:
            METHODS[exp.method.name].train(exp, self.policy, Same(), run, killed, False)
        return run.metrics().to_dict("records")

    def adapter(self, put: dict | None = None) -> dict[str, torch.Tensor]:
        """The adapter's weights, after they were `put`."""
        own = {n: p for n, p in self.policy.model.named_parameters() if p.requires_grad}
        for name, tensor in (put or {}).items():
            own[name].data.copy_(tensor)
        return {n: p.detach().clone() for n, p in own.items()}


# --- machine and kernels --------------------------------------------------------------------------
@step
def the_machine(check: Check) -> dict:
    """Facts, and how fast it multiplies: what shares of a peak are shares of."""
    side = 8192 if check.gpu else 256
    a = torch.randn(side, side, device=check.device, dtype=torch.bfloat16 if check.gpu else None)
    rate = 10 * 2 * side**3 / check.timed(lambda: [a @ a for _ in range(10)])["s"]
    found = machine.facts() | {"peak_flops": rate, "cuda": torch.version.cuda}
    if check.gpu:
        free, whole = torch.cuda.mem_get_info()
        found |= {"free_gb": free / memory.GB, "memory_gb": whole / memory.GB}
        found["capability"] = list(torch.cuda.get_device_capability())
        found["rows"] = planning.settled(check.full, "rl").rows
    return found


@step
def four_bits(check: Check) -> dict:
    """Products with packed weights, doubly quantised, at the language model's shapes, beside those
    with the same weights unpacked: of one row, which has a kernel of its own, and of many."""
    text, errors = check.config.get_text_config(), {}
    hidden, kept = text.hidden_size, check.shape.keys // 2
    inside = text.intermediate_size
    dtype = torch.bfloat16 if check.gpu else torch.float32
    torch.manual_seed(0)
    for out, into in ((hidden, hidden), (kept, hidden), (inside, hidden), (hidden, inside)):
        weight = torch.randn(out, into, device=check.device, dtype=dtype) * 0.02
        packed, state = bnb.functional.quantize_4bit(
            weight, quant_type="nf4", compress_statistics=True
        )
        whole = bnb.functional.dequantize_4bit(packed, state).float()
        for rows in (1, 64):
            x = torch.randn(rows, into, device=check.device, dtype=dtype)
            exact = x.float() @ whole.T
            found = bnb.matmul_4bit(x, packed.t(), quant_state=state).float() - exact
            errors[f"{rows} x {into} -> {out}"] = float(found.norm() / exact.norm())
    return {"errors": errors, "largest": max(errors.values())}


@step
def tiny_tier(check: Check) -> dict:
    """SFT's losses of our own model here and on the CPU, and RL's here."""

    def losses(exp: Experiment, device: str) -> list[float]:
        policy = start_policy(exp)
        policy.model.to(device)
        with tempfile.TemporaryDirectory() as folder, Run.open(exp, Path(folder)) as run:
            METHODS[exp.method.name].train(exp, policy, make_task(exp), run, progress=False)
            return run.metrics().loss.tolist()

    exp = Experiment(task="gp-vl", method="sft", steps=2, batch=8)
    use_tensor_cores("full")
    return {
        "sft": losses(exp, check.device), "sft_cpu": losses(exp, "cpu"),
        "rl": losses(exp.replace(method="rl", steps=1, batch=16), check.device),
    }  # fmt: skip


# --- the large model ------------------------------------------------------------------------------
@step
def build(check: Check) -> dict:
    """The model, twice: a second one takes what the first took."""
    held, seconds = [], []
    for _ in range(2):
        check.policy = None
        before, began = check.held(), check.wait()
        check.policy = check.build()
        seconds.append(check.wait() - began)
        after = check.held()
        held.append(None if before is None or after is None else after - before)
    stays = memory.pieces(planning.work(check.exp, "evaluate"), check.shape, check.device)["stays"]
    planned = sum(stays[part] for part in ("weights", "adapter")) / memory.GB
    for name, p in check.policy.model.named_parameters():
        if "lora_B" in name:  # of a new adapter they are 0: it would change nothing
            torch.nn.init.normal_(p, std=0.01)
    return {"seconds": seconds, "held_gb": held, "planned_gb": planned}


def said(check: Check, exp: Experiment, new: int = 8) -> tuple:
    """Prompts, pictures, greedy answers of `new` tokens and the log-probabilities of their tokens,
    as the generation loop has them."""
    policy, task = copy.copy(check.policy), Same()
    policy.end_ids = set()
    items = [task.item("train", 0, n) for n in range(4)]
    pictures = [task.picture(item, policy.image_size) for item in items]
    prompts = [
        policy.first_turn(task.prompt(item) + " again" * n, picture)
        for n, (item, picture) in enumerate(zip(items, pictures, strict=True))
    ]
    talk, read = Conversations(policy, prompts, pictures), []
    reads = talk._read
    talk._read = lambda *a: read.append(reads(*a)) or read[-1]  # type: ignore[method-assign]
    answers = talk.answer([0, 1, 2, 3], [[]] * 4, new)
    logits = torch.stack(read[-new:], 1).log_softmax(-1)
    ids = torch.tensor(answers, device=logits.device)
    return prompts, pictures, answers, logits.gather(-1, ids[..., None])[..., 0]


@step
@torch.no_grad()
def equal(check: Check) -> dict:
    """Nats by which the log-probabilities of written tokens differ: prefill and decode, side by
    side, from each conversation alone, and from the packed rows of training; and how far a row
    that is padded on the left is from itself without padding."""
    policy, model = check.policy, check.policy.model.eval()
    prompts, pictures, answers, together = said(check, check.exp)
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    asked = [len(p) for p in prompts]

    def in_training(which: list[int]) -> torch.Tensor:
        images = ImageConditioner(policy, [pictures[i] for i in which])
        packed = Packed(
            [rows[i] for i in which], [asked[i] for i in which], policy.device,
            images.numbers([*range(len(which))]),
        )  # fmt: skip
        with images.of(), packed_attention(model):
            logits = model(
                input_ids=packed.input_ids, position_ids=packed.position_ids, packed=packed,
                use_cache=False, logits_to_keep=packed.before,
            ).logits[0].float()  # fmt: skip
        return logits.log_softmax(-1).gather(-1, packed.answers[:, None]).view(len(which), -1)

    packed, alone = in_training([0, 1, 2, 3]), torch.cat([in_training([i]) for i in range(4)])
    ids, empty = torch.tensor([rows[0]], device=policy.device), torch.zeros(1, 5).long()
    padded = torch.cat([empty.to(ids), ids], 1)
    seen = (torch.arange(padded.size(1), device=ids.device) >= 5)[None].long()
    places = (seen.cumsum(1) - 1).clamp_min(0)
    plain, left = (
        model(input_ids=i, attention_mask=m, position_ids=p).logits[0, -8:].float().log_softmax(-1)
        for i, m, p in ((ids, seen[:, 5:], None), (padded, seen, places))
    )
    return {
        "decode_from_training": float((together - packed).abs().mean()),
        "packed_from_alone": float((packed - alone).abs().mean()),
        "padded_from_plain": float((left - plain).abs().mean()),
        "close": CLOSE[check.device],
    }


@step
def learns(check: Check) -> dict:
    """SFT on the same four rows: finite gradients, a falling loss; and a run that is killed halfway
    goes on as the one that is not."""
    exp = check.exp.replace(steps=4, eval_points=2)
    start = check.adapter()
    with tempfile.TemporaryDirectory() as folder:
        rows = check.train(exp, f"{folder}/straight")
        straight = check.adapter()
        check.adapter(put=start)
        check.train(exp, f"{folder}/killed", stop=2)
        check.adapter(put=start)
        check.policy.vision_cache.clear()
        again = check.train(exp, f"{folder}/killed")
        resumed = check.adapter(put=None)
    apart = max(float((straight[n] - p).abs().max()) for n, p in resumed.items())
    moved = sum(not torch.equal(start[n], p) for n, p in straight.items())
    check.adapter(put=start)
    return {
        "loss": [r["loss"] for r in rows], "grad_norm": [r["grad_norm"] for r in rows],
        "loss_resumed": [r["loss"] for r in again], "apart": apart, "moved": moved,
        "tensors": len(start),
    }  # fmt: skip


@step
def stages(check: Check) -> dict:
    """A step of SFT and of RL, and an evaluation: time, and the peak of memory beside the plan."""
    policy, found = check.policy, {}
    for stage in memory.STAGES:
        if check.gpu:
            torch.cuda.empty_cache()  # what the step before has left
            torch.cuda.reset_peak_memory_stats()
        method, began = "sft" if stage == "sft" else "rl", check.wait()
        now = check.full.replace(method=method, **SHORT)
        with tempfile.TemporaryDirectory() as folder:
            if stage == "evaluate":
                evaluate(policy, Graded(), now, {"rule_ood": 4}, progress=False)
                KlToInit(policy, Graded(), now, answers=2)(policy)
            else:
                assert math.isfinite(check.train(now, folder)[-1]["loss"])
        peak = torch.cuda.max_memory_reserved() / memory.GB if check.gpu else None
        phases = planning.pieces(now, stage, check.shape, check.device)
        # The plan counts the context too, which the allocator does not see.
        planned = memory.total(phases, check.device) / memory.GB - memory.RUNTIME[check.device]
        seconds = check.wait() - began
        found[stage] = {"seconds": seconds, "peak_gb": peak, "planned_gb": planned}
    return found


# --- rates ----------------------------------------------------------------------------------------
@step
def rates(check: Check) -> dict:
    """Looks, tokens read, answers' steps and trained tokens a second, host and GPU apart, with the
    share of the peak that was measured."""
    policy, task, rows = check.policy, Same(), 16 if check.gpu else 4
    item = task.item("train", 0, 0)
    picture = task.picture(item, policy.image_size)
    prompt = policy.first_turn(task.prompt(item), picture)
    prompts = [prompt[:-2] + [20 + n] + prompt[-2:] for n in range(rows)]
    images = ImageConditioner(policy, [picture])
    one = [images._inputs(0)]
    base = policy.model.get_base_model()
    talks: list[Conversations] = []

    def prefill():
        talks[:] = [Conversations(policy, prompts, [copy.copy(picture) for _ in prompts])]

    def decode(steps: int = 8):
        talk = talks[-1]
        with torch.no_grad():
            for n in range(steps):
                slots = (talk.reached + n)[:, None]
                talk._read(torch.full_like(slots, 20), slots, int(top + n + 1))

    with torch.no_grad():
        look = check.timed(lambda: images.family.see(base, one))
    read = check.timed(prefill)
    talks[-1].answer([*range(rows)], [[]] * rows, 1)
    talks[-1].capacity += 16
    top = int(talks[-1].reached.max())
    wrote = {k: v / 8 for k, v in check.timed(decode).items()}
    exp = check.exp.replace(batch=rows, micro_batch=min(8, rows), steps=2)
    with tempfile.TemporaryDirectory() as folder:
        trained = check.train(exp, folder)[-1]
    per_token = 2 * policy.n_active
    seconds = {"prefill": (len(prompt) * rows, 1, read["s"] - rows * look["s"]),
               "decode": (rows, 1, wrote["s"]),
               "training": (trained["tokens"], 3, trained["seconds"])}  # fmt: skip
    peak = check.facts["the_machine"]["peak_flops"]
    return {
        "rows": rows, "look": look, "prefill": read, "decode_step": wrote,
        "tokens_per_s": {k: n / max(s, 1e-9) for k, (n, _, s) in seconds.items()},
        "share_of_peak": {
            k: n * passes * per_token / max(s, 1e-9) / peak for k, (n, passes, s) in seconds.items()
        },
    }  # fmt: skip


@step
def replays(check: Check) -> dict:
    """Milliseconds of a decode step by Python, replayed, and replayed with what it takes to record
    one; whether the likeliest tokens are the same, and nats between their log-probabilities. (A
    replayed step adds up in another order, for it looks at empty places too.)"""
    rows, tokens = (16, 64) if check.gpu else (4, 16)
    policy, task = copy.copy(check.policy), Same()
    policy.end_ids = set()
    item = task.item("train", 0, 0)
    picture = task.picture(item, policy.image_size)
    prompts = [policy.first_turn(task.prompt(item) + f" {n}", picture) for n in range(rows)]

    def written(given: torch.Tensor | None) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
        """Times, and what was likeliest at each step and how likely the tokens of `given` were,
        which are read then; None: the likeliest ones."""
        talk, seconds, found = Conversations(policy, prompts, [picture] * rows), [], []
        step = talk._next

        def watched(ids, *more):
            n, began = len(seconds), check.wait()
            logits = step(ids if given is None else given[n, :, None], *more)
            seconds.append(check.wait() - began)
            best = logits.argmax(-1)
            said = best if given is None else given[n + 1]
            found.append((best, logits.log_softmax(-1).gather(-1, said[:, None])[:, 0]))
            times["replayed"] = bool(talk.replayed and talk.replayed.recorder)
            return logits

        times: dict[str, Any] = {}
        talk._next = watched  # type: ignore[method-assign]
        answers = talk.answer([*range(rows)], [[]] * rows, tokens)
        first = torch.tensor([[a[0] for a in answers]], device=policy.device)
        best, likely = (torch.stack(x) for x in zip(*found, strict=True))
        times |= {"step_ms": 1000 * statistics.median(seconds[tokens // 2 :])}
        times |= {"mean_ms": 1000 * statistics.mean(seconds)}
        return times, torch.cat([first, best]), likely

    with patch.dict(RECORDERS, clear=True):
        by_python, plain, likely = written(None)
    replayed, again, likely_again = written(plain)
    return {
        "rows": rows, "tokens": tokens, "by_python": by_python, "replayed": replayed,
        "expected": check.gpu,
        "same_tokens": float((plain == again).float().mean()),
        "apart": float((likely - likely_again).abs().mean()), "close": CLOSE[check.device],
    }  # fmt: skip


@step
def forecast(check: Check) -> dict:
    """Hours of init, SFT, RL and evaluation of each task by these rates, at most: every answer as
    long as it may be, every try needed, and as many rows at a time as were measured."""
    found, measured = {}, check.facts["rates"]
    rate, look = measured["tokens_per_s"], measured["look"]
    a_step = check.facts["replays"]["replayed"]["mean_ms"] / 1000

    def playing(episodes: int, tries: int, exp: Experiment, first: int) -> float:
        seen = episodes * look["s"] if TASKS[exp.task.name].pictures else 0.0
        steps = math.ceil(episodes / measured["rows"]) * tries * exp.model.max_new_tokens
        return seen + episodes * first / rate["prefill"] + steps * a_step

    for name in ("gp-l", "gp-vl", "virl-l", "virl-vl"):
        hours = {}
        for method in ("init", "sft", "rl"):
            exp = Experiment(task=name, preset="llama-11b", method=method)
            own, (first, whole) = exp.method, planning.conversation(exp)
            rows = own.steps * own.batch
            seconds = rows * (whole if method == "rl" else first) / rate["training"]
            seconds += playing(rows, own.tries, exp, first) if method == "rl" else 0.0
            hours[method] = seconds / 3600
        task, end = make_task(exp), full_battery(exp, make_task(exp))
        each, also = exp.evaluation, (len(TEMPERATURES) - 1) * len(task.curve_splits)
        curve = (each.eval_points - 1) * len(task.curve_splits) * each.eval_episodes
        episodes = sum(end.values()) + also * each.final_episodes + curve
        hours["evaluation of an arm"] = playing(episodes, each.eval_tries, exp, first) / 3600
        found[name] = hours
    return found


# --- all of it ------------------------------------------------------------------------------------
def wrong(facts: dict) -> list[str]:
    """What of the findings is not as it should be."""
    got: Any = {name: {} if "error" in facts[name] else facts[name] for name in facts}
    tiny, bits, held = (
        got.get("tiny_tier", {}),
        got.get("four_bits", {}),
        got.get("build", {}).get("held_gb", []),
    )
    apart, loss = got.get("equal", {}), got.get("learns", {})
    replays = got.get("replays", {})
    peaks = [row for row in got.get("stages", {}).values() if row["peak_gb"]]
    found = {
        f"{name} failed: {facts[name]['error']}": True for name in facts if "error" in facts[name]
    } | {
        "products with 4-bit weights are off": not bits.get("largest", 0) < 0.02,
        "SFT on the GPU does not have the CPU's losses": not all(
            math.isclose(a, b, rel_tol=0.02)
            for a, b in zip(tiny.get("sft", []), tiny.get("sft_cpu", []), strict=True)
        ),
        "RL on the GPU has a loss that is no number": not all(
            map(math.isfinite, tiny.get("rl", []))
        ),
        "a second model takes more memory than the first": None not in held
        and any(two > 1.02 * one for one, two in zip(held, held[1:], strict=False)),
        "reading, answering and training do not say the same": any(
            not apart[k] <= apart["close"] for k in apart if k != "close"
        ),
        "replayed steps do not say what those by Python say": bool(replays)
        and not replays["apart"] <= replays["close"],
        "steps on a GPU are not replayed": bool(replays)
        and replays["expected"] and not replays["replayed"]["replayed"],
        "a gradient is no number": not all(map(math.isfinite, loss.get("grad_norm", []))),
        "the loss on the same rows does not fall": bool(loss)
        and not loss["loss"][-1] < loss["loss"][0],
        "a resumed run is another one": bool(loss) and not loss["apart"] < 1e-4,
        "a peak of memory is not 0.75 to 1.15 of its plan": any(
            not 0.75 < row["planned_gb"] / row["peak_gb"] < 1.15 for row in peaks
        ),
    }  # fmt: skip
    return [what for what, is_so in found.items() if is_so]


def run(check: Check, out: Path) -> dict:
    """Every step, one after the other, whatever becomes of the one before."""
    out.parent.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    for name, take in STEPS.items():
        began = time.monotonic()
        try:
            check.facts[name] = take(check)
        except Exception as error:  # of any kind: the others are of use without it
            said_ = " ".join(str(error).split())[:300]
            check.facts[name] = {"error": f"{type(error).__name__}: {said_}"}
        seconds[name] = round(time.monotonic() - began, 1)
        check.facts["took_s"] = seconds
        write_atomic(out, json.dumps(check.facts, indent=1) + "\n")
        print(name, json.dumps(check.facts[name]), flush=True)
    return check.facts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default="", help="a local copy of the 11B model")
    parser.add_argument("--cpu", action="store_true", help="the same steps, with two small layers")
    parser.add_argument("--out", type=Path, help="the JSON file (default: data/proof/)")
    args = parser.parse_args(argv)
    if not (args.cpu or torch.cuda.is_available()):
        print("error: this machine has no CUDA GPU that torch can see; nothing was checked.")
        return 2
    out = args.out or (ROOT / "build" / OUT.name if args.cpu else OUT)
    faults = wrong(run(Check("cpu" if args.cpu else "cuda", args.model), out))
    print(f"written to {out}")
    for what in faults:
        print(f"WRONG: {what}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
