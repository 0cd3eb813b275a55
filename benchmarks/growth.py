"""How the price of a rollout and of an update grows: with the length of an answer, tries, the size
of a group, the size of a batch and the size of the model.

Run `python benchmarks/growth.py` (a quarter of an hour on one idle core); it writes
data/benchmarks/growth.json. Everything is measured around one point, a step on cards of 256
episodes in groups of 8, one try, 40 tokens an answer, the tiny model, of which one thing at a time
is changed. Weights are random, so that every answer has its full length. Times are of the CPU, the
median of ROUNDS, which take turns.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from pathlib import Path

import torch
from speed import OUT, Side, matmul_rate, pin, revision

from sftrl_lib.rollout import rollout

ROUNDS = 3
USUAL = {"length": 40, "tries": 1, "group": 8, "batch": 256, "width": 128}
CHANGED = {
    "length": (10, 20, 40, 80), "tries": (1, 2, 3, 5), "group": (1, 4, 8, 32),
    "batch": (32, 64, 256, 512), "width": (128, 288, 576),
}  # fmt: skip


def with_width(policy, width: int):
    """The policy with a model of random weights, as deep as ours and of this width."""
    policy = copy.deepcopy(policy)
    config = copy.deepcopy(policy.model.config)
    text = config.text_config
    text.hidden_size, text.intermediate_size = width, 3 * width
    text.num_attention_heads = text.num_key_value_heads = width // 32
    torch.manual_seed(0)
    model = type(policy.model)(config).eval()
    model.generation_config = policy.model.generation_config
    return type(policy)(model, policy.processor)


def rollout_of(side: Side, policy, at: dict[str, int], turn: int) -> float:
    """CPU seconds of the episodes of one step."""
    deals = [side.task.item("train", turn, i) for i in range(at["batch"] // at["group"])]
    items = [deal for deal in deals for _ in range(at["group"])]
    policy.end_ids = {policy.end_id}
    began = time.process_time()
    rollout(
        policy, side.task, items, tries=at["tries"], temperature=1.0,
        max_new_tokens=at["length"], generator=torch.Generator().manual_seed(turn),
    )  # fmt: skip
    return time.process_time() - began


def update_of(side: Side, policy, at: dict[str, int], turn: int) -> float:
    """CPU seconds of an SFT step on as many rows."""
    side.policy = policy
    exp = side.code.experiment(
        task="gp-l", method="sft", steps=1, warmup=0.0, batch=at["batch"], seed=turn
    )
    began = time.process_time()
    side.step(exp)
    return time.process_time() - began


def main() -> None:
    pin()
    commit, side = revision(), Side("gp-l", USUAL["batch"] // USUAL["group"])
    policies = {width: with_width(side.policy, width) for width in CHANGED["width"]}
    points = [USUAL] + [
        USUAL | {name: value} for name, values in CHANGED.items() for value in values
        if value != USUAL[name]
    ]  # fmt: skip
    found: list[dict[str, list[float]]] = [{"rollout": [], "update": []} for _ in points]
    for turn in range(ROUNDS + 1):  # the first warms up
        for at, times in zip(points, found, strict=True):
            policy = policies[at["width"]]
            for work, measure in (("rollout", rollout_of), ("update", update_of)):
                changed = {name for name in at if at[name] != USUAL[name]}
                if work == "update" and changed & {"length", "tries", "group"}:
                    continue  # an SFT step knows none of these
                seconds = measure(side, policy, at, turn)
                times[work] += [seconds] if turn else []
    rows = [
        at | {"parameters": policies[at["width"]].n_active}
        | {work: statistics.median(t) for work, t in times.items() if t}
        for at, times in zip(points, found, strict=True)
    ]  # fmt: skip
    facts = {
        "command": "python benchmarks/growth.py", "rounds": ROUNDS, "usual": USUAL,
        "torch": torch.__version__, "commit": commit, "matmul_gflops": matmul_rate() / 1e9,
        "results": rows,
    }  # fmt: skip
    out = Path(OUT).with_name("growth.json")
    out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
