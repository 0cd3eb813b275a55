"""SFT: imitate expert answers, with TRL's SFTTrainer (paper, section 3.1)."""

import random
from collections.abc import Callable
from typing import Any

from datasets import Dataset
from trl import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from .config import Experiment
from .policy import Policy
from .runs import Run
from .tasks.base import Task
from .trl_compat import AnswerTrainer, arguments, fit, one_gpu


def expert_row(exp: Experiment, policy: Policy, task: Task, index: int) -> dict[str, Any]:
    """Training row `index`: the token ids that the policy itself reads and writes in a rollout, and
    the picture that it sees (None in a text task).

    `labels` are the answer and its end, -100 on the question: the loss is on the answer only.
    """
    item = task.item("train", exp.seed, index)
    picture = task.picture(item, policy.image_size)
    question = policy.first_turn(task.prompt(item), picture is not None)
    expert = task.expert(item, random.Random(f"expert/{exp.seed}/{index}"))
    answer = policy.tokenizer.encode(expert, add_special_tokens=False) + policy.turn_end
    labels = [-100] * len(question) + answer
    return {"input_ids": question + answer, "labels": labels, "picture": picture}


def train_sft(
    exp: Experiment, policy: Policy, task: Task, run: Run, on_checkpoint: Callable | None = None,
    progress: bool = True,
) -> None:  # fmt: skip
    """Train `policy.model` in place on deals 0, 1, 2, ... of the training stream, each seen once.

    `on_checkpoint(policy, step, compute)` is called at `exp.eval_steps`. Resumes from the run
    folder. Ctrl-C saves and raises KeyboardInterrupt.
    """
    padded = DataCollatorForLanguageModeling(policy.tokenizer.pad_token_id)

    def collate(batch: list[dict]) -> dict:
        # Rows are made when their batch is due: a short run does not wait for a long one's deals.
        rows = [expert_row(exp, policy, task, example["index"]) for example in batch]
        pictures = [row.pop("picture") for row in rows]
        return {**padded(rows), "pictures": [p for p in pictures if p is not None]}

    def build() -> AnswerTrainer:
        config = SFTConfig(
            **arguments(exp, policy, run), train_sampling_strategy="sequential", max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        return AnswerTrainer(
            model=policy.model, args=one_gpu(config), processing_class=policy.tokenizer,
            train_dataset=Dataset.from_dict({"index": range(exp.steps * exp.batch)}),
            data_collator=collate,
        )  # fmt: skip

    fit(build, exp, policy, run, on_checkpoint, progress, "loss {loss:.3f}")
