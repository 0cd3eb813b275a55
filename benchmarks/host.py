"""Host time of a decode step and of a micro-batch: CPU seconds of Python and dispatch, by the code
of today or of the first edition, whichever this process imports. And of a step that is replayed:
what the loop itself does, around a replay that does nothing here.

`benchmarks/forecast.py` runs it. The models are as deep as the real ones and very narrow, so that
their products cost next to nothing, and packed into four bits where the real one is. (On the meta
device, where nothing is computed at all, nothing can be packed.) On a GPU a launch takes somewhat
longer than such a small product here, and another CPU has other times.
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROWS, WRITTEN = 16, 8  # answers side by side, and decode steps, of a measurement
REPLAYS = 200  # of one recording
SIDE = 56  # pixels of a picture that a narrow model sees


def narrow(config: Any, words: int) -> Any:
    """A configuration of as many layers, whose products cost next to nothing."""
    text, eyes = config.get_text_config(), getattr(config, "vision_config", None)
    text.hidden_size = text.intermediate_size = 64
    text.num_attention_heads, text.num_key_value_heads = 2, 1
    text.vocab_size = words
    text.pad_token_id = text.bos_token_id = 0
    if config.model_type == "mllama":
        eyes.hidden_size = eyes.intermediate_size = 16
        eyes.num_hidden_layers = eyes.num_global_layers = 1
        eyes.attention_heads, eyes.image_size = 2, SIDE
        eyes.intermediate_layers_indices, eyes.vision_output_dim = [0], 32
    elif eyes:
        eyes.hidden_size = eyes.intermediate_size = 16
        eyes.num_heads = eyes.depth = 1
        eyes.deepstack_visual_indexes, eyes.out_hidden_size = [0], 64
    return config


class Side:
    """The library that this process imports: today's, or that of BEFORE, with its names."""

    def __init__(self, preset: str, precision: str, task: str) -> None:
        import torch
        from transformers import (
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            MllamaImageProcessorPil,
            MllamaProcessor,
        )

        import sftrl_lib

        torch.set_num_threads(1)
        # What is missing in an edition is found where pip installed the other: so look, not try.
        self.today = (Path(sftrl_lib.__file__).parent / "registry.py").exists()
        if self.today:
            from engine.adapters import adapt
            from engine.policy import Policy
            from foundry.foundation import build_tokenizer
            from sftrl_lib.experiment import Experiment
            from sftrl_lib.planning import architecture
        else:
            from sftrl_lib.config import Experiment
            from sftrl_lib.foundation import build_tokenizer
            from sftrl_lib.plan import architecture
            from sftrl_lib.policy import Policy, adapt
        from proof_11b import random_nf4  # of the same commit

        from sftrl_lib.tasks import make_task

        exp = Experiment(task=task, preset=preset, precision=precision)
        tokenizer, self.task = build_tokenizer(), make_task(exp)
        config = narrow(architecture(exp), len(tokenizer))
        seeing = hasattr(config, "vision_config")
        auto = AutoModelForImageTextToText if seeing else AutoModelForCausalLM
        if config.model_type == "mllama":
            config.text_config.vocab_size = config.image_token_index = tokenizer.image_token_id
            size = {"height": SIDE, "width": SIDE}
            images = MllamaImageProcessorPil(size=size, max_image_tiles=4)
            processor = MllamaProcessor(images, tokenizer, chat_template=tokenizer.chat_template)
        model = random_nf4(config) if precision == "qlora" else auto.from_config(config)
        made = processor if config.model_type == "mllama" else tokenizer
        self.policy = Policy(adapt(model, 16), made, precision, "narrow", ROWS)
        self.policy.end_ids = {-1}  # every answer has its full length
        deal = self.task.item("train", 0, 0)
        # Mllama's layers that look at pictures are left out without one; elsewhere a picture is
        # read once, and a decode step does not know of it.
        shown = config.model_type == "mllama" and task.endswith("vl")
        self.pictures = [self.task.picture(deal, SIDE)] * ROWS if shown else []
        asked = self.policy.first_turn(self.task.prompt(deal), *self.pictures[:1])
        self.prompts = [list(asked) for _ in range(ROWS)]

    def answers(self, tokens: int) -> float:
        """CPU seconds of ROWS answers of so many tokens."""
        import torch

        generator, began = torch.Generator().manual_seed(0), time.process_time()
        given = self.prompts, tokens, 1.0, generator, self.pictures
        if self.today:
            from engine.generation import answer

            answer(self.policy, *given)
        else:
            self.policy.generate(*given)
        return time.process_time() - began

    def sees(self) -> contextlib.AbstractContextManager:
        """Within it two rows see their picture."""
        import torch

        if self.today:
            from engine.images import ImageConditioner as Sight
        else:
            from sftrl_lib.policy import Sight
        return Sight(self.policy, self.pictures[:2]).of(torch.arange(2))

    def micro_batch(self) -> float:
        """CPU seconds of two short rows forwards, again (checkpoints), and backwards."""
        import torch

        model, ids = self.policy.model.train(), torch.tensor([self.prompts[0][:16]] * 2)
        model.gradient_checkpointing_enable({"use_reentrant": False})
        began = time.process_time()
        with self.sees():
            model(input_ids=ids, use_cache=False).logits.sum().backward()
        took = time.process_time() - began
        model.gradient_checkpointing_disable()
        model.eval()
        return took

    def replayed(self) -> dict[str, float]:
        """Seconds of a step around its replay, and operations that are replayed."""
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        from engine.graphs import RECORDERS, WARM_UP

        class Counter(TorchDispatchMode):
            """A recorder that only counts what writes numbers: what a GPU would run."""

            operations = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                found = func(*args, **(kwargs or {}))
                whose = [one.alias_info for one in func._schema.returns]  # None: a tensor's own
                idle = func is torch.ops.aten._unsafe_view.default
                self.operations += not idle and any(one is None or one.is_write for one in whose)
                return found

            def warming(self, strict: bool) -> contextlib.AbstractContextManager:
                return contextlib.nullcontext()

            def recording(self) -> contextlib.AbstractContextManager:
                return self

            def replay(self) -> None:
                """When."""
                replays.append(time.process_time())

        replays: list[float] = []
        counter = Counter()
        with patch.dict(RECORDERS, cpu=lambda: counter):
            self.answers(1 + WARM_UP + REPLAYS)
        step = (replays[-1] - replays[0]) / (len(replays) - 1)
        return {"replayed_step": step, "operations": counter.operations}

    def measured(self) -> dict[str, float]:
        """Seconds of a decode step and of a micro-batch."""
        steps = (self.answers(1 + WRITTEN) - self.answers(1)) / WRITTEN
        found = {"decode_step": steps, "micro_batch": self.micro_batch()}
        return found | (self.replayed() if self.today else {})


