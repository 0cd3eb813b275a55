"""The contract of a family of image models: what is special to how they see."""

from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import AutoProcessor

SIDE = 448  # pixels: 16 x 28 and 14 x 32, Qwen's squares that become one state; cards read well
States = tuple[torch.Tensor, ...]  # what a language model gets of one picture


class Family:
    """Registered under transformers' `model_type`."""

    name: ClassVar[str]  # given by `register_model_family`
    not_quantised: ClassVar[list[str]]  # modules that NF4 leaves as they are: the head, the eyes
    in_text: ClassVar[bool] = False  # whether a picture takes places among the text's tokens

    @staticmethod
    def processor(source: str, config: Any) -> Any:
        """What makes tokens and tensors, from a folder or a Hub id."""
        return AutoProcessor.from_pretrained(source, trust_remote_code=False)

    @staticmethod
    def image_size(config: Any) -> int:
        """Pixels of a side of the (square) pictures that are drawn for it, where it sees any."""
        return getattr(config.vision_config, "image_size", SIDE)

    @staticmethod
    def patches(config: Any) -> int:
        """Vectors that the language model gets of such a picture, of all its tiles."""
        raise NotImplementedError

    @classmethod
    def shown(cls, config: Any) -> int:
        """How many of them such a (square) picture fills."""
        return cls.patches(config)

    @classmethod
    def filled(cls, images: Any, config: Any) -> int:
        """Where layers attend to patches: how many, the first ones, are filled by any of the
        conditioner's pictures."""
        raise NotImplementedError

    @classmethod
    def looking(cls, config: Any) -> int:
        """Numbers that a frozen tower holds while it looks at one, about: a layer at a time."""
        vision = config.vision_config
        patches = (cls.image_size(config) // vision.patch_size) ** 2
        return patches * (8 * vision.hidden_size + 2 * vision.intermediate_size)

    @classmethod
    def eyes(cls, model: Any) -> list[torch.nn.Module]:
        """The vision tower, and the projector into the language model if that is apart from it."""
        return [model.get_submodule(name) for name in cls.not_quantised if name != "lm_head"]

    @staticmethod
    def spelled(config: Any, processor: Any, picture: Image.Image) -> str:
        """What the tokenizer reads where the chat template has the mark of a picture."""
        return processor.image_token

    @classmethod
    def see(cls, model: Any, pictures: list[dict[str, torch.Tensor]]) -> list[States]:
        """The states of each picture, from its tensors of the image processor."""
        raise NotImplementedError

    @classmethod
    def condition(cls, images: Any, model: Any, number: torch.Tensor, call: dict) -> dict[str, Any]:
        """Arguments that let a forward call see: row i of it shows picture `number[i]`."""
        raise NotImplementedError

    @classmethod
    def condition_packed(cls, images: Any, model: Any, packed: Any) -> dict[str, Any]:
        """The same for rows that are packed into one (`packing.Packed`): each token sees its row's
        picture."""
        raise NotImplementedError
