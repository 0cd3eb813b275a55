"""Random models of two layers, one a family that sees, and their plain forward pass."""

import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

from engine.adapters import adapt
from engine.families.injected import Processor
from engine.policy import Policy
from foundry.foundation import build_tokenizer

MARKS = {  # of a picture, and what stands around it
    "qwen2_5_vl": ("<|image_pad|>", "<|vision_start|>", "<|vision_end|>"),
    "qwen3_vl": ("<|image_pad|>", "<|vision_start|>", "<|vision_end|>"),
    "smolvlm": ("<image>", "<fake_token_around_image>", "<global-img>"),
}
PARTS = """{% for part in m.content %}{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}\
{% endif %}{% endfor %}"""
# As Qwen's own, and SmolVLM's, which writes nothing of a text that is not in a list.
CHATML = """{% for m in messages %}<|start|>{{ m.role }}|>{% if m.content is string %}\
{{ m.content }}{% else %}PARTS{% endif %}<|end|>{% endfor %}\
{% if add_generation_prompt %}<|start|>assistant|>{% endif %}"""
SPOKEN = """{% for m in messages %}{{ m.role }}|>PARTS<|end|>{% endfor %}\
{% if add_generation_prompt %}assistant|>{% endif %}"""


def processor_of(kind: str) -> Processor:
    """Made of our tokenizer; squares of 8 pixels are one state in Qwen's, of 16 four in SmolVLM."""
    tokenizer, marks = build_tokenizer(), MARKS[kind]
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    smol = kind == "smolvlm"
    mark = marks[0] if smol else marks[1] + marks[0] + marks[2]
    text = (SPOKEN if smol else CHATML).replace("PARTS", PARTS).replace("IMAGE", mark)
    tokenizer.chat_template = text
    images = (
        SmolVLMImageProcessorPil(
            size={"longest_edge": 16}, max_image_size={"longest_edge": 16}, do_image_splitting=False
        )
        if smol
        else Qwen2VLImageProcessorPil(
            patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 10_000}
        )
    )
    return Processor(tokenizer, images, tokenizer.convert_tokens_to_ids(marks[0]))


def seeing_model(kind: str, words: int, image_token_id: int, seed: int = 0) -> torch.nn.Module:
    """Random weights, large enough that what is seen decides."""
    torch.manual_seed(seed)
    text = dict(
        vocab_size=words, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2, pad_token_id=0,
        max_position_embeddings=512,
    )  # fmt: skip
    if kind == "smolvlm":
        vision = dict(
            hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            image_size=16, patch_size=4, initializer_range=0.2,
        )  # fmt: skip
        made = SmolVLMConfig(
            text_config=text | {"model_type": "llama"}, vision_config=vision, scale_factor=2,
            image_token_id=image_token_id,
        )  # fmt: skip
        return SmolVLMForConditionalGeneration(made).eval()
    vision = dict(
        depth=2, hidden_size=16, intermediate_size=16, num_heads=2, patch_size=4,
        out_hidden_size=32, initializer_range=0.2,
    )  # fmt: skip
    text["rope_parameters"] = {
        "rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 1, 1],
    }  # fmt: skip
    # No token of the small vocabulary stands for a video.
    more = dict(image_token_id=image_token_id, video_token_id=words + 1)
    if kind == "qwen2_5_vl":
        vision |= {"window_size": 16, "fullatt_block_indexes": [1]}
        made = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **more)
        return Qwen2_5_VLForConditionalGeneration(made).eval()
    vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    text["head_dim"] = 8
    made = Qwen3VLConfig(text_config=text, vision_config=vision, **more)
    return Qwen3VLForConditionalGeneration(made).eval()


def seeing_policy(kind: str, lora: bool = False, seed: int = 0) -> Policy:
    """Of a random model, as `helpers_training.small_policy` for Mllama; pictures of 16 pixels."""
    processor = processor_of(kind)
    mark = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    model = seeing_model(kind, len(processor.tokenizer), mark, seed)
    policy = Policy(adapt(model, 2) if lora else model, processor)
    policy.model.eval()
    policy.image_size = 16
    return policy


def shown(policy: Policy, ids: list[int], picture: Image.Image) -> dict[str, torch.Tensor]:
    """What a plain forward pass of `ids` needs to see the picture, as transformers asks for it."""
    seen = dict(policy.processor.image_processor([[picture]], return_tensors="pt"))
    if policy.model.config.model_type == "mllama":
        seen.pop("num_tiles")
        see = (torch.tensor([ids]) == policy.processor.image_token_id).cumsum(1) > 0
        seen["cross_attention_mask"] = see[..., None, None] * seen["aspect_ratio_mask"][:, None]
    elif "image_grid_thw" in seen:
        mark = policy.model.config.image_token_id
        seen["mm_token_type_ids"] = (torch.tensor([ids]) == mark).int()
    return seen
