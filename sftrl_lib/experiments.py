"""One run from configuration to rows, and the grid of runs behind the book's results."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .config import Experiment
from .errors import SftrlError
from .evaluate import CURVE_SPLITS, KlToInit, evaluate, full_battery
from .policy import Policy, load_policy
from .rl import train_rl
from .runs import LIVE, ROOT, RUNS, Compute, Run, episode_row, read_manifest, write_results
from .sft import train_sft
from .tasks.base import Task
from .tasks.general_points import GeneralPoints

INIT = ROOT / "data" / "init"  # weights of the SFT init that both arms start from
TEST_SEEDS = (0, 1, 2, 3, 4)
SHOWN = 12  # episodes of each split that are kept to be looked at


def make_task(exp: Experiment) -> Task:
    """The task of an experiment."""
    return GeneralPoints(exp.rule, exp.ood_rule, target=exp.target, scheme=exp.scheme)


def measure(
    exp: Experiment, policy: Policy, task: Task, run: Run, splits: dict[str, int], *, step: int,
    spent: tuple[float, float], kl: KlToInit | None = None, progress: bool = True, **columns,
) -> None:  # fmt: skip
    """Evaluate and keep the rows and a sample of the episodes. `spent`: (compute, compute_done)."""
    rows, played = evaluate(policy, task, exp, splits, progress)
    if kl:
        rows.append(kl.row(policy))
    facts = {"step": step, "compute": spent[0], "compute_done": spent[1], **columns}
    run.add_evals(row | facts for row in rows)
    run.add_episodes(
        episode_row(task.prompt(e.item), e, step=step, split=split, index=i, **columns)
        for split, episodes in played.items()
        for i, e in enumerate(episodes[:SHOWN])
    )


def init_folder(exp: Experiment) -> Path:
    """Where the init of a foundation model lies."""
    return INIT / exp.foundation


def start_policy(exp: Experiment) -> Policy:
    """What a run starts from: the init calls for the foundation model, both arms for the init."""
    tiny = exp.preset == "tiny" and not exp.model
    if exp.method == "init" or not tiny:
        return load_policy(exp)
    folder = init_folder(exp)
    if not (folder / "model.safetensors").exists():
        raise SftrlError(
            f"there are no weights of the init in {folder}; make them with 'python -m sftrl_lib init "
            f"--foundation {exp.foundation}'."
        )
    return load_policy(exp, folder)


def init_compute(exp: Experiment) -> float:
    """6 N D_init, where the compute axis of both arms begins (paper, Fig. 5); 0 for unknown inits."""
    for manifest in sorted(RUNS.glob("*-init-*/manifest.json")):
        facts = read_manifest(manifest.parent)
        if facts["config"]["foundation"] == exp.foundation and facts["config"]["preset"] == exp.preset:
            return float(facts.get("compute", 0.0))
    return 0.0


def run_experiment(
    exp: Experiment, root: Path = LIVE, progress: bool = True, final: dict[str, int] | None = None
) -> Run:
    """Train, measure along the way, keep everything in a run folder; a finished run is only opened.

    `final` ({split: episodes}) replaces the full battery at the last step. Ctrl-C leaves a folder
    from which the same call goes on.
    """
    run = Run.open(exp, root)
    if run.done:
        return run
    with run:
        task, policy = make_task(exp), start_policy(exp)
        base = 0.0 if exp.method == "init" else init_compute(exp)
        kl = KlToInit(policy, task, exp) if exp.method != "init" else None
        splits = full_battery(exp) if final is None else final

        def on_checkpoint(policy: Policy, step: int, compute: Compute) -> None:
            n = policy.n_active
            spent = (base + compute.flops(n), base + compute.done_flops(n))
            last = step == exp.steps
            chosen = splits if last else dict.fromkeys(CURVE_SPLITS, exp.eval_episodes)
            measure(exp, policy, task, run, chosen, step=step, spent=spent, kl=kl, progress=progress)
            if last:
                run.note(compute=spent[0], compute_done=spent[1], n_active=n)

        train = train_rl if exp.method == "rl" else train_sft
        train(exp, policy, task, run, on_checkpoint, progress)
        if exp.method == "init" and Path(root) == RUNS:
            policy.save(init_folder(exp))
    return run


def measure_init(exp: Experiment, seed: int, progress: bool = True) -> None:
    """The init's rows on one seed's own deals: the other half of the pair with each arm of that seed."""
    run = Run.open(exp, RUNS)
    facts, rows = run.manifest, run.evals()
    if ((rows.seed == seed) & (rows.metric == "success")).any():
        return
    there = exp.but(seed=seed)
    policy = load_policy(exp, init_folder(exp))
    spent = (facts["compute"], facts["compute_done"])
    measure(there, policy, make_task(exp), run, full_battery(there), step=exp.steps, spent=spent,
            progress=progress, seed=seed)  # fmt: skip
    zero = {"split": "id_unseen", "metric": "kl_to_init", "tries": 1, "successes": None, "n": 0,
            "value": 0.0, "lo": None, "hi": None}  # fmt: skip
    run.add_evals([zero | dict(step=exp.steps, seed=seed, compute=spent[0], compute_done=spent[1])])


# --- the grid ----------------------------------------------------------------------------------------
def main_grid(seeds=TEST_SEEDS, **changes) -> list[Experiment]:
    """Both arms of every seed at the preset's settings."""
    return [Experiment(method=m, seed=s, **changes) for s in seeds for m in ("rl", "sft")]


