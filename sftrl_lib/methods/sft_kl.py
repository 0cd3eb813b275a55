"""SFT with an anchor: the KL to the init, on the same tokens, is part of the loss (2509.23753)."""

from typing import Any

from pydantic import Field

from commons.settings import NotNegative

from ..experiment import MethodSettings
from ..registry import register_method
from .sft import Sft


class AnchoredSettings(MethodSettings):
    """SFT's, and how heavy the anchor is."""

    kl_weight: NotNegative = Field(0.1, description="weight of the KL to the init")


@register_method("sft+kl", rank=50)
class AnchoredSft(Sft):
    """Pays for leaving the init at the tokens that it learns from."""

    label = "SFT + KL"
    style = {"color": "#B58900", "marker": "P", "linestyle": "-."}
    settings_class = AnchoredSettings
    like = "sft"

    @staticmethod
    def extra_loss(own: AnchoredSettings, now: Any, before: Any) -> Any:
        """kl_weight x KL(policy || init), summed over answer tokens.

        now, before (tokens, vocabulary): log-probabilities of the policy and of the init.
        """
        return own.kl_weight * (now.exp() * (now - before)).sum()
