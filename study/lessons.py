"""Small figures of the lessons, of what was played just now."""

from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib as mpl

from . import plots

# What may become of an answer on cards, from right to worst; colours that stay apart in grey.
REASONS = {
    "solved": ("makes the target", "#007A5A"),
    "wrong_value": ("another value", "#9CC9E8"),
    "wrong_numbers": ("other numbers than the cards'", "#882255"),
    "misread_cards": ("misread cards", "#D9A441"),
    "illegal_formula": ("no formula", "#8C8C8C"),
    "unreadable": ("no answer", "#303030"),
}


def shares(reasons: Sequence[str]) -> dict[str, float]:
    """Percent of each reason, in the order of REASONS."""
    counted = Counter(reasons)
    return {reason: 100 * counted[reason] / len(reasons) for reason in REASONS}


def verdicts(played: Mapping[str, Mapping[str, Sequence[str]]]) -> plots.Figure:
    """What the verifier said of first answers: {panel: {player: reasons}}, a bar a player."""
    title = "What the verifier says of first answers"
    counts = {len(reasons) for players in played.values() for reasons in players.values()}
    caption = f"percent of {' or '.join(f'{n:,}' for n in sorted(counts))} answers a bar"
    with mpl.rc_context(plots.RC):
        height = 1.7 + 0.45 * max(map(len, played.values()))
        figure, axes = plots.frame(title, caption, [1.5] * len(played), height)
        said = []
        for axis, (panel, players) in zip(axes, played.items(), strict=True):
            for place, (player, reasons) in enumerate(players.items()):
                left, parts = 0.0, []
                for reason, share in shares(reasons).items():
                    words, color = REASONS[reason]
                    label = words if not place else None
                    if share or reason != "misread_cards":
                        axis.barh(place, share, 0.7, left, color=color, label=label)
                    left += share
                    parts += [f"{words} {share:.0f}%"] if share else []
                said.append(f"{panel}, {player}: {', '.join(parts)}")
            axis.set_yticks(range(len(players)), players)
            axis.set(title=panel, xlim=(0, 100), xlabel="percent of answers")
            axis.invert_yaxis()
            axis.grid(axis="y", visible=False)
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")
