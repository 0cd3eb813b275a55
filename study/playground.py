"""The rule playground: init, SFT and RL answer one question of the reader's, side by side.

`answers` is the pure function and `draw` its figure; `study.widgets` puts menus before them, and
`export` gives a page of the HTML book what it needs to answer by itself
(book/_static/playground.js).

data/playground/TASK-METHOD/ holds what `keep` copies of one seed's run: its end weights, as in the
run's folder, and origin.json, which names the run. The init's weights are in data/init already.
"""

import base64
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from commons.errors import SftrlError
from engine import generation
from engine.adapters import read_adapter
from engine.load import WEIGHTS
from engine.policy import Policy
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT, writable
from sftrl_lib.policies import load_policy
from sftrl_lib.registry import TASKS
from sftrl_lib.runner import WEIGHTS_OF_RUN, recorded_weights
from sftrl_lib.runs import read_manifest
from sftrl_lib.tasks.base import Task, Verdict
from worlds import card_texts, walk_texts
from worlds.deals import RANKS, named_cards
from worlds.routes import COMPASS, TURNS
from worlds.verifier import REWARDS, verdict_message
from worlds.walks import REWARDS as WALK_REWARDS

from . import plots
from .registration import registration

FOLDER = ROOT / "data" / "playground"
ASKED = ("init", "sft", "rl")
RULE = (11, 12, 13)  # with which the playground opens: that of the test
HANDS, SEED = 40, 100  # hands to deal from, which can be solved under either rule
WALKED = 3  # routes whose positions can be chosen
# Where an answer is about to say what the rule decides, and the words that can stand there.
WHERE = {"gp-l": r'"number": \[(?:\d+, )*$', "virl-l": r'"action": "turn_direction\($'}
WORDS = {"gp-l": tuple(map(str, RANKS)), "virl-l": (*COMPASS, *TURNS)}


@dataclass(frozen=True)
class Claim:
    """What an answer says where the rule decides: of which card (or of the turn), what would be
    right, and the chance of each word."""

    of: str
    stated: str
    chances: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """What one model says, and what the verifier says of it."""

    method: str
    text: str
    verdict: Verdict
    claims: tuple[Claim, ...]


def place(task: str, method: str, folder: Path = FOLDER) -> Path:
    """Where the weights of a method's end are kept; the init is that of the second edition."""
    if method == "init":
        foundation = registration()["common"]["foundation"]
        return recorded_weights(Experiment(task=task, method="init", foundation=foundation))
    return folder / f"{task}-{method}"


def missing(task: str, folder: Path = FOLDER) -> str:
    """What a reader is told where weights of a task are missing; empty where none are."""
    lacking = [m for m in ASKED if not (place(task, m, folder) / WEIGHTS).exists()]
    if not lacking:
        return ""
    names = " and ".join(plots.name_of(m) for m in lacking)
    where = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    return (
        f"The models of {task.upper()} cannot answer here: {where} holds no weights of {names} yet."
    )


def keep(run: Path, folder: Path = FOLDER) -> Path:
    """Copy a finished arm's weights to the playground, and say which run they are of."""
    facts = read_manifest(run)
    config = facts["config"]
    if config["method"] == "init" or not (run / WEIGHTS_OF_RUN / WEIGHTS).exists():
        raise SftrlError(
            f"{run} holds no weights of an arm; name a finished run of sft or rl, with keep=final."
        )
    kept = place(config["task"], config["method"], folder)
    shutil.copytree(run / WEIGHTS_OF_RUN, kept, dirs_exist_ok=True)
    origin = {"run": run.name, "seed": config["seed"], "hash": facts["hash"]}
    (kept / "origin.json").write_text(json.dumps(origin) + "\n")
    return kept


def sources(task: str, folder: Path = FOLDER) -> str:
    """Which runs the arms of a task are the ends of."""
    named = [(m, place(task, m, folder) / "origin.json") for m in ASKED if m != "init"]
    runs = [
        f"{plots.name_of(m)}: end of run {read_adapter(f.parent, f.name)['run']}"
        for m, f in named
        if f.exists()
    ]
    return ". ".join(runs) + "." * bool(runs)


def load(task: str = "gp-l", folder: Path = FOLDER) -> dict[str, Policy]:
    """The policies of a task by method; SftrlError, which says what is missing, where some are."""
    if lacking := missing(task, folder):
        raise SftrlError(lacking)
    return {m: load_policy(Experiment(task=task), place(task, m, folder)) for m in ASKED}


def answers(policies: Mapping[str, Policy], task: Task, item: Any) -> list[Answer]:
    """What each policy answers, greedily, to one item, and what the verifier says of it."""
    most, said = Experiment(task=task.name).model.max_new_tokens, []
    for method, policy in policies.items():
        policy.model.eval()
        prompt = policy.first_turn(task.prompt(item))
        (ids,) = generation.answer(policy, [prompt], most)
        text = policy.decode(ids)
        verdict, found = task.verify(item, text), _claims(policy, task, item, prompt, ids)
        said.append(Answer(method, text, verdict, tuple(found)))
    return said


