"""Exercises of notebook 03: returns, advantages, and what a reward says."""

from sftrl_lib.methods.grpo import group_advantages

from ..exercise import Case, exercise, question

NOTEBOOK = "03_rl"


@exercise(
    "What a try is worth",
    "easy",
    5,
    statement=r"""
        Compute the return of each try of an episode: its reward, plus the return of the next try,
        discounted once, $G_t = r_t + \gamma G_{t+1}$.
    """,
    hint="Go through the rewards from the last to the first.",
    because="A failed first try has a positive return where success follows.",
    cases=[
        Case("one try", ([5.0], 0.9)),
        Case(
            "a failure, then success", ([-1.0, 5.0], 0.9), "The first try shares in what follows."
        ),
        Case("three tries", ([-2.0, -1.0, 5.0], 0.5), "Discount once for each further try."),
        Case("no discount", ([-1.0, -1.0, 5.0], 1.0)),
        Case("only the present counts", ([-1.0, 5.0], 0.0)),
    ],
)
def returns(rewards: list[float], discount: float) -> list[float]:
    """The return of each try."""
    found, ahead = [], 0.0
    for reward in reversed(rewards):
        ahead = reward + discount * ahead
        found.append(ahead)
    return found[::-1]


@exercise(
    "Credit for the whole episode",
    "medium",
    10,
    statement="""
        The notebook gives credit per try. Give it per episode instead: every try of an episode gets
        the advantage of the *first* try, that is its return minus the mean of the group's first
        returns, over their standard deviation (with n - 1) plus 0.0001. If the deviation is zero,
        all advantages are.
    """,
    hint="Compute one number for each episode, then repeat it for each of its tries.",
    because="""
        A second try that solves the hand is now blamed for the first one. All tries of an episode
        share one number, right or wrong.
    """,
    cases=[
        Case("one try each", ([[5.0], [5.0], [-1.0], [-1.0]], 0.9)),
        Case(
            "a second try that succeeds",
            ([[5.0], [5.0], [-1.0, 5.0], [-1.0, -1.0]], 0.9),
            "All tries of an episode have the advantage of its first.",
        ),
        Case("a group that agrees", ([[-1.0], [-1.0], [-1.0]], 0.9), "Nothing to learn: zeros."),
        Case("another discount", ([[-1.0, 5.0], [-1.0, -1.0, 5.0], [5.0]], 0.5)),
    ],
)
def episode_credit(group: list[list[float]], discount: float) -> list[list[float]]:
    """Advantages from the rewards of each episode of one deal, one list an episode."""
    first = [sum(r * discount**t for t, r in enumerate(rewards)) for rewards in group]
    mean = sum(first) / len(first)
    spread = (sum((g - mean) ** 2 for g in first) / (len(first) - 1)) ** 0.5
    shared = [(g - mean) / (spread + 1e-4) if spread > 1e-6 else 0.0 for g in first]
    return [[a] * len(rewards) for a, rewards in zip(shared, group, strict=True)]


@exercise(
    "PPO's clip",
    "medium",
    10,
    statement=r"""
        The paper's learner, PPO, maximises for each token the smaller of $\rho A$ and
        $\text{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A$, where $\rho$ is the probability of the
        token now over that when it was sampled, and $A$ its advantage. Write it.
    """,
    hint="Try a negative advantage: which of the two terms is the smaller one then?",
    because="""
        In this book each batch makes one update, so the ratio is 1 and the clip never binds. The
        paper makes four passes over a batch, and there it does.
    """,
    cases=[
        Case("nothing has changed", (1.0, 2.0, 0.1)),
        Case("praised, and far more probable by now", (1.5, 2.0, 0.1), "Here the clip binds."),
        Case(
            "praised, and less probable", (0.5, 2.0, 0.1), "The smaller term is the unclipped one."
        ),
        Case("blamed, and far less probable by now", (0.5, -2.0, 0.1), "Here the clip binds."),
        Case("blamed, and more probable", (1.5, -2.0, 0.1), "No clip: this must be undone."),
    ],
)
def clipped(ratio: float, advantage: float, epsilon: float) -> float:
    """PPO's objective of one token."""
    inside = min(max(ratio, 1 - epsilon), 1 + epsilon)
    return min(ratio * advantage, inside * advantage)


