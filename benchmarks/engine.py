"""How fast answers are written, before and after the engine shares what is read twice, and beside
TRL's GRPO as it comes: rollouts, evaluation and RL steps of each task on the same deals.

Run `python benchmarks/engine.py` on an idle machine (half an hour on one core; `--quick`: minutes);
it writes data/benchmarks/engine.json. `--before` names the commit to compare with: its library is
unpacked into a temporary folder and run by a process of its own. All processes are pinned to one
core, use one thread and take turns, so that what disturbs one disturbs all; times are of the CPU,
the best of ROUNDS.
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
OUT = HOME / "data" / "benchmarks" / "engine.json"
BEFORE = "8a706a6"  # the last commit whose tries read their conversation again
ROUNDS, GROUP, SEED = 3, 8, 100
WORK = ("rollout", "evaluation", "rl step")
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

            self.train = METHODS["rl"].train
            self.replace, self.settings = Experiment.replace, "flat"
        else:
            from sftrl_lib.config import Experiment
            from sftrl_lib.experiments import start_policy
            from sftrl_lib.rl import train_rl

            self.train = train_rl
            self.replace, self.settings = Experiment.but, "__dict__"
        self.experiment, self.start_policy = Experiment, start_policy


class Side:
    """What one version of the library is asked to do."""

    def __init__(self, task: str, deals: int) -> None:
        import torch

        from sftrl_lib.tasks import make_task

        torch.set_num_threads(1)
        self.deals, self.code = deals, Library()
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

    def rl_step(self, turn: int) -> float:
        import copy

        class Log:
            rows: list[dict] = []

            def log(self, **row) -> None:
                self.rows.append(row)

        exp, run = self.seeded(turn), Log()
        with tempfile.TemporaryDirectory() as folder:
            run.path = Path(folder)
            policy = copy.deepcopy(self.policy)
            self.code.train(exp, policy, self.task, run, progress=False)
        return run.rows[-1]["solved"]

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
        print(json.dumps([time.process_time() - began, value]), file=answers, flush=True)


def matmul_rate(size: int = 1024, repeats: int = 20) -> float:
    """Operations a second of a float32 matrix product, the best of `repeats`."""
    import torch

    torch.set_num_threads(1)
    a, best = torch.randn(size, size), 0.0
    for _ in range(repeats):
        began = time.perf_counter()
        a @ a
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def unpack(commit: str, folder: Path) -> None:
    whole = subprocess.run(
        ["git", "archive", commit, "sftrl_lib", "pyproject.toml"],
        cwd=HOME, check=True, capture_output=True,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(whole)) as packed:
        packed.extractall(folder, filter="data")
    (folder / "data").symlink_to(HOME / "data")


def start(home: Path, deals: int, said: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--serve", "--deals", str(deals)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": said.open("w")}
    return subprocess.Popen(command, cwd=home, env=environment, text=True, **pipes)


def ask(side: subprocess.Popen, said: Path, *job) -> tuple[float, float]:
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
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rounds, results = 1 if args.quick else ROUNDS, []
    with tempfile.TemporaryDirectory() as folder:
        unpack(args.before, Path(folder))
        homes = {"before": Path(folder), "after": HOME}
        said = {name: Path(folder) / f"{name}.log" for name in homes}
        sides = {name: start(home, args.deals, said[name]) for name, home in homes.items()}
        for task in args.tasks:
            for work in WORK:
                who = {name: (name, work) for name in sides}
                if work == "rl step" and not task.endswith("-vl"):  # TRL knows no such pictures
                    who["stock TRL, one try"] = "after", "stock"
                found = {name: [] for name in who}
                for turn in range(rounds):
                    for name, (side, job) in who.items():
                        found[name].append(ask(sides[side], said[side], task, job, turn))
                row = {
                    "task": task, "work": work,
                    "seconds": {name: min(t for t, _ in f) for name, f in found.items()},
                    "solved": {n: statistics.mean(v for _, v in f) for n, f in found.items()},
                }  # fmt: skip
                results.append(row)
                times = "".join(f"{name} {t:6.2f} s  " for name, t in row["seconds"].items())
                ratio = row["seconds"]["before"] / row["seconds"]["after"]
                print(f"{task:8}{work:12}{times}{ratio:5.2f} times faster", flush=True)
        for side in sides.values():
            side.stdin.close()
            side.wait()
    if args.quick:
        return None
    import torch

    facts = {
        "command": "python benchmarks/engine.py", "before": args.before, "rounds": rounds,
        "deals": args.deals, "group": GROUP, "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(), "load_average": os.getloadavg()[0], "torch": torch.__version__,
        "matmul_gflops": matmul_rate() / 1e9, "results": results,
    }  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(facts, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
