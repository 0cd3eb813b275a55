"""What this package adds to `python -m sftrl_lib`: the commands experiments, claims and book."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from sftrl_lib.cli import assignment, at_least_one
from sftrl_lib.registry import register_command

FAST = {"live_steps": 2, "live_batch": 16, "episodes": 16}  # every cell, in seconds: for tests


@register_command("experiments")
class Experiments:
    """The runs behind the book's results, or those of a file of yours; resumable."""

    @staticmethod
    def options(option: Callable) -> None:
        what = "YAML file of runs of yours instead; lists of values are combined"
        option("file", type=Path, nargs="?", help=what)
        side_by_side = "runs side by side, of one thread [2; with a GPU 1]"
        option("--workers", type=at_least_one, help=side_by_side)
        option("--engine", choices=("processes", "ray"), default="processes", help="of your runs")
        option("--estimate", action="store_true", help="say how long it would take, and stop")
        option("--table", action="store_true", help="only rebuild data/results.csv from the runs")
        option("--section", default="", metavar="NAME", help="of data/registration.json")
        option("--tuning", metavar="TASK", help="its learning rates on a development seed")

    @staticmethod
    def run(args: Namespace) -> None:
        import torch

        from sftrl_lib.experiment import sweep
        from sftrl_lib.results import write_results

        from .grids import book_runs, tune
        from .side_by_side import your_runs

        workers = args.workers or (1 if torch.cuda.is_available() else 2)
        if args.table:
            print(f"{len(write_results())} rows in data/results.csv")
        elif args.file:
            your_runs(sweep(args.file), workers, args.estimate, args.engine)
        elif args.tuning:
            tune(args.tuning, workers)
        else:
            book_runs(workers, args.estimate, args.section)


@register_command("claims")
class Claims:
    """Hold the paper's claims against our rows."""

    @staticmethod
    def options(option: Callable) -> None:
        option("--json", action="store_true")
        option("--registered", action="store_true", help="those of data/registration.json")

    @staticmethod
    def run(args: Namespace) -> None:
        from . import claims, verdicts

        (verdicts if args.registered else claims).main(args.json)


@register_command("book")
class Book:
    """Run the notebooks, write figures/ and the HTML book."""

    @staticmethod
    def options(option: Callable) -> None:
        option("--only", default="", metavar="03", help="notebooks whose name starts so")
        option("--html", action="store_true", help="pages only, nothing is run")
        option("--fast", action="store_true", help=f"every cell in seconds: {FAST}")
        example = "a parameter of the notebooks, e.g. --set preset=llama-11b"
        shape = dict(action="append", default=[], metavar="NAME=VALUE", help=example)
        option("--set", type=assignment, **shape)

    @staticmethod
    def run(args: Namespace) -> None:
        from .book import build

        parameters = (FAST if args.fast else {}) | dict(args.set)
        page = build(args.only, parameters, run_notebooks=not args.html)
        print(f"The book is ready: open {page}")
