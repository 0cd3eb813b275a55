"""How fast the engine is: rollouts, evaluation, RL and SFT steps of each task, on the same deals,
beside the code of the first edition; and a one-try RL step beside TRL's GRPO as it comes and beside
a loop written by hand.

Run `python benchmarks/speed.py` (half an hour on one idle core; `--quick`: minutes); it writes
data/benchmarks/speed.json. `--before` names the commit to compare with: its library is unpacked
into a temporary folder and run by a process of its own. All processes are pinned to one core, use
one thread and take turns, so that what disturbs one disturbs all. Times are of the CPU, the median
of ROUNDS; a busy program beside them makes them longer, the ratios hardly.

"matmul_share" is the share of the rate of a large matrix product that a step has, counting 6 N
operations for each token that was run forward and backward and 2 N for each that was run forward, N
being the parameters a text token passes through; tokens that are shared count once.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).parents[1]
OUT = HOME / "data" / "benchmarks" / "speed.json"
BEFORE = "8a706a6"  # the last commit whose tries read their conversation again
ROUNDS, GROUP, SEED = 3, 8, 100
PACKAGES = ("commons", "engine", "foundry", "sftrl_lib", "study", "worlds")
WORK = ("rollout", "evaluation", "rl step", "sft step", "rl step of one try")
TASKS = ("gp-l", "virl-l", "gp-vl", "virl-vl")


class Library:
    """The process's own `sftrl_lib`, of today or of BEFORE, when things had other names."""

    def __init__(self) -> None:
        import sftrl_lib

        # Whether it can be imported says nothing: what is missing is found where pip installed it.
        if (Path(sftrl_lib.__file__).parent / "registry.py").exists():
            from sftrl_lib.experiment import Experiment
            from sftrl_lib.registry import METHODS
            from sftrl_lib.runner import start_policy

            self.train = {name: METHODS[name].train for name in ("rl", "sft")}
            self.replace, self.settings = Experiment.replace, "flat"
        else:
            from sftrl_lib.config import Experiment
            from sftrl_lib.experiments import start_policy
            from sftrl_lib.rl import train_rl
            from sftrl_lib.sft import train_sft

            self.train = {"rl": train_rl, "sft": train_sft}
            self.replace, self.settings = Experiment.but, "__dict__"
        self.experiment, self.start_policy = Experiment, start_policy


