"""Widgets to touch: the rule playground, a box that judges formulas, sliders for advantages.

Each is thin: menus before a pure function (`playground.answers`, `judged`, `advantages`), which a
page without a kernel can call too.
"""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import ipywidgets
import matplotlib as mpl
from IPython.display import HTML, display

from sftrl_lib.methods.grpo import group_advantages
from sftrl_lib.tasks.general_points import GeneralPoints
from worlds.deals import CARD_NAMES, RANKS, Deal, Rule
from worlds.formulas import IllegalFormula, evaluate_formula
from worlds.verifier import REWARDS, verify_formula

from . import playground as play
from . import plots

FIRST = (13, 5, 12, 3)  # the hand that menus begin with
GROUP = 8


def deal_of(ranks: Sequence[int], values: Sequence[int], target: int = 24) -> Deal:
    """A hand under a rule of the reader's: ranks 1 to 13, and what J, Q and K count as."""
    return Deal(tuple(ranks), ("S",) * len(ranks), Rule.parse(tuple(values)), target)


def titled(deal: Deal) -> str:
    """A hand and what its face cards count as, in a line."""
    rule = deal.rule
    return f"{', '.join(deal.cards)} where J = {rule.j}, Q = {rule.q}, K = {rule.k}"


def _hand(on_change: Callable[[Deal], None]) -> ipywidgets.Widget:
    """Menus for a rule and a hand; `on_change(deal)` is called with the first one, too."""

    def menu(name: str, options: Sequence, value: int) -> ipywidgets.Dropdown:
        short, all_of_it = ipywidgets.Layout(width="9em"), {"description_width": "initial"}
        return ipywidgets.Dropdown(
            options=options, value=value, description=name, layout=short, style=all_of_it
        )

    ranks = [(CARD_NAMES[rank], rank) for rank in RANKS]
    rule = [menu(f"{c} is", RANKS, v) for c, v in zip("JQK", play.RULE, strict=True)]
    cards = [menu(f"card {n}", ranks, rank) for n, rank in enumerate(FIRST, 1)]
    target = ipywidgets.BoundedIntText(value=24, min=1, max=100, description="target")

    def changed(_=None) -> None:
        chosen = [[menu.value for menu in menus] for menus in (cards, rule)]
        on_change(deal_of(*chosen, target.value))

    for field in (*rule, *cards, target):
        field.observe(changed, "value")
    changed()
    wrap = ipywidgets.Layout(flex_flow="row wrap")
    return ipywidgets.VBox([ipywidgets.HBox(r, layout=wrap) for r in (rule, [*cards, target])])


def playground(folder: Path = play.FOLDER) -> ipywidgets.Widget:
    """Choose what J, Q and K count as, and four cards: init, SFT and RL answer. Where weights are
    missing, it says which."""
    if lacking := play.missing("gp-l", folder):
        return ipywidgets.HTML(f"<p>{escape(lacking)}</p>")
    policies, task, out = play.load("gp-l", folder), GeneralPoints(), ipywidgets.Output()

    def ask(deal: Deal) -> None:
        said = play.answers(policies, task, deal)
        out.clear_output(wait=True)
        with out:
            plots.show(play.draw(said, titled(deal)))
            display(HTML("".join(_paragraph(answer) for answer in said)))

    return ipywidgets.VBox([_hand(ask), out])


def _paragraph(answer: play.Answer) -> str:
    name, said = plots.name_of(answer.method), play.in_words(answer)
    return f"<p><b>{name}</b> <code>{escape(answer.text)}</code><br>{escape(said)}</p>"


def judged(formula: str, deal: Deal) -> list[str]:
    """What a formula is worth for a hand, in sentences: each step, the verdict, the reward."""
    said = [f"The cards count as {', '.join(map(str, deal.numbers))}."]
    try:
        steps = evaluate_formula(formula)[2]
        said += [f"{left} {sign} {right} = {result}" for left, sign, right, result in steps]
    except (IllegalFormula, ZeroDivisionError):
        pass  # the verdict says so
    verdict = verify_formula(formula, deal.numbers, deal.target)
    rewards = {name: scheme[verdict.reason] for name, scheme in REWARDS.items()}
    return [
        *said,
        f"Verdict: {verdict.message}.",
        f"Reward: {rewards['paper']:+g} (by outcome alone: {rewards['binary']:+g}).",
    ]


def verifier_box() -> ipywidgets.Widget:
    """Type a formula; see its steps, the verdict and the reward."""
    wide = ipywidgets.Layout(width="30em")
    box = ipywidgets.Text(value="(13-5)*3+12-12", description="formula", layout=wide)
    said, hand = ipywidgets.HTML(), []

    def judge(_=None) -> None:
        said.value = "".join(f"<p>{escape(line)}</p>" for line in judged(box.value, hand[-1]))

    def dealt(deal: Deal) -> None:
        hand.append(deal)
        judge()

    menus = _hand(dealt)
    box.observe(judge, "value")
    return ipywidgets.VBox([menus, box, said])


def advantages(reasons: Sequence[str], scheme: str = "paper") -> plots.Figure:
    """Rewards of a group of answers, one try each, and the advantages that GRPO makes of them."""
    rewards = [REWARDS[scheme][reason] for reason in reasons]
    found = [own for (own,) in group_advantages([[reward] for reward in rewards], 1.0)]
    with mpl.rc_context(plots.RC):
        title = "Rewards of a group, and their advantages"
        figure, axes = plots.frame(title, "one answer a bar, one try each", [1.2, 1.2], 3.2)
        for axis, name, values in zip(axes, ("reward", "advantage"), (rewards, found), strict=True):
            axis.bar(range(1, len(values) + 1), values, color=plots.style_of("rl")["color"])
            axis.axhline(0, color="#595959", linewidth=0.8)
            axis.set(title=name, xlabel="answer", xticks=range(1, len(values) + 1))
        pairs = zip(rewards, found, strict=True)
        said = "; ".join(f"{reward:+g} becomes {value:+.2f}" for reward, value in pairs)
        return plots.finish(figure, f"{title}: {said}.")


def advantage_sliders() -> ipywidgets.Widget:
    """A slider for the verdict on each answer of a group; the advantages follow."""
    names = ("illegal_formula", "wrong_numbers", "wrong_value", "solved")
    options = [(name.replace("_", " "), name) for name in names]
    wide = ipywidgets.Layout(width="26em")
    sliders = [
        ipywidgets.SelectionSlider(
            options=options, value=value, description=f"answer {n}", layout=wide
        )
        for n, value in enumerate(["solved", *["wrong_value"] * (GROUP - 1)], 1)
    ]
    out = ipywidgets.Output()

    def draw(_=None) -> None:
        out.clear_output(wait=True)
        with out:
            plots.show(advantages([slider.value for slider in sliders]))

    for slider in sliders:
        slider.observe(draw, "value")
    draw()
    column = ipywidgets.VBox(sliders, layout=ipywidgets.Layout(flex="0 0 auto"))
    return ipywidgets.HBox([column, out], layout=ipywidgets.Layout(flex_flow="row wrap"))
