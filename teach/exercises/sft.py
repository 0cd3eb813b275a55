"""Exercises of notebook 02: what the loss of imitation counts."""

import random

import torch

from worlds.deals import HELD_OUT_MAPPINGS, NAMED_RULES

from ..exercise import Case, exercise, question

NOTEBOOK = "02_sft"


@exercise(
    "Learn the answer, not the question",
    "easy",
    5,
    statement="""
        Make the labels of one training row. The question and the answer are token ids; the answer
        ends with an end token, which must be learned too. The loss ignores the label -100.
    """,
    hint="Labels are as long as the row: question, answer, end token.",
    because="A model that never learns the end token goes on writing after its answer.",
    cases=[
        Case("a question and an answer", ([5, 6, 7], [8, 9], 2), "The question is not learned."),
        Case("a token that occurs in both", ([8, 9], [8], 2), "Position decides, not the token."),
        Case("an empty answer", ([5, 6], [], 2), "Then only the end token is learned."),
    ],
)
def labels_of(question: list[int], answer: list[int], end: int) -> list[int]:
    """Labels of the row question + answer + [end]."""
    return [-100] * len(question) + answer + [end]


def _row(probabilities: list[list[float]], tokens: list[list[int]]):
    """(logits, labels) in which each token of `tokens` has the probability given; a question token,
    which nobody learns, comes first."""
    logits = torch.zeros(len(tokens), len(tokens[0]) + 1, 4)
    labels = torch.full(logits.shape[:2], -100)
    for b, (row, ids) in enumerate(zip(probabilities, tokens, strict=True)):
        for t, (p, token) in enumerate(zip(row, ids, strict=True)):
            if token != -100:
                logits[b, t] = torch.tensor((1 - p) / 3).log()
                logits[b, t, token] = torch.tensor(p).log()
                labels[b, t + 1] = token
    return logits, labels


def _gradient(function, logits: torch.Tensor, labels: torch.Tensor):
    """The loss, and where it pulls the logits."""
    logits = logits.clone().requires_grad_()
    loss = function(logits, labels)
    if not isinstance(loss, torch.Tensor):
        return loss
    loss.backward()
    return loss.item(), logits.grad


