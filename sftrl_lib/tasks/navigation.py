"""Navigation: follow a route's instruction through a city, position by position (appendix A).

Top to bottom: how answers are judged, what is asked at one position, which routes there are, the
two tasks (observations in words, V-IRL-L; in street views, V-IRL-VL), and what is counted.

A prompt depends on the route, the position and the failed tries there only: a wrong action is never
carried out. So RL trains on groups of one position, and an evaluation plays all positions at once.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from commons.errors import SftrlError, check
from commons.settings import Text
from worlds import authors_walks, walk_texts
from worlds.answers import read_fields
from worlds.rail import claims_intersection, lay_rail, sentences, spaced
from worlds.routes import COMPASS, TURNS, Route, RouteSet, content_hash, for_validation
from worlds.texts import FEEDBACK, WORDINGS, feedback
from worlds.walks import (
    KEYS,
    REWARDS,
    WORDS,
    Step,
    finds_turn,
    generated,
    need_pictures,
    observed,
    picture,
    quotes_due,
    released,
    said_as,
    sighted,
    uses_words,
)

from ..experiment import TaskSettings
from ..registry import register_task
from .base import Counts, Task, Verdict, by_cluster

_DATA = {
    "train": "train", "id_seen": "train", "validation": "unseen", "id_unseen": "unseen",
    "rule_ood": "unseen", "visual_ood": "other",
}  # fmt: skip

AT_TURNS = {"turn_found": finds_turn, "words_right": uses_words, "sentence_right": quotes_due}


class NavigationSettings(TaskSettings):
    """The action spaces of training and test, how rails are laid, whose routes they are."""

    rule: Literal["absolute", "relative"] = Field(
        "absolute", description="training: absolute | relative"
    )
    ood_rule: Literal["absolute", "relative"] = Field(
        "relative", description="action space of the OOD test"
    )
    scheme: Literal["paper", "binary", "authors", "quoted"] = Field(
        "paper", description=" | ".join(REWARDS)
    )
    feedback: Literal["full", "reason", "wrong"] = Field("full", description=" | ".join(FEEDBACK))
    wording: Literal["book", "authors"] = Field("book", description=" | ".join(WORDINGS))
    set_apart: bool = Field(False, description="no test walks the routes of validation")
    straight_line_length: int | None = Field(
        None, ge=0, le=100, description="forward points on a segment (ours 3, the paper's routes 5)"
    )
    drop_rate: float = Field(0.5, ge=0, le=1, description="share of forward points left out")
    wrap: bool = Field(True, description="False: bearings as in the public code, not wrapped")
    routes: Text = Field("", description="folder of released routes to train on; a quarter unseen")
    ood_routes: Text = Field("", description="folder of released routes in other cities")

    def data(self) -> dict[str, str]:
        """Routes are known by what they are, not by the path."""
        named = {name: getattr(self, name) for name in ("routes", "ood_routes")}
        return {name: content_hash(folder) for name, folder in named.items() if folder}

    def identity(self) -> dict[str, Any]:
        return super().identity() | self.data()


@register_task("virl-l", rank=1)
class Navigation(Task):
    """V-IRL-L: seeded positions of routes, their questions, expert answers and verdicts.

        train, id_seen    training routes, training actions; two streams of the same distribution
        validation        a third of the training city's other routes, to choose settings
        id_unseen         these routes (with `set_apart` without that third), training actions
        rule_ood          the same routes and rails, the other actions
        visual_ood        routes of other cities, training actions

    Routes come from `data`, by name ("train", "unseen", "other"), from the folders that the
    settings name, or are the generated ones; a split without data is none of `splits`. 3 forward
    points keep the generated routes at 8 to 16 positions or so.
    """

    settings_class = NavigationSettings
    splits = tuple(_DATA)
    side_splits: Sequence[str] = ("id_seen", "visual_ood")
    headline, counted = "per_step", "routes"
    numbers = {"tries": 2, "eval_tries": 2, "eval_episodes": 40, "final_episodes": 200}
    tuned = {
        "tiny": {
            "init": {"steps": 30},
            "sft": {"lr": 1e-3, "steps": 136},
            "rl": {"lr": 1e-4, "steps": 50},
        }
    }
    metrics = {
        "success": "success (%)",
        "per_step": "per-step accuracy (%)",
        "per_step_full": "right first tries, all positions (%)",
        "turn_accuracy": "turns right (%)",
        "turn_found": "due turn found, in either words (%)",
        "words_right": "turns in the words asked for (%)",
        "sentence_right": "sentence quoted at turns is due (%)",
    } | {
        f"says_{word.replace(' ', '_')}": f"turns {word} said where they are due (%)"
        for word in (*COMPASS, *TURNS)
    }
    wordings = {"book": walk_texts, "authors": authors_walks}
    split_labels = Task.split_labels | {"visual_ood": "other cities"}
    mechanism = (
        "is the due turn found, and said in the words asked for?",
        [("rule_ood", metric) for metric in ("turn_found", "words_right", "turn_accuracy")],
    )

    def __init__(self, data: Mapping[str, RouteSet] | None = None, **given: Any) -> None:
        super().__init__(**given)
        own = self.settings
        if own.ood_routes and not own.routes:
            raise SftrlError("ood_routes needs routes, the folder that is trained on; name it too.")
        self.data = released(own.routes, own.ood_routes) if own.routes else data
        usual = 5 if own.routes else 3
        given_length = own.straight_line_length
        self._length = usual if given_length is None else given_length
        if self.data is not None:
            known = (split for split, name in _DATA.items() if name in self.data)
            self.splits = tuple(split for split in known if split != "validation")
            self.side_splits = tuple(s for s in self.side_splits if s in self.splits)
            self.curve_splits = tuple(s for s in self.curve_splits if s in self.splits)

    def _observation(self, step: "Step") -> str:
        """What the question says is observed now."""
        return step.position.observation

    def _seen(self, step: "Step") -> str:
        """What an expert says is observed now."""
        return step.position.observation

    def _set(self, split: str) -> RouteSet:
        check("the split", split, split in self.splits, self.splits)
        name = _DATA[split]
        found = generated(name) if self.data is None else self.data[name]
        if not found.routes:
            raise SftrlError(f"the data set {name!r} has no usable route; name one that has.")
        return found

    def routes(self, split: str) -> tuple[Route, ...]:
        """The routes of a split, in order; SftrlError if it is unknown or has none."""
        whole = self._set(split).routes
        chosen_on = split == "validation"
        if _DATA[split] != "unseen" or not (chosen_on or self.settings.set_apart):
            return whole
        return tuple(route for route in whole if for_validation(route) == chosen_on)

    def positions(self, split: str, route: Route, seed: object = 0) -> tuple[Step, ...]:
        """All positions of a route, in order, on the rail that `seed` draws in any split."""
        actions = self.settings.ood_rule if split == "rule_ood" else self.settings.rule
        layout = self._length, self.settings.drop_rate, seed, self.settings.wrap
        data = self._set(split)
        laid = lay_rail(route, *layout, data.panoramas)
        told = sentences(route, self.settings.wrap)
        return tuple(Step(route, told, laid, index, actions, data) for index in range(len(laid)))

    def item(self, split: str, seed: int, index: int) -> Step:
        """Item `index`: a route of the split, a rail of its own, a position on it, all drawn."""
        key = f"nav/{split}/{seed}/{index}"
        rng = random.Random(key)
        return rng.choice(self.positions(split, rng.choice(self.routes(split)), key))

    def prompt(self, step: Step) -> str:
        observed = self._observation(step)
        return self.texts.prompt(step.actions, step.sentences, step.history, observed)

    def draw(self, step: Step, size: int) -> Image.Image:
        """The four views of a position (`walks.picture`)."""
        return picture(step, size, self._length)

    def expert(self, step: Step, rng: random.Random) -> str:
        """The correct answer; there is one, so nothing is drawn."""
        position = step.position
        return self.texts.answer(self._seen(step), position.sentence, step.action)

    def verify(self, step: Step, text: str) -> Verdict:
        """Judge an answer by its action; a wrong one also by whether it saw an intersection.

        All three keys must be there; how white space is spread does not count. The scheme "authors"
        needs the action only, exactly, and takes any mention of an intersection for a claim. The
        scheme "quoted" pays for no right action without the sentence that is due: it stays right.
        """
        crossing = step.position.at_intersection
        if self.settings.scheme == "authors":
            right = said_as(text, "action") == step.action
            readable, claim = True, "intersection" in said_as(text, KEYS[0])
        else:
            fields = read_fields(text, KEYS) or {}
            said: list[Any] = [fields.get(key) for key in KEYS]
            readable = all(isinstance(value, str) for value in said)
            right = readable and spaced(said[2]) == step.action
            claim = readable and claims_intersection(said[0])
        if not readable:
            reason = "unreadable"
        elif right:
            reason = "solved"
        else:
            reason = "wrong_action" if claim == crossing else "wrong_observation"
        theirs = self.settings.scheme == "authors"
        message = self.texts.verdict_message(reason, crossing, authors=theirs)
        message = feedback(reason, message, self.settings.feedback, walk_texts.REASONS)
        if self.settings.scheme == "quoted" and right and not quotes_due(step, text):
            reason = "wrong_sentence"
        return Verdict(right, REWARDS[self.settings.scheme][reason], reason, message)

    def test_items(self, split: str, seed: int, count: int) -> list[Step]:
        """All positions of `count` routes, drawn by the seed: the same for both action spaces. Of
        `data` with fewer routes, all."""
        known = self.routes(split)
        count = min(count, len(known)) if self.data else count
        check("the number of routes", count, count <= len(known), f"at most {len(known)}")
        drawn = random.Random(f"nav/test/{_DATA[split]}/{seed}").sample(known, count)
        return [step for route in drawn for step in self.positions(split, route, seed)]

    def variant(self, rng: random.Random) -> Task:
        """Under the other action space: there are but two."""
        other = {"absolute": "relative", "relative": "absolute"}[self.settings.rule]
        return self.of(self.settings.model_copy(update={"rule": other}))

    def cluster(self, step: Step) -> Hashable:
        """The positions of one route are one long question."""
        return step.route.index

    def measures(self, episodes: Sequence[Any], tries: int) -> dict[tuple[str, int], Counts]:
        """`route_metrics` of complete routes, a cluster a route; what counts first tries only, at
        one try. Of first tries at turns also the two halves of a right turn: turn_found, is it the
        turn that is due, in the words of either action space; words_right, is it any turn in the
        words of the stated one. And sentence_right, is the sentence beside it the one that is due.
        With pictures, of first tries what was seen: recognition, is the observation right;
        landmark_seen, is its landmark, where there is one; intersection_seen."""
        played = [(e.item, [turn.verdict for turn in e.turns]) for e in episodes]
        counts: dict[tuple[str, int], Counts] = {}
        for t in range(1, tries + 1):
            found = route_metrics(played, t)
            names = found if t == 1 else ("success", "per_step")
            counts |= {(name, t): found[name] for name in names}
        at_turns = [e for e in episodes if e.item.position.kind == "turn"]
        for name, right in AT_TURNS.items():
            marks = ((e.item.route, right(e.item, e.turns[0].text)) for e in at_turns)
            counts[name, 1] = by_cluster(marks)
        for word in WORDS[played[0][0].actions]:  # which of the words are said where they are due
            due = [e for e in at_turns if e.item.action == walk_texts.turn_action(word)]
            said = ((e.item.route, e.turns[0].verdict.ok) for e in due)
            counts[f"says_{word.replace(' ', '_')}", 1] = by_cluster(said)
        return counts


@register_task("virl-vl", rank=3)
class NavigationVL(Navigation):
    """V-IRL-VL: the question shows four views instead of saying what is observed now; crossings,
    too, must be seen."""

    pictures = True
    side_splits = ("id_seen",)
    curve_splits = ("id_unseen", "rule_ood", "visual_ood")
    tuned = {
        "tiny": {
            "init": {"steps": 30},
            "sft": {"lr": 1e-3, "steps": 136},
            "rl": {"lr": 3e-5, "steps": 50},
        }
    }
    metrics = Navigation.metrics | {
        "recognition": "observations right (%)",
        "landmark_seen": "landmarks seen right (%)",
        "intersection_seen": "crossings seen right (%)",
    }
    mechanism = (
        "is the street seen, and the due turn said in the words asked for?",
        [("rule_ood", name) for name in ("landmark_seen", "intersection_seen", "words_right")],
    )

    def __init__(self, data: Mapping[str, RouteSet] | None = None, **given: Any) -> None:
        super().__init__(data, **given)
        if self.data:
            need_pictures(self.data.values(), self._length)

    def _observation(self, step: "Step") -> str:
        return self.texts.look(step.position.at_intersection)

    def _seen(self, step: "Step") -> str:
        return step.seen

    def picture(self, step: "Step", size: int) -> Image.Image:
        return self.draw(step, size)

    def measures(self, episodes: Sequence[Any], tries: int) -> dict[tuple[str, int], Counts]:
        """V-IRL-L's, and what first answers saw: recognition, is the observation right;
        landmark_seen, is its landmark, where there is one; intersection_seen."""
        marks = defaultdict(list)
        for e in episodes:
            for name, right in sighted(e.item, observed(e.turns[0].text)).items():
                marks[name, 1].append((e.item.route, right))
        seen = {what: by_cluster(found) for what, found in marks.items()}
        return super().measures(episodes, tries) | seen


def route_metrics(
    played: Iterable[tuple[Step, Sequence[Verdict]]], tries: int
) -> dict[str, Counts]:
    """Count the verdicts of all positions of some routes, `tries` tries each at most.

    per_step       correct actions of all answers; the episode ends where the tries run out (paper)
    per_step_full  correct first tries, at every position
    turn_accuracy  the same, where the right action is a turn
    success        routes on which no position's tries run out

    Counts of one route are one cluster: `stats.clustered_interval(*zip(*counts))`. Raises
    ValueError where a route is not complete.
    """
    by_route: dict[Route, list] = defaultdict(list)
    for step, verdicts in played:
        by_route[step.route].append((step, [verdict.ok for verdict in verdicts[:tries]]))
    counts: dict[str, Counts] = defaultdict(list)
    for route, steps in by_route.items():
        steps.sort(key=lambda pair: pair[0].index)
        if [step.index for step, _ in steps] != list(range(len(steps[0][0].rail))):
            raise ValueError(f"route {route.index}: every position must be there, once")
        firsts = [oks[0] for _, oks in steps]
        turns = [oks[0] for step, oks in steps if step.position.kind == "turn"]
        passed = [any(oks) for _, oks in steps]
        reached = passed.index(False) + 1 if False in passed else len(passed)
        answers = sum(len(oks) for _, oks in steps[:reached])
        counts["per_step"].append((sum(passed[:reached]), answers))
        counts["per_step_full"].append((sum(firsts), len(firsts)))
        counts["turn_accuracy"].append((sum(turns), len(turns)))
        counts["success"].append((int(all(passed)), 1))
    return dict(counts)
