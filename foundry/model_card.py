"""What the foundation model has seen and what it can do, written beside its weights."""

import json
import re
from collections import defaultdict
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from commons.files import write_atomic
from engine.generation import answer
from engine.policy import Policy
from sftrl_lib.experiment import Experiment
from sftrl_lib.policies import load_policy
from sftrl_lib.rollout import rollout
from sftrl_lib.tasks.base import Task
from sftrl_lib.tasks.general_points import GeneralPoints, GeneralPointsVL
from sftrl_lib.tasks.navigation import Navigation, NavigationVL
from worlds import card_texts as cards
from worlds import walk_texts as walks
from worlds.deals import COLORS
from worlds.verifier import verify_formula
from worlds.walks import WORDS, sighted


def walking(policy: Policy, routes: int = 50, seed: int = 0) -> dict:
    """Per action space and answer format, at all positions of unseen routes of the training city,
    greedy: the share of right actions, of all and of those that are turns."""
    report: dict = {"routes": routes, "by_format": {}}
    for actions in WORDS:
        task = Navigation(rule=actions)
        steps = task.test_items("id_unseen", seed, routes)
        for style in walks.FORMATS:
            asked = [
                walks.prompt(actions, s.sentences, s.history, s.position.observation, style)
                for s in steps
            ]
            written = answer(policy, [policy.first_turn(text) for text in asked], 40)
            done = [_acted(policy.decode(ids), style) for ids in written]
            right = [action == s.action for action, s in zip(done, steps, strict=True)]
            at_turns = [r for r, s in zip(right, steps, strict=True) if s.position.kind == "turn"]
            shares = {"actions": sum(right) / len(right), "turns": sum(at_turns) / len(at_turns)}
            report["by_format"].setdefault(style, {})[actions] = shares
    return report


def looking(policy: Policy, deals: int = 300, routes: int = 30, seed: int = 0) -> dict:
    """What is seen before any post-training, greedy: cards, by colour, in answers that name them
    before they calculate; and what is to be observed on walks through the training city and the
    other cities, in answers that say it first."""
    report: dict = {"deals": deals, "routes": routes, "cards": {}, "views": {}}
    for color in COLORS:
        task = GeneralPointsVL(color=color)
        items = [task.item("id_unseen", seed, i) for i in range(deals)]
        asked = [cards.prompt(item, "named", cards=False) for item in items]
        said = _shown(policy, task, items, asked)
        right = [
            [part.startswith(f"{card} is ") for card, part in zip(item.cards, parts, strict=False)]
            for item, parts in zip(items, (text.split(", ") for text in said), strict=True)
        ]
        report["cards"][color] = {
            "cards": sum(map(sum, right)) / 4 / deals,
            "hands": sum(sum(each) == 4 for each in right) / deals,
        }
    task = NavigationVL()
    for split in ("id_unseen", "visual_ood"):
        steps = task.test_items(split, seed, routes)
        asked = [
            walks.prompt(s.actions, s.sentences, s.history, walks.LOOK, "report") for s in steps
        ]
        said = _shown(policy, task, steps, asked)
        marks: dict[str, list[bool]] = defaultdict(list)
        for step, text in zip(steps, said, strict=True):
            seen = text.removeprefix("Seen: ").partition(" Due: ")[0]
            for name, right in sighted(step, seen).items():
                marks[name].append(right)
        report["views"][split] = {name: sum(m) / len(m) for name, m in marks.items()}
    return report


def _shown(policy: Policy, task: Task, items: list, asked: list[str], part: int = 100) -> list[str]:
    """The answers to questions about the items' pictures."""
    written = []
    for i in range(0, len(items), part):
        pictures = [task.draw(item, policy.image_size) for item in items[i : i + part]]
        turns = list(map(policy.first_turn, asked[i : i + part], pictures))
        written += answer(policy, turns, 64, pictures=pictures)
    return list(map(policy.decode, written))


