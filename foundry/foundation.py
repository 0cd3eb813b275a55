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

from commons.errors import SftrlError
from commons.processes import end_with_parent
from engine.images import ImageConditioner
from engine.policy import Policy
from sftrl_lib.places import writable
from worlds import card_texts as cards
from worlds import walk_texts as walks
from worlds.deals import CARD_NAMES, RANKS

from .cities import WORDS
from .pretraining import (
    CARD_FORMATS,
    FORBIDDEN_RULES,
    GRID,
    SIGHTS,
    WALK_FORMATS,
    Conversation,
    Pictured,
    Pretraining,
    Seeing,
)

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
    words = [*cards.PHRASES, *walks.PHRASES, *(str(n) for n in range(10, 100))]
    words += [start + word for word in WORDS for start in ("", " ")]
    tokenizer.add_tokens(
        [AddedToken(w, normalized=False) for w in dict.fromkeys(words) if len(w) > 1]
    )
    special = [_BOS, _PAD, _USER, _ASSISTANT, _END, _IMAGE]  # the image's id is text vocab_size
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in special])
    # Mllama can read eight ids more than it can write: the image's, and these.
    tokenizer.add_tokens(
        [AddedToken(w, normalized=False) for w in (*cards.PICTURE_PHRASES, *walks.PICTURE_PHRASES)]
    )
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


def encode(example: Conversation, tokenizer, pictured: bool = False) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, which may begin with a picture, and its labels: its last answer,
    and the actions of a history.

    A history tells what was right at every earlier position: to predict that too is several times
    the lesson for the price of one sequence. Everything else is -100.
    """
    turns = [{"role": role, "content": words} for role, words in example[:-1]]
    turns[0]["content"] = (_IMAGE if pictured else "") + turns[0]["content"]
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
    """Pre-train, or go on where an interrupted build stopped; writes fp16 safetensors. A `Seeing`
    recipe goes on from the weights in the folder; any other begins from scratch.

    `workers` processes of one thread each share every batch: on two cores that is nearly twice as
    fast as one process of two threads, which wait for each other at every layer. A checkpoint is
    written once a minute, so that is what Ctrl-C loses. Same recipe, machine and workers: same
    weights.
    """
    folder = Path(folder)
    writable(folder)
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (workers, recipe, folder, f"file://{meeting}/point", progress)
        torch.multiprocessing.spawn(_pretrain_worker, arguments, nprocs=workers)
    return folder


def is_pretrained(folder: Path, recipe: Pretraining) -> bool:
    """Whether a folder holds weights of this recipe that have not learned to see yet: the second
    stage begins with these, and must not be gone through twice."""
    facts = folder / "foundation.json"
    known = json.loads(facts.read_text()) if facts.exists() else {}
    return known.get("recipe") == asdict(recipe) and "seeing" not in known


class _Reader(torch.nn.Module):
    """Stage one: the text layers, on conversations."""

    def __init__(self, recipe: Pretraining, folder: Path) -> None:
        super().__init__()
        self.recipe, self.tokenizer = recipe, build_tokenizer()
        self.model, self.tokens, self.measured = build_model(recipe.seed), 0, {}
        blind = ("vision", "projector", *_crossing(self.model))
        named = self.model.named_parameters()
        self.trained = [p for n, p in named if not any(s in n for s in blind)]

    def parts(self, step: int, rank: int, workers: int) -> Iterator[torch.Tensor]:
        """This worker's share of the loss of a step, micro-batch by micro-batch."""
        encoded = [encode(example, self.tokenizer) for example in self.recipe.batch_of(step)]
        encoded.sort(key=lambda e: len(e[0]))
        count = sum(label != -100 for _, labels in encoded for label in labels)
        self.tokens += sum(len(ids) for ids, _ in encoded)
        for ids, labels in batches(encoded[rank::workers], self.tokenizer.pad_token_id):
            yield _answer_loss(self.model, ids, labels) / count


