"""Exercises of notebook 00: the question, and how to read its numbers."""

from ..exercise import Case, exercise, question

NOTEBOOK = "00_start_here"

TEN = {"J": 10, "Q": 10, "K": 10}
NEW = {"J": 11, "Q": 12, "K": 13}


@exercise(
    "Read the rule",
    "easy",
    3,
    statement="""
        Give the numbers that a hand stands for. An ace counts as 1, a number card as its number,
        and J, Q and K as the rule says.
    """,
    hint="`rule.get(card)` is `None` for a card that the rule does not mention.",
    because="""
        Following the rule means no more than this. A model that has learned it needs no second
        training run for another rule.
    """,
    cases=[
        Case("the training rule", (["A", "7", "J", "K"], TEN), "An ace counts as 1."),
        Case("the test rule", (["Q", "J", "10", "2"], NEW), "Look the value up in `rule`."),
        Case("a rule of small values", (["K", "K", "3", "Q"], {"J": 1, "Q": 2, "K": 3})),
        Case("no face card", (["A", "A", "5", "9"], NEW), "The order of the cards is kept."),
    ],
)
def numbers_of(cards: list[str], rule: dict[str, int]) -> list[int]:
    """The numbers of cards such as ["A", "7", "J"] under a rule such as {"J": 10, "Q": ...}."""
    return [(rule | {"A": 1}).get(card) or int(card) for card in cards]


@exercise(
    "Give the memoriser away",
    "easy",
    5,
    statement="""
        A model has learned the training rule by heart: it uses the training values whatever the
        question states. Which hands show that? Write a test for one hand.
    """,
    hint="Look for a card to which the two rules give different values.",
    because="""
        Under the training rule no hand gives the memoriser away. So no measurement in distribution
        can tell it from a model that reads the rule.
    """,
    cases=[
        Case("a jack under the new rule", (["2", "5", "J", "9"], TEN, NEW)),
        Case("no face card", (["A", "5", "9", "10"], TEN, NEW), "Without a face card all is well."),
        Case("the rule it was trained on", (["J", "Q", "K", "2"], TEN, TEN)),
        Case(
            "a face card on which the rules agree",
            (["J", "2", "3", "4"], TEN, {"J": 10, "Q": 5, "K": 6}),
            "A face card alone is not enough: the rules must disagree on it.",
        ),
    ],
)
def gives_away(cards: list[str], trained: dict[str, int], stated: dict[str, int]) -> bool:
    """Whether using the `trained` values on this hand is a mistake under the `stated` rule."""
    return any(trained.get(card) != stated.get(card) for card in cards)


@exercise(
    "Points and per cent",
    "easy",
    3,
    statement="""
        Success rises from one rate to another. Say by how many percentage points, and by how many
        per cent of where it started. (The paper prints points. Accounts of it often do not say
        which they mean.)
    """,
    hint="Points are a difference of rates; per cent of the start are that difference, divided.",
    because="""
        From a low start a small rise in points is a large one in per cent. This book uses points.
    """,
    cases=[
        Case("a doubling", (0.1, 0.2), "From 10% to 20% it is 10 points, and 100 per cent."),
        Case("a fall", (0.8, 0.2), "A fall is negative in both."),
        Case("a rise from a low start", (0.02, 0.03), "Divide by the start, not by the end."),
    ],
)
def rise(before: float, after: float) -> tuple[float, float]:
    """(percentage points, per cent of the start); rates are between 0 and 1, before is not 0."""
    return 100 * (after - before), 100 * (after - before) / before


@exercise(
    "Equal compute",
    "medium",
    10,
    statement=r"""
        The paper counts $6N$ operations for each token that is trained, and for RL another $2N$
        for each token that is read or written in a rollout:

        $$
        X_\text{SFT} = 6N (D_\text{init} + D_\text{SFT}), \qquad
        X_\text{RL} = 6N (D_\text{init} + D_\text{RL}) + 2N D_\text{buffer}
        $$

        An RL run trained on $D_\text{RL}$ tokens and collected $D_\text{buffer}$. On how many
        tokens may the SFT arm train, so that both have spent the same?
    """,
    hint="Set the two equal. Both the size of the model and the init cancel.",
    because="A token of rollout costs a third of a token of training.",
    cases=[
        Case("nothing collected", (900, 0), "Then both train on the same number of tokens."),
        Case("collected only", (0, 900), "A collected token costs a third of a trained one."),
        Case("both", (1_000, 6_000), "Both kinds of token count."),
    ],
)
def sft_tokens(d_rl: float, d_buffer: float) -> float:
    """D_SFT for which both arms spend the same compute."""
    return d_rl + d_buffer / 3


question(
    "The other explanation",
    "hard",
    10,
    key="other_explanation",
    module=__name__,
    statement="""
        "RL generalizes" might only mean "RL moved less". Which figure of this book could tell the
        two apart, and what would it have to show?
    """,
    hint="""
        Plot OOD success not against compute, but against a measure of how far a model has moved.
    """,
    solution="""
        OOD success against ID success, and against the KL to the init. If the RL curve lies above
        the SFT curve at *equal* ID success, or at equal KL, then "it moved less" is not enough.

        ```python
        from study import figures

        plots.show(figures.ood_against_id_and_kl(results))
        ```
    """,
)
