"""What larger models would cost: which card holds which, operations counted, hours guessed."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForImageTextToText

from engine.families import FAMILIES
from engine.memory import GB, STAGES, Plan, Shape
from sftrl_lib.experiment import Experiment
from sftrl_lib.planning import architecture, conversation, plan, shape_of, smallest
from sftrl_lib.registry import METHODS


@dataclass(frozen=True)
class Card:
    """What its makers say of a card."""

    name: str
    flops: float  # a second, dense, in 16 bits with sums in 32; of GeForce cards twice that of fp32
    bandwidth: float  # bytes a second


MODELS = {  # one card of each size in GB
    8: Card("RTX 4060", 30e12, 272e9),
    12: Card("RTX 3060", 25e12, 360e9),
    16: Card("RTX 4060 Ti", 44e12, 288e9),
    24: Card("RTX 4090", 165e12, 1008e9),
    48: Card("L40S", 362e12, 864e9),
    80: Card("H100", 989e12, 3350e9),
}
CARDS = tuple(MODELS)  # GB
# (what to run: preset, precision, task; where that path was run, which was never a GPU)
SETUPS: dict[str, tuple[str, str, str, str]] = {
    "1.5B, text": (
        "gpu-small", "lora", "gp-l",
        "on a CPU, as the tier smol: real weights of another text model, a few steps",
    ),
    "2B, pictures": (
        "gpu-vision", "lora", "gp-vl",
        "on a CPU: its family with random weights of two layers, steps of SFT and RL",
    ),
    "11B, text, 4 bits": (
        "llama-11b", "qlora", "gp-l",
        "on a CPU: the layers of the next row, without their pictures",
    ),
    "11B, pictures, 4 bits": (
        "llama-11b", "qlora", "gp-vl",
        "on a CPU: random weights at full size, one step of SFT and of RL (make proof-11b)",
    ),
    "11B, pictures, 16 bits": (
        "llama-11b", "lora", "gp-vl",
        "on a CPU: the tiny model with adapters",
    ),
    "11B, pictures, all weights": (
        "llama-11b", "full", "gp-vl",
        "on a CPU: the tiny model, as in this book",
    ),
}  # fmt: skip
SHARE = 0.3  # of a card's peak that a run reaches: a guess
PEAKS = {  # GB of a card, cards, FLOPs a second of a card in 16 bits
    f"{count} x {size} GB ({MODELS[size].name})": (size, count, MODELS[size].flops)
    for count, size in ((1, 24), (1, 80), (8, 80))
}
ANSWER, VERDICT, EPOCHS = 60, 60, 4  # tokens, tokens (estimates); the paper's epochs of PPO
PAPER: dict[str, dict[str, int]] = {  # RL: 256 generations on each of 8 GPUs
    "init": {"steps": 400, "batch": 128},
    "sft": {"steps": 400, "batch": 128},  # its length is our assumption
    "rl": {"steps": 20, "batch": 8 * 256, "tries": 5},
}


def setup_of(name: str, method: str = "rl") -> Experiment:
    """A run of one of SETUPS."""
    preset, precision, task, _ = SETUPS[name]
    return Experiment(task=task, preset=preset, precision=precision, method=method)


def least(name: str) -> dict[str, Plan]:
    """{stage: its plan with one row at a time} of one of SETUPS."""
    arms = {stage: "sft" if stage == "sft" else "rl" for stage in STAGES}
    return {stage: plan(setup_of(name, arm), stage, 0) for stage, arm in arms.items()}


def cards() -> pd.DataFrame:
    """A row a setup: GB that its largest stage needs at least, the smallest of CARDS that has them,
    and where it was validated."""
    rows = {}
    for name, (*_, where) in SETUPS.items():
        need = max(made.peak for made in least(name).values()) / GB
        fits = [card for card in CARDS if need <= card]
        card = f"{fits[0]} GB" if fits else "none of these"
        rows[name] = {"GB at least": f"{need:.0f}", "smallest card": card, "validated": where}
    return pd.DataFrame(rows).T


def tokens_of_a_look() -> float:
    """How many tokens the 11B model could read for the operations of one look at a picture."""
    exp = setup_of("11B, pictures, 4 bits")
    return look(exp)[0] / (2 * passed(exp))


def passed(exp: Experiment) -> float:
    """Weights that a token passes; layers that look at pictures only where there is one."""
    shape = shape_of(exp)
    own = 1 - shape.cross_layers / shape.text.num_hidden_layers
    share = 1.0 if exp.task.name.endswith("vl") else own
    return shape.linear * share + shape.text.vocab_size * shape.text.hidden_size


def look(exp: Experiment) -> tuple[float, float]:
    """FLOPs of the tower for one picture, and of the keys and values that a row makes of it."""
    shape, config = shape_of(exp), architecture(exp)
    vision, family = config.vision_config, FAMILIES[config.model_type]
    with torch.device("meta"):  # sizes, without weights
        model = AutoModelForImageTextToText.from_config(config)
    modules = [m for eyes in family.eyes(model) for m in eyes.modules()]
    linear = sum(m.weight.numel() for m in modules if isinstance(m, torch.nn.Linear))
    patches = shape.patches or (family.image_size(config) // vision.patch_size) ** 2
    layers = getattr(vision, "depth", 0) or vision.num_hidden_layers + vision.num_global_layers
    attended = 4 * patches**2 * vision.hidden_size * layers
    keys = 2 * shape.text.hidden_size * shape.keys * shape.cross_layers * shape.patches
    return 2 * linear * patches + attended, keys


def priced() -> dict[tuple[str, str, str], Experiment]:
    """{(task, whose, method): run} of the 11B model: the paper's, with all weights, and ours."""
    found = {}
    for task in ("gp-l", "gp-vl"):
        for method, numbers in PAPER.items():
            ours = Experiment(task=task, preset="llama-11b", method=method)
            found[task, "paper", method] = ours.replace(precision="full", **numbers)
            found[task, "ours", method] = ours
    return found


