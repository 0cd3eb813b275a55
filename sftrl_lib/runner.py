"""One run, from its settings to the rows in its folder."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from commons.errors import SftrlError
from commons.processes import LOCAL_RANK, RANK
from engine.adapters import read_adapter
from engine.compute import Compute
from engine.load import need_machine
from engine.policy import Policy

from . import planning
from .evaluate import TEMPERATURES, KlToInit, evaluate, full_battery
from .experiment import Experiment
from .places import ROOT
from .policies import load_policy
from .registry import METHODS
from .runs import (
    LIVE,
    RUNS,
    YOURS,
    Run,
    episode_row,
    experiment_of,
    find_run,
    is_done,
    read_manifest,
)
from .tasks import make_task

INIT = ROOT / "data" / "init"  # weights of the recorded inits
WEIGHTS_OF_RUN = "weights"  # in a run's folder: what was trained
_TRAINED_ON = ("rule", "color")  # of a task: an init of the reverse direction is another one
SHOWN = 12  # episodes of each split that are kept to be looked at, at both ends of training
SHOWN_BETWEEN = 6  # and at the points of the curve: most of what a run folder weighs
SHOWN_PICTURES = 60  # the same of pictures, at both ends of training: what was misread as what


def recorded_weights(exp: Experiment) -> Path:
    """Where the recorded init of a task, a foundation model and a rule of training has its
    weights."""
    trained_on = [str(exp.differences[name]) for name in _TRAINED_ON if name in exp.differences]
    return INIT / exp.task.name / "-".join([exp.model.foundation, *trained_on])


def has_recorded_init(exp: Experiment) -> bool:
    """Whether arms of these settings start from a recorded init: that of our model, on our data."""
    ours = exp.model.ours and not exp.task.data()
    return ours and bool(list(recorded_weights(exp).glob("*.safetensors")))


def init_folder(exp: Experiment) -> Path:
    """Where the weights of the init lie that an experiment starts from: a recorded one, or those of
    the run of yours that made it, for the same model and data."""
    if has_recorded_init(exp):
        return recorded_weights(exp)
    own = {"task": exp.task.name, "method": "init", **settings_of_init(exp)}
    usual = YOURS / Experiment(**own).run_id
    fit = []
    for folder in (usual, *sorted(YOURS.glob(f"{exp.task.name}-init-{exp.model.preset}-*"))):
        if is_done(folder) and _is_init_of(read_manifest(folder), exp):
            fit.append(folder)
    if len(fit) > 1 and fit[0] != usual:
        raise SftrlError(
            f"several inits fit this run: {', '.join(f.name for f in fit)}; name one with "
            f"start={fit[0] / WEIGHTS_OF_RUN}, or move the others out of {YOURS}."
        )
    return (fit or [usual])[0] / WEIGHTS_OF_RUN


def settings_of_init(exp: Experiment) -> dict[str, Any]:
    """What an experiment says of its init, as far as it is not the default."""
    names = ("foundation", "preset", "model", "precision", "rank", "routes", "ood_routes")
    differences = exp.differences
    changed = {n: differences[n] for n in (*names, *_TRAINED_ON) if n in differences}
    return changed | ({"preset": exp.model.preset} if exp.model.preset != "tiny" else {})


def _is_init_of(manifest: Mapping[str, Any], exp: Experiment) -> bool:
    """Whether a run is of the experiment's model, at its precision, and trained on its routes."""

    def start(exp: Experiment, data: Mapping[str, str]) -> tuple:
        own = exp.model
        which = own.preset, own.model, own.rank, own.foundation
        return *which, exp.task.name, data.get("routes"), exp.model.resolved[0]

    made = experiment_of(manifest["config"])
    return start(made, manifest.get("data", {})) == start(exp, exp.task.data())


def start_policy(exp: Experiment) -> Policy:
    """What a run starts from: the init calls for the foundation model, arms for the init, unless
    `exp.model.start` says otherwise."""
    need_machine(exp.model)
    if exp.model.start not in ("init", "model"):
        return _named_start(exp, Path(exp.model.start))
    if not METHODS[exp.method.name].is_arm or exp.model.start == "model":
        return load_policy(exp)
    folder = init_folder(exp)
    if not list(folder.glob("*.safetensors")):
        given = settings_of_init(exp).items()
        which = "".join(f" --{name} {value}" for name, value in given)
        raise SftrlError(
            f"there are no weights of the init in {folder}; make them with 'python -m sftrl_lib "
            f"init --task {exp.task.name}{which}', or start without one (start=model), or from a "
            "folder of weights, or a Hub id (start=NAME)."
        )
    return load_policy(exp, folder)


def _named_start(exp: Experiment, folder: Path) -> Policy:
    """The policy in a folder, or of a Hub id."""
    adapter = read_adapter(folder)
    rank = adapter.get("r", exp.model.rank)
    if rank != exp.model.rank:
        raise SftrlError(
            f"the adapter in {folder} has rank {rank}, and the run's rank is {exp.model.rank}; set "
            f"rank={rank}, or start from a whole checkpoint."
        )
    if adapter and exp.model.resolved[0] == "full":
        raise SftrlError(
            f"{folder} holds an adapter, and precision full trains all weights; use precision="
            "lora, or start from the whole checkpoint that 'python -m sftrl_lib merge' makes."
        )
    return load_policy(exp, folder if folder.is_dir() else exp.model.start)


