"""Digests of what must not change while the code does: items, prompts, pictures, expert answers,
the tokenizer, and (with --runs) the weights after two steps of each arm.

    python tests/digests.py            compare with tests/digests.json
    python tests/digests.py --runs     and with the last --write --runs on this machine
    python tests/digests.py --write    keep today's as what must not change

Weights depend on machine and threads, so theirs are kept under build/, which git ignores.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sftrl_lib.experiment import Experiment
from sftrl_lib.tasks import make_task

KEPT = Path(__file__).with_suffix(".json")
RUNS = Path(__file__).resolve().parents[1] / "build" / "digests-runs.json"
TASKS, ITEMS = ("gp-l", "gp-vl", "virl-l", "virl-vl"), 100


def digest(parts: Iterable[str | bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:16]


def items(name: str) -> dict[str, str]:
    """{what: digest} of the first items of every split of a task, for seed 3."""
    task, found = make_task(Experiment(task=name)), {}
    for split in task.splits:
        dealt = [task.item(split, 3, index) for index in range(ITEMS)]
        drawn = [random.Random(index) for index in range(ITEMS)]
        found[f"{name} {split} prompts"] = digest(map(task.prompt, dealt))
        found[f"{name} {split} expert answers"] = digest(map(task.expert, dealt, drawn))
        if task.pictures:
            pictures = (task.picture(item, 64).tobytes() for item in dealt)
            found[f"{name} {split} pictures"] = digest(pictures)
        if split != "train":
            asked = map(task.prompt, task.test_items(split, 3, 10))
            found[f"{name} {split} test items"] = digest(asked)
    return found


def tokenizer() -> dict[str, str]:
    from foundry.foundation import build_tokenizer

    return {"tokenizer": digest([build_tokenizer().backend_tokenizer.to_str()])}


def two_steps() -> dict[str, str]:
    """{arm: digest of its weights} after two short steps from the recorded init."""
    import torch

    from sftrl_lib.registry import METHODS
    from sftrl_lib.runner import start_policy
    from sftrl_lib.runs import Run

    torch.set_num_threads(1)
    found = {}
    for name in TASKS:
        for method in ("sft", "rl"):
            exp = Experiment(task=name, method=method, steps=2, batch=16, seed=3)
            policy, task = start_policy(exp), make_task(exp)
            with tempfile.TemporaryDirectory() as folder, Run.open(exp, folder) as run:
                METHODS[method].train(exp, policy, task, run, progress=False)
            weights = sorted(policy.model.state_dict().items())
            found[f"{name} {method}"] = digest(t.numpy().tobytes() for _, t in weights)
    return found


def everything() -> dict[str, str]:
    found = tokenizer()
    for name in TASKS:
        found |= items(name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--runs", action="store_true")
    args = parser.parse_args()
    wanted = [(KEPT, everything)] + [(RUNS, two_steps)] * args.runs
    changed = []
    for path, make in wanted:
        now = make()
        if args.write:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(now, indent=1) + "\n")
            continue
        kept = json.loads(path.read_text())
        changed += [name for name in sorted({*now, *kept}) if now.get(name) != kept.get(name)]
    print("\n".join(f"changed: {name}" for name in changed) or "nothing changed")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
