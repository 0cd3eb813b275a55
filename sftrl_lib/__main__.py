"""Command line: python -m sftrl_lib COMMAND, one of foundation, init, sft, rl, evaluate, routes,
experiments, plan, merge, claims, book."""

import argparse
import ast
import errno
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from .config import FAST, MOST, SIZES, Experiment, read_settings, sweep
from .errors import SftrlError
from .sources import parameters, whole
from .threads import use_threads

_TRAINERS = {
    "init": "the short SFT init that both arms start from",
    "sft": "supervised fine-tuning on expert answers",
    "rl": "reinforcement learning with verification",
}


_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG)
_PLANNED = {"task": "gp-vl", "preset": "llama-11b"}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every error of ours."""

    def error(self, message: str) -> None:
        self.exit(2, f"error: {message}; see '{self.prog} --help'.\n")


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 7 or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(
            f"{text[:100]!r} is not a whole number of at least 1, at most {MOST:,}"
        )
    return int(text)


def _gigabytes(text: str) -> float:
    number = re.fullmatch(r"(\d{1,6}(?:\.\d+)?) ?(?:GB|GiB|G)?", text, re.IGNORECASE)
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 24GB")
    return float(number[1])


def _assignment(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word, such as preset=llama-11b


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m sftrl_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], int | None], what: str) -> Callable:
        made = commands.add_parser(name, help=what)
        made.set_defaults(do=do)
        return made.add_argument

    def settings(option: Callable, **other: str) -> None:
        for f in fields(Experiment):
            if f.name != "method":
                usual = other.get(f.name, f.default)
                kind, what = type(f.default).__name__, f"{f.metadata['help']} [{usual}]"
                option(f"--{f.name}", metavar=kind, help=what, default=argparse.SUPPRESS)

    option = command("foundation", _foundation, "pre-train the tiny tier's foundation model")
    option("--name", default="default", help="folder under data/foundation (default: default)")
    option("--steps", type=_count, help="optimizer steps")
    option("--seed", type=int, default=0)
    option("--workers", type=_count, default=2, help="processes of one thread each")
    fig9 = "leave the task's own answer format out (the paper's Fig. 9)"
    option("--without-json", action="store_true", help=fig9)

    for method, what in _TRAINERS.items():
        option = command(method, _train, what)
        option("--config", type=Path, help="YAML file with the same settings")
        home = "data/runs/, and the weights go to data/init/" if method == "init" else "runs/yours/"
        option("--root", type=Path, help=f"folder for the run (default: {home})")
        option("--threads", type=_count, help="CPU threads [OMP_NUM_THREADS, or 2]")
        settings(option)

    option = command("evaluate", _evaluate, "measure a folder of weights")
    option("weights", help="e.g. data/init/gp-l/default; or a Hub id")
    option("--split", action="append", help="repeatable (default: id_unseen, rule_ood)")
    option("--task", default="gp-l", help="gp-l | virl-l | gp-vl | virl-vl [gp-l]")
    option("--preset", default="tiny", help="tiny | smol | llama-11b [tiny, or by the size]")
    option("--precision", default="auto", help="auto | qlora | lora | full")
    base = "folder of an adapter's base, where it has moved"
    option("--base", default="", help=base)
    option("--routes", default="", help="folder of released routes (virl), of training")
    option("--ood_routes", default="", help="the same in other cities: split visual_ood")
    option("--episodes", type=_count, help="deals, or routes, a split (default: as in a curve)")
    option("--tries", type=_count, help="verification iterations (default: the task's)")
    option("--seed", default=0)
    option("--json", action="store_true")

    option = command("routes", _routes, "check a folder of routes of the released V-IRL shape")
    option("folder", type=Path, help="has route_infos.json")
    option("--json", action="store_true")

    option = command("experiments", _experiments, "the runs behind the book's results; resumable")
    what = "YAML file of runs of yours instead; lists of values are combined"
    option("file", type=Path, nargs="?", help=what)
    option("--workers", type=_count, help="runs side by side, of one thread [2; with a GPU 1]")
    option("--engine", choices=("processes", "ray"), default="processes", help="of runs of yours")
    option("--estimate", action="store_true", help="say how long it would take, and stop")
    option("--table", action="store_true", help="only rebuild data/results.csv from the runs")
    option("--tuning", action="store_true", help="the grid on the development seeds")

    option = command("plan", _plan, "what a stage takes of memory, before anything is loaded")
    settings(option, **_PLANNED)
    option("--gpu-memory", type=_gigabytes, help="e.g. 24GB (default: this machine's GPU)")
    option("--json", action="store_true")

    option = command("merge", _merge, "write an adapter and its base as one checkpoint")
    option("adapter", type=Path, help="e.g. runs/RUN/weights")
    option("folder", type=Path, help="of the checkpoint")
    option("--base", default="", help=base)

    option = command("claims", _claims, "hold the paper's claims against our rows")
    option("--json", action="store_true")

    option = command("book", _book, "run the notebooks, write figures/ and the HTML book")
    option("--only", default="", metavar="03", help="notebooks whose name starts so")
    option("--html", action="store_true", help="pages only, nothing is run")
    option("--fast", action="store_true", help=f"every cell in seconds: {FAST}")
    example = "a parameter of the notebooks, e.g. --set preset=llama-11b"
    option(
        "--set", type=_assignment, action="append", default=[], metavar="NAME=VALUE", help=example
    )
    return parser


def _foundation(args: argparse.Namespace) -> None:
    from .foundation import is_pretrained, pretrain
    from .model_card import write_card
    from .policy import FOUNDATIONS
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


def _given(args: argparse.Namespace) -> dict[str, object]:
    """The settings that the command line names."""
    known = {f.name for f in fields(Experiment)}
    return {k: v for k, v in vars(args).items() if k in known}


def _train(args: argparse.Namespace) -> None:
    values = read_settings(args.config) if args.config else {}
    several = [name for name, given in values.items() if len(given) != 1]
    if several:
        raise SftrlError(
            f"{args.config} has several values of {', '.join(several)}, and this command makes one "
            f"run; use 'python -m sftrl_lib experiments {args.config}'."
        )
    settings = {name: given[0] for name, given in values.items()}
    settings |= _given(args)
    if settings.setdefault("method", args.command) != args.command:
        raise SftrlError(
            f"{args.config} is for method {settings['method']}, not {args.command}; use the "
            f"command {settings['method']}, or another file."
        )
    exp = Experiment(method=args.command).but(**settings)
    # slow to import: a typo is answered at once
    from .experiments import WEIGHTS_OF_RUN, run_experiment
    from .runs import RUNS, YOURS

    use_threads(args.threads)
    recorded = args.command == "init" and exp.init_is_recorded
    run = run_experiment(exp, args.root or (RUNS if recorded else YOURS))
    table = run.evals().query("step == step.max() and metric == 'success' and tries == tries.max()")
    print(table[["split", "tries", "n", "value", "lo", "hi"]].to_string(index=False))
    kept = run.path / WEIGHTS_OF_RUN
    print(f"the run is in {run.path}" + f", its weights in {kept}" * kept.exists())


def _evaluate(args: argparse.Namespace) -> None:
    settings = ("task", "seed", "preset", "precision", "base", "routes", "ood_routes")
    settings = {k: getattr(args, k) for k in settings}
    if args.preset == "tiny" and parameters(args.weights) > SIZES[0][0]:
        settings["model"] = whole(args.weights)  # its size decides, not the tiny tier
    exp = Experiment(eval_tries=args.tries or 0, **settings)
    if exp.defaults_by_size:
        print(exp.defaults_by_size, file=sys.stderr)
    from . import plan
    from .evaluate import curve_splits, evaluate
    from .policy import load_policy
    from .tasks import make_task

    task = make_task(exp)
    wanted = args.split or list(curve_splits(task))
    for split in wanted:
        if split not in task.splits:
            raise SftrlError(f"unknown split {split!r}; the splits are {', '.join(task.splits)}.")
    plan.require(exp, "evaluate")
    use_threads()
    weights = Path(args.weights)
    policy = load_policy(exp, weights if weights.is_dir() else args.weights)
    rows, _ = evaluate(policy, task, exp, dict.fromkeys(wanted, args.episodes or exp.eval_episodes))
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        import pandas as pd

        print(pd.DataFrame(rows).round(3).to_string(index=False))


def _routes(args: argparse.Namespace) -> int:
    """0 if there are usable routes, else 1; what cannot be read at all is an SftrlError."""
    from .tasks.routes import load_routes

    summary = load_routes(args.folder).summary()
    if args.json:
        print(json.dumps(summary, indent=1))
    else:
        problems = summary.pop("problems")
        print(", ".join(f"{count} {what}" for what, count in summary.items()))
        for problem in problems[:20]:
            where = "the folder" if problem["route"] is None else f"route {problem['route']}"
            print(f"{where}: {problem['field']} {problem['what']}")
        if problems[20:]:
            print(f"and {len(problems) - 20} more problems; --json lists them all")
    return 0 if summary["usable"] else 1


def _experiments(args: argparse.Namespace) -> None:
    import torch

    from .experiments import book_runs, your_runs
    from .runs import write_results

    workers = args.workers or (1 if torch.cuda.is_available() else 2)
    if args.table:
        print(f"{len(write_results())} rows in data/results.csv")
    elif args.file:
        your_runs(sweep(args.file), workers, args.estimate, args.engine)
    else:
        book_runs(workers, args.estimate, args.tuning)


def _plan(args: argparse.Namespace) -> int:
    """0 if every stage fits, else 1."""
    from .plan import main

    return main(Experiment(**_PLANNED | _given(args)), args.gpu_memory, args.json)


def _merge(args: argparse.Namespace) -> None:
    from .policy import merge

    merge(args.adapter, args.folder, base=args.base)
    print(f"the checkpoint is in {args.folder}")


def _claims(args: argparse.Namespace) -> None:
    from .claims import main

    main(args.json)


def _book(args: argparse.Namespace) -> None:
    from .book import build

    parameters = (FAST if args.fast else {}) | dict(args.set)
    page = build(args.only, parameters, run_notebooks=not args.html)
    print(f"The book is ready: open {page}")


def main(argv: list[str] | None = None) -> int:
    if hasattr(sys.stdout, "reconfigure"):  # a notebook's cannot
        sys.stdout.reconfigure(errors="replace")  # of signs that the terminal's code page lacks
    try:
        try:
            args = _parser().parse_args(argv)
            return args.do(args) or 0
        finally:
            sys.stdout.flush()  # while a reader that has gone is still ours to notice
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell says of the signal
    except SftrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        where = error.filename or "a file"
        print(
            f"error: {where} cannot be written or read ({error.strerror}); make room or set the "
            "permissions, or set SFTRL_HOME to a folder that you may write to.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where this one ended.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
