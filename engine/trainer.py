"""What is changed inside TRL's and transformers' trainers, all of it, in one place.

The trainers stay TRL's; this module (and `checkpoints`) overrides private methods of exactly pinned
versions so that (1) a backward pass costs no more than the rows and tokens that carry a gradient,
and (2) a killed run goes on exactly. What is learned, and from which rows, is handed in.
"""

import contextlib
import copy
import math
import random
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as hf_logging
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.trainer import utils as trl_utils
from trl.trainer.utils import add_fused_lm_head, pad, use_adapter

from commons.errors import SftrlError, check
from commons.processes import WORLD

from .checkpoints import Sealed
from .compute import Compute
from .images import ImageConditioner
from .memory import RUN_AGAIN
from .packing import Packed, packed_attention
from .policy import Policy
from .sharing import PATIENCE

PINNED = {"trl": "1.16.0", "transformers": "5.23.0"}


@dataclass(frozen=True)
class Schedule:
    """How long a model is trained, in what steps, and where its checkpoints lie."""

    folder: Path
    run_hash: str  # whose checkpoints these are
    steps: int
    batch: int  # rows a step
    lr: float
    warmup: float = 0.0  # share of the steps
    seed: int = 0
    group: int = 1  # rows that are compared with one another, and stay in one process
    micro_batch: int = 16  # rows a backward pass
    report_to: str = "none"


class Played(Protocol):
    """A conversation, as far as its price is concerned."""

    processed: int  # tokens that were really run

    def ids(self) -> list[int]:
        """All its tokens."""


def check_versions() -> None:
    """Other versions may have other private methods: refuse them before anything is trained."""
    for name, pinned in PINNED.items():
        found = metadata.version(name)
        if found != pinned:
            raise SftrlError(
                f"{name} {found} is installed, but the trainers override private methods of {name} "
                f"{pinned} only; run `pip install {name}=={pinned}`."
            )


def arguments(policy: Policy, schedule: Schedule) -> dict[str, Any]:
    """What both arms share. The learning rate is constant after its warm-up, so that every curve
    point is a model one could have stopped at; one batch of rows makes one step."""
    cpu, adapters = policy.device.type == "cpu", hasattr(policy.model, "peft_config")
    large = adapters or sum(p.numel() for p in policy.model.parameters()) > RUN_AGAIN
    return {
        "output_dir": str(schedule.folder),
        "max_steps": schedule.steps,
        "per_device_train_batch_size": schedule.batch // WORLD,
        "ddp_timeout": PATIENCE.total_seconds(),
        "learning_rate": schedule.lr,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": math.ceil(schedule.warmup * schedule.steps),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": schedule.seed,
        "use_cpu": cpu,
        "bf16": False,  # weights below adapters are bf16 already; adapters are to stay fp32
        "gradient_checkpointing": large,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        # For adapters too: bitsandbytes' paged one in 8 bits would save 6 bytes a trained weight,
        # 0.3 GB in the 11B model, but keeps the embeddings of every model that it has seen in a
        # registry, and its states in managed memory, which no allocator counts.
        "optim": "adamw_torch",
        "report_to": schedule.report_to,
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",  # the callback says when
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def one_gpu(config: Any) -> Any:
    """One process trains on one GPU: transformers would spread its model over all that it sees."""
    if WORLD == 1:
        config._n_gpu = min(1, config.n_gpu)
    return config


def lengths_with_signal(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B,) completion tokens up to the last one with an advantage. What comes after cannot change
    the gradient: attention is causal, and its own loss is zero."""
    signal_ = batch["advantages"] * batch["completion_mask"] * batch["tool_mask"] != 0
    return (signal_ * torch.arange(1, signal_.size(1) + 1, device=signal_.device)).amax(1)


def copy_adapter(model: Any) -> None:
    """Keep the adapter as it is now beside itself, under the name "ref", as TRL does for the KL of
    GRPO (an adapter that is handed in has learned something: without it the model is another)."""
    model.add_adapter("ref", model.peft_config["default"])
    for name, parameter in model.named_parameters():
        if ".default." in name:
            kept = model.get_parameter(name.replace(".default.", ".ref."))
            kept.data.copy_(parameter.data)


class _Stepwise(Sealed):
    """One optimizer step = one batch: `parts` yields its micro-batches, whose losses add up."""

    micro_batch: int

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """Replaces the step of Trainer and TRL: micro-batches are cut here, after the rollout, when
        it is known which rows carry a gradient."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        for part, items in self.parts(inputs):
            with self.compute_loss_context_manager(), packed_attention(self.policy.model):
                loss = self.compute_loss(model, part, num_items_in_batch=items)
                self.accelerator.backward(loss)
            total += loss.detach()
        for parameter in self.optimizer.state:
            if parameter.grad is None:  # nothing was executed: its gradient is zero, and on zero
                parameter.grad = torch.zeros_like(parameter)  # AdamW moves by its momentum
        return total

    def store_flos(self) -> None:
        """Nothing: the ledger counts, and not every process saves at the same time."""

    def over_processes(self, count: int | torch.Tensor) -> int:
        """The sum of a count over all processes of the run."""
        if WORLD == 1:
            return int(count)
        return int(self.accelerator.reduce(torch.tensor(int(count), device=self.args.device)))

    def most(self, count: int) -> int:
        """The largest such count of a process."""
        if WORLD == 1:
            return count
        return int(self.accelerator.gather(torch.tensor([count], device=self.args.device)).max())

    def count_training(self, packs: list[Packed], tokens: int, reference: bool) -> None:
        """Put a step's rows into the ledger: the tokens of all of them, and what is really run; the
        same again where a reference reads them, too."""
        done = self.over_processes(sum(packed.input_ids.numel() for packed in packs))
        self.ledger.train_tokens += tokens
        self.ledger.done_train_tokens += done
        if reference:
            self.ledger.rollout_tokens += tokens
            self.ledger.done_rollout_tokens += done
        self.measured["tokens"] = tokens

    def count_rollout(self, episodes: Sequence[Played]) -> None:
        """Put the tokens of some episodes into the ledger: of every conversation once (the paper's
        D_buffer), and those that were really run, for what is shared is run once."""
        read, done = (sum(len(e.ids()) for e in episodes), sum(e.processed for e in episodes))
        self.ledger.rollout_tokens += self.over_processes(read)
        self.ledger.done_rollout_tokens += self.over_processes(done)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self.measured)
        super().log(logs, start_time)