@torch.no_grad()
def _claims(policy: Policy, task: Task, item: Any, prompt: list[int], ids: list[int]):
    """The claims of an answer, from the chances of its words while it was written."""
    where = [n for n in range(len(ids)) if re.search(WHERE[task.name], policy.decode(ids[:n]))]
    logits = policy.model(torch.tensor([prompt + ids], device=policy.device)).logits[0]
    for number, n in enumerate(where):
        of, stated = _stated(task, item, policy.decode(ids), number)
        if of:
            chances = logits[len(prompt) - 1 + n].softmax(-1).tolist()
            tokens = {word: policy.tokenizer.encode(word)[0] for word in WORDS[task.name]}
            yield Claim(of, stated, {word: chances[i] for word, i in tokens.items()})


def _stated(task: Task, item: Any, text: str, number: int) -> tuple[str, str]:
    """Of what claim `number` of an answer is, and what the rule says; empty of a card whose value
    no rule changes."""
    if task.name == "virl-l":
        return "the turn", item.action.partition("(")[2].rstrip(")")
    names = named_cards(text)
    card = names[number] if number < len(names) else ""
    return (card, str(getattr(item.rule, card.lower()))) if card in ("J", "Q", "K") else ("", "")


def draw(said: Sequence[Answer], title: str) -> plots.Figure:
    """A panel for each model: how likely each word is where the rule decides; framed: what the rule
    states."""
    with mpl.rc_context(plots.RC):
        caption = "bars: how likely the model is to say so; framed: what the rule states"
        figure, axes = plots.frame(title, caption, [1.2] * len(said))
        described = []
        for axis, answer in zip(axes, said, strict=True):
            _draw_answer(axis, answer)
            described.append(f"{plots.name_of(answer.method)}: {in_words(answer)}")
        return plots.finish(figure, f"{title}. {' '.join(described)}")


def _draw_answer(axis: Any, answer: Answer) -> None:
    verdict, color = answer.verdict, plots.style_of(answer.method)["color"]
    name = f"{plots.name_of(answer.method)}: {verdict.reason.replace('_', ' ')}"
    axis.set(title=f"{name} ({verdict.reward:+g})", ylabel="probability", ylim=(0, 1.05))
    words = list(answer.claims[0].chances) if answer.claims else []
    width = 0.8 / max(len(answer.claims), 1)
    for number, claim in enumerate(answer.claims):
        at = np.arange(len(words)) - 0.4 + (number + 0.5) * width
        shade = 1 - 0.6 * number / len(answer.claims)
        axis.bar(at, list(claim.chances.values()), width, color=color, alpha=shade, label=claim.of)
        axis.bar(at[words.index(claim.stated)], 1, width, fill=False, edgecolor="#B3261E")
        likely = max(claim.chances, key=lambda word: claim.chances[word])
        top = (at[words.index(likely)], claim.chances[likely])
        axis.annotate(claim.of, top, ha="center", fontsize=8)
    axis.set_xticks(range(len(words)), words, rotation=90 * (max(map(len, words), default=0) > 2))
    axis.grid(axis="x", visible=False)


def in_words(answer: Answer) -> str:
    """One sentence of an answer's verdict, and one of each claim."""
    said = [f"{answer.verdict.message} (reward {answer.verdict.reward:+g})."]
    for claim in answer.claims:
        word = max(claim.chances, key=lambda word: claim.chances[word])
        said.append(f"{claim.of}: {word} ({claim.chances[word]:.0%}), stated {claim.stated}.")
    return " ".join(said)


# --- For the HTML book --------------------------------------------------------------------------


def export(static: Path, folder: Path = FOLDER) -> None:
    """Write what book/_static/playground.js reads: facts.js, and the weights of each model."""
    out = writable(static / "playground")
    _write(out / "facts.js", "facts", facts(folder))
    for task in WHERE:
        if not missing(task, folder):
            for method in ASKED:
                name = f"{task}-{method}"
                weights = packed(place(task, method, folder))
                _write(out / f"{name}.js", f'weights["{name}"]', weights)


def _write(path: Path, name: str, value: Any) -> None:
    path.write_text(f"playground.{name} = {json.dumps(value)};\n", encoding="utf-8")


def facts(folder: Path = FOLDER) -> dict[str, Any]:
    """Everything the page must know beside weights: tokens, wording, rewards, hands, positions."""
    tokenizer = AutoTokenizer.from_pretrained(place("gp-l", "init"), trust_remote_code=False)
    mark = "\u241e"
    asked = [{"role": "user", "content": mark}]
    turn = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    return {
        "methods": [{"name": m, "label": plots.name_of(m)} for m in ASKED],
        "tokenizer": spelling(tokenizer),
        "turn": turn.split(mark),
        "ends": [tokenizer.eos_token_id],
        "most": Experiment().model.max_new_tokens,
        "tasks": {
            name: {
                "missing": missing(name, folder),
                "origin": sources(name, folder),
                "where": WHERE[name],
                "words": WORDS[name],
            }
            | {"gp-l": _cards, "virl-l": _walks}[name](TASKS[name]())
            for name in WHERE
        },
    }


