"""kill -9 at random moments of short runs: does what is resumed end as what was never killed?

    OMP_NUM_THREADS=1 python benchmarks/kill.py

Every trial is a run of its own, SFT and RL in turn, in a process that is killed at a moment drawn
uniformly from the life of the run that was not. The next life goes on in the same folder and is
killed in the same way; the third is left in peace. Equal means: the weights to the last bit, the
training log without its times, measurements, episodes, and nothing else left in the folder. Writes
data/benchmarks/kill.json; about half an hour of one core.
"""

import argparse
import collections
import contextlib
import gc
import hashlib
import json
import mmap
import os
import platform
import random
import signal
import sys
import tempfile
import time
import traceback
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from tqdm.auto import tqdm

from commons.files import write_atomic
from engine import checkpoints, trainer
from sftrl_lib import runner
from sftrl_lib.experiment import Experiment
from sftrl_lib.methods import fit
from sftrl_lib.places import ROOT
from sftrl_lib.registry import METHODS, TASKS
from sftrl_lib.runs import Run, read_manifest

OUT = ROOT / "data" / "benchmarks" / "kill.json"
LIVES = 3  # of which the last is not killed
PHASES = ("starting", "training", "saving", "measuring", "ending")
# A checkpoint after every step, two curve points, and the init's own measurement (RL).
SETTINGS = {
    "steps": 5, "batch": 8, "group": 4, "micro_batch": 4, "warmup": 0.0, "seed": 7, "tries": 1,
    "eval_points": 2, "eval_episodes": 2, "final_episodes": 2, "eval_tries": 1,
}  # fmt: skip


def watched(method: type, phase: mmap.mmap) -> None:
    """Have this process say in `phase` what it is doing."""

    def during(owner: object, name: str, here: str, after: str | None = None) -> None:
        wrapped = getattr(owner, name)

        def call(*args, **kwargs):
            before, phase[0] = phase[0], PHASES.index(here)
            try:
                return wrapped(*args, **kwargs)
            finally:
                phase[0] = PHASES.index(after) if after else before

        setattr(owner, name, call)

    during(method, "train", "training", "ending")
    during(trainer._Stepwise, "_save_checkpoint", "saving")
    for measurement in ("evaluate", "KlToInit"):
        during(runner, measurement, "measuring")
    for keep in ("add_evals", "add_episodes"):
        during(Run, keep, "measuring")


def digest(model: torch.nn.Module) -> str:
    """SHA-256 of all weights."""
    total = hashlib.sha256()
    for name, weight in model.state_dict().items():
        total.update(name.encode() + weight.detach().contiguous().numpy().tobytes())
    return total.hexdigest()


def life(exp: Experiment, root: Path, phase: mmap.mmap) -> None:
    """The run until its end, in this process; the hash of its weights stands beside its folder."""
    runner.KlToInit = partial(runner.KlToInit, answers=8)
    TASKS[exp.task.name].curve_splits = ("id_unseen",)
    runner.full_battery = lambda *_: {"id_unseen": exp.evaluation.final_episodes}
    method = METHODS[exp.method.name]
    watched(method, phase)
    fit.SAVE_EVERY = 0.0
    train = method.train

    def train_and_hash(exp, policy, *rest):
        train(exp, policy, *rest)
        write_atomic(root / "weights.sha256", digest(policy.model))

    method.train = train_and_hash
    runner.run_experiment(exp, root, progress=False)


def born(exp: Experiment, root: Path, phase: mmap.mmap) -> int:
    """The id of a process that lives this life. Forked, since the imports take longer than the run;
    this process itself computes nothing, and so has no threads that a fork would lose."""
    phase[0] = 0
    if child := os.fork():
        return child
    try:
        with open(root / "log", "a") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
            life(exp, root, phase)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def ended(child: int, within: float) -> int | None:
    """How it ended, None if it still lives after so many seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def result(exp: Experiment, root: Path) -> dict:
    """What a run came to, without its times."""
    folder = root / exp.run_id
    run = Run(folder, read_manifest(folder))
    metrics = run.metrics()
    facts = {k: run.manifest[k] for k in ("state", "hash", "compute", "compute_done", "n_active")}
    return facts | {
        "weights": (root / "weights.sha256").read_text(),
        "metrics": metrics[[c for c in metrics if "seconds" not in c]].to_json(),
        "evals": run.evals().to_json(),
        "episodes": run.episodes(),
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "kept": checkpoints._digests(folder / "weights"),
    }


def trial(exp: Experiment, reference: dict, seconds: float, rng: random.Random) -> dict:
    """Kills, resumes, and whether the end is the reference's."""
    phase, kills = mmap.mmap(-1, 1), []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for lives in range(1, LIVES + 1):
            moment = rng.uniform(0, seconds) if lives < LIVES else 600.0
            child = born(exp, root, phase)
            code = ended(child, moment)
            if code is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                kills.append({"at_s": round(moment, 3), "phase": PHASES[phase[0]]})
            else:
                break
        facts = {"method": exp.method.name, "kills": kills, "lives": lives, "equal": False}
        if code != 0:
            return facts | {"error": (root / "log").read_text()[-1500:]}
        found = result(exp, root)
    differs = [key for key in reference if found[key] != reference[key]]
    return facts | {"equal": not differs} | ({"differs": differs} if differs else {})


def unkilled(exp: Experiment) -> tuple[dict, float]:
    """The reference, and the seconds of its life."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        code = ended(born(exp, Path(folder), mmap.mmap(-1, 1)), 600.0)
        seconds = time.monotonic() - began
        if code != 0:
            raise SystemExit((Path(folder) / "log").read_text())
        return result(exp, Path(folder)), seconds


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    gc.freeze()  # the imports' memory stays shared
    rng = random.Random(args.seed)
    arms = [Experiment(method=method, lenient=True, **SETTINGS) for method in ("sft", "rl")]
    references, trials = {}, []
    for number in tqdm(range(args.trials), desc="kill", unit="run"):
        exp = arms[number % len(arms)]
        if number % 20 < len(arms):  # the machine's load changes, and the length of a life with it
            again, seconds = unkilled(exp)
            if again != references.setdefault(exp, (again, seconds))[0]:
                raise SystemExit("two runs that nobody killed differ: nothing can be compared")
            references[exp] = again, seconds
        trials.append(trial(exp, *references[exp], rng))
        while not trials[-1]["kills"]:  # it was quicker than the reference: no trial
            trials[-1] = trial(exp, *references[exp], rng)
    kills = [kill for one in trials for kill in one["kills"]]
    facts = {
        "command": " ".join(["python", "benchmarks/kill.py", *sys.argv[1:]]),
        "platform": platform.platform(), "cores": os.cpu_count(), "python": sys.version.split()[0],
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "trl")},
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "settings": SETTINGS,
        "seconds_unkilled": {e.method.name: round(s, 1) for e, (_, s) in references.items()},
        "trials": len(trials), "kills": len(kills),
        "kills_by_phase": collections.Counter(kill["phase"] for kill in kills),
        "equal": sum(one["equal"] for one in trials), "each": trials,
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    each = ",\n".join(json.dumps(one) for one in facts.pop("each"))
    head = json.dumps(facts, indent=1).removesuffix("\n}")
    write_atomic(args.out, f'{head},\n "each": [\n{each}\n]\n}}\n')
    print(f"{facts['equal']} of {facts['trials']} equal; kills {dict(facts['kills_by_phase'])}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