class AnswerTrainer(_Stepwise, SFTTrainer):
    """SFTTrainer with packed micro-batches, on rows that are made when they are due."""

    @classmethod
    def of(
        cls, policy: Policy, schedule: Schedule, rows: Callable[[Any, list[int]], list[dict]],
        loss_type: str = "nll", anchor: Callable | None = None,
    ) -> "AnswerTrainer":  # fmt: skip
        """A trainer on what `rows` makes of itself and of the numbers of a step's rows: each with
        `input_ids`, `labels` (-100: not a target) and `picture`. `anchor` adds a term to the loss,
        of the log-probabilities now and before the training (tokens, vocabulary)."""
        adapters = hasattr(policy.model, "peft_config")
        # Before TRL replaces `forward`: a copy's would still be that of the model it was made of.
        reference = copy.deepcopy(policy.model).eval() if anchor and not adapters else None
        if anchor and adapters:
            copy_adapter(policy.model)
        config = SFTConfig(
            **arguments(policy, schedule),
            train_sampling_strategy="sequential",
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            loss_type=loss_type,
        )
        trainer = cls(
            model=policy.model,
            args=one_gpu(config),
            processing_class=policy.tokenizer,
            train_dataset=Dataset.from_dict({"index": range(schedule.steps * schedule.batch)}),
            # The rows themselves are made in the step: the loader is a batch ahead.
            data_collator=lambda batch: {"indices": torch.tensor([one["index"] for one in batch])},
        )
        trainer.rows, trainer.anchor, trainer.reference = rows, anchor, reference
        return trainer

    def parts(self, inputs):
        """Yields (micro-batch, target tokens of the whole batch); rows without a target are in no
        micro-batch."""
        self.measured = {}
        rows = self.rows(self, inputs["indices"].tolist())
        self.model.train()  # a rollout left it in eval mode
        pictures = [row["picture"] for row in rows if row["picture"] is not None]
        self.images = ImageConditioner(self.policy, pictures)
        # What stands before the first target is shared by the rows in which it is the same.
        asked = [next((k for k, t in enumerate(r["labels"]) if t != -100), 0) for r in rows]
        with_target = [i for i, n in enumerate(asked) if n]
        items = self.over_processes(sum(t != -100 for r in rows for t in r["labels"]))
        parts = [
            with_target[k : k + self.micro_batch]
            for k in range(0, len(with_target), self.micro_batch)
        ]
        # Processes exchange gradients in every backward pass: one with fewer of them goes through
        # row 0 again, with no target.
        silent = self.most(len(parts)) - len(parts)
        parts = [[0]] * silent + parts
        packs = [
            Packed(
                [rows[i]["input_ids"] for i in part], [asked[i] for i in part], self.args.device,
                self.images.numbers(part),
            )
            for part in parts
        ]  # fmt: skip
        tokens = self.over_processes(sum(len(rows[i]["input_ids"]) for i in with_target))
        self.count_training(packs, tokens, reference=self.anchor is not None)
        for number, (part, packed) in enumerate(zip(parts, packs, strict=True)):
            labels = [t for i in part for t in rows[i]["labels"][asked[i] :]]
            taught = torch.tensor(labels, device=self.args.device) != -100
            read = {
                "input_ids": packed.input_ids,
                "position_ids": packed.position_ids,
                "shift_labels": packed.labels(taught & (number >= silent)),
                "packed": packed,
            }
            yield read, items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's loss with the pictures shown; where there is an anchor, our own with that."""
        if not self.anchor:
            with self.images.of(model=model):
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # TRL's loss never has all logits, which a KL needs.
        labels = inputs.pop("shift_labels")[0]
        taught = (labels != -100).nonzero()[:, 0]
        now = self._log_probs(model, inputs, taught)
        with torch.no_grad():
            if self.reference is None:
                with use_adapter(self.accelerator.unwrap_model(model), "ref"):
                    before = self._log_probs(model, inputs, taught)
            else:
                with packed_attention(self.reference):
                    before = self._log_probs(self.reference, inputs, taught)
        loss = torch.nn.functional.nll_loss(now, labels[taught], reduction="sum")
        loss = loss + self.anchor(now, before)
        return loss / num_items_in_batch * WORLD  # as TRL's: gradients are averaged over processes

    def _log_probs(self, model: Any, inputs: dict, taught: torch.Tensor) -> torch.Tensor:
        """(taught tokens, vocabulary); `taught` are places in the packed sequence."""
        with self.images.of(model=model):
            logits = model(**inputs, use_cache=False, logits_to_keep=taught).logits
        return logits[0].float().log_softmax(-1)


