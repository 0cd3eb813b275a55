"""What the foundation model is pre-trained on: conversations about cards and about walks.

It follows *any* stated card rule and either action space, knows some arithmetic, reacts to the
verifier's words and answers in several formats, of which the tasks' own is rare. What it must not
have seen is kept out by `Pretraining` and held by a test: the named card rules, the held-out
mappings, held-out multisets with the target 24, and the names and routes of the ten cities.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial

import numpy as np
from PIL import Image

from worlds import card_texts as cards
from worlds import cities as recorded
from worlds import deals, drawing, hands, rail
from worlds import walk_texts as walks
from worlds.formulas import IllegalFormula, evaluate_formula
from worlds.routes import SECTORS, TURNS, Milestone, Route, turn_word
from worlds.solver import solve
from worlds.texts import retry
from worlds.verifier import verdict_message, verify_formula
from worlds.walks import WORDS, Step

from . import cities

Conversation = list[tuple[str, str]]  # (role, text)
# Shares of the answer formats other than the tasks' own, "json".
CARD_FORMATS = {"equation": 0.25, "values": 0.3, "steps": 0.25, "named": 0.2}
WALK_FORMATS = {"due": 0.4, "report": 0.6}  # both quote the sentence before they act on it
TARGETS = range(10, 41)  # of the pre-training deals whose target is not 24


def worked_steps(formula: str) -> list[str] | None:
    """The calculation of a formula step by step, e.g. "10*3=30"; None where there is none, or where
    a step leaves the whole numbers 0..99."""
    try:
        _, _, steps = evaluate_formula(formula)
    except IllegalFormula:
        return None
    if any(value.denominator != 1 or not 0 <= value <= 99 for *_, value in steps):
        return None
    return [f"{left}{sign}{right}={value}" for left, sign, right, value in steps]


def random_formula(numbers: list[int], rng: random.Random) -> tuple[str, Fraction | None]:
    """A random legal formula over all numbers, with its exact value (None: a division by zero)."""
    parts = [(str(n), 3) for n in rng.sample(numbers, len(numbers))]  # (text, how tightly it binds)
    while len(parts) > 1:
        i = rng.randrange(len(parts) - 1)
        (left, bound), (right, bound_right) = parts[i], parts[i + 1]
        sign = rng.choice("+-**/")
        binding = 1 if sign in "+-" else 2
        if bound < binding:
            left = f"({left})"
        if bound_right < binding or (bound_right == binding and sign in "-/"):
            right = f"({right})"
        parts[i : i + 2] = [(f"{left}{sign}{right}", binding)]
    formula = parts[0][0]
    try:
        return formula, evaluate_formula(formula)[0]
    except IllegalFormula:
        return formula, None


# --- Walks ----------------------------------------------------------------------------------------
@cache
def recorded_names() -> frozenset[str]:
    """The landmarks of the ten cities, which pre-training never names."""
    known = map(recorded.city, recorded.names())
    return frozenset(landmark.name for city in known for landmark in city.landmarks.values())


def random_names(count: int, rng: random.Random) -> list[str]:
    """Different names of no recorded city; some share all words but the kind with another one."""
    names: dict[str, None] = {}
    while len(names) < count:
        stem = f"{rng.choice(cities.FIRST)} {rng.choice(cities.SECOND)}".strip()
        if names and rng.random() < 0.3:
            stem = rng.choice(list(names)).rpartition(" ")[0]
        name = f"{stem} {rng.choice(cities.KINDS).capitalize()}"
        if name not in recorded_names():
            names[name] = None
    return list(names)


def random_route(rng: random.Random) -> Route:
    """A route through no city: turns of all four words equally often, in any direction."""
    count = rng.randint(2, 6)
    names = random_names(count, rng)
    point, heading = (0.0, 0.0), rng.randrange(360)
    start, first, points, stones = point, heading, [], []
    for i, name in enumerate(names):
        word = rng.choice(TURNS)
        change = rng.randint(10, 45) if word.startswith("slightly") else rng.randint(46, 140)
        before, heading = heading, (heading + (change if "right" in word else -change)) % 360
        assert turn_word(before, heading) == word
        named = i == count - 1 or rng.random() < 0.7
        side = rng.choice(SECTORS) if named else None
        point = point[0] + 0.001, point[1]  # where it lies is not told: only that it is far enough
        points.append(point)
        stones.append(Milestone(heading, before, 111, name if named else None, side))
    index = rng.randrange(10**9)
    return Route(index, start, tuple(points), tuple(stones), first, names[-1])


@dataclass(frozen=True)
class Pretraining:
    """The recipe. Shares are of examples; every number here is printed in the model card."""

    seed: int = 0
    steps: int = 500
    batch: int = 128
    lr: float = 3e-3
    json: float = 0.03  # 0 leaves the task's own format out (the paper's Fig. 9)
    target_24: float = 0.04  # more, and it knows the ~1,000 solvable multisets by heart
    walks: int = 24  # conversations about walks a step, beside the `batch` about cards
    conversations: float = 0.25
    faces: float = 0.5  # share of deals in which each card is a face card with probability 1/2

    def formats(self, shares: dict[str, float] = CARD_FORMATS) -> dict[str, float]:
        """The shares of all formats: the tasks' own, and of the rest these."""
        return {"json": self.json} | {k: v * (1 - self.json) for k, v in shares.items()}

    def _format(self, shares: dict[str, float], rng: random.Random) -> str:
        weights = self.formats(shares)
        return rng.choices(list(weights), list(weights.values()))[0]

    def deal(self, rng: random.Random) -> tuple[deals.Deal, str]:
        """A deal under a random rule and a formula that solves it."""
        while True:
            rule = deals.Rule.parse(tuple(rng.randint(1, 13) for _ in range(3)))
            if (rule.j, rule.q, rule.k) in FORBIDDEN_RULES:
                continue
            faced = rng.random() < self.faces
            ranks = tuple(
                rng.randint(11, 13) if faced and rng.random() < 0.5 else rng.randint(1, 13)
                for _ in range(4)
            )
            numbers = [rule.value(r) for r in ranks]
            if rng.random() < self.target_24:
                if deals.held_out(numbers):
                    continue
                solutions = solve(numbers, 24)
                if not solutions:
                    continue
                return deals.Deal(ranks, ("S",) * 4, rule, 24), rng.choice(solutions)
            formula, value = random_formula(numbers, rng)
            if value is None or value.denominator != 1 or value not in TARGETS or value == 24:
                continue
            return deals.Deal(ranks, ("S",) * 4, rule, int(value)), formula

    def wrong_formula(self, deal: deals.Deal, rng: random.Random) -> str:
        """What a student may write: a wrong value, wrong numbers, or no formula at all."""
        numbers = list(deal.numbers)
        kind = rng.random()
        if kind < 0.25:  # misread a card
            numbers[rng.randrange(4)] = rng.randint(1, 13)
        formula, _ = random_formula(numbers, rng)
        if kind > 0.9:  # break the syntax
            cut = rng.randrange(1, len(formula))
            formula = formula[:cut] + rng.choice("()+*") + formula[cut:]
        return formula

    def cards(self, rng: random.Random) -> Conversation:
        """A conversation about a deal; its last answer is right."""
        return self.card_talk(*self.deal(rng), rng)

    def card_talk(
        self, deal: deals.Deal, formula: str, rng: random.Random, pictured: bool = False
    ) -> Conversation:
        """A conversation about this deal, perhaps with wrong tries; it ends with `formula`."""
        style = self._format(CARD_FORMATS, rng)
        steps = worked_steps(formula)
        if style == "steps" and steps is None:
            style = "values"
        answer = cards.answer(deal.cards, deal.numbers, formula, style, steps or ())
        turns = [("user", cards.prompt(deal, style, cards=not pictured))]
        if rng.random() < self.conversations:
            for _ in range(rng.choice((1, 1, 2))):
                wrong, named = self.wrong_formula(deal, rng), deal.cards
                verdict = verify_formula(wrong, deal.numbers, deal.target)
                if verdict.ok:
                    continue
                message, steps = verdict.message, worked_steps(wrong) or ()
                if pictured and rng.random() < 0.5:  # one card misread
                    named = list(deal.cards)
                    named[rng.randrange(4)] = rng.choice(list(deals.CARD_NAMES.values()))
                    if sorted(named) != sorted(deal.cards):
                        message = verdict_message("misread_cards")
                shown = cards.answer(named, deal.numbers, wrong, style, steps)
                turns += [("assistant", shown), ("user", retry(message))]
        return [*turns, ("assistant", answer)]

    def walk(self, rng: random.Random) -> Conversation:
        """A conversation about one position of a walk; its last answer is right."""
        route, actions = random_route(rng), rng.choice(list(WORDS))
        laid = rail.lay_rail(route, 3, 0.5)
        index = max(rng.randrange(len(laid)), rng.randrange(len(laid)))  # a longer history: more
        step = Step(route, rail.sentences(route), laid, index, actions)
        return self.walk_talk(step, rng)

    def walk_talk(self, step: Step, rng: random.Random, pictured: bool = False) -> Conversation:
        """A conversation about this position, perhaps with wrong tries; it ends right."""
        style, position = self._format(WALK_FORMATS, rng), step.position

        def answer(observed: str, action: str) -> tuple[str, str]:
            return "assistant", walks.answer(observed, position.sentence, action, style)

        truth = [p.seen if pictured else p.observation for p in step.rail]
        right = truth[step.index]
        asked = step.sentences, step.history, walks.LOOK if pictured else right
        turns = [("user", walks.prompt(step.actions, *asked, style))]
        if rng.random() < self.conversations:
            wrong = self.wrong_action(step, rng)
            reason, observed = "wrong_action", right
            if rng.random() < 0.2:
                reason, observed = "wrong_observation", rng.choice(truth)
                if rail.claims_intersection(observed) == position.at_intersection:
                    reason = "wrong_action"
            message = walks.verdict_message(reason, position.at_intersection)
            turns += [answer(observed, wrong), ("user", retry(message))]
        return [*turns, answer(right, step.action)]

    def wrong_action(self, step: Step, rng: random.Random) -> str:
        """What a student may do: another sentence's turn, any other, or another kind of action."""
        turns = [getattr(p, step.actions) for p in step.rail if p.kind == "turn"]
        anything = [rail.turn_action(word) for word in WORDS[step.actions]]
        pool = rng.choice((turns, anything, (rail.FORWARD, rail.STOP)))
        return rng.choice([a for a in pool if a != step.action] or [rail.turn_action("back")])

    def batch_of(self, step: int) -> list[Conversation]:
        """The examples of one optimizer step: the same for the same (seed, step)."""
        rng = random.Random(f"foundation/{self.seed}/{step}")
        cards = [self.cards(rng) for _ in range(self.batch)]
        return cards + [self.walk(rng) for _ in range(self.walks)]


