"""What a run costs, in tokens and operations."""

from dataclasses import dataclass


@dataclass
class Compute:
    """Tokens spent by one run. The first two count every row, also those without advantage, as the
    paper does (Fig. 5); `done_*` count what was executed."""

    train_tokens: int = 0
    rollout_tokens: int = 0
    done_train_tokens: int = 0
    done_rollout_tokens: int = 0

    def flops(self, n_active: int) -> float:
        """The paper's X = 6 N D_train + 2 N D_rollout, for N = `n_active` parameters."""
        return float(n_active) * (6 * self.train_tokens + 2 * self.rollout_tokens)

    def done_flops(self, n_active: int) -> float:
        """The same formula on the tokens that were really processed."""
        return float(n_active) * (6 * self.done_train_tokens + 2 * self.done_rollout_tokens)