def _acted(text: str, style: str) -> str:
    """The action in an answer of some format."""
    mark = '"action": "' if style == "json" else "Action: "
    return text.rpartition(mark)[2].strip(' "}')


def skills(policy: Policy, deals: int = 500, seed: int = 0) -> dict:
    """What a foundation model can do before any post-training: per answer format the share of deals
    solved, of face cards read right and of calculation steps that are true, under unseen random
    rules and the named rules (held-out multisets, greedy); and success by number of tries in the
    task's format."""
    splits = {"ten": "id_paired", "eleven_twelve_thirteen": "rule_paired", "five": "rule_five",
              "held-out mappings": "rule_random"}  # fmt: skip
    task = GeneralPoints()
    report: dict = {"deals": deals, "by_format": {}, "by_tries": {}}
    for rule, split in splits.items():
        items = [task.item(split, seed, i) for i in range(deals)]
        for style in cards.FORMATS:
            asked = [policy.first_turn(cards.prompt(item, style)) for item in items]
            answers = [policy.decode(ids) for ids in answer(policy, asked, 64)]
            report["by_format"].setdefault(style, {})[rule] = _skill(items, answers, style)
        played = rollout(policy, task, items, tries=5)
        report["by_tries"][rule] = [
            sum(any(turn.verdict.ok for turn in e.turns[:t]) for e in played) / deals
            for t in range(1, 6)
        ]
    return report


def _skill(items: list, answers: list[str], style: str) -> dict[str, float]:
    solved = read = faces = true = steps = 0
    for item, text in zip(items, answers, strict=True):
        formula = re.split(r'Formula: |"formula": "', text)[-1].rstrip('"}')
        solved += verify_formula(formula, item.numbers, item.target).ok
        claimed = [int(n) for n in re.findall(r"\d+", cards.claimed_values(text, style))]
        for card, n, value in zip(item.cards, claimed, item.numbers, strict=False):
            if card in "JQK":
                faces, read = faces + 1, read + (n == value)
        for left, sign, right, value in re.findall(r"(\d+)([-+*/])(\d+)=(\d+)", text):
            steps += 1
            true += verify_formula(f"{left}{sign}{right}", [int(left), int(right)], int(value)).ok
    shares = {"solved": (solved, len(items)), "faces_read": (read, faces)}
    shares["steps_true"] = (true, steps)
    return {name: count / n for name, (count, n) in shares.items() if n}


def write_card(folder: Path) -> None:
    """Measure the skills, put them into foundation.json, and write MODEL_CARD.md from that file."""
    policy = load_policy(Experiment(foundation=folder.name), folder)
    facts = json.loads((folder / "foundation.json").read_text())
    facts |= {"skills": skills(policy), "walking": walking(policy)}
    if "seeing" in facts:
        facts["looking"] = looking(policy)
    write_atomic(folder / "foundation.json", json.dumps(facts, indent=1) + "\n")
    write_atomic(folder / "MODEL_CARD.md", card_text(folder.name, facts))


def card_text(name: str, facts: dict) -> str:
    """The model card, from nothing but foundation.json and the template beside this file."""

    def shares(formats: dict[str, float]) -> str:
        return ", ".join(f"{style} {share:.1%}" for style, share in formats.items())

    def cell(skill: dict[str, float]) -> str:
        found = map(skill.get, ("solved", "faces_read", "steps_true"))
        return " / ".join("-" if share is None else f"{share:.1%}" for share in found)

    page = Environment(keep_trailing_newline=True, undefined=StrictUndefined)
    page.filters |= {"percent": "{:.0%}".format, "percent1": "{:.1%}".format}
    template = page.from_string(Path(__file__).with_suffix(".md").read_text())
    seeing = facts.get("seeing")
    seen = seeing and seeing["recipe"]
    known = facts | {"seeing": seeing, "seen": seen, "spaces": list(WORDS)}
    return template.render(name=name, shares=shares, cell=cell, **known)
