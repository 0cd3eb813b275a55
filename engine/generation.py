"""The generation loop: many conversations with one policy, side by side, every token run once.

Conversations that begin alike share the keys and values of that beginning, a *trunk*: it is run
once, kept once, and attended to by all of its rows in one matrix product. What follows is a row's
own, and stays in place from the first answer to the last message. Rows that have ended move behind
the others, so that a long-winded answer does not make them all wait. On a GPU a step is recorded
and replayed (`graphs`).
"""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import Cache, DynamicLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .adapters import lean
from .allocator import caches_kept
from .graphs import PAYS, REACH, RECORDERS, WARM_UP, Replayed
from .images import ImageConditioner
from .packing import refuse_unusual_attention
from .policy import Policy

ATTENTION = "trunks"  # under this name transformers' models find `_attend`
# Rows are moved once fewer than this share of them still write; where steps are replayed, which
# makes them cheap and moving dear, later.
CROWD, REPLAYED_CROWD = 0.85, 0.5
# Where tokens are drawn from: one stream for all conversations, or one for each, whose answers then
# do not depend on who its neighbours are.
Streams = torch.Generator | Sequence[np.random.Generator] | None
COPY = 12  # a trunk's copy costs as much as attending to it for so many more rows (measured)
# Tokens, and patches that they look at, which are read at once: on a GPU, whose memory is planned,
# enough to keep it busy; elsewhere all.
PREFILL = {"cuda": 2**15}


def beginnings(prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> list[tuple[int, int]]:
    """For every prompt the prompt that serves as its trunk, and how many tokens they share.

    `rows` counts the conversations of each (different) prompt. Trunks are opened one by one, each
    time the one that saves most tokens, until none saves more than it takes. The last token of a
    prompt is never shared: what follows it is to be read off.
    """
    lengths, many = np.array([len(p) for p in prompts]), np.array(rows)
    ids = np.full((len(prompts), lengths.max()), -1)
    for line, prompt in zip(ids, prompts, strict=True):
        line[: len(prompt)] = prompt
    alike = [np.minimum.accumulate(ids == line, axis=1).sum(1) for line in ids]
    alike = np.minimum(alike, lengths - 1)  # (trunk, prompt)
    trunk, shared = np.full(len(prompts), -1), np.zeros(len(prompts), int)
    while True:
        saved = ((alike - shared).clip(0) * many).sum(1) - lengths
        best = int(saved.argmax())
        if saved[best] <= 0 and trunk[0] >= 0:
            return list(zip(trunk.tolist(), shared.tolist(), strict=True))
        better = (alike[best] > shared) | (trunk < 0)
        trunk[better], shared[better] = best, alike[best][better]


class _Layer(DynamicLayer):
    """One layer's cache: `keys` and `values` of the trunks, or of their pictures where the layer
    attends to those, (blocks, heads, tokens, dim), and `own`, the rows' (rows, heads, slots, dim).
    """

    def __init__(self, talk: "Conversations") -> None:
        super().__init__()
        self.talk = talk
        self.own: list[Any] = []

    def update(self, keys, values, *_, **__):  # type: ignore[override]
        talk = self.talk
        if talk.reading_trunks:
            self.keys, self.values = keys.contiguous(), values.contiguous()
            self.is_initialized = True
            return keys, values
        fresh = (keys, values)
        if not self.own or self.own[0].size(2) < talk.capacity:
            shape = len(talk.at), keys.size(1), talk.capacity
            grown = [x.new_zeros(*shape, x.size(3)) for x in fresh]
            for old, new in zip(self.own, grown, strict=False):
                new[:, :, : old.size(2)] = old
            self.own = grown
        row, column, slot = talk.slots
        for own, new in zip(self.own, fresh, strict=True):
            own[row, :, slot] = new[:, :, 0] if column is None else new[row, :, column]
        return keys, values

    def take(self, most: int | None) -> tuple | None:
        """The keys and values that were just read, the first `most` of each row; none stay. None if
        the layer has read nothing."""
        if self.keys is None or self.values is None:
            return None
        taken = tuple(x[:, :, :most].contiguous() for x in (self.keys, self.values))
        self.keys = self.values = None
        self.is_initialized = False
        return taken

    def put(self, parts: Sequence[tuple]) -> None:
        """What `take` gave of several groups of trunks."""
        self.keys, self.values = (
            x[0] if len(x) == 1 else torch.cat(x) for x in zip(*parts, strict=True)
        )
        self.is_initialized = True


def _attend(
    module, query, key, value, attention_mask, scaling, talk: "Conversations", dropout=0.0, **other
):
    """Attention to the trunk and to a row's own tokens, as transformers' models call it."""
    refuse_unusual_attention(module, talk.longest, other)
    rows, heads, tokens, _ = query.shape
    layer = talk.layers[module.layer_idx]
    if talk.reading_trunks:
        out = scaled_dot_product_attention(
            query, key, value, attention_mask, is_causal=attention_mask is None, scale=scaling,
            enable_gqa=heads != key.size(1),
        )  # fmt: skip
        return out.transpose(1, 2), None
    # Heads that share their keys stand side by side, as do the tokens that a row reads at once.
    query = (query * scaling).reshape(rows, layer.keys.size(1), -1, query.size(3))
    scores = talk.by_rows(talk.by_blocks(query) @ layer.keys.mT)
    bias = attention_mask
    if layer.own:
        own_keys, own_values = (own[:rows, :, : talk.top] for own in layer.own)
        scores, bias = torch.cat([scores, query @ own_keys.mT], -1), talk.bias
    scores.view(rows, heads, tokens, -1).add_(bias[..., : scores.size(-1)])
    chances = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    trunk = layer.keys.size(2)
    out = talk.by_rows(talk.by_blocks(chances[..., :trunk]) @ layer.values)
    if layer.own:
        out = out + chances[..., trunk:] @ own_values
    return out.view(rows, heads, tokens, -1).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)


