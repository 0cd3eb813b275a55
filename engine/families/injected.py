"""Qwen2.5-VL, Qwen3-VL and SmolVLM: a picture's states stand in the text, in place of tokens.

`get_image_features` makes them and `mm_encoder_outputs` takes them, one for every placeholder: the
chat template writes one image token, which is spelled as often as the picture has states. To caches
and to attention they are tokens like others.
"""

from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin

from engine.families import register_model_family

from .base import Family, States


class Processor:
    """Tokenizer and image processor. (transformers' own for these families ask for packages that
    only videos need.)"""

    def __init__(self, tokenizer: Any, image_processor: Any, image_token_id: int) -> None:
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.image_token = tokenizer.convert_ids_to_tokens(image_token_id)
        self.chat_template = tokenizer.chat_template

    def save_pretrained(self, folder: Any) -> None:
        """As transformers' processors, which find both there."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)


class Injected(Family):
    """What these families share."""

    in_text = True

    @staticmethod
    def processor(source: str, config: Any) -> Any:
        tokenizer, images = (
            auto.from_pretrained(source, trust_remote_code=False)
            for auto in (AutoTokenizer, AutoImageProcessor)
        )
        if not tokenizer.chat_template:  # older checkpoints have it in a file of its own
            found = ProcessorMixin.get_processor_dict(source)[0]
            tokenizer.chat_template = found.get("chat_template")
        return Processor(tokenizer, images, config.image_token_id)

    @classmethod
    def patches(cls, config: Any) -> int:
        vision = config.vision_config
        side = getattr(vision, "spatial_merge_size", 0) or config.scale_factor
        return (cls.image_size(config) // vision.patch_size // side) ** 2

    @classmethod
    def see(cls, model: Any, pictures: list[dict[str, torch.Tensor]]) -> list[States]:
        found = [model.model.get_image_features(**one, return_dict=True) for one in pictures]
        levels = [[o.pooler_output, *getattr(o, "deepstack_features", ())] for o in found]
        return [tuple(torch.cat(tuple(level)) for level in one) for one in levels]

    @classmethod
    def condition(cls, images: Any, model: Any, number: torch.Tensor, call: dict) -> dict[str, Any]:
        ids, cache, more = call["input_ids"], call.get("past_key_values"), {}
        if cache is None or cache.get_seq_length() == 0:
            marks = ids == model.config.image_token_id
            images.starts[number] = marks.int().argmax(1)
            more = cls._given(images, model, number)
        plain = call.get("position_ids")
        if plain is None:
            plain = torch.arange(ids.size(1), device=ids.device).expand_as(ids)
        return more | cls.positions(images, model.config, plain, number[:, None])

    @classmethod
    def condition_packed(cls, images: Any, model: Any, packed: Any) -> dict[str, Any]:
        found = [row.index(model.config.image_token_id) for row in packed.rows]
        first = torch.tensor(found, device=packed.device)[packed.row]
        images.starts[packed.pictures] = first
        start = packed.position_ids[0] == first
        # A picture stands as often as its first placeholder does: once for rows that share it.
        return cls._given(images, model, packed.pictures[start]) | cls.positions(
            images, model.config, packed.position_ids, packed.pictures[None]
        )

    @staticmethod
    def _given(images: Any, model: Any, number: torch.Tensor) -> dict[str, Any]:
        """The states of these pictures, one after the other, as transformers' models take them."""
        different, place = number.unique(return_inverse=True)
        states = images.states(model, different)
        seen, *deeper = zip(*(states[k] for k in place.tolist()), strict=True)
        output = SimpleNamespace(pooler_output=seen, deepstack_features=deeper)
        return {"mm_encoder_outputs": {"image": output}}

    @classmethod
    def positions(cls, images: Any, config: Any, plain: Any, number: Any) -> dict[str, Any]:
        """Where the `plain[...]`-th tokens of conversations about pictures `number[...]` stand, if
        the model counts otherwise."""
        return {}


@register_model_family("smolvlm")
class SmolVlm(Injected):
    """Sees a picture as one tile. (Cut into tiles, as by default, it takes 17 times the tokens.)"""

    not_quantised = ["lm_head", "model.vision_model", "model.connector"]

    @staticmethod
    def processor(source: str, config: Any) -> Any:
        made = Injected.processor(source, config)
        made.image_processor.do_image_splitting = False
        made.image_processor.size = made.image_processor.max_image_size
        return made

    @staticmethod
    def spelled(config: Any, processor: Any, picture: Image.Image) -> str:
        tokens = processor.image_token * SmolVlm.patches(config)
        return f"<fake_token_around_image><global-img>{tokens}<fake_token_around_image>"


@register_model_family("qwen2_5_vl")
class Qwen(Injected):
    """Counts rows and columns of a picture: M-RoPE, which plain positions would pass by."""

    not_quantised = ["lm_head", "model.visual"]

    @staticmethod
    def spelled(config: Any, processor: Any, picture: Image.Image) -> str:
        images = processor.image_processor
        patches = images.get_number_of_image_patches(picture.height, picture.width, {})
        return processor.image_token * (patches // images.merge_size**2)

    @classmethod
    def positions(cls, images: Any, config: Any, plain: Any, number: Any) -> dict[str, Any]:
        """(3, ...): time, row, column. What is before a picture has its plain position in all, and
        what is behind it goes on after the longer side of the picture."""
        grid = images.of_all("image_grid_thw")[:, 1:] // config.vision_config.spatial_merge_size
        facts = torch.cat([images.starts[:, None], grid], 1)[number]
        first, high, wide = facts.unbind(-1)
        n, size = plain - first, high * wide
        line = plain.where(n < 0, plain - size + torch.maximum(high, wide))
        outside = (n < 0) | (n >= size)
        counts = [line.where(outside, first + step) for step in (0 * n, n // wide, n % wide)]
        return {"position_ids": torch.stack(counts)}


@register_model_family("qwen3_vl")
class Qwen3(Qwen):
    """DeepStack's states, which its first layers add, are further levels of a picture's."""
