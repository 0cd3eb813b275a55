"""Exercises of the notebook on scaling up: memory, adapters, four bits."""

import torch

from ..exercise import Case, exercise, question

NOTEBOOK = "08_scaling_up"


@exercise(
    "What training takes",
    "medium",
    10,
    statement="""
        Frozen weights take the bits that they are stored in. Each trained weight takes 16 bytes:
        itself, its gradient, and two running means of AdamW, in 32 bits each. How many bytes does
        that make in all? (Activations come on top.)
    """,
    hint="Eight bits are a byte.",
    because="QLoRA reduces both terms: four bits for what is frozen, few weights that are trained.",
    cases=[
        Case("all trained", (0, 16, 1_000), "Each trained weight takes four numbers of 4 bytes."),
        Case("all frozen, 16 bits", (1_000, 16, 0)),
        Case("QLoRA", (1_000_000, 4, 10_000), "Eight bits are a byte."),
    ],
)
def training_bytes(frozen: int, bits: int, trained: int) -> float:
    """Bytes of weights, gradients and optimiser."""
    return frozen * bits / 8 + 16 * trained


@exercise(
    "The cache of an answer",
    "medium",
    10,
    statement="""
        While a model writes, it keeps a key and a value for each token read, in each layer and for
        each key-value head. How many bytes is that, for rows that are written side by side?
    """,
    hint="Keys and values: two of each.",
    because="It grows with the rows and with their length. Fewer rows side by side cost only time.",
    cases=[
        Case("one of everything", (1, 1, 1, 1, 1, 1), "Keys *and* values."),
        Case("a small model in 16 bits", (8, 4, 64, 1000, 16, 2)),
        Case("more rows", (8, 4, 64, 1000, 32, 2), "Each row has a cache of its own."),
    ],
)
def cache_bytes(layers: int, heads: int, head_dim: int, tokens: int, rows: int, size: int) -> int:
    """Bytes of a cache of numbers that take `size` bytes each."""
    return 2 * layers * heads * head_dim * tokens * rows * size


@exercise(
    "Four bits, by hand",
    "medium",
    15,
    statement="""
        Quantise a block of weights: divide it by its largest absolute value, replace each result by
        the nearest of the given levels, and multiply by the scale again. A block of zeros stays as
        it is.
    """,
    hint="`(scaled[:, None] - levels).abs().argmin(1)` finds the nearest level of each.",
    because="""
        One outlier sets the scale of its whole block, and coarsens the other weights in it. That is
        why blocks are short.
    """,
    cases=[
        Case("on the levels", (torch.tensor([-2.0, 0.0, 2.0]), torch.tensor([-1.0, 0.0, 1.0]))),
        Case(
            "between the levels",
            (torch.tensor([0.3, -0.2, 0.05]), torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])),
            "Scale the block by its largest absolute value first, and scale back.",
        ),
        Case(
            "the largest is negative",
            (torch.tensor([-4.0, 1.0, 3.0]), torch.tensor([-1.0, 0.0, 1.0])),
            "The largest *absolute* value is the scale.",
        ),
        Case(
            "a block of zeros",
            (torch.zeros(3), torch.tensor([-1.0, 0.0, 1.0])),
            "Do not divide by zero.",
        ),
    ],
)
def quantised(block: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The block as it is after rounding to the levels and back."""
    scale = block.abs().max()
    if scale == 0:
        return block
    nearest = ((block / scale)[:, None] - levels).abs().argmin(1)
    return levels[nearest] * scale


@exercise(
    "The size of an adapter",
    "easy",
    5,
    statement="""
        LoRA trains two thin matrices beside each weight matrix of m by n: one of m by r, one of r
        by n. How many numbers does it train for the given matrices?
    """,
    hint="r (m + n) for each matrix.",
    because="It grows with the sum of the sides, while the matrix grows with their product.",
    cases=[
        Case("one square matrix", ([(64, 64)], 4), "There are two thin matrices."),
        Case(
            "a matrix that is not square", ([(128, 32)], 8), "One has m rows, the other n columns."
        ),
        Case("several matrices", ([(64, 64), (128, 32)], 16)),
    ],
)
def adapter_size(shapes: list[tuple[int, int]], rank: int) -> int:
    """Numbers that LoRA trains for weight matrices of these shapes."""
    return sum(rank * (m + n) for m, n in shapes)


question(
    "Does the adapter forget less, or only learn less?",
    "hard",
    20,
    key="forget_or_learn",
    module=__name__,
    statement="""
        Train the adapter at three times the rate. If it still forgets less than training all
        weights does: does it forget less *for what it learned*? Compare the right numbers under the
        new rule at the same loss, and at the same KL.
    """,
    hint='`live(arms["adapter"].replace(lr=3 * first.method.lr), kl=True)` trains it.',
    solution="""
        ```python
        faster = live(arms["adapter"].replace(lr=3 * first.method.lr), kl=True)
        for name, run in (runs | {"a faster adapter": faster}).items():
            rows = run.evals().query("step == step.max()").set_index(["split", "metric"]).value
            kept, kl = rows["rule_ood", "numbers_right"], rows["id_unseen", "kl_to_init"]
            print(f"{name:17} loss {run.metrics().loss.iloc[-1]:.3f}, KL {kl:.2f}, {kept:.0%} kept")
        ```
    """,
)