@exercise(
    "Silent groups",
    "easy",
    5,
    statement="""
        With rewards of 0 and 1 a group teaches nothing if all its episodes agree. How likely is
        that, if each episode is solved with the same chance, whatever the others do?
    """,
    hint="All can be solved, and all can fail.",
    because="""
        Deals that are far too hard and deals that are far too easy are silent. RL learns where the
        model succeeds now and then.
    """,
    cases=[
        Case("a fair coin, a group of two", (0.5, 2), "There are two ways to agree."),
        Case("a hard deal", (0.1, 8), "All can fail: that is the likelier way here."),
        Case("an easy deal", (0.95, 8), "All can be solved: that is the likelier way here."),
        Case("a hopeless deal", (0.0, 8)),
    ],
)
def silent(chance: float, group: int) -> float:
    """The probability that all episodes of a group earn the same."""
    return chance**group + (1 - chance) ** group


def _praise_fault(group) -> str:
    if not (isinstance(group, list) and len(group) > 1 and all(map(len, group))):
        return "a group is a list of two or more episodes, each a list of rewards"
    rewards = [reward for episode in group for reward in episode]
    if not set(rewards) <= {5.0, -1.0, -2.0, -3.0}:
        return "a reward is none of the paper's: 5, -1, -2, -3"
    if 5.0 in rewards:
        return "an episode succeeds, and all must fail"
    if not any(a > 0 for credit in group_advantages(group, 0.9) for a in credit):
        return "no try has a positive advantage"
    return ""


@exercise(
    "Praise for failure",
    "medium",
    10,
    statement="""
        Find a group of failed episodes in which a try is praised all the same: under the paper's
        rewards (-1 wrong value, -2 wrong numbers, -3 no formula, +5 solved) it has a positive
        advantage. Under `binary` rewards the same group would be silent.
    """,
    hint="Let the whole group fail, some of it more gracefully.",
    because="""
        A legal wrong formula is praised although nothing was solved. Form is taught before content
        and, once form is there, perhaps instead of it.
    """,
    cases=[Case("the group that you found", (), "A group that agrees has no advantages at all.")],
    judge=_praise_fault,
)
def praised_failure() -> list[list[float]]:
    """Rewards of the episodes of one deal, one list an episode."""
    return [[-1.0], [-1.0], [-2.0], [-3.0]]


question(
    "On paper: why a mean may be subtracted",
    "hard",
    20,
    key="baseline",
    module=__name__,
    statement=r"""
        Show that subtracting a baseline $c$ from the return does not change the expected policy
        gradient, if $c$ does not depend on the answer. GRPO subtracts the mean of the group, in
        which the answer itself has a share. By which factor does that shrink the expected gradient
        for a group of size $G$?
    """,
    hint=r"""
        $\sum_a \pi_\theta(a \mid q) = 1$ for every $\theta$. For the second question write the
        group's mean as $\tfrac{1}{G}$ of the own return plus $\tfrac{1}{G}$ of the others'.
    """,
    solution=r"""
        The expected gradient of the baseline's term is

        $$
        \mathbb{E}_{a \sim \pi_\theta} \left[ c \, \nabla \log \pi_\theta(a \mid q) \right]
        = c \sum_a \nabla \pi_\theta(a \mid q) = c \, \nabla 1 = 0
        $$

        The returns of the other episodes of a group do not depend on the answer, so their share
        drops out. What is left of $R_a - \bar R$ is $R_a - \tfrac{1}{G} R_a$: the expected gradient
        is the right one times $1 - \tfrac{1}{G}$. That only rescales the learning rate. (Dividing
        by the group's standard deviation is another matter: it weighs deals unequally.)
    """,
)


question(
    "A leash",
    "hard",
    20,
    key="leash",
    module=__name__,
    statement="""
        `kl_weight` adds the KL to the init to the loss. Train the live run twice more, with
        `exp.replace(kl_weight=0.05)` and with a weight too small to matter, and compare where the
        two end on KL and on OOD success. Why may the paper do without it?
    """,
    hint="`live(exp.replace(kl_weight=0.05), kl=True)` returns the run; its `evals()` hold the KL.",
    solution="""
        ```python
        for weight in (1e-6, 0.05):
            rows = live(exp.replace(kl_weight=weight), kl=True).evals()
            rows = rows.query("metric in ('kl_to_init', 'success')")
            last = rows.groupby(["split", "metric", "tries"]).value.last()
            print(weight, last.round(3).to_dict())
        ```

        On-policy data keeps a policy near to where it was, even without a leash.
    """,
)
