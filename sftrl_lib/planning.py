"""Does an experiment fit into this machine? Its settings as `engine.memory` needs them."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig

from commons.errors import SftrlError
from commons.processes import WORLD
from engine import memory
from engine.memory import GB, STAGES, Phases, Plan, Shape

from .evaluate import kl_rows
from .experiment import ROWS, Experiment
from .policies import source_of
from .registry import METHODS
from .runs import read_manifest
from .tasks import make_task

AUTO = 0.85  # of what is free: a stage may take as much more than it was planned to


def architecture(exp: Experiment) -> PretrainedConfig:
    """The configuration of an experiment's model; those of the GPU's tiers are published, and known
    before anything is downloaded."""
    if (published := exp.model.tier.config) and not exp.model.model:
        return AutoConfig.for_model(**published)
    try:
        return AutoConfig.from_pretrained(source_of(exp))
    except (OSError, ValueError) as error:
        raise SftrlError(
            f"cannot read the configuration of {exp.model.model!r} ({str(error).splitlines()[0]}); "
            "give a local folder, or set SFTRL_ONLINE=1."
        ) from error


def shape_of(exp: Experiment) -> Shape:
    """The sizes of an experiment's model, with its adapters."""
    return Shape(architecture(exp), exp.model.rank)


def conversation(exp: Experiment) -> tuple[int, int]:
    """Tokens of (one question and its answer, a whole conversation) of as many tries as training or
    evaluation allows."""
    task = make_task(exp)
    text = task.prompt(task.item("train", 0, 0))
    try:
        asked = len(AutoTokenizer.from_pretrained(source_of(exp)).encode(text))
    except (SftrlError, OSError, ValueError):  # there is no tokenizer here
        asked = len(text) // 3
    first = asked + 40 + exp.model.max_new_tokens  # 40: the template
    tries = max(getattr(exp.method, "tries", 1), exp.evaluation.eval_tries)
    return first, first + (tries - 1) * (exp.model.max_new_tokens + 60)


def work(exp: Experiment, stage: str, lengths: tuple[int, int] | None = None) -> memory.Work:
    """What a stage of an experiment asks of its model; `lengths`: those of `conversation`, where
    they are known better."""
    deals = exp.method.batch // getattr(exp.method, "group", 1) if stage != "evaluate" else 1
    shown = max(deals, exp.evaluation.final_episodes) if make_task(exp).pictures else 0
    anchored = bool(getattr(exp.method, "kl_weight", 0))
    lengths = lengths or conversation(exp)
    compared = kl_rows(exp) if METHODS[exp.method.name].is_arm else 0
    return memory.Work(
        stage, exp.model.resolved[0], exp.rows["micro_batch"], exp.rows["generation_batch_size"],
        exp.model.max_new_tokens, lengths, shown, anchored, compared,
    )  # fmt: skip


def pieces(
    exp: Experiment, stage: str, shape: Shape, device: str = "cuda",
    lengths: tuple[int, int] | None = None,
) -> Phases:  # fmt: skip
    """`memory.pieces` of a stage of an experiment."""
    return memory.pieces(work(exp, stage, lengths), shape, device)


def plan(exp: Experiment, stage: str, room: float, device: str = "cuda") -> Plan:
    """`memory.plan` of a stage of an experiment in `room` bytes. Rows that are `auto` are as many
    as there can be."""
    most = {"micro_batch": exp.method.batch, "generation_batch_size": memory.SIZES[0]}
    free: Any = {name: n for name, n in most.items() if getattr(exp.machine, name) == "auto"}
    return memory.plan(replace(work(exp, stage), **free), shape_of(exp), room, device)


def settled(exp: Experiment, stage: str, run: Path | None = None) -> Experiment:
    """`exp` with numbers for the rows that are `auto`: those that its `run` (a folder) was begun
    with, else what fits into the memory that is free on this GPU. Without a GPU, and for several
    processes, which must agree, they are the tier's usual ones."""
    asked = [name for name in ROWS if getattr(exp.machine, name) == "auto"]
    if not asked:
        return exp
    found: dict[str, Any] = dict(exp.rows)
    if run and (run / "manifest.json").exists():
        found = read_manifest(run)["config"]
    elif torch.cuda.is_available() and WORLD == 1:
        found = asdict(plan(exp, stage, AUTO * torch.cuda.mem_get_info()[0]))
    return exp.replace(**{name: found[name] for name in asked})


def smallest(exp: Experiment, stage: str, device: str = "cuda") -> float:
    """GB below which not even one row at a time fits."""
    return plan(exp, stage, 0, device).peak / GB


def require(exp: Experiment, stage: str) -> None:
    """SftrlError, with what to change, where a stage does not fit into this machine's GPU."""
    if exp.model.ours or not torch.cuda.is_available():
        return
    room = torch.cuda.mem_get_info()[1]
    need = memory.total(pieces(exp, stage, shape_of(exp)), "cuda")
    if need <= room:
        return
    found = plan(exp, stage, room)
    advice = f"use micro_batch={found.micro_batch} and "
    advice += f"generation_batch_size={found.generation_batch_size}"
    if not found.fits:
        need, least = found.peak, smallest(exp.replace(precision="qlora"), stage)
        advice = f"use a larger GPU, or precision=qlora ({least:.1f} GB at least)"
    raise SftrlError(
        f"{stage} of {exp.model.model or exp.model.preset} takes {need / GB:.1f} GB at precision "
        f"{exp.model.resolved[0]}, and this GPU has {room / GB:.1f}; {advice}."
    )


def main(exp: Experiment, room: float | None, as_json: bool = False) -> int:
    """`python -m sftrl_lib plan`: 0 if all stages fit into `room` GB, else 1."""
    gpu = torch.cuda.is_available()
    device = "cuda" if room or gpu else "cpu"
    if room is None:
        room = (torch.cuda.mem_get_info()[1] if gpu else psutil.virtual_memory().total) / GB
    arms = {stage: exp.replace(method="sft" if stage == "sft" else "rl") for stage in STAGES}
    plans = [plan(arms[stage], stage, room * GB, device) for stage in STAGES]
    need = {p.stage: smallest(arms[p.stage], p.stage, device) for p in plans if not p.fits}
    if as_json:
        facts = {"memory_gb": room, "device": device, "smallest_gb": need}
        print(json.dumps(facts | {"stages": [asdict(p) for p in plans]}, indent=1))
    else:
        print("precision {}: {}".format(*exp.model.resolved))
        print(memory.render(plans))
        for stage, least in need.items():
            print(f"{stage} does not fit into {room:g} GB: it takes {least:.1f} GB at least.")
    return 1 if need else 0
