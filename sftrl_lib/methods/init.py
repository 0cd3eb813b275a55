"""The init: a little SFT, so that the answers have the task's form (paper, section 5). Both arms
start from it."""

from ..registry import register_method
from .sft import Sft


@register_method("init", rank=0)
class Init(Sft):
    """SFT from the foundation model instead of from the init; only its end is of interest."""

    label = "init"
    style = {"color": "#595959", "marker": "D", "linestyle": ":"}
    is_arm = False
    numbers = {"eval_points": 1}