def tries_ablation(seeds=TEST_SEEDS[:2]) -> list[Experiment]:
    """RL with 1, 5 and 10 verification iterations (paper, Fig. 10); the main grid has 3. Deals a step are
    fewer where tries are more: the compute stays about that of the main grid."""
    return [Experiment(method="rl", seed=s, tries=t) for t in (1, 5, 10) for s in seeds]


def book_runs(workers: int = 2, only_estimate: bool = False) -> None:
    """Every run that the book shows: the init, both arms on the test seeds, the ablation of tries."""
    init = Experiment(method="init")
    curve = dict.fromkeys(CURVE_SPLITS, init.eval_episodes)
    runs = [*main_grid(), *tries_ablation()]
    if only_estimate:
        print(f"{estimate(runs) / 60:.0f} core-minutes left of {len(runs)} runs")
        return
    run_experiment(init, RUNS, final={})  # measured on every seed's own deals below
    for seed in TEST_SEEDS:
        measure_init(init, seed)
    run_grid(main_grid(), RUNS, workers)
    run_grid(tries_ablation(), RUNS, workers, final=curve)
    write_results()


def estimate(experiments: list[Experiment], root: Path = RUNS) -> float:
    """Seconds of one core for the runs that are not done, from the recorded runs of the same method
    (nan if there are none)."""
    known: dict[str, list[float]] = {}
    for path in RUNS.glob("*/manifest.json"):
        facts = read_manifest(path.parent)
        if facts["state"] == "done":
            per_step = facts["wall_s"] / facts["config"]["steps"]
            known.setdefault(facts["config"]["method"], []).append(per_step)
    total = 0.0
    for exp in experiments:
        folder = root / f"{exp.task}-{exp.method}-{exp.preset}-s{exp.seed}-{exp.hash[:8]}"
        if not (folder / "manifest.json").exists() or read_manifest(folder)["state"] != "done":
            times = known.get(exp.method)
            total += exp.steps * (sum(times) / len(times) if times else float("nan"))
    return total


def _worker(exp: Experiment, root: Path, final: dict | None) -> str:
    torch.set_num_threads(1)
    return run_experiment(exp, root, progress=False, final=final).path.name


def run_grid(
    experiments: list[Experiment], root: Path = RUNS, workers: int = 2, final: dict | None = None
) -> None:
    """Run all, `workers` at a time, one thread each (two such runs beat one with two threads). Stop
    it at any time; the same command goes on. Rebuilds data/results.csv when root is data/runs."""
    seconds = estimate(experiments, root)
    about = f"about {seconds / 60 / workers:.0f} minutes" if seconds == seconds else "a time not yet known"
    print(f"{len(experiments)} runs, {workers} at a time: {about}. Ctrl-C stops; the same command goes on.")
    context = multiprocessing.get_context("spawn")
    bar = tqdm(total=sum(e.steps for e in experiments), desc="grid", unit="step", smoothing=0)
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        waiting = {pool.submit(_worker, e, root, final): e for e in experiments}
        try:
            while waiting:
                done, _ = concurrent.futures.wait(waiting, timeout=2)
                for future in done:
                    waiting.pop(future)
                    tqdm.write(f"{time.strftime('%H:%M')} {future.result()} is done")
                bar.n = sum(_steps_done(e, root) for e in experiments)
                bar.refresh()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    bar.close()
    if Path(root) == RUNS:
        write_results()


def _steps_done(exp: Experiment, root: Path) -> int:
    log = root / f"{exp.task}-{exp.method}-{exp.preset}-s{exp.seed}-{exp.hash[:8]}" / "metrics.jsonl"
    return min(exp.steps, log.read_bytes().count(b"\n")) if log.exists() else 0