def recorded_init(exp: Experiment) -> Run | None:
    """The run of the init that `exp` starts from, or is."""
    if not has_recorded_init(exp):
        folder = init_folder(exp).parent
        return Run(folder, read_manifest(folder)) if is_done(folder) else None
    for path in sorted(RUNS.glob(f"{exp.task.name}-init-{exp.model.preset}-*/manifest.json")):
        facts = read_manifest(path.parent)
        if recorded_weights(experiment_of(facts["config"])) == recorded_weights(exp):
            return Run(path.parent, facts)
    return None


class _Recorder:
    """Measures the policy of a run at its checkpoints, and keeps what it measured."""

    def __init__(
        self, exp: Experiment, run: Run, task: Any, policy: Policy, final: dict | None,
        curve: dict | None, bar: bool, kl: bool,
    ) -> None:  # fmt: skip
        self.exp, self.run, self.task, self.bar = exp, run, task, bar
        is_arm = METHODS[exp.method.name].is_arm
        # Where the compute axis of all arms begins (paper, Fig. 5).
        self.init = recorded_init(exp) if is_arm and exp.model.start == "init" else None
        self.base = self.init.manifest.get("compute", 0.0) if self.init else 0.0
        if self.init:
            run.note(init=self.init.manifest["hash"])
        self.kl = KlToInit(policy, task, exp) if kl and is_arm and not RANK else None
        self.full = full_battery(exp, task) if final is None else final
        self.temperatures = TEMPERATURES if final is None else ()
        each = dict.fromkeys(task.curve_splits, exp.evaluation.eval_episodes)
        self.curve = each if curve is None else curve

    def init_is_measured(self) -> bool:
        """Whether the init's own run has measured it on this seed's deals."""
        if self.init is None or self.exp.seed not in set(self.init.evals().seed):
            return False
        return self.init.manifest.get("data", {}) == self.exp.task.data()

    def __call__(self, policy: Policy, step: int, compute: Compute, **columns: Any) -> None:
        """Keep result rows and a sample of the episodes behind them, which all processes play."""
        last, n, run = self.exp.method.steps, policy.n_active, self.run
        whole = step in (0, last)
        splits, also = (self.full, self.temperatures) if whole else (self.curve, ())
        spent = self.base + compute.flops(n)
        done = self.base + compute.done_flops(n)
        facts = {"step": step, "compute": spent, "compute_done": done, **columns}
        rows, played = evaluate(policy, self.task, self.exp, splits, self.bar, also)
        if RANK:
            return
        rows += [self.kl.row(policy)] if self.kl else []
        run.add_evals(row | facts for row in rows)
        if torch.cuda.is_available():
            run.note(peak_gpu_memory_mb=torch.cuda.max_memory_reserved() // 2**20)
        ends = SHOWN_PICTURES if self.task.pictures else SHOWN
        shown = ends if whole else SHOWN_BETWEEN
        run.add_episodes(
            episode_row(self.task.prompt(e.item), e, step=step, split=split, index=i, **columns)
            for split, episodes in played.items()
            for i, e in enumerate(episodes[:shown])
        )
        if step == last:
            run.note(compute=spent, compute_done=done, n_active=n)


def run_experiment(
    exp: Experiment, root: Path = LIVE, progress: bool = True, final: dict[str, int] | None = None,
    kl: bool = True, curve: dict[str, int] | None = None,
) -> Run:  # fmt: skip
    """Train, measure along the way, keep everything in a run folder; a finished run is only opened.

    `final` ({split: episodes}) replaces the full battery at the last step, `curve` what is measured
    before; without `kl` the KL to the init, which costs 256 more answers, is not measured. Ctrl-C
    leaves a folder from which the same call goes on.
    """
    method = METHODS[exp.method.name]
    records_init = not method.is_arm and Path(root) == RUNS
    before = recorded_init(exp) if records_init and has_recorded_init(exp) else None
    if before and before.manifest["hash"] != exp.hash:
        raise SftrlError(
            f"foundation {exp.model.foundation} has an init with other settings in {RUNS}, and "
            "recorded runs start from it; give --root another folder, or delete that run to "
            "replace it."
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(LOCAL_RANK)
        torch.cuda.reset_peak_memory_stats()
    if not is_done(folder := find_run(exp, Path(root))):
        exp = planning.settled(exp, method.stage, folder)
        planning.require(exp, method.stage)
    run = Run.open(exp, root)
    if run.done:
        return run
    with run:
        task, policy = make_task(exp), start_policy(exp)
        if progress and not RANK:
            tqdm.write(f"precision {policy.precision}: {policy.why}")
            if exp.defaults_by_size:
                tqdm.write(exp.defaults_by_size)
        measure = _Recorder(exp, run, task, policy, final, curve, progress, kl)
        begins = "step" not in run.metrics() or not (run.evals().step == 0).any()
        if method.measures_init and final is None and begins and not measure.init_is_measured():
            # The init on this seed's own deals: the other half of the pair with all arms.
            lr = exp.replace(method="init").method.lr
            measure(policy, 0, Compute(), method="init", lr=lr, train_tries=1)
        if not method.is_arm and not exp.model.ours and begins:  # before any training: zero-shot
            measure(policy, 0, Compute(), method="base", lr=0.0)
        method.train(exp, policy, task, run, measure, progress and not RANK)
        if RANK:
            return run
        if records_init:
            save_whole(policy, recorded_weights(exp))
        if exp.machine.keep != "none" or not method.is_arm:
            save_whole(policy, run.path / WEIGHTS_OF_RUN)
    return run


def save_whole(policy: Policy, folder: Path) -> None:
    """Writes beside, then renames: whoever finds weights in `folder` finds all of them."""
    partial = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    policy.save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