def spelling(tokenizer: Any) -> dict[str, Any]:
    """The tokenizer, which has whole phrases and single bytes and merges nothing."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    if rules["model"].get("merges"):
        raise SftrlError("the playground's tokenizer knows no merges; use the book's own models.")
    added = {token["content"]: token["id"] for token in rules["added_tokens"]}
    byte_of = {letter: byte for byte, letter in enumerate(_byte_letters())}
    known = rules["model"]["vocab"]
    return {
        "pieces": list(added.items()),
        "bytes": [known[letter] for letter, _ in sorted(byte_of.items(), key=lambda pair: pair[1])],
        "special": [token["id"] for token in rules["added_tokens"] if token["special"]],
    }


def _byte_letters() -> list[str]:
    """The letter that byte-level tokenizers (GPT-2's and ours) write for each byte."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printed else next(others)) for byte in range(256)]


def _cards(task: Task) -> dict[str, Any]:
    """What is asked and judged of cards; <j>, <cards> and the like stand for what is chosen."""
    rule = SimpleNamespace(j="<j>", q="<q>", k="<k>")
    template = SimpleNamespace(rule=rule, cards=["<cards>"], target="<target>")
    say, places = verdict_message, {"used": ["{used}"], "dealt": []}
    messages = {reason: say(reason) for reason in ("solved", "illegal_formula", "unreadable")} | {
        "wrong_value": say("wrong_value", value="{value}", target="{target}"),
        "wrong_numbers": say("wrong_numbers", **places),
        "wrong_numbers_for": say("wrong_numbers", **places | {"dealt": ["{dealt}"]}),
    }
    hands = [task.item("rule_paired", SEED, i).cards for i in range(HANDS)]
    return {
        "rule": RULE,
        "hands": hands,
        "prompt": card_texts.prompt(template),
        "rewards": REWARDS[task.settings.scheme],
        "messages": messages,
    }


def _walks(task: Task) -> dict[str, Any]:
    """The positions that can be chosen, in the words of either action space."""
    spaces = [task.test_items(split, SEED, WALKED) for split in ("id_unseen", "rule_ood")]
    routes = list(dict.fromkeys(step.route.index for step in spaces[0]))
    walks = [
        {
            "title": f"Walk {routes.index(step.route.index) + 1}: {step.position.sentence}",
            "crossing": step.position.at_intersection,
            "prompts": {asked.actions: task.prompt(asked) for asked in (step, twin)},
            "actions": {asked.actions: asked.action for asked in (step, twin)},
        }
        for step, twin in zip(*spaces, strict=True)
        if step.position.kind == "turn"
    ]
    say = walk_texts.verdict_message
    messages = {
        reason: say(reason, True) for reason in ("solved", "wrong_action", "unreadable")
    } | {
        "at": say("wrong_observation", True),
        "not_at": say("wrong_observation", False),
    }
    rewards = WALK_REWARDS[task.settings.scheme]
    return {"walks": walks, "messages": messages, "rewards": rewards}


PARTS = {  # of a layer, as the page calls them
    "attention_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
    "v": "self_attn.v_proj", "o": "self_attn.o_proj", "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip


def packed(folder: Path) -> dict[str, Any]:
    """The text path of a model of the tiny tier: shape, sizes of its tensors, and all of them, one
    after the other, in 16 bits and base64. Cross-attention layers see pictures only."""
    config = json.loads((folder / "config.json").read_text())["text_config"]
    rope = config["rope_parameters"]
    plain = config["num_key_value_heads"] == config["num_attention_heads"]
    if not (plain and rope["rope_type"] == "default" and config["hidden_act"] == "silu"):
        raise SftrlError(f"the playground cannot run the model in {folder}; use the book's own.")
    seeing = config["cross_attention_layers"]
    layers = [n for n in range(config["num_hidden_layers"]) if n not in seeing]
    inside = "language_model.model"
    names = {"embed": f"{inside}.embed_tokens", "norm": f"{inside}.norm"}
    names |= {f"{n}.{p}": f"{inside}.layers.{n}.{PARTS[p]}" for n in layers for p in PARTS}
    names |= {"head": "language_model.lm_head"}
    with safe_open(folder / WEIGHTS, "np") as weights:
        tensors = {n: weights.get_tensor(f"{name}.weight") for n, name in names.items()}
    data = b"".join(tensor.astype("<f2").tobytes() for tensor in tensors.values())
    return {
        "config": {
            "hidden": config["hidden_size"], "heads": config["num_attention_heads"],
            "layers": [str(n) for n in layers], "epsilon": config["rms_norm_eps"],
            "theta": rope["rope_theta"],
        },
        "sizes": {name: tensor.size for name, tensor in tensors.items()},
        "data": base64.b64encode(data).decode(),
    }  # fmt: skip