class _Seer(torch.nn.Module):
    """Stage two: all that looks, on pictures; every weight that text alone passes stays as it is.

    First the vision tower alone: each patch says, through a head that is thrown away afterwards,
    what its quarter of the picture shows, and which quarter that is. (To learn to see from the
    words of an answer alone takes far longer.) The tower then stays as it is, and the layers that
    look at it learn from conversations; and where a question has "card 1 of the picture", to bring
    about what the text layers hold where a question names the card: so all that these can do with
    words, they can do with what is seen.
    """

    def __init__(self, recipe: Seeing, folder: Path) -> None:
        super().__init__()
        self.recipe, processor = recipe, build_processor()
        self.model = MllamaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.policy, self.tokens, self.measured = Policy(self.model, processor), 0, {}
        width = self.model.config.vision_config.vision_output_dim
        torch.manual_seed(recipe.seed)
        self.head = torch.nn.Linear(width, 4 * SIGHTS)
        quarter = torch.arange(GRID) // (GRID // 2)
        self.quarters = (2 * quarter[:, None] + quarter).flatten()  # of each patch
        looking = ("vision", "projector", *_crossing(self.model))
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(any(s in name for s in looking))
        # Of the embeddings, only those of the phrases about pictures, which text never uses.
        words = self.model.get_input_embeddings().weight.requires_grad_()
        new = torch.zeros(len(words), 1)
        new[processor.tokenizer.image_token_id :] = 1.0
        words.register_hook(lambda grad: grad * new)
        self.trained = [p for p in self.parameters() if p.requires_grad]
        self.model.model.vision_model.register_forward_hook(self._keep)
        layers = self.model.model.language_model.layers
        for number in range(2, len(layers)):  # after the first that looks, those that read
            if number not in self.model.config.text_config.cross_attention_layers:
                layers[number].register_forward_hook(self._hold)
        names = processor.tokenizer.convert_tokens_to_ids(list(CARD_NAMES.values()))
        self.cards = torch.tensor(names)
        self.slots = processor.tokenizer.convert_tokens_to_ids(list(cards.PICTURE_PHRASES))

    def _keep(self, module, args, out) -> None:
        self.patches = out.last_hidden_state[:, 0, 0, 1:]  # (pictures, patches, width)

    def _hold(self, module, args, out) -> None:
        self.held.append(out if isinstance(out, torch.Tensor) else out[0])

    def _slot_loss(self, ids: torch.Tensor, shown: list[Pictured]) -> torch.Tensor:
        """How far the layers are, at the four cards of each hand that was asked about last, from
        what they hold where words name the cards: a share, summed over hands."""
        hands = [row for row, one in enumerate(shown) if one.patches[0] < len(RANKS)]
        if not hands:
            return torch.zeros(())
        start = int((ids[hands[0]] == self.slots[0]).nonzero()[0, 0])
        at = torch.arange(start, start + 8, 2)  # a comma between two
        seen = [held[hands][:, at] for held in self.held]
        half = GRID // 2
        cards = torch.tensor([shown[row].patches for row in hands]).view(-1, GRID, GRID)
        named = torch.cat([ids[hands, :2], ids[hands, 3 : start + 8]], 1)  # without the picture
        named[:, at - 1] = self.cards[cards[:, ::half, ::half].flatten(1)]
        self.held = []
        with torch.no_grad():
            self.model(input_ids=named, use_cache=False)
        parts = [
            (a - b[:, at - 1]).pow(2).mean((1, 2)) / b[:, at - 1].pow(2).mean((1, 2))
            for a, b in zip(seen, self.held, strict=True)
        ]
        self.seen["slots"] += (sum(parts) / len(parts)).tolist()
        return sum(parts).sum() / len(parts)

    def _look_loss(self, shown: list[Pictured]) -> torch.Tensor:
        """Of the pictures that were looked at last: the sum of their patches' means."""
        sights = torch.tensor([one.patches for one in shown])
        truth = 4 * sights + self.quarters  # where it is, too: else the tower forgets that
        said = self.head(self.patches)
        right = (said.argmax(-1) == truth).float().mean(1)
        for (first, *_), share in zip(sights.tolist(), right.tolist(), strict=True):
            self.seen["cards" if first < len(RANKS) else "views"].append(share)
        loss = torch.nn.functional.cross_entropy(said.mT, truth, reduction="none")
        return loss.mean(1).sum()

    def parts(self, step: int, rank: int, workers: int) -> Iterator[torch.Tensor]:
        self.seen, examples = {"cards": [], "views": [], "slots": []}, self.recipe.batch_of(step)
        talking = step >= self.recipe.looks
        talks = [e.talk for e in examples] if talking else []
        encoded = [encode(talk, self.policy.tokenizer, pictured=True) for talk in talks]
        # The actions of a history are not in the picture.
        encoded = [(ids, [-100] * (len(ids) - n) + ids[-n:]) for ids, n in map(_answer, encoded)]
        count = sum(label != -100 for _, labels in encoded for label in labels)
        self.tokens += sum(len(ids) for ids, _ in encoded)
        mine = list(range(rank, len(examples), workers))
        mine.sort(key=lambda i: len(encoded[i][0]) if talking else 0)
        self.model.model.vision_model.requires_grad_(not talking)
        for start in range(0, len(mine), 32):
            part = sorted(mine[start : start + 32])
            shown, self.held = [examples[i] for i in part], []
            sight = ImageConditioner(self.policy, [e.draw() for e in shown])
            if not talking:
                sight.family.see(self.model, sight.inputs)
                yield self._look_loss(shown) / len(examples)
                continue
            rows = [encoded[i] for i in part]
            ids, labels = next(batches(rows, self.policy.tokenizer.pad_token_id))
            with sight.of(torch.arange(len(part))):
                loss = _answer_loss(self.model, ids, labels) / count
            yield loss + self._slot_loss(ids, shown) / self.recipe.batch
        self.measured = {k: round(sum(v) / len(v), 3) for k, v in self.seen.items() if v}