class Side:
    """What one version of the library is asked to do."""

    def __init__(self, task: str, deals: int) -> None:
        import torch

        from sftrl_lib.tasks import make_task

        torch.set_num_threads(1)
        self.deals, self.code, self.operations = deals, Library(), 0
        self.exp = self.code.experiment(
            task=task, method="rl", steps=1, batch=deals * GROUP, seed=SEED, warmup=0.0,
            eval_episodes=deals * GROUP if task.startswith("gp") else deals,
        )  # fmt: skip
        self.settings = getattr(self.exp, self.code.settings)
        self.policy, self.task = self.code.start_policy(self.exp), make_task(self.exp)

    def seeded(self, turn: int):
        return self.code.replace(self.exp, seed=SEED + turn)

    def rollout(self, turn: int) -> float:
        import torch

        from sftrl_lib.rollout import rollout

        drawn = [self.task.item("train", SEED + turn, i) for i in range(self.deals)]
        episodes = rollout(
            self.policy, self.task, [deal for deal in drawn for _ in range(GROUP)],
            tries=self.settings["tries"], max_new_tokens=self.settings["max_new_tokens"],
            temperature=1.0, generator=torch.Generator().manual_seed(turn),
        )  # fmt: skip
        return sum(e.solved for e in episodes) / len(episodes)

    def evaluation(self, turn: int) -> float:
        from sftrl_lib.evaluate import evaluate

        splits = {"id_unseen": self.settings["eval_episodes"]}
        rows, _ = evaluate(self.policy, self.task, self.seeded(turn), splits, progress=False)
        return rows[0]["value"]

    def step(self, exp) -> dict:
        """The log of one step from a copy of the policy."""
        import copy

        class Log:
            rows: list[dict] = []

            def log(self, **row) -> None:
                self.rows.append(row)

        run = Log()
        with tempfile.TemporaryDirectory() as folder:
            run.path = Path(folder)
            policy = copy.deepcopy(self.policy)
            self.code.train[exp.method if isinstance(exp.method, str) else exp.method.name](
                exp, policy, self.task, run, progress=False
            )
        row = run.rows[-1]
        done = 6 * row["done_train_tokens"] + 2 * row["done_rollout_tokens"]
        self.operations = done * policy.n_active
        return row

    def rl_step(self, turn: int) -> float:
        return self.step(self.seeded(turn))["solved"]

    def rl_step_of_one_try(self, turn: int) -> float:
        return self.step(self.code.replace(self.seeded(turn), tries=1))["solved"]

    def sft_step(self, turn: int) -> float:
        settings = {"task": self.task.name, "method": "sft", "steps": 1, "warmup": 0.0}
        return self.step(self.code.experiment(seed=SEED + turn, **settings))["loss"]

    def by_hand(self, turn: int) -> float:
        """The same as `stock` in plain torch: a cache, one draw a row, padded rows, no trainer."""
        import copy

        import torch
        from torch.nn.utils.rnn import pad_sequence
        from transformers import DynamicCache

        policy, model = self.policy, copy.deepcopy(self.policy.model)
        deals = [self.task.item("train", SEED + turn, i) for i in range(self.deals)]
        asked = [policy.first_turn(self.task.prompt(deal)) for deal in deals]
        prompts = [torch.tensor(ids) for ids in asked for _ in range(GROUP)]
        ids = pad_sequence(prompts, True, 0, "left")
        seen = pad_sequence([torch.ones_like(p) for p in prompts], True, 0, "left")
        width, cache, new = ids.size(1), DynamicCache(), ids
        going = torch.ones(len(ids), dtype=torch.bool)
        ends = torch.tensor(sorted(policy.end_ids))
        with torch.no_grad():
            while going.any() and ids.size(1) < width + self.settings["max_new_tokens"]:
                places = (seen.cumsum(1) - 1).clamp_min(0)[:, -new.size(1) :]
                logits = model(
                    input_ids=new, attention_mask=seen, position_ids=places, past_key_values=cache,
                    logits_to_keep=1,
                ).logits[:, -1]  # fmt: skip
                new = torch.multinomial(logits.softmax(-1), 1)
                ids = torch.cat([ids, new], 1)
                seen = torch.cat([seen, going[:, None].long()], 1)
                going = going & ~torch.isin(new[:, 0], ends)
        answers, written = ids[:, width:], seen[:, width:].bool()
        texts = [policy.decode(a[w].tolist()) for a, w in zip(answers, written, strict=True)]
        verdicts = [self.task.verify(deals[i // GROUP], text) for i, text in enumerate(texts)]
        rewards = torch.tensor([v.reward for v in verdicts]).view(-1, GROUP)
        advantages = (
            (rewards - rewards.mean(1, True)) / (rewards.std(1, keepdim=True) + 1e-4)
        ).view(-1)
        optimizer = torch.optim.AdamW(model.parameters(), self.settings["lr"], weight_decay=0.0)
        places = (seen.cumsum(1) - 1).clamp_min(0)
        for rows in advantages.nonzero()[:, 0].split(16):
            logits = model(
                input_ids=ids[rows], attention_mask=seen[rows], position_ids=places[rows],
                logits_to_keep=answers.size(1) + 1,
            ).logits[:, :-1]  # fmt: skip
            chances = logits.log_softmax(-1).gather(2, answers[rows][:, :, None])[:, :, 0]
            loss = -(advantages[rows, None] * chances * written[rows]).sum() / written.sum()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return sum(v.ok for v in verdicts) / len(verdicts)

    def stock(self, turn: int) -> float:
        """A step of TRL's GRPO with transformers' `generate`: one try, the verdict as reward, one
        update of one batch."""
        import copy

        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        deals = [self.task.item("train", SEED + turn, i) for i in range(self.deals)]
        asked = {self.task.prompt(deal): deal for deal in deals}
        policy = self.policy
        scored: list[bool] = []

        def reward(prompts, completions, **_) -> list[float]:
            said = (c[0]["content"] for c in completions)
            verdicts = [
                self.task.verify(asked[p[-1]["content"]], text)
                for p, text in zip(prompts, said, strict=True)
            ]
            scored.extend(v.ok for v in verdicts)
            return [v.reward for v in verdicts]

        with tempfile.TemporaryDirectory() as folder:
            config = GRPOConfig(
                output_dir=folder, max_steps=1, per_device_train_batch_size=self.deals * GROUP,
                num_generations=GROUP, max_completion_length=self.settings["max_new_tokens"],
                learning_rate=self.settings["lr"], beta=0.0, temperature=1.0, top_k=0, use_cpu=True,
                bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
                disable_tqdm=True, shuffle_dataset=False,
            )  # fmt: skip
            rows = [{"prompt": [{"role": "user", "content": text}]} for text in asked]
            GRPOTrainer(
                model=copy.deepcopy(policy.model), args=config, processing_class=policy.tokenizer,
                train_dataset=Dataset.from_list(rows), reward_funcs=reward,
            ).train()  # fmt: skip
        return sum(scored) / len(scored)


def serve(deals: int) -> None:
    """Do what the lines of the standard input say; answer each with a line of JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr
    sides: dict[str, Side] = {}
    for line in sys.stdin:
        task, work, turn = json.loads(line)
        if task not in sides:
            sides[task] = Side(task, deals)
        began = time.process_time()
        value = getattr(sides[task], work.replace(" ", "_"))(turn)
        took = time.process_time() - began
        print(json.dumps([took, value, sides[task].operations]), file=answers, flush=True)


def matmul_rate(size: int = 1024, repeats: int = 20) -> float:
    """Operations a second of CPU time of a float32 matrix product, the best of `repeats`."""
    import torch

    torch.set_num_threads(1)
    a, best = torch.randn(size, size), 0.0
    for _ in range(repeats):
        began = time.process_time()
        a @ a
        best = max(best, 2 * size**3 / (time.process_time() - began))
    return best


def pin() -> None:
    """Keep this process, and those that it starts, on one core where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def revision() -> str:
    """The commit that is measured. A record is never made of files that are in none."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    found = subprocess.run(command, cwd=HOME, check=True, capture_output=True, text=True).stdout
    if found.strip().endswith("-dirty"):
        raise SystemExit("commit your changes first: what is recorded names the commit")
    return found.strip()


def unpack(commit: str, folder: Path, wanted: tuple[str, ...] = PACKAGES) -> None:
    """The packages that the library of a commit is made of."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=HOME, check=True, capture_output=True).stdout

    there = set(git("ls-tree", "--name-only", commit).decode().split())
    whole = git("archive", commit, "pyproject.toml", *(p for p in wanted if p in there))
    with tarfile.open(fileobj=io.BytesIO(whole)) as packed:
        packed.extractall(folder, filter="data")
    (folder / "data").symlink_to(HOME / "data")


def start(home: Path, deals: int, said: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--serve", "--deals", str(deals)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": said.open("w")}
    return subprocess.Popen(command, cwd=home, env=environment, text=True, **pipes)


def ask(side: subprocess.Popen, said: Path, *job) -> tuple[float, float, float]:
    print(json.dumps(job), file=side.stdin, flush=True)
    if not (answer := side.stdout.readline()):
        raise SystemExit(f"it failed at {job}: {said.read_text()[-2000:]}")
    return tuple(json.loads(answer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--deals", type=int, default=32, help=f"deals, each played {GROUP} times")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--quick", action="store_true", help="one round, nothing is written")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.deals)
    pin()
    rounds, results = 1 if args.quick else ROUNDS, []
    commit = "" if args.quick else revision()
    with tempfile.TemporaryDirectory() as folder:
        unpack(args.before, Path(folder))
        homes = {"before": Path(folder), "after": HOME}
        said = {name: Path(folder) / f"{name}.log" for name in homes}
        sides = {name: start(home, args.deals, said[name]) for name, home in homes.items()}
        for task in args.tasks:
            for work in WORK:
                who = {name: (name, work) for name in sides}
                if work == "rl step of one try":
                    who |= {"by hand": ("after", "by hand"), "stock TRL": ("after", "stock")}
                    if task.endswith("-vl"):  # TRL knows no such pictures
                        continue
                found = {name: [] for name in who}
                rates = []
                for turn in range(rounds):
                    rates.append(matmul_rate())
                    for name, (side, job) in who.items():
                        found[name].append(ask(sides[side], said[side], task, job, turn))
                seconds = {name: statistics.median(t for t, *_ in f) for name, f in found.items()}
                row = {
                    "task": task, "work": work, "seconds": seconds,
                    "times_faster": {n: t / seconds["after"] for n, t in seconds.items()},
                    "value": {n: statistics.mean(v for _, v, _ in f) for n, f in found.items()},
                }  # fmt: skip
                if "step" in work:
                    done = statistics.median(o / t for t, _, o in found["after"])
                    row["matmul_share"] = done / statistics.median(rates)
                results.append(row)
                times = "".join(f"{name} {t:6.2f} s  " for name, t in seconds.items())
                print(f"{task:8}{work:20}{times}", flush=True)
        for side in sides.values():
            side.stdin.close()
            side.wait()
    if args.quick:
        return None
    import torch

    facts = {
        "command": "python benchmarks/speed.py", "before": args.before, "rounds": rounds,
        "deals": args.deals, "group": GROUP, "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(), "load_average": os.getloadavg()[0], "torch": torch.__version__,
        "commit": commit, "matmul_gflops": matmul_rate() / 1e9, "results": results,
    }  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(facts, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
