"""What one seed of gp-vl at 11B would take on a GPU, before and after, and which card takes how
long for what: a forecast. No GPU has run any of it.

    python benchmarks/forecast.py            all of it
    python benchmarks/forecast.py --replays  anew what a replayed step takes; all else as recorded

*Before* is the first edition, at the commit BEFORE: its settings are asked of its own code; its
rows side by side are the preset's whatever the card; each try reads its conversation again. *After*
is this commit. Put together are

1. host time a step, measured on this machine's CPU (`host.py`), and
2. steps, tokens and looks at pictures, counted from settings, the planner's rows, the evaluation's
   budgets. `study.costs` has the operations of each; CARDS turns them into seconds, at SHARE of the
   peak, and so the bytes that a step reads: weights (those in four bits are read, written unpacked,
   and read again) and caches.

A step takes the longer of the two. *Replayed* are today's decode steps as CUDA graphs: of the host
that leaves the loop around a replay, which was measured, and the steps until one is recorded. To a
card's time it adds KERNEL for each operation of a step, which the bytes and the peak do not show
where operations are small: a guess, as no graph was ever recorded.

Every try is needed, and each answer has as many tokens as ANSWERS says. Left out: loading,
checkpoints, the KL to the init, padding, copies of growing caches, what processes exchange. Writes
data/benchmarks/forecast.json, some minutes on one core.
"""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from speed import BEFORE, HOME, OUT, PACKAGES, revision, unpack

from commons.files import write_atomic
from engine import memory
from engine.graphs import PAYS, REACH, WARM_UP
from sftrl_lib import planning
from sftrl_lib.evaluate import TEMPERATURES, full_battery
from sftrl_lib.experiment import ROWS as ROWS_AT_A_TIME
from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import METHODS
from sftrl_lib.tasks import make_task
from study import costs

METHODS_OF_A_SEED = ("init", "sft", "rl")
SIZES = (24, 80)  # GB of the cards that are compared
SEED: dict[str, Any] = {"task": "gp-vl", "preset": "llama-11b"}
SAME = ("llama-11b", "qlora", "gp-vl")  # what both editions are asked
ROUNDS = 3
KERNEL = 3e-6  # seconds of a small operation in a replay, a guess
ANSWERS = {"usual": costs.ANSWER, "longest": 10**9}  # tokens of an answer, if so many are allowed
GROWN = {"eval_points": 6, "eval_episodes": 300, "final_episodes": 1500}  # the tiny tier's


@dataclass(frozen=True)
class Played:
    """`questions`, each asked in `each` conversations of `tries` answers."""

    questions: int
    each: int
    tries: int

    @property
    def answers(self) -> int:
        return self.questions * self.each * self.tries


