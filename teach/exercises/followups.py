"""Exercises of notebook 07: peaks, sharpening, and comparisons at equal distance."""

from ..exercise import Case, exercise, question

NOTEBOOK = "07_what_came_after"


@exercise(
    "When to have stopped",
    "easy",
    5,
    statement="""
        A curve of OOD success along training: (step, value) pairs in order. Give the step at which
        it is highest (the earliest, if several are) and how much is lost from there to the end.
    """,
    hint="`max` with a `key` returns the first of equal items.",
    because="""
        This is the checkpoint that early stopping would keep, if it could look at OOD. Neither the
        training's loss nor ID success points at it.
    """,
    cases=[
        Case("up and down", ([(0, 0.8), (68, 0.9), (136, 0.5)],), "The loss is peak minus end."),
        Case("two equal peaks", ([(0, 0.7), (10, 0.9), (20, 0.9), (30, 0.6)],), "The earliest."),
        Case("it only falls", ([(0, 0.8), (50, 0.3)],), "Then the peak is the init."),
        Case("it only rises", ([(0, 0.1), (50, 0.3)],), "Then nothing is lost."),
    ],
)
def peak_and_loss(curve: list[tuple[int, float]]) -> tuple[int, float]:
    """(step of the peak, how much lower the end is)."""
    step, top = max(curve, key=lambda point: point[1])
    return step, top - curve[-1][1]


@exercise(
    "Sharpen without training",
    "medium",
    10,
    statement=r"""
        At temperature $T$ an answer of probability $p$ is drawn in proportion to $p^{1/T}$. Give
        the new probabilities. At temperature 0 the most probable answer has all of them (the first
        one, if several are).
    """,
    hint="Raise, then divide by the sum. Treat 0 apart.",
    because="""
        A model that is often right, but not surely, becomes better by decoding alone. What RL adds
        to *this* is what it has taught.
    """,
    cases=[
        Case("temperature 1", ([0.6, 0.3, 0.1], 1.0), "Nothing changes."),
        Case("sharper", ([0.6, 0.3, 0.1], 0.5), "Here the probabilities are squared."),
        Case("flatter", ([0.6, 0.3, 0.1], 2.0)),
        Case("greedy", ([0.3, 0.4, 0.3], 0.0), "Dividing by zero is no way."),
        Case("greedy, with a tie", ([0.4, 0.4, 0.2], 0.0), "The first takes all."),
        Case("wrong answers are sharpened, too", ([0.2, 0.8], 0.2)),
    ],
)
def sharpened(probabilities: list[float], temperature: float) -> list[float]:
    """The probabilities at another temperature."""
    if temperature == 0:
        best = probabilities.index(max(probabilities))
        return [float(i == best) for i in range(len(probabilities))]
    powers = [p ** (1 / temperature) for p in probabilities]
    return [p / sum(powers) for p in powers]


@exercise(
    "How much was sharpening",
    "medium",
    10,
    statement="""
        Accuracies by seed, of the init and of an arm, sampled at temperature 1 and greedily. Which
        share of the arm's mean gain at temperature 1 is left when both answer greedily? Use only
        seeds that all four have.
    """,
    hint="The gain is a mean of differences within seeds; intersect the keys first.",
    because="""
        A share near 1 speaks for something learned, a share near 0 for sharpening. Below 0, the
        arm's most probable answers have become worse.
    """,
    cases=[
        Case("half is left", ({1: 0.6}, {1: 0.8}, {1: 0.7}, {1: 0.8})),
        Case("several seeds", ({1: 0.6, 2: 0.5}, {1: 0.8, 2: 0.8}, {1: 0.7, 2: 0.7},
                               {1: 0.75, 2: 0.8}), "Divide the mean gains."),
        Case("a seed that one lacks", ({1: 0.6, 2: 0.1}, {1: 0.8, 2: 0.9}, {1: 0.7}, {1: 0.8}),
             "Seed 2 was never played greedily."),
        Case("worse than before", ({1: 0.6}, {1: 0.8}, {1: 0.9}, {1: 0.8}), "It can be negative."),
    ],
)  # fmt: skip
def share_left(
    init: dict[int, float],
    arm: dict[int, float],
    init_greedy: dict[int, float],
    arm_greedy: dict[int, float],
) -> float:
    """The greedy gain over the gain at temperature 1."""
    seeds = init.keys() & arm.keys() & init_greedy.keys() & arm_greedy.keys()
    gain = sum(arm[s] - init[s] for s in seeds)
    return sum(arm_greedy[s] - init_greedy[s] for s in seeds) / gain


@exercise(
    "At equal distance",
    "medium",
    15,
    statement="""
        A path of an arm: its distance from the init at each checkpoint, rising, and its OOD success
        there. What is the success at a given distance? Go along straight lines between checkpoints;
        before the first and after the last hold their values.
    """,
    hint="Find the two neighbours of the distance, and how far it lies between them.",
    because="""
        Two arms that end at different distances can be compared where both have been. If their
        values differ *there*, the distance is not the reason.
    """,
    cases=[
        Case("halfway", ([0.0, 2.0], [0.8, 0.6], 1.0)),
        Case("nearer to the first", ([0.0, 1.0, 5.0], [0.8, 0.7, 0.3], 2.0), "Weigh by distance."),
        Case("at a checkpoint", ([0.0, 1.0, 5.0], [0.8, 0.7, 0.3], 1.0)),
        Case("beyond the end", ([0.0, 1.0], [0.8, 0.7], 4.0), "The last value holds."),
    ],
)
def at_distance(distances: list[float], values: list[float], level: float) -> float:
    """The value of a path where it passes a distance."""
    if level <= distances[0]:
        return values[0]
    for i in range(1, len(distances)):
        if level <= distances[i]:
            part = (level - distances[i - 1]) / (distances[i] - distances[i - 1])
            return values[i - 1] + part * (values[i] - values[i - 1])
    return values[-1]


question(
    "Turn the leash",
    "hard",
    20,
    key="leashed_sft",
    module=__name__,
    statement="""
        `sft+kl` pays for leaving the init at the tokens that it learns. Train it beside the two
        arms of this notebook at a light and at a heavy weight. Which of your two numbers moves
        first as the weight grows: what it learns, or what it keeps?
    """,
    hint='`live(plain.replace(method="sft+kl", kl_weight=0.3))` trains one.',
    solution="""
        ```python
        for weight in (0.03, 0.3):
            leashed = live(plain.replace(method="sft+kl", kl_weight=weight))
            rows = leashed.evals().query("step == step.max() and metric == 'numbers_right'")
            loss = leashed.metrics().loss.iloc[-1]
            print(f"weight {weight}: loss {loss:.3f}", dict(zip(rows.split, rows.value.round(2))))
        ```

        The loss that is printed holds the anchor, too. Compare the numbers under the training's
        rule with those under the new one.
    """,
)
