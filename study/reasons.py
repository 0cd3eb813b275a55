"""What a walker does, and why it says that it does so: the second edition's answers at turns, of
which each quotes a sentence of the instruction before its action.
"""

from collections.abc import Mapping, Sequence
from os.path import commonprefix
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from commons.errors import SftrlError
from engine.generation import Conversations
from engine.policy import Policy
from sftrl_lib import stats
from sftrl_lib.tasks.navigation import Navigation
from worlds.walks import Step

from . import plots
from .registration import confirmed

ARMS = {  # panel: (method, section of the registration)
    "SFT": ("sft", "virl-l"),
    "RL": ("rl", "virl-l"),
    "RL, paid for the sentence too": ("rl", "quoted-virl-l"),
}
LINES = {"turn": "turn_accuracy", "sentence": "sentence_right"}
TITLES = {
    "id_unseen": "Is the turn right, and the sentence beside it the one that is due?",
    "rule_ood": "The same where turns have new names",
}
Panels = Mapping[str, tuple[str, Mapping[str, pd.DataFrame]]]


def along(results: pd.DataFrame, split: str) -> Panels:
    """{panel: (method, {line: rows of `stats.curve`})}. Runs before seed 17 did not count the
    sentences."""
    found = {}
    for panel, (method, section) in ARMS.items():
        rows = confirmed(results, section)
        curves = {line: stats.curve(rows, method, split, m, 1) for line, m in LINES.items()}
        if all(map(len, curves.values())):
            found[panel] = (method, curves)
    if not found:
        raise SftrlError("no recorded run of walks has counted the sentences that it quotes.")
    return found


def draw(panels: Panels, split: str) -> plots.Figure:
    """`along` training: turns solid, sentences dashed; thin, seeds; thick, their mean."""
    title, caption = TITLES[split], f"first tries at turns of new routes; {plots.SEEDS}"
    counted = ([rows.seed.nunique() for rows in lines.values()] for _, lines in panels.values())
    turns, sentences = zip(*counted, strict=True)
    caption += f"; turns of {min(turns)} to {max(turns)} seeds an arm"
    caption += f", sentences of {min(sentences)} to {max(sentences)}"
    with mpl.rc_context(plots.RC):
        figure, axes = plots.frame(title, caption, [0.85] * len(panels), 3.6)
        said = []
        for axis, (panel, (method, lines)) in zip(axes, panels.items(), strict=True):
            told, ends = [], {}
            for (what, rows), line in zip(lines.items(), ("-", (0, (4, 1.5))), strict=True):
                shown = rows.assign(x=100 * rows.step / rows.step.max(), y=100 * rows.value)
                style = plots.style_of(method) | {"linestyle": line}
                plots.seeds_and_mean(axis, shown, "", style)
                means = shown.groupby("x").y.mean()
                ends[what] = means[100]
                told.append(f"{what} {means[0]:.0f}% to {means[100]:.0f}%")
            if max(ends.values()) - min(ends.values()) < 6:  # no room for two
                ends = {"\n".join(ends): sum(ends.values()) / len(ends)}
            for what, height in ends.items():
                look = dict(color=style["color"], fontweight="bold", textcoords="offset points")
                height = max(height, 5)  # above the axis
                axis.annotate(what, (100, height), (6, 0), va="center", **look)
            axis.set(title=panel, xlabel="share of the training (%)", ylim=(0, 102), xlim=(0, 145))
            axis.set_xticks((0, 50, 100))
            said.append(f"{panel}: {', '.join(told)}")
        axes[0].set_ylabel("right, of first tries at turns (%)")
        return plots.finish(figure, f"{title} {'; '.join(said)}.")


def as_told(policy: Policy, task: Navigation, steps: Sequence[Step]) -> tuple[float, float]:
    """Shares of the steps at which a policy's most probable answer acts rightly: one that it writes
    itself, and one that begins with the right observation and the sentence that is due."""
    encode = policy.tokenizer.encode
    asked = [policy.first_turn(task.prompt(step), None) for step in steps]
    told = []
    for step in steps:
        seen, due = step.position.observation, step.position.sentence
        whole = [task.texts.answer(seen, due, action) for action in ("forward()", "stop()")]
        told.append(commonprefix([encode(text, add_special_tokens=False) for text in whole]))
    shares = []
    for begun in ([[]] * len(steps), told):
        prompts = [a + b for a, b in zip(asked, begun, strict=True)]
        talk = Conversations(policy, prompts, [])
        ids = list(range(len(steps)))
        answers = talk.answer(ids, [[] for _ in ids], 40)
        texts = [policy.decode(b + a) for b, a in zip(begun, answers, strict=True)]
        verdicts = [task.verify(step, text) for step, text in zip(steps, texts, strict=True)]
        shares.append(sum(verdict.ok for verdict in verdicts) / len(steps))
    return shares[0], shares[1]


def save_all(results: pd.DataFrame, folder: Path | str = plots.FOLDER) -> list[Path]:
    """Both pictures, for the page of the second edition."""
    name = "second-virl-l-reasons"
    return [plots.save(draw(along(results, s), s), f"{name}-{s}", folder) for s in TITLES]
