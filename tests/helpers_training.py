"""A small random policy and a toy task: a training step takes a twentieth of a second."""

import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessorPil,
    MllamaProcessor,
)

from engine.policy import Policy
from engine.trainer import Schedule
from foundry.foundation import build_tokenizer
from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import METHODS
from sftrl_lib.tasks.base import Task, Verdict

TOKENIZER = build_tokenizer()


def small_policy(seed: int = 0, lora: bool = False, tiles: int = 1) -> Policy:
    """Random weights: Mllama with one self-attention, one cross-attention layer, 25 thousand
    parameters in the text path; a picture is cut into up to `tiles` squares. `lora` wraps it with
    the adapter that the library uses."""
    text = dict(
        vocab_size=TOKENIZER.image_token_id, hidden_size=32, intermediate_size=64,
        num_hidden_layers=3, cross_attention_layers=[1], num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.1,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=False,
        bos_token_id=TOKENIZER.bos_token_id, eos_token_id=TOKENIZER.eos_token_id,
        pad_token_id=TOKENIZER.pad_token_id,
    )  # fmt: skip
    vision = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_global_layers=1,
        attention_heads=2, image_size=16, patch_size=8, max_num_tiles=tiles,
        supported_aspect_ratios=[[a, b] for a in range(1, tiles + 1) for b in range(1, tiles + 1)
                                 if a * b <= tiles],
        intermediate_layers_indices=[0], vision_output_dim=32,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = MllamaForConditionalGeneration(
        MllamaConfig(text_config=text, vision_config=vision, image_token_index=text["vocab_size"])
    )
    for name, parameter in model.named_parameters():
        if name.endswith("_gate"):  # else pictures are ignored
            parameter.data.fill_(0.5)
    if lora:
        from peft import get_peft_model

        from engine.adapters import lora_config

        model = get_peft_model(model, lora_config(rank=2))
    side = {"height": 16, "width": 16}
    processor = MllamaProcessor(
        MllamaImageProcessorPil(size=side, max_image_tiles=tiles), TOKENIZER,
        chat_template=TOKENIZER.chat_template,
    )  # fmt: skip
    return Policy(model.eval(), processor)


class WordTask(Task):
    """A third of all answers is right: which, the answer's checksum says. Deals from `hopeless` on
    never are, so their groups have no spread. `asked` keeps the order in which deals were drawn.
    With `pictures` an item has one, of noise, one to three times as wide as high."""

    name = "words"

    def __init__(self, hopeless: int = 10**9, pictures: bool = False) -> None:
        super().__init__()
        self.hopeless, self.pictures, self.asked = hopeless, pictures, []

    def item(self, split: str, seed: int, index: int) -> int:
        self.asked.append((split, seed, index))
        return index

    def prompt(self, item: int) -> str:
        return f"Cards: {item}" + item % 3 * ", 7"  # of three lengths

    def picture(self, item: int, size: int) -> Image.Image | None:
        shape = (size, (1 + item % 3) * size, 3)
        noise = np.random.default_rng(item).integers(0, 256, shape, np.uint8)
        return Image.fromarray(noise) if self.pictures else None

    def expert(self, item: int, rng) -> str:
        return "+".join(str(rng.randint(1, 9)) for _ in range(2 + item % 2))

    def verify(self, item: int, text: str) -> Verdict:
        checksum = zlib.crc32(f"{item}/{text}".encode()) % 6
        if item < self.hopeless and checksum < 2:
            return Verdict(True, 5.0, "solved", "correct")
        reward = -1.0 if item >= self.hopeless or checksum < 4 else -2.0
        return Verdict(False, reward, "wrong_value", "it was wrong")


class FakeRun:
    """What the trainers need of a run folder."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = Path(path), []
        self.path.mkdir(parents=True, exist_ok=True)

    def log(self, **row) -> None:
        self.rows.append(row)


def experiment(method: str, **changes) -> Experiment:
    """Four steps of 12 rows, 3 tries, as far as the method has them; backward passes of at most 5
    rows."""
    settings = dict(
        method=method, steps=4, batch=12, group=4, tries=3, lr=1e-4, micro_batch=5, warmup=0.0,
        max_new_tokens=6, eval_points=2,
    )  # fmt: skip
    return Experiment(lenient=True, **settings | changes)


def schedule(folder: Path) -> Schedule:
    """As long and as fast as that experiment's."""
    return Schedule(folder, "hash", steps=4, batch=12, lr=1e-4)


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.model.named_parameters()}


def train(method, folder, policy=None, task=None, on_checkpoint=None, **changes):
    """Train the small policy, and return it with its run."""
    policy, run = policy or small_policy(), FakeRun(folder)
    exp = experiment(method, **changes)
    METHODS[method].train(exp, policy, task or WordTask(), run, on_checkpoint, progress=False)
    return policy, run


def assert_same(a: Policy, b: Policy, **tolerance) -> None:
    torch.testing.assert_close(weights(a), weights(b), **tolerance)


def assert_equal(a: Policy, b: Policy) -> None:
    assert_same(a, b, rtol=0, atol=0)


class Killed(Exception):
    pass


def killed_at(step):
    """Called at a checkpoint: ends the run there."""

    def on_checkpoint(policy, at, compute):
        if at == step:
            raise Killed

    return on_checkpoint


def without_seconds(rows):
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