@exercise(
    "Weigh each token by its own probability",
    "medium",
    15,
    statement="""
        DFT (arXiv 2508.05629) scales the loss of each token by the token's own probability, which
        it takes as a constant: no gradient flows through the weight. Write it, starting from
        `sft_loss`. The mean is over answer tokens.
    """,
    hint="`picked.exp().detach()` is the probability without its gradient.",
    because="""
        SFT pulls hardest at tokens that the model finds improbable. DFT pulls at them least, and so
        changes less of what the model knew.
    """,
    cases=[
        Case(
            "one confident and one doubtful token",
            _row([[0.9, 0.1]], [[1, 2]]),
            "Each token has a weight of its own: its probability, not one number for all.",
        ),
        Case(
            "a row with a masked token",
            _row([[0.9, 0.5, 0.1], [0.7, 0.5, 0.5]], [[1, 2, 3], [3, -100, -100]]),
            "Divide by the number of answer tokens.",
        ),
        Case(
            "a token of probability one half",
            _row([[0.5]], [[3]]),
            "If the value is right, the gradient is not: does it flow through the weight?",
        ),
    ],
    use=_gradient,
)
def dft_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of -p log p over answer tokens, p held constant; logits (B, T, V), labels (B, T)."""
    log_probs = logits[:, :-1].float().log_softmax(-1)
    target = labels[:, 1:]
    written = target != -100
    picked = log_probs.gather(-1, target.clamp_min(0)[..., None])[..., 0]
    return -(picked.exp().detach() * picked * written).sum() / written.sum()


@exercise(
    "Where is the loss?",
    "medium",
    10,
    statement="""
        The loss of a row sums over different kinds of token: names of cards, their values, the
        formula. Split it: the mean loss of each kind, over all rows.
    """,
    hint="Collect the losses of each kind in a list first, over all rows.",
    because="""
        The mean over a batch hides where the loss still falls. A kind that is constant in training,
        such as the value of a face card, can reach zero without having been understood.
    """,
    cases=[
        Case("one row", ([[0.5, 1.5, 2.0]], [["value", "value", "formula"]])),
        Case(
            "rows of different lengths",
            ([[1.0], [4.0, 4.0, 4.0]], [["value"], ["value", "value", "value"]]),
            "The mean is over tokens, not over rows.",
        ),
        Case("a kind that one row lacks", ([[1.0], [3.0]], [["card"], ["formula"]])),
    ],
)
def loss_by_kind(losses: list[list[float]], kinds: list[list[str]]) -> dict[str, float]:
    """{kind: mean loss of its tokens}, from the loss and the kind of each token, row by row."""
    found: dict[str, list[float]] = {}
    for row, names in zip(losses, kinds, strict=True):
        for loss, name in zip(row, names, strict=True):
            found.setdefault(name, []).append(loss)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _drawn(function, seed: int):
    rng = random.Random(seed)
    rules = [function(rng) for _ in range(4000)]
    return None if rules[0] is None or rules[0] is ... else rules


def _rules_fault(rules, *_) -> str:
    if not all(len(r) == 3 and all(type(v) is int and 1 <= v <= 13 for v in r) for r in rules):
        return "a rule must be three whole numbers from 1 to 13"
    for rule in map(tuple, rules):
        named = next((r.name for r in NAMED_RULES.values() if (r.j, r.q, r.k) == rule), "")
        if named or rule in HELD_OUT_MAPPINGS:
            return f"the rule {rule} was drawn, which {named and f'is {named} and '}is held out"
    if len(set(map(tuple, rules))) < 1000:
        return f"4,000 draws gave {len(set(map(tuple, rules)))} rules"
    if max(min(r) == max(r) for r in rules) == 0:
        return "no rule has three equal values, although most of those are allowed"
    return ""


@exercise(
    "Is it the data, not the method?",
    "hard",
    20,
    statement="""
        *Debunk the Myth* (arXiv 2510.00237) finds that SFT on diverse rules generalises. Draw a
        training rule at random, and keep the test a test: the rules that have a name, and the 30
        held-out mappings, must never be drawn.
    """,
    hint="""
        `NAMED_RULES` holds `Rule` objects with fields `j`, `q`, `k`; `HELD_OUT_MAPPINGS` holds
        triples. Draw until the triple is in neither.
    """,
    because="""
        To train on them, override `GeneralPoints.item` for the split `train`. There the *hand* must
        not be held out under the new rule, either.
    """,
    cases=[Case("4,000 draws", (0,)), Case("4,000 other draws", (1,))],
    use=_drawn,
    judge=_rules_fault,
)
def draw_rule(rng: random.Random) -> tuple[int, int, int]:
    """Random values of J, Q and K, 1 to 13 each, under which no test is made."""
    named = {(r.j, r.q, r.k) for r in NAMED_RULES.values()}
    while True:
        rule = (rng.randint(1, 13), rng.randint(1, 13), rng.randint(1, 13))
        if rule not in named and rule not in HELD_OUT_MAPPINGS:
            return rule


question(
    "On paper: SFT as reinforcement learning",
    "hard",
    20,
    key="sft_as_rl",
    module=__name__,
    statement=r"""
        Let $a$ be the one answer that the expert gives to $q$. Show that the gradient of the SFT
        loss is a policy gradient: an expectation over the model's *own* answers $b \sim
        \pi_\theta(\cdot \mid q)$. Which reward does it correspond to? What does that reward do when
        the model finds the expert's answer improbable?
    """,
    hint=r"""
        Write $\nabla \log \pi_\theta(a \mid q)$ as a sum over all answers $b$, in which only $b =
        a$ counts, and multiply by $\pi_\theta(b \mid q) / \pi_\theta(b \mid q)$.
    """,
    solution=r"""
        $$
        \nabla \log \pi_\theta(a \mid q)
        = \sum_b \mathbb{1}[b = a] \, \nabla \log \pi_\theta(b \mid q)
        = \mathbb{E}_{b \sim \pi_\theta} \left[ \frac{\mathbb{1}[b = a]}{\pi_\theta(b \mid q)} \,
        \nabla \log \pi_\theta(b \mid q) \right]
        $$

        The reward is $1 / \pi_\theta(a \mid q)$ for the expert's answer and 0 for any other, also
        for other correct ones. It grows without bound as the answer becomes improbable, so the rows
        that the model understands least move it most. DFT multiplies by $\pi_\theta(a \mid q)$ (per
        token), which leaves the reward 1 for a match.
    """,
)