def settings(task: str, preset: str) -> dict[str, Any]:
    """{method: what the first edition's code says of its run}."""
    from sftrl_lib.config import Experiment
    from sftrl_lib.evaluate import curve_splits
    from sftrl_lib.tasks import make_task

    found = {}
    for method in ("init", "sft", "rl"):
        exp = Experiment(task=task, preset=preset, method=method)
        made = make_task(exp)
        played = {"curve_splits": curve_splits(made), "side_splits": made.side_splits}
        names = (
            *("method", "steps", "batch", "group", "tries", "max_new_tokens", "micro_batch"),
            *("chunk", "eval_points", "eval_episodes", "final_episodes", "eval_tries"),
        )
        facts = {name: getattr(exp, name) for name in names}
        found[method] = facts | {"eval_steps": exp.eval_steps} | played
    return found


def main() -> None:
    """Do what the lines of the standard input say, and answer each with a line of JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr
    sys.path.insert(0, str(Path.cwd() / "benchmarks"))  # this edition's
    sides: dict[tuple, Side] = {}
    for line in sys.stdin:
        kind, *setup = json.loads(line)
        if kind == "settings":
            found = settings(*setup)
        else:
            if (what := tuple(setup)) not in sides:
                sides[what] = Side(*setup)
                sides[what].measured()  # what is prepared once
            found = getattr(sides[what], kind)()
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
