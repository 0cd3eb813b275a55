"""Mllama (Llama-3.2-Vision, the tiny tier): cross-attention layers look at the pictures."""

from typing import Any

import torch

from engine.families import register_model_family

from .base import Family


@register_model_family("mllama")
class Mllama(Family):
    """One image token at the start of the text; what stands before it does not see."""

    not_quantised = ["lm_head", "model.vision_model", "model.multi_modal_projector"]

    @staticmethod
    def patches(config: Any) -> int:
        vision = config.vision_config
        return vision.max_num_tiles * ((vision.image_size // vision.patch_size) ** 2 + 1)

    @staticmethod
    def towers(model: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
        return model.model.vision_model, model.model.multi_modal_projector

    @staticmethod
    def look(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return model.model.vision_model(**inputs).last_hidden_state

    @staticmethod
    def project(model: Any, patches: torch.Tensor) -> torch.Tensor:
        states = model.model.multi_modal_projector(patches)
        return states.reshape(len(patches), -1, states.shape[-1])

    @staticmethod
    def condition(images: Any, model: Any, number: torch.Tensor, call: dict) -> dict[str, Any]:
        ids, cache, more = call["input_ids"], call.get("past_key_values"), {}
        if cache is None or cache.get_seq_length() == 0:
            different, place = number.unique(return_inverse=True)
            more["cross_attention_states"] = images.states(model, different)[place]
            shown = (ids == model.config.image_token_index).cumsum(1) > 0
        else:  # the keys of the picture are in the cache
            shown = torch.ones_like(ids)
        # (pictures, 1, tiles): 1 where there is one
        tiles = images.inputs["aspect_ratio_mask"][number][:, None].to(ids.device)
        mask = shown[:, :, None, None] * tiles
        more["cross_attention_mask"] = mask.to(model.dtype)  # spread over all patches
        return more

    @staticmethod
    def condition_packed(images: Any, model: Any, packed: Any) -> dict[str, Any]:
        different, place = packed.pictures.unique(return_inverse=True)
        states = images.states(model, different.cpu())
        first = [row.index(model.config.image_token_index) for row in packed.rows]
        shown = packed.position_ids[0] >= torch.tensor(first, device=place.device)[packed.row]
        own = place[:, None] == torch.arange(len(different), device=place.device)
        # (tokens, pictures, tiles)
        tiles = images.inputs["aspect_ratio_mask"].to(place.device)[different, 0]
        mask = (shown[:, None] & own)[:, :, None] * tiles
        return {
            "cross_attention_states": states.flatten(0, 1)[None],
            "cross_attention_mask": mask[None].to(model.dtype),
        }
