"""What this package adds to `python -m sftrl_lib`: the command `foundation`."""

from argparse import Namespace
from collections.abc import Callable

from sftrl_lib.cli import at_least_one
from sftrl_lib.registry import register_command


@register_command("foundation")
class Foundation:
    """Pre-train the tiny tier's foundation model."""

    @staticmethod
    def options(option: Callable) -> None:
        option("--name", default="default", help="folder under data/foundation (default: default)")
        option("--steps", type=at_least_one, help="optimizer steps")
        option("--seed", type=int, default=0)
        option("--workers", type=at_least_one, default=2, help="processes of one thread each")
        fig9 = "leave the task's own answer format out (the paper's Fig. 9)"
        option("--without-json", action="store_true", help=fig9)

    @staticmethod
    def run(args: Namespace) -> None:
        from sftrl_lib.policies import FOUNDATIONS

        from .foundation import is_pretrained, pretrain
        from .model_card import write_card
        from .pretraining import Pretraining, Seeing

        changes = {"seed": args.seed} | ({"steps": args.steps} if args.steps else {})
        if args.without_json:
            changes["json"] = 0.0
        recipe, folder = Pretraining(**changes), FOUNDATIONS / args.name
        if not is_pretrained(folder, recipe):  # it is, where the command was stopped after that
            pretrain(recipe, folder, args.workers)
        pretrain(Seeing(seed=args.seed), folder, args.workers)
        write_card(folder)
        print(f"weights and model card are in {folder}")