@dataclass(frozen=True)
class Arm:
    """A run as far as its price is concerned."""

    exp: Experiment  # of today: the model, and how long a conversation is
    steps: int
    batch: int
    group: int
    tries: int
    measured: tuple[Played, ...]  # in the whole run
    micro_batch: int
    generation_batch_size: int
    again: bool  # whether each try reads its conversation anew, and nothing is shared
    replayed: bool = False  # whether decode steps are

    @property
    def rollout(self) -> Played:
        """Of one step."""
        return Played(self.batch // self.group, self.group, self.tries)


def of_today(exp: Experiment, gigabytes: int) -> Arm:
    """A run of today's on a card: as many rows as the planner has when all memory is free."""
    method, task, own = METHODS[exp.method.name], make_task(exp), exp.evaluation
    rows = planning.plan(exp, method.stage, planning.AUTO * gigabytes * memory.GB)
    heat = len({*TEMPERATURES, own.eval_temperature})
    whole = [
        Played(n, heat if split in task.curve_splits else 1, own.eval_tries)
        for split, n in full_battery(exp, task).items()
    ]
    point = [Played(own.eval_episodes, 1, own.eval_tries)] * len(task.curve_splits)
    return Arm(
        exp, exp.method.steps, exp.method.batch, getattr(exp.method, "group", 1),
        getattr(exp.method, "tries", 1), measured(method.is_arm, len(exp.eval_steps), whole, point),
        rows.micro_batch, rows.generation_batch_size, again=False,
    )  # fmt: skip


def of_before(exp: Experiment, settings: dict[str, Any]) -> Arm:
    """A run of the first edition's, from what its code says of it: those of the claims' splits are
    played twice, greedily too."""
    own, tries = settings, settings["eval_tries"]

    def twice(n: int) -> list[Played]:
        return [Played(n, 1, k) for _ in own["curve_splits"] for k in (tries, 1)]

    side = [Played(own["eval_episodes"], 1, tries)] * len(own["side_splits"])
    plays = twice(own["final_episodes"]) + side, twice(own["eval_episodes"])
    rl = own["method"] == "rl"
    return Arm(
        exp, own["steps"], own["batch"], own["group"] if rl else 1, own["tries"] if rl else 1,
        measured(own["method"] != "init", len(own["eval_steps"]), *plays),
        own["micro_batch"], own["chunk"], again=True,
    )  # fmt: skip


def measured(arm: bool, points: int, whole: list[Played], point: list[Played]) -> tuple:
    """What a run plays to be measured: an arm its curve and its end; the init's run twice its end,
    for it measures the model as delivered too. (The init of this seed's deals is then known.)"""
    return tuple(whole + (points - 1) * point if arm else 2 * whole)


# --- seconds --------------------------------------------------------------------------------------
class Price:
    """Seconds of a run on a card."""

    def __init__(self, arm: Arm, card: costs.Card, host: dict[str, float], answer: int) -> None:
        self.arm, self.card, self.host = arm, card, host
        exp, self.shape = arm.exp, planning.shape_of(arm.exp)
        self.shown = exp.task.name.endswith("vl")
        first, whole = planning.conversation(exp)
        longest, tries = exp.model.max_new_tokens, exp.evaluation.eval_tries
        self.message = (whole - first) // (tries - 1) - longest if tries > 1 else 0
        self.asked = first - longest + self.shape.places * self.shown
        self.answer = min(answer, longest)
        self.rate = costs.SHARE * card.flops
        self.look, self.keys = costs.look(exp) if self.shown else (0.0, 0.0)
        self.token = 2 * costs.passed(exp)

    def length(self, tries: int) -> int:
        """Tokens of a conversation."""
        return self.asked + tries * self.answer + (tries - 1) * self.message

    def unpacking(self) -> float:
        """Seconds in which the card reads the weights once; packed ones are unpacked on the way."""
        shape, packed = self.shape, self.arm.exp.model.resolved[0] == "qlora"
        layers = shape.linear * (memory.NF4 + 2 + 2 if packed else 2)
        head = shape.text.vocab_size * shape.text.hidden_size * 2
        return (layers + head + 4 * shape.adapter) / self.card.bandwidth

    def writing(self, play: Played) -> float:
        """Every token of every answer, a step at a time."""
        arm, shape = self.arm, self.shape
        rows = play.questions * play.each
        chunks = math.ceil(rows / arm.generation_batch_size)
        active, steps = rows / chunks, chunks * play.tries * self.answer
        tokens = (self.asked + self.length(play.tries)) / 2 * active
        own_layers = shape.text.num_hidden_layers - shape.cross_layers
        kept = tokens * own_layers * shape.keys
        if self.shown and shape.patches:  # looked at in every step, of all tiles or of those filled
            seen = active * shape.patches if arm.again else active / play.each * shape.filled
            kept += seen * shape.cross_layers * shape.keys
        device = self.unpacking() + 2 * kept / self.card.bandwidth + active * self.token / self.rate
        by_python = max(device, self.host["decode_step"])
        if not arm.replayed or self.answer - 1 < WARM_UP + PAYS:
            return steps * by_python
        replay = max(device + KERNEL * self.host["operations"], self.host["replayed_step"])
        # A step is recorded once it was warmed up, and each time that the answer outgrows it.
        first = chunks * play.tries * math.ceil(self.answer / REACH) * (WARM_UP + 1)
        return first * by_python + (steps - first) * replay

    def reading(self, play: Played, looked: bool = False) -> float:
        """Questions, messages, and, where a try begins anew, all that was said; and pictures, of
        which the last CACHE are kept: of a test's, and they are `looked` at anew at each try."""
        rows, tries = play.questions * play.each, range(play.tries)
        if self.arm.again:
            tokens = rows * sum(self.asked + t * (self.answer + self.message) for t in tries)
            keys = rows * play.tries
        else:
            tokens = play.questions * self.asked + rows * (play.tries - 1) * self.message
            keys = play.questions
        looks = play.questions * (play.tries if self.arm.again and looked else 1)
        return (tokens * self.token + keys * self.keys + looks * self.look) / self.rate

    def training(self) -> float:
        """Every row forwards, again (checkpoints) and backwards, through frozen weights: 6 N."""
        arm, rows = self.arm, self.arm.steps * self.arm.batch
        batches = arm.steps * math.ceil(arm.batch / arm.micro_batch)
        played = arm.exp.method.name == "rl"
        # A question that rows of a micro-batch share is read once. In SFT each has its own picture.
        alike = 1 if arm.again else min(arm.micro_batch, arm.group)
        length = self.length(arm.tries) if played else self.asked + costs.ANSWER
        tokens = rows * (length - self.asked + self.asked / alike)
        looks = 0 if played else rows  # RL's are in the rollout
        operations = 3 * (self.token * tokens + self.keys * rows / alike) + looks * self.look
        device = operations / self.rate + 3 * batches * self.unpacking()
        return max(device, batches * self.host["micro_batch"])

    def hours(self) -> dict[str, float]:
        """{part: hours}."""
        arm, own = self.arm, self.arm.rollout
        answers = self.writing(own) + self.reading(own) if arm.exp.method.name == "rl" else 0.0
        tests = sum(self.writing(p) + self.reading(p, looked=True) for p in arm.measured)
        parts = {"training": self.training(), "rollouts": arm.steps * answers, "measuring": tests}
        return {part: seconds / 3600 for part, seconds in parts.items()}


def seed(arms: list[Arm], card: costs.Card, host: dict[str, float], answer: int) -> dict[str, Any]:
    """Hours of the runs of a seed, by run and part, and of all."""
    found = {arm.exp.method.name: Price(arm, card, host, answer).hours() for arm in arms}
    return {"hours": found, "total": sum(sum(parts.values()) for parts in found.values())}


# --- what is asked --------------------------------------------------------------------------------
def before_and_after(first: dict[str, Any], host: dict[str, Any]) -> list[dict[str, Any]]:
    """A row an edition, card and length of answers: rows, hours, and how many times today's."""
    today = {name: Experiment(**SEED, method=name) for name in METHODS_OF_A_SEED}
    rows = []
    for size in SIZES:
        after = [of_today(exp, size) for exp in today.values()]
        before = [of_before(exp, first[name]) for name, exp in today.items()]
        # The first edition with the evaluation that the tiny tier has today: what was to be mended.
        usual = [of_today(exp.replace(**GROWN), size) for exp in today.values()]
        grown = [replace(a, measured=alone(b.measured)) for a, b in zip(before, usual, strict=True)]
        for answers, length in ANSWERS.items():
            replayed = [replace(arm, replayed=True) for arm in after]
            made = {"before": before, "before, measured as the tiny tier is now": grown,
                    "after": after, "after, steps replayed": replayed}  # fmt: skip
            found = {
                edition: seed(arms, costs.MODELS[size], host[edition.partition(",")[0]], length)
                for edition, arms in made.items()
            }
            for edition, arms in made.items():
                counted = {a.exp.method.name: sum(p.answers for p in a.measured) for a in arms}
                batches = {
                    a.exp.method.name: [a.micro_batch, a.generation_batch_size] for a in arms
                }
                times = found[edition]["total"] / found["after"]["total"]
                facts = {"edition": edition, "gb": size, "answers": answers, "rows": batches}
                more = {"measured_answers": counted, "times_after": times}
                rows.append(facts | more | found[edition])
    return rows


def alone(plays: tuple[Played, ...]) -> tuple[Played, ...]:
    """The same answers, but no two of them to one question."""
    return tuple(Played(p.questions * p.each, 1, p.tries) for p in plays)


def by_card(host: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each thing to run, with the hours of a seed on each card that holds all its stages,
    for both lengths of answers."""
    rows = []
    for name, (preset, precision, task, _) in costs.SETUPS.items():
        need = max(made.peak for made in costs.least(name).values()) / memory.GB
        found = {}
        for size, card in costs.MODELS.items():
            key = f"{preset}, {precision}, {task}"
            if key not in host or need > size:
                continue
            arms = [of_today(costs.setup_of(name, m), size) for m in METHODS_OF_A_SEED]
            found[str(size)] = [seed(arms, card, host[key], n)["total"] for n in ANSWERS.values()]
        facts = {"what": name, "preset": preset, "precision": precision, "task": task}
        rows.append(facts | {"gb_at_least": need, "hours": found})
    return rows


def eight(host: dict[str, float]) -> list[dict[str, Any]]:
    """Hours on 1 and 8 of the largest cards: one seed by `accelerate launch`, where each process
    has its share of a step and of every test; and whole runs side by side."""
    size, count = max(costs.CARDS), 8
    one = [of_today(Experiment(**SEED, method=name), size) for name in METHODS_OF_A_SEED]
    usual = Experiment(**SEED).model.tier.numbers  # rows of several processes, if none are given

    def shared(arm: Arm, **rows: int) -> Arm:
        played = tuple(part_of(p, count) for p in arm.measured)
        return replace(arm, batch=arm.batch // count, measured=played, **rows)

    as_is = [shared(a, **{n: usual[n] for n in ROWS_AT_A_TIME}) for a in one]
    given = [shared(a) for a in one]
    ways = {"one card": one, "eight, rows of the preset": as_is, "eight, rows given": given}
    rows = []
    for answers, length in ANSWERS.items():
        for way, arms in ways.items():
            rows.append(
                {"way": way, "answers": answers} | seed(arms, costs.MODELS[size], host, length)
            )
        hours = {k: sum(v.values()) for k, v in rows[-len(ways)]["hours"].items()}
        init, arms_of_it = hours.pop("init"), hours.values()
        rows.append({
            "way": "four seeds, one card", "answers": answers, "total": init + 4 * sum(arms_of_it),
        })  # fmt: skip
        rows.append({
            "way": "four seeds, eight arms on eight cards", "answers": answers,
            "total": init + max(arms_of_it),
        })  # fmt: skip
    return rows


def part_of(play: Played, processes: int) -> Played:
    """What one of several processes plays."""
    return replace(play, questions=math.ceil(play.questions / processes))


# --- measured -------------------------------------------------------------------------------------
class Edition:
    """The process of an edition, which `host.py` keeps."""

    def __init__(self, home: Path, said: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(HOME / "benchmarks" / "host.py")]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.said = said
        self.process = subprocess.Popen(
            command, cwd=home, env=environment, text=True, stderr=said.open("w"), **pipes
        )

    def tell(self, *what: str) -> None:
        """Ask it something."""
        assert self.process.stdin
        print(json.dumps(what), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        """What it says to that."""
        assert self.process.stdout
        if not (said := self.process.stdout.readline()):
            raise SystemExit(f"it failed: {self.said.read_text()[-2000:]}")
        return json.loads(said)


def measure() -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the first edition's runs, and host times: medians of ROUNDS, with the fastest and
    slowest decode step. All measure at the same time: what disturbs one disturbs all."""
    setups = [(preset, precision, task) for preset, precision, task, _ in costs.SETUPS.values()
              if precision != "full"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder)
        unpack(BEFORE, first, (*PACKAGES, "benchmarks"))
        asked = {"before": (first, SAME)} | {", ".join(one): (HOME, one) for one in setups}
        sides = {name: Edition(home, first / f"{name}.log") for name, (home, _) in asked.items()}
        sides["before"].tell("settings", SEED["task"], SEED["preset"])
        for name, (_, setup) in asked.items():
            for _ in range(ROUNDS):
                sides[name].tell("measured", *setup)
        for preset, _, task in setups:  # meanwhile
            exp = Experiment(preset=preset, task=task)
            planning.shape_of(exp)
            if task.endswith("vl"):
                costs.look(exp)
        settings = sides["before"].answer()
        found = {name: [side.answer() for _ in range(ROUNDS)] for name, side in sides.items()}
        for side in sides.values():
            side.process.kill()
            side.process.wait()
    host: dict[str, Any] = {}
    for name, rows in found.items():
        steps = [row["decode_step"] for row in rows]
        host[name] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        host[name]["from_to"] = [min(steps), max(steps)]
    return settings, host | {"after": host[", ".join(SAME)]}


def measure_replays() -> dict[str, float]:
    """What a replayed step takes: medians of ROUNDS."""
    with tempfile.TemporaryDirectory() as folder:
        side = Edition(HOME, Path(folder) / "log")
        for _ in range(ROUNDS):
            side.tell("replayed", *SAME)
        rows = [side.answer() for _ in range(ROUNDS)]
        side.process.kill()
        side.process.wait()
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def replays() -> None:
    """Measure these alone, and put them, with what follows, into the record."""
    commit, out = revision(), OUT.with_name("forecast.json")
    facts = json.loads(out.read_text())
    remember_sizes()
    facts["host"]["after"] |= measure_replays()
    facts["host"][", ".join(SAME)] = facts["host"]["after"]
    facts["replays"] = {
        "command": "python benchmarks/forecast.py --replays", "commit": commit, "cpu": cpu(),
        "load": psutil.getloadavg()[0], "kernel": KERNEL,
    }  # fmt: skip
    facts["seed"] = before_and_after(facts["settings_before"], facts["host"])
    write_atomic(out, json.dumps(facts, indent=1) + "\n")
    print(f"written to {out}")


def main() -> None:
    commit, out = revision(), OUT.with_name("forecast.json")
    remember_sizes()
    settings, host = measure()
    facts = {
        "command": "python benchmarks/forecast.py", "commit": commit, "before": BEFORE,
        "cpu": cpu(), "python": platform.python_version(), "torch": torch.__version__,
        "load": psutil.getloadavg()[0], "rounds": ROUNDS, "host": host, "share": costs.SHARE,
        "answers": ANSWERS | {"longest": Experiment(**SEED).model.max_new_tokens},
        "cards": {size: asdict(card) for size, card in costs.MODELS.items()},
        "settings_before": settings, "seed": before_and_after(settings, host),
        "by_card": by_card(host), "eight": eight(host["after"]),
        "replays": {"command": "python benchmarks/forecast.py", "commit": commit, "cpu": cpu(),
                    "load": psutil.getloadavg()[0], "kernel": KERNEL},
    }  # fmt: skip
    write_atomic(out, json.dumps(facts, indent=1) + "\n")
    print(f"written to {out}")


def remember_sizes() -> None:
    """From here on the sizes of a model are worked out once: of the 11B model it takes seconds."""
    planning.shape_of = costs.shape_of = once_a_model(planning.shape_of)
    costs.look = once_a_model(costs.look)


def once_a_model(function: Callable[[Experiment], Any]) -> Callable[[Experiment], Any]:
    """`function` of an experiment of which only the model matters."""
    found: dict[tuple, Any] = {}

    def known(exp: Experiment) -> Any:
        key = exp.model.preset, exp.model.model, exp.model.rank
        if key not in found:
            found[key] = function(exp)
        return found[key]

    return known


def cpu() -> str:
    """The name of this machine's processor, where the system says it."""
    said = Path("/proc/cpuinfo")
    lines = said.read_text().splitlines() if said.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    replays() if "--replays" in sys.argv[1:] else main()
