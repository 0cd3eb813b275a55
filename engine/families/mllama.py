"""Mllama (Llama-3.2-Vision, the tiny tier): cross-attention layers look at the pictures."""

from typing import Any

import torch

from engine.families import register_model_family

from .base import Family, States


@register_model_family("mllama")
class Mllama(Family):
    """One image token at the start of the text; what stands before it does not see."""

    not_quantised = ["lm_head", "model.vision_model", "model.multi_modal_projector"]

    @classmethod
    def patches(cls, config: Any) -> int:
        return config.vision_config.max_num_tiles * cls.shown(config)

    @staticmethod
    def shown(config: Any) -> int:
        """Of one tile."""
        vision = config.vision_config
        return (vision.image_size // vision.patch_size) ** 2 + 1

    @classmethod
    def filled(cls, images: Any, config: Any) -> int:
        tiles = images.of_all("aspect_ratio_mask").sum(-1).max()  # a picture's tiles come first
        return int(tiles) * cls.shown(config)

    @classmethod
    def looking(cls, config: Any) -> int:
        """Every layer's output, and the attention among all patches."""
        vision, patches = config.vision_config, cls.patches(config)
        depth = vision.num_hidden_layers + vision.num_global_layers
        widest = vision.vision_output_dim + 4 * vision.hidden_size + vision.intermediate_size
        return patches * (widest + depth * vision.hidden_size + patches)

    @classmethod
    def see(cls, model: Any, pictures: list[dict[str, torch.Tensor]]) -> list[States]:
        tower, projector = cls.eyes(model)
        inputs = {key: torch.cat([p[key] for p in pictures]) for key in pictures[0]}
        trained = any(p.requires_grad for p in tower.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
            patches = tower(**inputs).last_hidden_state
        states = projector(patches)
        return [(one,) for one in states.reshape(len(patches), -1, states.shape[-1])]

    @classmethod
    def condition(cls, images: Any, model: Any, number: torch.Tensor, call: dict) -> dict[str, Any]:
        ids, cache, more = call["input_ids"], call.get("past_key_values"), {}
        if cache is None or cache.get_seq_length() == 0:
            different, place = number.unique(return_inverse=True)
            states = torch.stack([one for (one,) in images.states(model, different)])
            more["cross_attention_states"] = states[place]
            shown = (ids == model.config.image_token_index).cumsum(1) > 0
        else:  # the keys of the picture are in the cache
            shown = torch.ones_like(ids)
        # (pictures, 1, 1, tiles): 1 where there is one
        tiles = images.of_all("aspect_ratio_mask")[number][:, None]
        if cache is not None and not more:  # of which the cache may have the first alone
            first = model.config.text_config.cross_attention_layers[0]
            tiles = tiles[..., : cache.layers[first].keys.size(2) // cls.shown(model.config)]
        mask = shown[:, :, None, None] * tiles
        more["cross_attention_mask"] = mask.to(model.dtype)  # spread over all patches
        return more

    @classmethod
    def condition_packed(cls, images: Any, model: Any, packed: Any) -> dict[str, Any]:
        """The n-th different number's states are the n-th."""
        different, place = packed.pictures.unique(return_inverse=True)
        states = torch.stack([one for (one,) in images.states(model, different)])
        first = [row.index(model.config.image_token_index) for row in packed.rows]
        shown = packed.position_ids[0] >= torch.tensor(first, device=place.device)[packed.row]
        own = place[:, None] == torch.arange(len(different), device=place.device)
        # (tokens, pictures, tiles)
        tiles = images.of_all("aspect_ratio_mask")[different, 0]
        mask = (shown[:, None] & own)[:, :, None] * tiles
        return {
            "cross_attention_states": states.flatten(0, 1)[None],
            "cross_attention_mask": mask[None].to(model.dtype),
        }
