"""Rows of a training step as one sequence: without padding, and with what they share only once.

All layers but attention treat every token alike, so to them a micro-batch is one long row. For
attention the tokens are cut into segments: a question that several rows share, and each row's own.
"""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from commons.errors import SftrlError

ATTENTION = "packed"  # under this name transformers' models find `_attend`
SIDE_BY_SIDE = 8  # segments that attend in one call, padded to the longest of them


def refuse_unusual_attention(module: Any, longest: int, given: dict[str, Any]) -> None:
    """SftrlError where a model attends otherwise than to all tokens before."""
    strange = [k for k in ("softcap", "s_aux", "position_bias") if given.get(k) is not None]
    if strange or (given.get("sliding_window") or longest) < longest:
        raise SftrlError(
            f"{type(module).__name__} attends in a way that this library does not know "
            f"({', '.join(strange) or 'a sliding window'}); use a model with full attention."
        )


class Packed:
    """Rows of token ids, of which the first `asked[i]` are the question (at least one).

    Rows with the same question, and the same picture (`pictures`: none, or a number each), share
    its tokens but the last, off which the answer is read. `answers` are the ids behind the
    questions, row after row; `before` the places in the sequence off which they are read.
    """

    def __init__(
        self, rows: Sequence[list[int]], asked: Sequence[int], device: torch.device,
        pictures: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self.rows, self.device = rows, device
        alike: dict[tuple, list[int]] = {}
        for i, (row, n) in enumerate(zip(rows, asked, strict=True)):
            alike.setdefault((*pictures[i : i + 1], *row[:n]), []).append(i)
        segments: list[tuple[int, int, int]] = []  # row, its tokens from, to
        self.seen: list[tuple[int, int]] = []  # of each segment: where what it shares is, how long
        origin = [0] * len(rows)  # where token 0 of a row is, or would be
        size = 0
        for members in alike.values():
            shared = asked[members[0]] - 1 if len(members) > 1 else 0
            trunk = size
            if shared:
                segments.append((members[0], 0, shared))
                self.seen.append((0, 0))
                size += shared
            for i in members:
                segments.append((i, shared, len(rows[i])))
                self.seen.append((trunk, shared))
                origin[i] = size - shared
                size += len(rows[i]) - shared
        self.lengths = [end - start for _, start, end in segments]
        self.input_ids = self._tensor(t for i, a, b in segments for t in rows[i][a:b])[None]
        self.position_ids = self._tensor(p for _, a, b in segments for p in range(a, b))[None]
        self.row = self._tensor(i for i, a, b in segments for _ in range(a, b))  # of each token
        self.answers = self._tensor(t for r, n in zip(rows, asked, strict=True) for t in r[n:])
        self.before = self._tensor(
            origin[i] + p - 1 for i, n in enumerate(asked) for p in range(n, len(rows[i]))
        )
        self.pictures = self._tensor(pictures)[self.row] if pictures else None
        self.longest = max(map(len, rows))
        self._cut_for_attention()

    def _tensor(self, numbers: Any) -> torch.Tensor:
        return torch.tensor(list(numbers), dtype=torch.long, device=self.device)

    def _cut_for_attention(self) -> None:
        """For every call of attention: how many segments, which tokens ask, which are looked at,
        and a mask, or None for plain causal attention; and where in all their results each token's
        is."""
        starts = [0, *accumulate(self.lengths)]
        order = sorted(range(len(self.lengths)), key=lambda s: (self.seen[s][1], self.lengths[s]))
        self.calls, self.place, done = [], torch.empty_like(self.row), 0
        for k in range(0, len(order), SIDE_BY_SIDE):
            part = order[k : k + SIDE_BY_SIDE]
            start, length = self._tensor([[starts[s], self.lengths[s]] for s in part]).T[..., None]
            trunk, shared = self._tensor([self.seen[s] for s in part]).T[..., None]
            own = torch.arange(int(length.max()), device=self.device)
            asking = start + own
            inside = own < length
            self.place[asking[inside]] = done + inside.flatten().nonzero()[:, 0]
            done += asking.numel()
            asking = asking.where(inside, start)
            looked, mask = asking, None
            if shared.any():
                before = torch.arange(int(shared.max()), device=self.device)
                looked = torch.cat([(trunk + before).where(before < shared, trunk), asking], 1)
                causal = (own <= own[:, None]).expand(len(part), -1, -1)
                begun = (before < shared)[:, None].expand(-1, len(own), -1)
                mask = torch.cat([begun, causal], 2)[:, None]
            self.calls.append((len(part), asking.flatten(), looked.flatten(), mask))

    def labels(self, taught: torch.Tensor | None = None) -> torch.Tensor:
        """(1, tokens): at each token the answer's that follows, else -100; `taught` (answers,) says
        which of these are meant, all if it is None."""
        labels = torch.full_like(self.input_ids, -100)
        labels[0, self.before] = (
            self.answers if taught is None else self.answers.where(taught, -100)
        )
        return labels


def _attend(
    module, query, key, value, attention_mask, scaling, packed: Packed, dropout=0.0, **more
):
    """Attention of a packed sequence, as transformers' models call it."""
    refuse_unusual_attention(module, packed.longest, more)
    usual = {"scale": scaling, "enable_gqa": query.size(1) != key.size(1)}
    if not getattr(module, "is_causal", False):  # to pictures
        return _look(query, key, value, attention_mask, packed, usual), None
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))  # (tokens, heads, dim)
    found = []
    for segments, asking, looked, mask in packed.calls:
        q, k, v = (
            x.index_select(0, at).unflatten(0, (segments, -1)).transpose(1, 2)
            for x, at in ((query, asking), (key, looked), (value, looked))
        )
        out = scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, **usual)
        found.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(found).index_select(0, packed.place)[None], None


def _look(query, key, value, mask, packed: Packed, usual: dict) -> torch.Tensor:
    """Attention to pictures, whose keys stand one after the other: each token to its own."""
    assert packed.pictures is not None
    found, pictures = torch.empty_like(query), packed.pictures.unique()
    patches = key.size(2) // len(pictures)
    for n, picture in enumerate(pictures):
        there, here = slice(n * patches, (n + 1) * patches), packed.pictures == picture
        found[:, :, here] = scaled_dot_product_attention(
            query[:, :, here],
            key[:, :, there],
            value[:, :, there],
            mask[:, :, here, there],
            **usual,
        )
    return found.transpose(1, 2)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)


@contextlib.contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Inside, calls of `model` take `packed`. (A backward pass that runs layers again is to be
    inside, too.)"""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    config = base.get_decoder().config
    before, config._attn_implementation = config._attn_implementation, ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before