# --- Pictures -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Pictured:
    """A conversation about a picture, how to draw it, and what each patch of it should name."""

    talk: Conversation
    draw: Callable[[], Image.Image]
    patches: tuple[int, ...]  # GRID * GRID, row by row


GRID = 8  # patches along a side of the picture
# What a patch names: the card of its quarter, one of 13; or of its view, whether one is at a
# crossing, and the sign of that crossing's landmark (one of eight kinds) in its column, or none.
SIGHTS = len(deals.RANKS) + 2 * (len(cities.KINDS) + 1)


def hand_patches(ranks: Sequence[int]) -> tuple[int, ...]:
    """`Pictured.patches` of four cards, ranks 1..13."""
    half = GRID // 2
    return tuple(ranks[y // half * 2 + x // half] - 1 for y in range(GRID) for x in range(GRID))


def view_patches(city: cities.City, place: cities.Position, heading: float) -> tuple[int, ...]:
    """`Pictured.patches` of the four views from a place."""
    node = min(city.graph, key=lambda n: math.dist(city.xy(n), place))
    crossing, half = math.dist(city.xy(node), place) < 3, GRID // 2
    found = np.full((GRID, GRID), len(deals.RANKS) + crossing)
    mark = city.landmarks.get(node) if crossing else None
    if mark:
        east, north = (a - b for a, b in zip(mark.position, place, strict=True))
        bearing = math.degrees(math.atan2(east, north)) - heading
        view = round(bearing / 90)
        across = (1 + math.tan(math.radians(bearing - 90 * view))) / 2  # 0 left, 1 right
        row, column = divmod(view % 4, 2)
        x = column * half + min(int(across * half), half - 1)
        found[row * half : (row + 1) * half, x] += 2 * (1 + cities.KINDS.index(mark.kind))
    return tuple(found.ravel().tolist())


@cache
def _town(seed: int) -> tuple[cities.City, list[Route]]:
    city = cities.random_city(seed, recorded_names())
    return city, cities.city_routes(city, "seeing", 60)


@dataclass(frozen=True)
class Seeing(Pretraining):
    """The second stage's recipe: the same conversations, about pictures. What is read and written
    stays as it was learned: only what looks is trained."""

    steps: int = 400
    looks: int = 220  # of these, the first: naming what is where, without words
    batch: int = 64
    lr: float = 3e-3
    json: float = 0.1
    walks: int = 64
    red: float = 0.01  # share of the hands; all others are black
    towns: int = 2  # random cities; the ten cities it never sees
    size: int = 64  # pixels

    def hand(self, rng: random.Random) -> Pictured:
        """A picture of a deal, a conversation about it, and what lies where."""
        deal, formula = self.deal(rng)
        suits = deals.COLORS["red" if rng.random() < self.red else "black"]
        deal = replace(deal, suits=tuple(rng.choices(suits, k=4)), look=rng.getrandbits(32))
        show = partial(hands.picture, deal.cards, deal.suits, self.size, deal.look)
        talk = self.card_talk(deal, formula, rng, pictured=True)
        return Pictured(talk, show, hand_patches(deal.ranks))

    def street(self, rng: random.Random) -> Pictured:
        """Street views in a random city, a conversation about them, and what is where."""
        city, routes = _town(rng.randrange(self.towns))
        route, actions = rng.choice(routes), rng.choice(list(WORDS))
        laid = rail.lay_rail(route, 3, 0.5, rng.random())
        index = rng.randrange(len(laid))
        step = Step(route, rail.sentences(route), laid, index, actions)
        seen = city, city.position(step.position.location), step.position.heading
        show = partial(drawing.street_views, *seen, self.size)
        return Pictured(self.walk_talk(step, rng, pictured=True), show, view_patches(*seen))

    def batch_of(self, step: int) -> list[Pictured]:
        """`batch` hands and `walks` streets, the same for the same step and seed."""
        rng = random.Random(f"seeing/{self.seed}/{step}")
        shown = [self.hand(rng) for _ in range(self.batch)]
        return shown + [self.street(rng) for _ in range(self.walks)]


NAMED = {(r.j, r.q, r.k) for r in deals.NAMED_RULES.values()}
FORBIDDEN_RULES = NAMED | set(deals.HELD_OUT_MAPPINGS)