def _lean(method: Callable) -> Callable:
    """A method of `Conversations` in which adapters are `lean`."""

    @wraps(method)
    def within(self: "Conversations", *args: Any, **more: Any) -> Any:
        with lean(self.policy.model):
            return method(self, *args, **more)

    return within


class Conversations:
    """Conversations of a policy that begin with `prompts`; `pictures`: none, or one a prompt.

    `answer` has some of them read what is new and write an answer; the others are over.
    `processed` counts, for each, the tokens that the model ran; a trunk's count with one of its
    rows.
    """

    def __init__(
        self, policy: Policy, prompts: Sequence[list[int]], pictures: Sequence[Image.Image] = ()
    ) -> None:
        self.policy, self.device = policy, policy.device
        self.images = ImageConditioner(policy, pictures)
        model = policy.model
        base = model.get_base_model() if hasattr(model, "peft_config") else model
        self.config = base.get_decoder().config
        self.layers = [_Layer(self) for _ in range(self.config.num_hidden_layers)]
        self.cache = Cache(layers=[*self.layers])
        self.processed = [0] * len(prompts)
        self.at = list(range(len(prompts)))  # the conversation in each row of the buffers
        self.filled = [0] * len(prompts)  # slots of their own that are taken
        self.capacity = self.top = 0  # slots that there are, and that are looked at
        self.replayed: Replayed | None = None  # the step of the rows that are selected
        self._read_trunks(prompts, pictures)

    @torch.no_grad()
    def _read_trunks(self, prompts, pictures) -> None:
        seen = [id(p) for p in pictures] or [0] * len(prompts)
        different: dict[int, dict[tuple, list[int]]] = {}
        for i, (prompt, picture) in enumerate(zip(prompts, seen, strict=True)):
            different.setdefault(picture, {}).setdefault(tuple(prompt), []).append(i)
        self.trunk, self.shared = [0] * len(prompts), [0] * len(prompts)
        trunks: list[tuple[int, tuple[int, ...]]] = []
        for group in different.values():
            numbers: dict[int, int] = {}
            asked = list(group)
            found = beginnings(asked, [len(rows) for rows in group.values()])
            for rows, (trunk, shared) in zip(group.values(), found, strict=True):
                if trunk not in numbers:
                    numbers[trunk] = len(trunks)
                    trunks.append((rows[0], asked[trunk]))
                for i in rows:
                    self.trunk[i], self.shared[i] = numbers[trunk], shared
        read = [0] * len(trunks)
        for number, shared in zip(self.trunk, self.shared, strict=True):
            read[number] = max(read[number], shared)
        width = max(1, *read)
        pad = self.policy.tokenizer.pad_token_id
        ids = [list(t[:n]) + [pad] * (width - n) for (_, t), n in zip(trunks, read, strict=True)]
        for (first, _), n in zip(trunks, read, strict=True):
            self.processed[first] += n
        self.reading_trunks, self.longest, self.width = True, width, width
        self._read_in_parts(torch.tensor([first for first, _ in trunks]), torch.tensor(ids))
        self.reading_trunks = False
        self.blocks, self.block_of = len(trunks), {n: n for n in range(len(trunks))}
        self.pending = [list(p[n:]) for p, n in zip(prompts, self.shared, strict=True)]

    def _at_once(self) -> int:
        return PREFILL.get(self.device.type, 2**30)

    def _read_in_parts(self, rows: torch.Tensor, ids: torch.Tensor) -> None:
        """Read trunks, as many at once as `PREFILL` allows, and keep of a picture the patches that
        later tokens can look at. (Those before the picture, alone, look at the empty ones too.)"""
        step = max(1, self._at_once() // (self.width + self.images.patches))
        looking = getattr(self.config, "cross_attention_layers", None) or ()
        most = [self.images.filled if n in looking else None for n in range(len(self.layers))]
        found: list[list] = [[] for _ in self.layers]
        for part in range(0, len(rows), step):
            self._call(rows[part : part + step], ids[part : part + step], None)
            for layer, n, kept in zip(self.layers, most, found, strict=True):
                kept += filter(None, [layer.take(n)])
        for layer, kept in zip(self.layers, found, strict=True):
            if kept:
                layer.put(kept)
            kept.clear()  # so that one layer at a time is there twice

    def _call(self, rows: torch.Tensor, ids: torch.Tensor, positions: torch.Tensor | None):
        """Logits of the last token of each row; `rows` are their conversations."""
        before = self.config._attn_implementation
        self.config._attn_implementation = ATTENTION
        try:
            with self.images.of(rows):
                return self.policy.model(
                    input_ids=ids.to(self.device), position_ids=positions, use_cache=True,
                    past_key_values=self.cache, logits_to_keep=1, talk=self,
                ).logits[:, -1].float()  # fmt: skip
        finally:
            self.config._attn_implementation = before

    def _arrange(self, ids: list[int]) -> None:
        """Trunks that are still needed in blocks of as many rows, a trunk of many rows in several
        blocks: then they are attended to in one product."""
        rows: dict[int, list[int]] = {}
        for i in ids:
            rows.setdefault(self.trunk[i], []).append(i)
        sizes = [len(r) for r in rows.values()]
        wide = min(set(sizes), key=lambda w: sum(-(-n // w) for n in sizes) * (w + COPY))
        blocks, self.place_of = [], {}
        for number, members in rows.items():
            for k, i in enumerate(members):
                if k % wide == 0:
                    blocks.append(self.block_of[number])
                self.place_of[i] = (len(blocks) - 1) * wide + k % wide
        self.block_of = {number: self.place_of[m[0]] // wide for number, m in rows.items()}
        for layer in self.layers if blocks != list(range(self.blocks)) else ():
            if layer.keys is not None and layer.values is not None:
                layer.keys, layer.values = layer.keys[blocks], layer.values[blocks]
        self.blocks, self.places = len(blocks), len(blocks) * wide

    def _bring_forward(self, ids: list[int]) -> None:
        """Have these conversations in the first rows."""
        wanted, n = set(ids), len(ids)
        here = [row for row, i in enumerate(self.at[:n]) if i not in wanted]
        there = [row for row, i in enumerate(self.at[n:], n) if i in wanted]
        for layer in self.layers if here else ():
            for own in layer.own:
                left = own[here, :, : self.top]
                own[here, :, : self.top] = own[there, :, : self.top]
                own[there, :, : self.top] = left
        for a, b in zip(here, there, strict=True):
            self.at[a], self.at[b] = self.at[b], self.at[a]

    def _tensor(self, numbers: Sequence) -> torch.Tensor:
        return torch.tensor(numbers, device=self.device)

    def _read(self, ids: torch.Tensor, slots: torch.Tensor, top: int) -> torch.Tensor:
        """Have the first rows read `ids` (rows, tokens), each into its slot; tokens whose slot is
        negative are padding. Logits of the last."""
        self.top = top
        own = torch.arange(top, device=self.device) <= slots[:, :, None]
        seen = torch.arange(self.width, device=self.device) < self.visible[:, None, None]
        seen = torch.cat([seen.expand(-1, ids.size(1), -1), own], -1)[:, None]
        nothing = torch.finfo(self.policy.model.dtype).min
        self.bias = torch.zeros(seen.shape, dtype=self.policy.model.dtype, device=self.device)
        self.bias.masked_fill_(~seen, nothing)
        if ids.size(1) > 1:
            row, column = (slots >= 0).nonzero().T
            self.slots = row, column, slots[row, column]
        else:  # the usual case: one token a row, and none of them padding
            self.slots = torch.arange(len(ids), device=self.device), None, slots[:, 0]
        positions = (self.visible[:, None] + slots).clamp_min(0)
        return self._call(self.rows, ids, positions)

    def _next(self, ids: torch.Tensor, slots: torch.Tensor, top: int, steps: int) -> torch.Tensor:
        """`_read` of one token a row, the first of so many `steps`."""
        if not self.replayed or top > self.top:
            if not self._pays(steps):
                return self._read(ids, slots, top)
            read = partial(self._read, top=min(self.capacity, top + REACH))
            self.replayed = Replayed(read, self.device.type)
        return self.replayed(ids, slots)

    def _pays(self, steps: int) -> bool:
        """Whether so many steps are worth a recording."""
        return self.device.type in RECORDERS and steps >= WARM_UP + PAYS

    def _crowd(self, steps: int) -> float:
        """Rows are moved once fewer than this share of them still write, with `steps` to go."""
        if not self.replayed or self.device.type not in RECORDERS:  # none, or refused
            return CROWD
        return REPLAYED_CROWD if self._pays(steps) else 0.0

    def _select(self, ids: list[int], reached: dict[int, int]) -> None:
        """Bring these conversations forward, and keep what the model needs to know of them."""
        self._bring_forward(ids)
        self.replayed, rows = None, self.at[: len(ids)]
        self.rows = self._tensor(rows)
        places = [self.place_of[i] for i in rows]
        self.place = self._tensor(places)
        self.row_of_place = None  # each row is where its place is
        if places != list(range(self.places)):
            self.row_of_place = self.place.new_zeros(self.places)  # of an empty place: any
            self.row_of_place[self.place] = torch.arange(len(rows), device=self.device)
        self.visible = self._tensor([self.shared[i] for i in rows])
        self.reached = self._tensor([reached[i] for i in rows])

    @torch.no_grad()
    @caches_kept()
    @_lean
    def answer(
        self, ids: list[int], said: Sequence[list[int]], max_new_tokens: int,
        temperature: float | Sequence[float] = 0.0, generator: Streams = None,
    ) -> list[list[int]]:  # fmt: skip
        """Conversations `ids` read what is `said`, and answer: new token ids, the end of the turn
        included where it was reached. Temperature (one, or one for each) 0 is greedy. All other
        conversations are over."""
        for i, more in zip(ids, said, strict=True):
            self.pending[i] += more
        self._arrange(ids)
        reached = {i: self.filled[i] + len(self.pending[i]) for i in ids}
        self._select(ids, reached)
        top = max(reached.values())
        self.capacity = max(self.capacity, top + max_new_tokens)
        self.longest = self.width + top + max_new_tokens
        waiting = [self.pending[i] for i in self.at[: len(ids)]]
        width = max(map(len, waiting))
        tokens = self._tensor([[0] * (width - len(w)) + w for w in waiting])
        slots = self.reached[:, None] - torch.arange(width, 0, -1, device=self.device)
        start = self._tensor([self.filled[i] for i in self.at[: len(ids)]])
        slots = slots.where(slots >= start[:, None], -1)
        step = max(2, self._at_once() // len(ids))  # of one column alone no token may be padding
        for n in range(0, width, step):
            logits = self._read(tokens[:, n : n + step], slots[:, n : n + step], top)

        line = torch.zeros(len(self.at), dtype=torch.long, device=self.device)
        line[list(ids)] = torch.arange(len(ids), device=self.device)  # of each, in `written`
        written = torch.zeros(len(ids), max_new_tokens, dtype=torch.long, device=self.device)
        draws = self._draws(len(ids), max_new_tokens, generator)
        ends = self._tensor(sorted(self.policy.end_ids))
        heat = torch.as_tensor(temperature).expand(len(ids))
        drawn, heat = bool(heat.any()), heat.to(self.device)  # a GPU asked would be waited for
        ended = torch.zeros(len(ids), dtype=torch.bool, device=self.device)
        patience = 1 if self.device.type == "cpu" else 8  # to look is to wait for a GPU
        lines = line[self.rows]
        for n in range(max_new_tokens):
            new = _choose(logits, heat[lines] if drawn else None, draws[lines, n])
            written[lines, n] = new
            ended[lines] |= torch.isin(new, ends)
            if n + 1 == max_new_tokens:
                break
            if n % patience == 0:
                still = (~ended[lines]).tolist()
                going = [i for i, writes in zip(self.at, still, strict=False) if writes]
                if not going:
                    break
                if len(going) < self._crowd(max_new_tokens - 1 - n) * len(lines):
                    self._select(going, reached)
                    lines = line[self.rows]
            slots, steps = (self.reached + n)[:, None], max_new_tokens - 1 - n
            logits = self._next(written[lines, n : n + 1], slots, top + n + 1, steps)

        self.replayed, answers = None, []
        for i, row in zip(ids, written.tolist(), strict=True):
            end = next((k for k, t in enumerate(row, 1) if t in self.policy.end_ids), len(row))
            answers.append(row[:end])
            self.processed[i] += len(self.pending[i]) + end - 1
            self.filled[i] = reached[i] + end - 1
            self.pending[i] = row[end - 1 : end]
        return answers

    def _draws(self, rows: int, tokens: int, generator: Streams) -> torch.Tensor:
        """(rows, tokens), uniform in [0, 1)."""
        if isinstance(generator, Sequence):
            each = [one.random(tokens, np.float32) for one in generator]
            return torch.from_numpy(np.stack(each)).to(self.device)
        return torch.rand((rows, tokens), generator=generator, device=self.device)

    def by_blocks(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, heads, n, d) -> (blocks, heads, rows of a block * n, d)."""
        _, heads, n, d = x.shape
        if self.row_of_place is not None:
            x = x.index_select(0, self.row_of_place)
        x = x.reshape(self.blocks, -1, heads, n, d).transpose(1, 2)
        return x.reshape(self.blocks, heads, -1, d)

    def by_rows(self, x: torch.Tensor) -> torch.Tensor:
        """And back."""
        blocks, heads, n, d = x.shape
        wide = self.places // blocks
        x = x.view(blocks, heads, wide, n // wide, d).transpose(1, 2)
        x = x.reshape(self.places, heads, -1, d)
        if self.row_of_place is None:
            return x.contiguous()  # of one block it is a view, whose heads do not lie in a row
        return x.index_select(0, self.place)


def _choose(logits: torch.Tensor, heat: torch.Tensor | None, draws: torch.Tensor) -> torch.Tensor:
    """A token for each row, at its temperature, or (None) the likeliest; `draws` (rows,) are
    uniform: it is the first token at which the chances of all tokens up to it add up to more."""
    likeliest = logits.argmax(-1)
    if heat is None:
        return likeliest
    chances = (logits / heat.where(heat > 0, 1)[:, None]).softmax(-1).cumsum(-1)
    found = torch.searchsorted(chances, draws[:, None] * chances[:, -1:], right=True)
    return likeliest.where(heat == 0, found[:, 0].clamp_max(logits.size(-1) - 1))


def answer(
    policy: Policy, prompts: Sequence[list[int]], max_new_tokens: int, temperature: float = 0.0,
    generator: torch.Generator | None = None, pictures: Sequence[Image.Image] = (),
) -> list[list[int]]:  # fmt: skip
    """One answer to each of these prompts, however many."""
    answers = []
    for start in range(0, len(prompts), policy.generation_batch_size):
        part = slice(start, start + policy.generation_batch_size)
        talk = Conversations(policy, prompts[part], pictures[part])
        ids = [*range(len(prompts[part]))]
        answers += talk.answer(ids, [[]] * len(ids), max_new_tokens, temperature, generator)
    return answers
