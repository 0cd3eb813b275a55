"""DFT: SFT whose loss weighs each token by its own probability (Wu et al., 2508.05629)."""

from ..registry import register_method
from .sft import Sft


@register_method("dft", rank=30)
class Dft(Sft):
    """Tokens that the policy finds improbable, which pull it far, count less. TRL's own loss."""

    label = "DFT"
    style = {"color": "#009E73", "marker": "^", "linestyle": "--"}
    like = "sft"
    loss_type = "dft"
