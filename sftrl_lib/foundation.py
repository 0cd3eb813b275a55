"""The tiny tier's foundation model: tokenizer, architecture, pre-training data, pre-training.

It plays the part of Llama-3.2-Vision: the same architecture (Mllama), about a seven-thousandth of
the parameters. It follows *any* stated card rule, knows some arithmetic, reacts to the verifier's
words and answers in five formats, of which the task's own is rare. What it must not have seen is
kept out by `Pretraining` and held by a test: the named rules, the held-out mappings, and held-out
multisets with the target 24.
"""

import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
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
from .tasks import general_points as gp

FOLDER = Path(__file__).resolve().parent.parent / "data" / "foundation"
TARGETS = range(10, 41)  # of the pre-training deals whose target is not 24
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
    """One token for each constant phrase, rank, operator and number below 100; bytes for all else.

    Added tokens are matched longest first before the byte-level model sees the rest, so any text
    can be encoded and decoded without loss.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [*prompts.PHRASES, *(str(n) for n in range(10, 100))]
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


def worked_steps(formula: str) -> list[str] | None:
    """The calculation of a formula step by step, e.g. "10*3=30"; None where there is none, or where
    a step leaves the whole numbers 0..99."""
    try:
        _, _, steps = gp.evaluate_formula(formula)
    except (gp.IllegalFormula, ZeroDivisionError):
        return None
    if any(value.denominator != 1 or not 0 <= value <= 99 for *_, value in steps):
        return None
    return [f"{left}{sign}{right}={value}" for left, sign, right, value in steps]


def random_formula(numbers: list[int], rng: random.Random) -> tuple[str, Fraction | None]:
    """A random legal formula over all numbers, with its exact value (None: a division by zero)."""
    parts = [(str(n), 3) for n in rng.sample(numbers, len(numbers))]  # (text, how tightly it binds)
    while len(parts) > 1:
        i = rng.randrange(len(parts) - 1)
        (left, bound), (right, bound_right) = parts[i], parts[i + 1]
        sign = rng.choice("+-**/")
        binding = 1 if sign in "+-" else 2
        if bound < binding:
            left = f"({left})"
        if bound_right < binding or (bound_right == binding and sign in "-/"):
            right = f"({right})"
        parts[i : i + 2] = [(f"{left}{sign}{right}", binding)]
    formula = parts[0][0]
    try:
        return formula, gp.evaluate_formula(formula)[0]
    except ZeroDivisionError:
        return formula, None


@dataclass(frozen=True)
class Pretraining:
    """The recipe. Shares are of examples; every number here is printed in the model card."""

    seed: int = 0
    steps: int = 900
    batch: int = 128
    lr: float = 3e-3
    json: float = 0.03  # 0 leaves the task's own format out (the paper's Fig. 9)
    target_24: float = 0.04  # more, and it knows the ~1,000 solvable multisets by heart
    conversations: float = 0.25
    faces: float = 0.5  # share of deals in which each card is a face card with probability 1/2

    def formats(self) -> dict[str, float]:
        rest = {"equation": 0.25, "values": 0.3, "steps": 0.25, "named": 0.2}
        return {"json": self.json} | {k: v * (1 - self.json) for k, v in rest.items()}

    def deal(self, rng: random.Random) -> tuple[gp.Deal, str]:
        """A deal under a random rule and a formula that solves it."""
        while True:
            rule = gp.Rule.parse(tuple(rng.randint(1, 13) for _ in range(3)))
            if (rule.j, rule.q, rule.k) in FORBIDDEN_RULES:
                continue
            faced = rng.random() < self.faces
            ranks = tuple(
                rng.randint(11, 13) if faced and rng.random() < 0.5 else rng.randint(1, 13)
                for _ in range(4)
            )
            numbers = [rule.value(r) for r in ranks]
            if rng.random() < self.target_24:
                if gp.held_out(numbers):
                    continue
                solutions = gp.solve(numbers, 24)
                if not solutions:
                    continue
                return gp.Deal(ranks, ("S",) * 4, rule, 24), rng.choice(solutions)
            formula, value = random_formula(numbers, rng)
            if value is None or value.denominator != 1 or value not in TARGETS or value == 24:
                continue
            return gp.Deal(ranks, ("S",) * 4, rule, int(value)), formula

    def wrong_formula(self, deal: gp.Deal, rng: random.Random) -> str:
        """What a student may write: a wrong value, wrong numbers, or no formula at all."""
        numbers = list(deal.numbers)
        kind = rng.random()
        if kind < 0.25:  # misread a card
            numbers[rng.randrange(4)] = rng.randint(1, 13)
        formula, _ = random_formula(numbers, rng)
        if kind > 0.9:  # break the syntax
            cut = rng.randrange(1, len(formula))
            formula = formula[:cut] + rng.choice("()+*") + formula[cut:]
        return formula

    def example(self, rng: random.Random) -> list[tuple[str, str]]:
        """One conversation [(role, text), ...]. Only its last answer is trained on; it is right."""
        deal, formula = self.deal(rng)
        weights = self.formats()
        style = rng.choices(list(weights), list(weights.values()))[0]
        steps = worked_steps(formula)
        if style == "steps" and steps is None:
            style = "values"
        answer = prompts.gp_answer(deal.cards, deal.numbers, formula, style, steps or ())
        turns = [("user", prompts.gp_prompt(deal, style))]
        if rng.random() < self.conversations:
            for _ in range(rng.choice((1, 1, 2))):
                wrong = self.wrong_formula(deal, rng)
                verdict = gp.verify_formula(wrong, deal.numbers, deal.target)
                if verdict.ok:
                    continue
                steps = worked_steps(wrong) or ()
                shown = prompts.gp_answer(deal.cards, deal.numbers, wrong, style, steps)
                turns += [("assistant", shown), ("user", prompts.retry(verdict.message))]
        return [*turns, ("assistant", answer)]

    def batch_of(self, step: int) -> list[list[tuple[str, str]]]:
        """The examples of one optimizer step: the same for the same (seed, step)."""
        rng = random.Random(f"foundation/{self.seed}/{step}")
        return [self.example(rng) for _ in range(self.batch)]


FORBIDDEN_RULES = {(r.j, r.q, r.k) for r in gp.NAMED_RULES.values()} | set(gp.HELD_OUT_MAPPINGS)


def encode(example: list[tuple[str, str]], tokenizer) -> tuple[list[int], int]:
    """Token ids of a conversation and where its last answer begins."""
    turns = [{"role": role, "content": words} for role, words in example[:-1]]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    head = tokenizer.encode(text, add_special_tokens=False)
    return head + tokenizer.encode(example[-1][1] + _END, add_special_tokens=False), len(head)


def batches(encoded: list, pad: int, rows: int = 32) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(input_ids, labels), each (rows, length), right-padded, from `encode`d examples."""
    for i in range(0, len(encoded), rows):
        part = [(torch.tensor(tokens), start) for tokens, start in encoded[i : i + rows]]
        labels = [torch.cat([t.new_full((s,), -100), t[s:]]) for t, s in part]
        yield pad_sequence([t for t, _ in part], True, pad), pad_sequence(labels, True, -100)


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
        count = sum(len(ids) - answer for ids, answer in encoded)
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
        "recipe": asdict(recipe), "formats": recipe.formats(), "seconds": round(seconds),
        "tokens": tokens, "parameters": sum(p.numel() for p in model.parameters()),
        "workers": workers,
        "never_seen": {
            "rules": sorted(FORBIDDEN_RULES),
            "multisets": "gp.held_out(...) together with the target 24",
        },
    }  # fmt: skip
    (folder / "foundation.json").write_text(json.dumps(seen, indent=1) + "\n")