def counted(exp: Experiment) -> dict[str, float]:
    """FLOPs of a run, on text and on the picture, as if nobody solved a deal before the last try.

    SFT trains a row once. Our RL trains an episode as one row and reads it again at each try; the
    paper's trains each generation as a row of its own, in each epoch. A frozen tower looks once a
    row in SFT and once a deal in RL; a trained one for each answer, and three times for each row.
    """
    own, whole = exp.method, exp.model.precision == "full"
    asked = conversation(exp)[0] - exp.model.max_new_tokens
    tries = range(getattr(own, "tries", 1))
    upto = [asked + ANSWER + t * (VERDICT + ANSWER) for t in tries]
    n, mean, answers, read = own.steps * own.batch, sum(upto) / len(upto), 0.0, 0.0
    rows, tokens, looks = n, n * upto[0], float(n)
    if own.name == "rl" and whole:
        rows, tokens, answers, read = EPOCHS * n, EPOCHS * n * mean, n, n * mean
    elif own.name == "rl":
        answers, read, tokens = n * len(tries), n * sum(upto), n * upto[-1]
        looks = n / getattr(own, "group", 1)
    if whole:
        looks = 3 * rows + answers
    text = passed(exp) * (6 * tokens + 2 * read)
    a_look, keys = look(exp) if exp.task.name.endswith("vl") else (0.0, 0.0)
    return {"text": text, "picture": looks * a_look + (3 * rows + answers) * keys}


def hours() -> pd.DataFrame:
    """Hours of `priced` runs on PEAKS, at SHARE of the peak; all weights are spread over all cards,
    adapters have a whole model on each."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name, exp in priced().items():
        need = smallest(exp, METHODS[exp.method.name].stage)
        flops = sum(counted(exp).values())
        found[name] = {"GB at least": f"{need:.0f}", "FLOPs": f"{flops:.1e}"}
        for card, (memory, count, peak) in PEAKS.items():
            whole = exp.model.precision == "full"
            fits = need <= memory * (count if whole else 1)
            took = flops / (SHARE * count * peak) / 3600
            found[name][card] = f"{took:.2g} h" if fits else "does not fit"
    return pd.DataFrame(found).T


def adapters() -> pd.DataFrame:
    """Parameters of each tier, and what an adapter of its rank trains."""
    rows = {}
    for name in ("tiny", "gpu-small", "gpu-vision", "llama-11b"):
        exp = Experiment(preset=name, task="gp-vl" if name != "gpu-small" else "gp-l")
        shape = Shape(architecture(exp), exp.model.rank)
        share = shape.adapter / shape.parameters
        rows[name] = {"parameters": f"{shape.parameters:,}", "rank": exp.model.rank,
                      "adapter": f"{shape.adapter:,}", "share": f"{share:.1%}"}  # fmt: skip
    return pd.DataFrame(rows).T
