"""Command line: python -m sftrl_lib {foundation,init,sft,rl,evaluate,experiments,claims,book}."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from .config import Experiment
from .errors import SftrlError

_TRAINERS = {
    "init": "the short SFT init that both arms start from",
    "sft": "supervised fine-tuning on expert answers",
    "rl": "reinforcement learning with verification",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every error of ours."""

    def error(self, message: str) -> None:
        self.exit(2, f"error: {message}; see '{self.prog} --help'.\n")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m sftrl_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    made = commands.add_parser("foundation", help="pre-train the tiny tier's foundation model")
    made.add_argument(
        "--name", default="default", help="folder under data/foundation (default: default)"
    )
    made.add_argument("--steps", type=_count, help="optimizer steps")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--workers", type=_count, default=2, help="processes of one thread each")
    made.add_argument(
        "--without-json",
        action="store_true",
        help="leave the task's own answer format out (the paper's Fig. 9)",
    )

    for method, what in _TRAINERS.items():
        one = commands.add_parser(method, help=what)
        one.add_argument("--config", type=Path, help="YAML file with the same settings")
        home = "data/runs/, and the weights go to data/init/" if method == "init" else "runs/"
        one.add_argument("--root", type=Path, help=f"folder for the run (default: {home})")
        one.add_argument("--threads", type=_count, default=2, help="CPU threads [2]")
        for f in fields(Experiment):
            if f.name != "method":
                kind = type(f.default)
                one.add_argument(
                    f"--{f.name}", type=kind, default=argparse.SUPPRESS, metavar=kind.__name__,
                    help=f"{f.metadata['help']} [{f.default}]",
                )  # fmt: skip

    tested = commands.add_parser("evaluate", help="measure a folder of weights")
    tested.add_argument("weights", type=Path, help="e.g. data/init/default")
    tested.add_argument(
        "--split", action="append", help="repeatable (default: id_unseen, rule_ood)"
    )
    tested.add_argument("--episodes", type=_count, default=300)
    tested.add_argument("--tries", type=int, default=3)
    tested.add_argument("--seed", type=int, default=0)
    tested.add_argument("--json", action="store_true")

    many = commands.add_parser("experiments", help="the runs behind the book's results; resumable")
    many.add_argument("--workers", type=_count, default=2, help="runs side by side, of one thread")
    many.add_argument(
        "--estimate", action="store_true", help="say how long it would take, and stop"
    )
    many.add_argument(
        "--table", action="store_true", help="only rebuild data/results.csv from the runs"
    )
    many.add_argument("--tuning", action="store_true", help="the grid on the development seeds")

    claimed = commands.add_parser("claims", help="hold the paper's claims against our rows")
    claimed.add_argument("--json", action="store_true")

    from .book import add_arguments  # the notebooks' settings are the book's own

    add_arguments(
        commands.add_parser("book", help="run the notebooks, write figures/ and the HTML book")
    )
    return parser


def _foundation(args: argparse.Namespace) -> None:
    from .foundation import FOLDER, Pretraining, pretrain
    from .model_card import write_card

    changes = {"seed": args.seed} | ({"steps": args.steps} if args.steps else {})
    if args.without_json:
        changes["json"] = 0.0
    folder = pretrain(Pretraining(**changes), FOLDER / args.name, args.workers)
    write_card(folder)
    print(f"weights and model card are in {folder}")


def _settings(path: Path) -> dict:
    """Settings of a YAML file, typed like the fields (YAML 1.1 takes 3e-4 for a word)."""
    import yaml

    kinds = {f.name: type(f.default) for f in fields(Experiment)}
    try:
        given = yaml.safe_load(path.read_text()) or {}
        return {str(k): kinds.get(k, str)(str(v)) for k, v in given.items()}
    except (OSError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise SftrlError(
            f"cannot read settings from {path} ({str(error).splitlines()[0]}); it must be a YAML "
            "file with lines such as 'lr: 3e-4'."
        ) from error


def _train(args: argparse.Namespace) -> None:
    known = {f.name for f in fields(Experiment)}
    settings = _settings(args.config) if args.config else {}
    settings |= {k: v for k, v in vars(args).items() if k in known}
    if settings.setdefault("method", args.command) != args.command:
        raise SftrlError(
            f"{args.config} is for method {settings['method']}, not {args.command}; use the "
            f"command {settings['method']}, or another file."
        )
    exp = Experiment(method=args.command).but(**settings)
    import torch  # slow to import: a typo is answered at once

    from .experiments import run_experiment
    from .runs import LIVE, RUNS

    torch.set_num_threads(args.threads)
    run = run_experiment(exp, args.root or (RUNS if args.command == "init" else LIVE))
    table = run.evals().query("step == step.max() and metric == 'success' and tries == tries.max()")
    print(table[["split", "tries", "n", "value", "lo", "hi"]].to_string(index=False))
    print(f"the run is in {run.path}")


def _evaluate(args: argparse.Namespace) -> None:
    exp = Experiment(seed=args.seed, eval_tries=args.tries)
    from .evaluate import CURVE_SPLITS, evaluate
    from .experiments import make_task
    from .policy import load_policy

    task = make_task(exp)
    wanted = args.split or list(CURVE_SPLITS)
    for split in wanted:
        if split not in task.splits:
            raise SftrlError(f"unknown split {split!r}; the splits are {', '.join(task.splits)}.")
    policy = load_policy(exp, args.weights)
    rows, _ = evaluate(policy, task, exp, dict.fromkeys(wanted, args.episodes))
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        import pandas as pd

        print(pd.DataFrame(rows).round(3).to_string(index=False))


def _experiments(args: argparse.Namespace) -> None:
    from .experiments import book_runs
    from .runs import write_results

    if args.table:
        print(f"{len(write_results())} rows in data/results.csv")
    else:
        book_runs(args.workers, args.estimate, args.tuning)


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        if args.command == "foundation":
            _foundation(args)
        elif args.command in _TRAINERS:
            _train(args)
        elif args.command == "evaluate":
            _evaluate(args)
        elif args.command == "experiments":
            _experiments(args)
        elif args.command == "claims":
            from .claims import main as claims

            claims(args.json)
        else:
            from .book import main as book

            book((sys.argv[1:] if argv is None else argv)[1:])
    except SftrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where this one ended.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
