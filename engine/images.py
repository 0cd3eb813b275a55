"""Shows pictures to a model, whoever calls it: TRL's trainers do not pass on what a model needs."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image

from .families import FAMILIES
from .families.base import States

VISION_CACHE = (
    32  # pictures whose states are kept: the deals of a step; of the 11B model 52 MB each
)


class ImageConditioner:
    """Within `of(rows)` each call of the model takes the next of these rows, in order, and sees
    their pictures from the image token on. (A packed call says itself what it sees.)

    A picture that several rows share is looked at once a call; by a frozen tower once at all, as
    long as it is among the last `VISION_CACHE`: every try and every micro-batch of its deal asks
    for it again. Without pictures it does nothing.
    """

    rows = torch.tensor([], dtype=torch.long)  # those that no call has taken yet
    patches = 0  # that layers attend to for one picture
    filled: int | None = None  # how many of them, the first ones, are of some picture's; None: all

    def __init__(self, policy: Any, pictures: Sequence[Image.Image]) -> None:
        self.policy, self.number = policy, torch.tensor([], dtype=torch.long)
        if not pictures:
            return
        self.family = FAMILIES[policy.model.config.model_type]
        different = {id(picture): picture for picture in pictures}
        places = {key: place for place, key in enumerate(different)}
        self.pictures = list(different.values())
        # On the device, as all that a decode step looks up: else a GPU waits, token by token.
        self.number = torch.tensor([places[id(p)] for p in pictures], device=policy.device)
        self.starts = torch.zeros_like(self.number[: len(places)])  # in the text: families write it
        read = policy.processor.image_processor
        seen = (read([[picture]], return_tensors="pt") for picture in self.pictures)
        self.inputs = [
            {k: v for k, v in one.items() if isinstance(v, torch.Tensor)} for one in seen
        ]
        self._of_all: dict[str, torch.Tensor] = {}
        if not self.family.in_text:
            self.patches = self.family.patches(policy.model.config)
            self.filled = self.family.filled(self, policy.model.config)

    def of_all(self, name: str) -> torch.Tensor:
        """(pictures, ...): a tensor of the image processor's that has one row a picture."""
        if name not in self._of_all:
            joined = torch.cat([one[name] for one in self.inputs])
            self._of_all[name] = joined.to(self.policy.device)
        return self._of_all[name]

    def states(self, model: Any, pictures: torch.Tensor) -> list[States]:
        """What the language model gets of each of these: from the tower, or from the cache."""
        numbers = pictures.tolist()
        eyes = self.family.eyes(model)
        if any(p.requires_grad for part in eyes for p in part.parameters()):
            return self.family.see(model, [self._inputs(number) for number in numbers])
        return [self._cached(model, number) for number in numbers]

    @torch.no_grad()
    def _cached(self, model: Any, number: int) -> States:
        """The states of one picture; kept outside the GPU."""
        picture, cache = self.pictures[number], self.policy.vision_cache
        if id(picture) not in cache:  # whose picture is held, so that no other gets its id
            (seen,) = self.family.see(model, [self._inputs(number)])
            cache[id(picture)] = picture, tuple(one.cpu() for one in seen)
        cache.move_to_end(id(picture))
        while len(cache) > VISION_CACHE:
            cache.popitem(last=False)
        return tuple(one.to(self.policy.device) for one in cache[id(picture)][1])

    def _inputs(self, number: int) -> dict[str, torch.Tensor]:
        return {key: value.to(self.policy.device) for key, value in self.inputs[number].items()}

    def numbers(self, rows: torch.Tensor | list[int]) -> list[int]:
        """A number for the picture of each of these rows, equal for the same one; none if there are
        no pictures."""
        return self.number[rows].tolist() if len(self.number) else []

    def _condition(self, module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        ids = kwargs["input_ids"]
        if "packed" in kwargs:
            return args, kwargs | self.family.condition_packed(self, module, kwargs["packed"])
        rows, self.rows = self.rows[: len(ids)], self.rows[len(ids) :]
        kwargs |= self.family.condition(self, module, self.number[rows], kwargs)
        return args, kwargs

    @contextlib.contextmanager
    def of(self, rows: torch.Tensor | None = None, model: Any = None) -> Iterator[None]:
        """Show the pictures of these rows (indices into `pictures`), to the policy's model or to
        another one."""
        if not len(self.number):
            yield
            return
        model = model or self.policy.model
        model = getattr(model, "module", model)  # of several processes
        model = model.get_base_model() if hasattr(model, "peft_config") else model
        self.rows = self.rows if rows is None else rows.to(self.number.device)
        handle = model.register_forward_pre_hook(self._condition, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