class EpisodeTrainer(_Stepwise, GRPOTrainer):
    """GRPOTrainer with an advantage for every token, given by `rollout_func` as "advantages", and
    without forward or backward passes for rows that have none."""

    @classmethod
    def of(
        cls, policy: Policy, schedule: Schedule, play: Callable, temperature: float,
        kl_weight: float = 0.0,
    ) -> "EpisodeTrainer":  # fmt: skip
        """A trainer on the episodes of `play`, TRL's rollout_func, sampled at `temperature`."""
        adapters = hasattr(policy.model, "peft_config")
        config = GRPOConfig(
            **arguments(policy, schedule),
            num_generations=schedule.group,
            shuffle_dataset=False,
            temperature=temperature,
            beta=kl_weight if adapters else 0.0,  # TRL then keeps a copy of the adapter
            num_iterations=1,
            steps_per_generation=1,
            loss_type="dapo",
        )
        deals = range(schedule.steps * schedule.batch // schedule.group)
        trainer = cls(
            model=policy.model,
            args=one_gpu(config),
            processing_class=policy.tokenizer,
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in deals]}),
            reward_funcs=_returns,
            rollout_func=play,
        )
        if kl_weight and not adapters:  # TRL would load the reference from the Hub, by name
            reference = copy.deepcopy(policy.model).eval()
            add_fused_lm_head(reference, temperature=temperature)
            trainer.ref_model, trainer.beta = reference, kl_weight
        return trainer

    def show(self, pictures: Sequence[Image.Image]) -> None:
        """The pictures of the episodes that were just played, in their order, or none."""
        self.images = ImageConditioner(self.policy, pictures)
        self.packed, self.taught = None, None  # TRL may score a reference on all rows before

    def _pack(self, rows, input_ids, attention_mask, logits_to_keep: int) -> Packed:
        """Rows `rows` of the step, given as TRL pads them: questions on the left."""
        seen = attention_mask.bool()
        return Packed(
            [ids[real].tolist() for ids, real in zip(input_ids, seen, strict=True)],
            seen[:, :-logits_to_keep].sum(1).tolist(), input_ids.device, self.images.numbers(rows),
        )  # fmt: skip

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, *_, **__
    ):
        """TRL's, of packed rows with their pictures, and never of all rows of a step at once."""
        found = []
        for rows in torch.arange(len(input_ids)).split(self.micro_batch):
            packed = self.packed or self._pack(
                rows, input_ids[rows], attention_mask[rows], logits_to_keep
            )
            with self.images.of(model=model), packed_attention(getattr(model, "module", model)):
                out = model(
                    input_ids=packed.input_ids, position_ids=packed.position_ids, packed=packed,
                    shift_labels=packed.labels(self.taught), fused_lm_head=True,
                )  # fmt: skip
            kept = [out.log_probs] if out.entropy is None else [out.log_probs, out.entropy]
            found.append(torch.cat(kept)[:, packed.before])
        answers = attention_mask[:, -logits_to_keep:].bool()
        values = torch.cat(found, 1)
        padded = values.new_zeros(len(values), *answers.shape).masked_scatter(answers, values)
        return padded[0], padded[-1], None

    def parts(self, inputs):
        """Plays the episodes, then yields (micro-batch, None): TRL's "dapo" loss divides by the
        answer tokens of the whole batch, skipped rows included, so the parts simply add up."""
        batch = self._generate_and_score_completions(inputs)
        self.model.train()  # the rollout left it in eval mode
        mask = batch["completion_mask"]
        rows = [torch.tensor(example["advantages"]) for example in inputs]
        batch["advantages"] = pad(rows, padding_value=0.0).to(mask.device)
        prompts, completions = batch["prompt_mask"].sum(1), mask.sum(1)
        tokens = self.over_processes((prompts + completions).sum())
        # With a reference every token has a KL term.
        lengths = completions if self.beta else lengths_with_signal(batch)
        self.measured["trained_rows"] = float((lengths > 0).float().mean())
        order = lengths.nonzero()[:, 0]
        # Processes exchange gradients and statistics in every backward pass: one with fewer rows
        # that carry a signal goes through row 0 again, with no advantage.
        silent = self.most(len(order)) - len(order)
        order = torch.cat([order.new_zeros(silent), order])
        parts, packs = [], []
        for start in range(0, len(order), self.micro_batch):
            rows = order[start : start + self.micro_batch]
            quiet = min(len(rows), max(0, silent - start))
            p, c = int(prompts[rows].max()), max([1, *lengths[rows[quiet:]].tolist()])
            part = {"num_items_in_batch": batch["num_items_in_batch"]}
            for key, value in batch.items():
                if value.dim() == 2:  # prompts are padded on the left, completions on the right
                    part[key] = value[rows, -p:] if key.startswith("prompt_") else value[rows, :c]
            part["advantages"][:quiet] = 0.0
            behind = torch.arange(c, device=mask.device) >= lengths[rows, None].clamp_min(1)
            part["completion_mask"] = part["completion_mask"].masked_fill(behind, 0)
            ids, seen = (
                torch.cat([part[f"prompt_{name}"], part[f"completion_{name}"]], 1)
                for name in ("ids", "mask")
            )
            parts.append(part)
            packs.append(self._pack(rows, ids, seen, c))
        self.count_training(packs, tokens, reference=bool(self.beta))
        for part, self.packed in zip(parts, packs, strict=True):
            real = part["completion_mask"].bool()
            self.taught = part["tool_mask"][real].bool()
            yield part, None


