"""The tiny tier's foundation model: tokenizer, architecture, pre-training.

It plays the part of Llama-3.2-Vision: the same architecture (Mllama), about a seven-thousandth of
the parameters. What it is pre-trained on is in `pretraining`.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessorPil,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)

from . import prompts
from .errors import SftrlError
from .pretraining import CARD_FORMATS, FORBIDDEN_RULES, WALK_FORMATS, Conversation, Pretraining
from .tasks import cities

FOLDER = Path(__file__).resolve().parent.parent / "data" / "foundation"
SAVE_EVERY = 60.0  # seconds between two checkpoints of pre-training
_BOS, _PAD, _USER, _ASSISTANT, _END, _IMAGE = (
    "<|begin_of_text|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<|image|>",
)  # fmt: skip
# `generation` marks what the model itself says, which is what assistant-only losses train on.
_CHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}<|end|>"
    "{% else %}<|assistant|>{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each constant phrase, rank, operator, number below 100 and word of a landmark's
    name (at the start of a name and within it); bytes for all else.

    Added tokens are matched longest first before the byte-level model sees the rest, so any text
    can be encoded and decoded without loss.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [*prompts.PHRASES, *prompts.NAV_PHRASES, *(str(n) for n in range(10, 100))]
    words += [start + word for word in cities.WORDS for start in ("", " ")]
    tokenizer.add_tokens(
        [AddedToken(w, normalized=False) for w in dict.fromkeys(words) if len(w) > 1]
    )
    special = [_BOS, _PAD, _USER, _ASSISTANT, _END, _IMAGE]  # the image's id is text vocab_size
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in special])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_BOS, eos_token=_END, pad_token=_PAD,
        clean_up_tokenization_spaces=False, additional_special_tokens=[_USER, _ASSISTANT, _IMAGE],
    )  # fmt: skip
    fast.chat_template = _CHAT
    fast.image_token, fast.image_token_id = _IMAGE, fast.convert_tokens_to_ids(_IMAGE)
    return fast


def build_processor() -> MllamaProcessor:
    """A real MllamaProcessor around our tokenizer: one 64x64 tile an image."""
    images = MllamaImageProcessorPil(size={"height": 64, "width": 64}, max_image_tiles=1)
    return MllamaProcessor(images, build_tokenizer(), chat_template=_CHAT)


def build_model(seed: int = 0) -> MllamaForConditionalGeneration:
    """Llama-3.2-Vision's architecture at a width of 128: 4 self-attention and 2 cross-attention
    layers of text, 2+1 of vision. Cross-attention gates start open, else images are ignored."""
    tokenizer = build_tokenizer()
    hidden, vision = 128, 64
    config = MllamaConfig(
        text_config=dict(
            vocab_size=tokenizer.image_token_id, hidden_size=hidden, intermediate_size=384,
            num_hidden_layers=6, cross_attention_layers=[1, 4], num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=1024, initializer_range=0.04,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
        ),
        vision_config=dict(
            hidden_size=vision, intermediate_size=2 * vision, num_hidden_layers=2,
            num_global_layers=1, attention_heads=4, image_size=64, patch_size=8, max_num_tiles=1,
            supported_aspect_ratios=[[1, 1]], intermediate_layers_indices=[1],
            vision_output_dim=2 * vision,
        ),
        image_token_index=tokenizer.image_token_id,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = MllamaForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("cross_attn_attn_gate") or name.endswith("cross_attn_mlp_gate"):
                parameter.fill_(0.5)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def encode(example: Conversation, tokenizer) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and its labels: its last answer, and the actions of a history.

    A history tells what was right at every earlier position: to predict that too is several times
    the lesson for the price of one sequence. Everything else is -100.
    """
    turns = [{"role": role, "content": words} for role, words in example[:-1]]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    head = tokenizer.encode(text, add_special_tokens=False)
    answer = tokenizer.encode(example[-1][1] + _END, add_special_tokens=False)
    labels, within = [], False
    for token, piece in zip(head, tokenizer.convert_ids_to_tokens(head), strict=True):
        within = within and not piece.startswith(("\nO_", "\nComplete"))
        labels.append(token if within else -100)
        within = within or piece.startswith("\nA_")
    return head + answer, labels + answer