def _answer(encoded: tuple[list[int], list[int]]) -> tuple[list[int], int]:
    """The ids, and how many of them are the last answer's."""
    ids, labels = encoded
    return ids, next((n for n, label in enumerate(reversed(labels)) if label == -100), len(ids))


def _crossing(model) -> list[str]:
    return [f"layers.{i}." for i in model.config.text_config.cross_attention_layers]


def _answer_loss(model, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed over the labels. Rows are right-padded and attention is causal: padding can never be
    attended to, so no mask is needed."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
    )


def _pretrain_worker(
    rank: int, workers: int, recipe: Pretraining, folder: Path, meeting: str, progress: bool
) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    sees = isinstance(recipe, Seeing)
    names = ("seeing.pt", "seeing.jsonl") if sees else ("training.pt", "training.jsonl")
    state_file, log_file = (folder / name for name in names)
    stage = (_Seer if sees else _Reader)(recipe, folder)
    decay = 0.0 if sees else 0.05  # decay would move the embeddings that text uses
    optimizer = torch.optim.AdamW(stage.trained, recipe.lr, (0.9, 0.98), weight_decay=decay)
    start, seconds = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        if state["recipe"] != asdict(recipe):
            raise SftrlError(
                f"{state_file} belongs to another recipe ({state['recipe']}); remove it or name "
                "another folder."
            )
        stage.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, seconds, stage.tokens = state["step"], state["seconds"], state["tokens"]
    if rank == 0 and log_file.exists():  # what was logged after the last checkpoint is done again
        rows = [json.loads(line) for line in log_file.read_text().splitlines()]
        log_file.write_text("".join(json.dumps(r) + "\n" for r in rows if r["step"] < start))
    stage.train()
    clock = saved = time.monotonic()
    bar = tqdm(range(start, recipe.steps), initial=start, total=recipe.steps, desc="foundation",
               disable=not progress or rank > 0, mininterval=2)  # fmt: skip
    for step in bar:
        # Warm-up, then constant: never annealed. An annealed model is surer of itself, and leaves
        # RL little to sharpen (data/tuning.csv).
        optimizer.param_groups[0]["lr"] = recipe.lr * min(1.0, (step + 1) / 100)
        loss = 0.0
        for part in stage.parts(step, rank, workers):
            part.backward()
            loss += float(part.detach())
        for parameter in stage.trained:
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
        torch.nn.utils.clip_grad_norm_(stage.trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = time.monotonic()
        seconds, clock = seconds + now - clock, now
        if rank == 0 and step % 20 == 0:
            shown = {"loss": round(loss * workers, 4), **stage.measured}
            bar.set_postfix(shown, tok_s=f"{stage.tokens / seconds:.0f}")
            row = {"step": step, **shown, "seconds": round(seconds, 1), "tokens": stage.tokens}
            with log_file.open("a") as log:
                log.write(json.dumps(row) + "\n")
        if rank == 0 and now - saved > SAVE_EVERY:
            state = {
                "recipe": asdict(recipe), "model": stage.state_dict(), "step": step + 1,
                "optimizer": optimizer.state_dict(), "seconds": seconds, "tokens": stage.tokens,
            }  # fmt: skip
            torch.save(state, partial := state_file.with_suffix(".tmp"))
            partial.replace(state_file)
            saved = now
    if rank == 0:
        write(stage.model, folder, recipe, seconds, stage.tokens, workers)
        state_file.unlink(missing_ok=True)
    torch.distributed.destroy_process_group()


def write(
    model, folder: Path, recipe: Pretraining, seconds: float, tokens: int, workers: int
) -> None:
    """Weights (fp16 safetensors), processor and what the model has seen."""
    model.half().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    facts = {"seconds": round(seconds), "tokens": tokens, "workers": workers}
    if isinstance(recipe, Seeing):
        before = json.loads((folder / "foundation.json").read_text())
        seen = before | {"seeing": {"recipe": asdict(recipe), **facts}}
    else:
        seen = {
            "recipe": asdict(recipe), "cards": recipe.formats(CARD_FORMATS),
            "walks": recipe.formats(WALK_FORMATS), **facts,
            "parameters": sum(p.numel() for p in model.parameters()),
            "never_seen": {
                "rules": sorted(FORBIDDEN_RULES),
                "multisets": "gp.held_out(...) together with the target 24",
                "landmarks": "pretraining.recorded_names()",
            },
        }  # fmt: skip
    (folder / "foundation.json").write_text(json.dumps(seen, indent=1) + "\n")