def _returns(returns: list[float], **_: Any) -> list[float]:
    """TRL's reward function, for its log only: the advantages come from the rollout."""
    return returns


@contextlib.contextmanager
def preserved_rng():
    """Whatever runs inside, python's, numpy's and torch's random streams go on as if it had not."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)


@contextlib.contextmanager
def _borrowed(model: torch.nn.Module):
    """TRL's trainers replace a model's `forward`; afterwards it has its own again. Meanwhile only
    our progress line is shown, no notice about settings that are meant."""
    modules = [model, model.get_base_model()] if hasattr(model, "peft_config") else [model]
    words = min(trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE, model.config.get_text_config().vocab_size)
    before = [module.__dict__.get("forward") for module in modules]
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with (
            warnings.catch_warnings(),
            # As on a GPU, no logits of what has no label; and buffers no wider than the vocabulary.
            mock.patch.object(trl_utils, "_use_triton", lambda device: True),
            mock.patch.object(trl_utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", words),
        ):
            warnings.filterwarnings("ignore", message=".*(rollout_func|checkpointing)")
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
        for module, forward in zip(modules, before, strict=True):
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.forward = forward
        model.eval()


def train(
    build: Callable[[], Any],
    policy: Policy,
    schedule: Schedule,
    boundary: Callable[[Any], AbstractContextManager[TrainerCallback]],
) -> None:
    """Train to the last step with the trainer that `build` makes, from the last checkpoint if there
    is one. `boundary` makes, of the trainer, the callback that decides at the end of each step what
    is saved, and in whose context it runs."""
    check_versions()
    unit = WORLD * schedule.group
    allowed = f"a multiple of {unit}, for {WORLD} processes"
    check("the batch", schedule.batch, schedule.batch % unit == 0, allowed, change="batch")
    trainable = [(p, p.data) for p in policy.model.parameters() if p.requires_grad]
    with _borrowed(policy.model):
        trainer = build()
        for parameter, data in trainable:  # TRL casts QLoRA adapters to bf16, in which small
            if parameter.dtype != data.dtype:  # updates are rounded away
                parameter.data = data
        trainer.policy, trainer.ledger, trainer.measured = policy, Compute(), {}
        trainer.micro_batch, trainer.run_hash = schedule.micro_batch, schedule.run_hash
        trainer.remove_callback(PrinterCallback)
        with boundary(trainer) as callback:
            trainer.add_callback(callback)
            checkpoint = get_last_checkpoint(str(schedule.folder))
            trainer.train(resume_from_checkpoint=checkpoint)
    if "ref" in getattr(policy.model, "peft_config", {}):  # TRL's copy of the adapter
        policy.model.delete_adapter("ref")