def batches(encoded: list, pad: int, rows: int = 32) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(input_ids, labels), each (rows, length), right-padded, from `encode`d examples."""
    for i in range(0, len(encoded), rows):
        ids, labels = zip(*encoded[i : i + rows], strict=True)
        yield tuple(
            pad_sequence([torch.tensor(row) for row in part], True, fill)
            for part, fill in ((ids, pad), (labels, -100))
        )


def pretrain(recipe: Pretraining, folder: Path, workers: int = 2, progress: bool = True) -> Path:
    """Pre-train from scratch, or go on where an interrupted build stopped; writes fp16 safetensors.

    `workers` processes of one thread each share every batch: on two cores that is nearly twice as
    fast as one process of two threads, which wait for each other at every layer. A checkpoint is
    written once a minute, so that is what Ctrl-C loses. Same recipe, machine and workers: same
    weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (workers, recipe, folder, f"file://{meeting}/point", progress)
        torch.multiprocessing.spawn(_pretrain_worker, arguments, nprocs=workers)
    return folder


def _pretrain_worker(
    rank: int, workers: int, recipe: Pretraining, folder: Path, meeting: str, progress: bool
) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    state_file, log_file = folder / "training.pt", folder / "training.jsonl"
    tokenizer, model = build_tokenizer(), build_model(recipe.seed)
    cross = [f"layers.{i}." for i in model.config.text_config.cross_attention_layers]
    text_only = [
        p for n, p in model.named_parameters()
        if not any(s in n for s in ("vision", "projector", *cross))
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(text_only, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.05)
    start, seconds, tokens = 0, 0.0, 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        if state["recipe"] != asdict(recipe):
            raise SftrlError(
                f"{state_file} belongs to another recipe ({state['recipe']}); remove it or name "
                "another folder."
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, seconds, tokens = state["step"], state["seconds"], state["tokens"]
    if rank == 0 and log_file.exists():  # what was logged after the last checkpoint is done again
        rows = [json.loads(line) for line in log_file.read_text().splitlines()]
        log_file.write_text("".join(json.dumps(r) + "\n" for r in rows if r["step"] < start))
    model.train()
    clock = saved = time.monotonic()
    bar = tqdm(range(start, recipe.steps), initial=start, total=recipe.steps, desc="foundation",
               disable=not progress or rank > 0, mininterval=2)  # fmt: skip
    for step in bar:
        # Warm-up, then constant: never annealed. An annealed model is surer of itself, and leaves
        # RL little to sharpen (data/tuning.csv).
        optimizer.param_groups[0]["lr"] = recipe.lr * min(1.0, (step + 1) / 100)
        encoded = [encode(example, tokenizer) for example in recipe.batch_of(step)]
        encoded.sort(key=lambda e: len(e[0]))
        count = sum(label != -100 for _, labels in encoded for label in labels)
        loss = 0.0
        for ids, labels in batches(encoded[rank::workers], tokenizer.pad_token_id):
            # Right-padded and causal: padding can never be attended to, so no mask is needed.
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            part = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
            )
            (part / count).backward()
            loss += float(part.detach()) / count
        for parameter in text_only:
            torch.distributed.all_reduce(parameter.grad)
        torch.nn.utils.clip_grad_norm_(text_only, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += sum(len(ids) for ids, _ in encoded)
        now = time.monotonic()
        seconds, clock = seconds + now - clock, now
        if rank == 0 and step % 20 == 0:
            bar.set_postfix(loss=f"{loss * workers:.3f}", tok_s=f"{tokens / seconds:.0f}")
            row = {
                "step": step, "loss": round(loss * workers, 4), "seconds": round(seconds, 1),
                "tokens": tokens,
            }  # fmt: skip
            with log_file.open("a") as log:
                log.write(json.dumps(row) + "\n")
        if rank == 0 and now - saved > SAVE_EVERY:
            state = {
                "recipe": asdict(recipe), "model": model.state_dict(), "step": step + 1,
                "optimizer": optimizer.state_dict(), "seconds": seconds, "tokens": tokens,
            }  # fmt: skip
            torch.save(state, partial := state_file.with_suffix(".tmp"))
            partial.replace(state_file)
            saved = now
    if rank == 0:
        write(model, folder, recipe, seconds, tokens, workers)
        state_file.unlink(missing_ok=True)
    torch.distributed.destroy_process_group()


def write(
    model, folder: Path, recipe: Pretraining, seconds: float, tokens: int, workers: int
) -> None:
    """Weights (fp16 safetensors), processor and what the model has seen."""
    model.half().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    seen = {
        "recipe": asdict(recipe), "cards": recipe.formats(CARD_FORMATS),
        "walks": recipe.formats(WALK_FORMATS), "seconds": round(seconds), "tokens": tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "workers": workers,
        "never_seen": {
            "rules": sorted(FORBIDDEN_RULES),
            "multisets": "gp.held_out(...) together with the target 24",
            "landmarks": "pretraining.recorded_names()",
        },
    }  # fmt: skip
    (folder / "foundation.json").write_text(json.dumps(seen, indent=1) + "\n")
