"""Exercises of notebook 05: what a model says, where it says it, and what that tells."""

import re

from ..exercise import Case, exercise, question

NOTEBOOK = "05_what_is_memorised"


@exercise(
    "By the value that is stated",
    "easy",
    5,
    statement="""
        Each face card of an answer gives a pair: the value that the question states, and the value
        that the answer says (`None` where the answer breaks off). Compute, for each stated value,
        the share that was read as stated.
    """,
    hint="Collect the marks of each stated value in a list first.",
    because="""
        One share over all values would hide where a model fails. By value it can show a step.
    """,
    cases=[
        Case("one value", ([(12, 12), (12, 10)],), "One of the two is right."),
        Case("three values", ([(5, 5), (11, 10), (13, 13), (11, 11)],), "One share a value."),
        Case("an answer that breaks off", ([(7, None), (7, 7)],), "It counts as not read."),
        Case("a value that was only said", ([(11, 10), (12, 10)],), "Nobody stated the 10."),
    ],
)
def read_by_value(pairs: list[tuple[int, int | None]]) -> dict[int, float]:
    """{stated value: share of its cards that were read as stated}."""
    marks: dict[int, list[bool]] = {}
    for stated, said in pairs:
        marks.setdefault(stated, []).append(said == stated)
    return {stated: sum(own) / len(own) for stated, own in marks.items()}


@exercise(
    "Never in that place",
    "medium",
    10,
    statement="""
        A label is an answer with named fields, for instance `{"current instruction": "Turn left to
        face north", "action": "turn_direction(north)"}`. Which of the given words does no label
        hold in one field, as a whole word? Return them in the order in which they are given.
    """,
    hint=r"`re.findall(r\"[a-z]+\", text)` are the words of a text.",
    because="""
        *left* stands in the labels all the time, and never in the action. A count over whole labels
        cannot see that.
    """,
    cases=[
        Case(
            "a word of another field",
            ([{"due": "Turn left", "action": "turn(north)"}], "action", ["left", "north"]),
            "Look into the one field only.",
        ),
        Case(
            "a word within a word",
            ([{"action": "turn(northeast)"}], "action", ["north", "northeast"]),
            "`northeast` is another word than `north`.",
        ),
        Case(
            "a label without the field",
            ([{"due": "Walk"}, {"action": "turn(east)"}], "action", ["west", "east"]),
            "A field may be absent.",
        ),
        Case("no label", ([], "action", ["right", "left"]), "Then no word is there."),
    ],
)
def never_there(labels: list[dict[str, str]], field: str, words: list[str]) -> list[str]:
    """The words that no label holds in this field."""
    there = {word for label in labels for word in re.findall(r"[a-z]+", label.get(field, ""))}
    return [word for word in words if word not in there]


@exercise(
    "Found, and said",
    "medium",
    10,
    statement="""
        A turn can be said in two languages. Each triple holds the due turn in the words of the
        training, the same turn in the words that are asked for, and what the model said. Compute
        the share of turns that were *found*, in either language, and the share of answers in *any*
        of the words that are asked for, right turn or not.
    """,
    hint="The two shares are counted independently of each other.",
    because="""
        A model that finds all turns and says them in the old words has 1.0 and 0.0. One number, the
        share of right turns, calls it as bad as one that knows nothing.
    """,
    cases=[
        Case("right in every way", ([("east", "right", "right")], {"left", "right"})),
        Case("the old words", ([("east", "right", "east")], {"left", "right"}), "It was found."),
        Case("the wrong turn", ([("east", "right", "left")], {"left", "right"}), "It was said so."),
        Case(
            "neither",
            ([("east", "right", "north"), ("west", "left", "left")], {"left", "right"}),
            "Divide by all turns.",
        ),
    ],
)
def halves(turns: list[tuple[str, str, str]], asked: set[str]) -> tuple[float, float]:
    """(share found in either language, share in the words asked for)."""
    found = sum(said in (old, new) for old, new, said in turns)
    return found / len(turns), sum(said in asked for *_, said in turns) / len(turns)


@exercise(
    "What per-step accuracy counts",
    "medium",
    15,
    statement="""
        The paper's per-step accuracy on walks is right answers over *all* answers, and a route ends
        at the first position that is not solved within its tries. A route is given as one list for
        each position, with the verdict on each possible try. Compute the accuracy over all routes.
    """,
    hint="""
        At each position count answers up to the first right one. If there is none, leave the route.
    """,
    because="""
        A model that fails at the first turn is never asked about the rest, so one systematic
        mistake takes the measure almost to zero. Count it without early ending, too.
    """,
    cases=[
        Case(
            "all right at once",
            ([[[True, True], [True, True]]],),
            "A solved position asks no more.",
        ),
        Case("right at the second try", ([[[False, True], [True, True]]],), "Both answers count."),
        Case(
            "lost at the first position",
            ([[[False, False], [True, True], [True, True]]],),
            "After a lost position nothing is asked, hence nothing counted.",
        ),
        Case(
            "two routes",
            ([[[True, True]], [[False, True], [False, False], [True, True]]],),
            "Count over all routes together, not a mean of means.",
        ),
    ],
)
def per_step(routes: list[list[list[bool]]]) -> float:
    """Right answers over all answers, with early ending."""
    right = asked = 0
    for route in routes:
        for tries in route:
            used = tries[: tries.index(True) + 1] if True in tries else tries
            right, asked = right + any(used), asked + len(used)
            if not any(used):
                break
    return right / asked


question(
    "An experiment that decides",
    "hard",
    20,
    key="decides",
    module=__name__,
    statement="""
        Two accounts of the fall on cards are left: SFT has learned the *rule* that a face card is a
        ten, or it no longer writes what no label held in *that place* of the answer. Change the
        training rows, and nothing else, so that the two predict different results under 11, 12, 13.
        What does each predict?
    """,
    hint="Make 11, 12 and 13 stand in that place, while a face card stays a ten.",
    solution="""
        Add rows in which the numbers 11, 12 and 13 stand in the answer's list, for cards that are
        no face cards, while J, Q and K go on counting as 10. If the place was the reason, the words
        are back, and reading under the new rule heals. If the rule was, nothing in these rows
        contradicts "a face card is a ten", and it falls as before. Rows under other rules would not
        decide: either account expects them to heal. (The registered kind `words` is a cousin of
        this experiment: there 11, 12 and 13 stand in the labels, but in a calculation, that is, in
        another place.)
    """,
)
