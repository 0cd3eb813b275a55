"""Shows pictures to a model, whoever calls it: TRL's trainers do not pass on what a model needs."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image

from .families import FAMILIES

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

    def __init__(self, policy: Any, pictures: Sequence[Image.Image]) -> None:
        self.policy, self.number = policy, torch.tensor([], dtype=torch.long)
        if not pictures:
            return
        self.family = FAMILIES[policy.model.config.model_type]
        different = {id(picture): picture for picture in pictures}
        places = {key: place for place, key in enumerate(different)}
        self.pictures = list(different.values())
        self.number = torch.tensor([places[id(picture)] for picture in pictures])
        images = [[picture] for picture in self.pictures]
        seen = policy.processor.image_processor(images, return_tensors="pt")
        self.inputs = {k: v for k, v in seen.items() if isinstance(v, torch.Tensor)}

    def states(self, model: Any, pictures: torch.Tensor) -> torch.Tensor:
        """(pictures, ...): what the language model attends to, from the tower or from the cache."""
        tower, projector = (
            any(p.requires_grad for p in part.parameters()) for part in self.family.towers(model)
        )
        if not (tower or projector):
            return torch.cat([self._cached(model, number) for number in pictures.tolist()])
        with torch.set_grad_enabled(torch.is_grad_enabled() and tower):
            patches = self.family.look(model, self._inputs(pictures))
        return self.family.project(model, patches)

    @torch.no_grad()
    def _cached(self, model: Any, number: int) -> torch.Tensor:
        """The states of one picture; kept outside the GPU."""
        picture, cache = self.pictures[number], self.policy.vision_cache
        if id(picture) not in cache:  # whose picture is held, so that no other gets its id
            patches = self.family.look(model, self._inputs([number]))
            cache[id(picture)] = picture, self.family.project(model, patches).cpu()
        cache.move_to_end(id(picture))
        while len(cache) > VISION_CACHE:
            cache.popitem(last=False)
        return cache[id(picture)][1].to(self.policy.device)

    def _inputs(self, pictures: torch.Tensor | list[int]) -> dict[str, torch.Tensor]:
        return {key: value[pictures].to(self.policy.device) for key, value in self.inputs.items()}

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
        self.rows = self.rows if rows is None else rows.cpu()
        handle = model.register_forward_pre_hook(self._condition, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
