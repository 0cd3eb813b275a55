"""How far a model has moved: the KL of fixed answers to what it was."""

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from .images import ImageConditioner
from .policy import Policy

Row = tuple[list[int], list[int], Image.Image | None]  # question, answer, what is shown


class Divergence:
    """KL(policy at construction || policy now): the full next-token distributions are compared at
    every token of the answers in `rows`, `size` rows at a time; the earlier ones are `kept` as
    such numbers, outside the GPU."""

    def __init__(self, policy: Policy, rows: list[Row], size: int, kept: torch.dtype) -> None:
        self.rows, self.size = sorted(rows, key=lambda r: len(r[0] + r[1])), size
        parts = (self._log_probs(policy, part) for part in self._parts())
        self.reference = [part.to("cpu", kept) for part in parts]

    def _parts(self) -> list:
        return [self.rows[i : i + self.size] for i in range(0, len(self.rows), self.size)]

    @torch.no_grad()
    def _log_probs(self, policy: Policy, part: list) -> torch.Tensor:
        """(answer tokens, vocabulary): log-probabilities where some rows' answers are written."""

        def padded(rows: list[list[int]], filler: int = 0) -> torch.Tensor:
            return pad_sequence([torch.tensor(r) for r in rows], True, filler).to(policy.device)

        ids = padded([p + c for p, c, _ in part], policy.tokenizer.pad_token_id)
        seen = padded([[1] * len(p + c) for p, c, _ in part])
        written = padded([[0] * len(p) + [1] * len(c) for p, c, _ in part])
        keep = ids.size(1) - min(len(p) for p, _, _ in part) + 1  # no logits of questions
        images = ImageConditioner(policy, [picture for *_, picture in part if picture is not None])
        with images.of(torch.arange(len(part))):
            logits = policy.model(
                input_ids=ids, attention_mask=seen, use_cache=False, logits_to_keep=keep
            ).logits
        return logits[:, :-1][written[:, 1 - keep :].bool()].float().log_softmax(-1)

    def __call__(self, policy: Policy) -> float:
        """Mean KL of an answer, in nats."""
        was_training = policy.model.training
        policy.model.eval()
        total = 0.0
        for part, reference in zip(self._parts(), self.reference, strict=True):
            before, now = reference.to(policy.device).float(), self._log_probs(policy, part)
            total += float((before.exp() * (before - now)).sum())
        policy.model.train(was_training)
        return total / len(self.rows)
