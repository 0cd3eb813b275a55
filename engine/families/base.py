"""The contract of a family of image models: what `images.ImageConditioner` asks of it."""

from typing import Any, ClassVar

import torch


class Family:
    """Registered under transformers' `model_type`."""

    name: ClassVar[str]  # given by `register_model_family`
    not_quantised: ClassVar[list[str]]  # modules that NF4 leaves as they are

    @staticmethod
    def patches(config: Any) -> int:
        """Patches of one picture, all tiles, that the language model attends to."""
        raise NotImplementedError

    @staticmethod
    def towers(model: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
        """(vision tower, projector into the language model)."""
        raise NotImplementedError

    @staticmethod
    def look(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """What the tower makes of the image processor's tensors (pictures, ...)."""
        raise NotImplementedError

    @staticmethod
    def project(model: Any, patches: torch.Tensor) -> torch.Tensor:
        """The same for the language model: (pictures, patches, hidden)."""
        raise NotImplementedError

    @staticmethod
    def condition(images: Any, model: Any, number: torch.Tensor, call: dict) -> dict[str, Any]:
        """Arguments that let a forward call see: row i of it shows picture `number[i]`."""
        raise NotImplementedError

    @staticmethod
    def condition_packed(images: Any, model: Any, packed: Any) -> dict[str, Any]:
        """The same for rows that are packed into one (`packing.Packed`): each token sees its row's
        picture, the `n`-th different number's states being the `n`-th."""
        raise NotImplementedError
