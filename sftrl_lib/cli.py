"""Command line: python -m sftrl_lib COMMAND. Every method is a command that trains; commands of
other packages register themselves (`registry.register_command`)."""

import argparse
import ast
import errno
import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

from commons.errors import SftrlError, check
from commons.settings import MOST
from engine.threads import use_threads

from .experiment import Experiment, all_settings, named, read_settings, sections, unknown_settings
from .methods.base import Method
from .registry import COMMANDS, METHODS, TASKS, register_command

_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every error of ours."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see '{self.prog} --help'.\n")


def at_least_one(text: str) -> int:
    """A whole number of at least 1, as an option's type."""
    if not text.isdecimal() or len(text) > 7 or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(
            f"{text[:100]!r} is not a whole number of at least 1, at most {MOST:,}"
        )
    return int(text)


def assignment(text: str) -> tuple[str, object]:
    """NAME=VALUE, as an option's type; a value that is no Python literal is a word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _gigabytes(text: str) -> float:
    number = re.fullmatch(r"(\d{1,6}(?:\.\d+)?) ?(?:GB|GiB|G)?", text, re.IGNORECASE)
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 24GB")
    return float(number[1])


def _settings(option: Callable, method: str = "") -> None:
    """An option for every setting; what it may be, the experiment says. Those of other methods than
    this one are not listed: they are there to be refused in a sentence."""
    said = {"task": {" | ".join(TASKS): None}, "seed": {"deals, sampling and shuffling [0]": None}}
    for task, way in product(TASKS, [method] if method else METHODS):
        for section in sections(task, way).values():
            for name, field in section.model_fields.items():
                usual = "" if field.is_required() else f" [{field.default}]"
                said.setdefault(name, {})[f"{field.description or name}{usual}"] = None
    for name in ("task", "seed", *all_settings()):
        what = "; ".join(said.get(name, ())).replace("%", "%%")
        option(f"--{name}", help=what or argparse.SUPPRESS, default=argparse.SUPPRESS)


def _given(args: Namespace) -> dict[str, Any]:
    """The settings that the command line names."""
    return {k: v for k, v in vars(args).items() if not unknown_settings([k])}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m sftrl_lib", description="Train, measure and compare.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, method in METHODS.items():
        made = commands.add_parser(name, help=f"train {method.label}. {_about(method)}")
        made.add_argument("--config", type=Path, help="YAML file with the same settings")
        made.add_argument("--root", type=Path, help="folder for the run (default: runs/yours/)")
        threads = "CPU threads [OMP_NUM_THREADS, or 1; for other models than ours 2]"
        made.add_argument("--threads", type=at_least_one, help=threads)
        _settings(made.add_argument, name)
        made.set_defaults(run=_train)
    for name, command in COMMANDS.items():
        made = commands.add_parser(name, help=" ".join((command.__doc__ or "").split()))
        command.options(made.add_argument)
        made.set_defaults(run=command.run)
    return parser


def _about(method: type[Method]) -> str:
    """The first sentence that a method's module says of itself."""
    said = " ".join((sys.modules[method.__module__].__doc__ or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", said)[0].replace("%", "%%")


def _experiment(args: Namespace) -> Experiment:
    """The experiment of a training command: a file's settings, then the command line's."""
    given = _given(args) | {"method": args.command}
    if not args.config:
        return Experiment(**given)
    settings = {}
    for name, values in read_settings(args.config).items():
        if len(values) != 1:
            raise SftrlError(
                f"{args.config} has several values of {name}, and this command makes one run; use "
                f"'python -m sftrl_lib experiments {args.config}'."
            )
        settings[name] = values[0]
    if (method := settings.get("method", args.command)) != args.command:
        raise SftrlError(
            f"{args.config} is for method {method}, not {args.command}; use the command {method}, "
            "or another file."
        )
    task = {k: v for k, v in settings.items() if k == "task" and v in TASKS}
    Experiment(**task | given)  # what was typed is never left out
    with named(args.config):
        return Experiment(lenient=True, **settings | given)


def _train(args: Namespace) -> None:
    exp = _experiment(args)
    from .runner import WEIGHTS_OF_RUN, run_experiment  # slow to import: a typo is answered at once
    from .runs import YOURS

    use_threads(args.threads, small=exp.model.ours)
    run = run_experiment(exp, args.root or YOURS)
    table = run.evals().query("step == step.max() and metric == 'success' and tries == tries.max()")
    print(table[["split", "tries", "n", "value", "lo", "hi"]].to_string(index=False))
    kept = run.path / WEIGHTS_OF_RUN
    print(f"the run is in {run.path}" + f", its weights in {kept}" * kept.exists())


_JSON = ("--json", dict(action="store_true"))


def _command(name: str, *options: tuple[str, dict[str, Any]], settings: bool = False) -> Callable:
    """Registers a function as a command, whose help is its docstring: `options` as argparse takes
    them, and one for every setting where `settings`."""

    def register(run: Any) -> Any:
        def add(option: Callable) -> None:
            for flag, kind in options:
                option(flag, **kind)
            if settings:
                _settings(option)

        run.options, run.run = add, run
        return register_command(name)(run)

    return register


@_command(
    "evaluate",
    ("weights", dict(help="e.g. data/init/gp-l/default; or a Hub id")),
    ("--split", dict(action="append", help="repeatable (default: those of a curve)")),
    ("--episodes", dict(type=at_least_one, help="deals, or routes, a split (as in a curve)")),
    _JSON,
    settings=True,
)
def evaluate(args: Namespace) -> None:
    """Measure a folder of weights."""
    import pandas as pd

    from commons.processes import RANK
    from engine.presets import SIZES
    from engine.sources import parameters, whole

    settings = _given(args)
    if "tries" in settings:
        settings["eval_tries"] = settings.pop("tries")
    small = settings.get("preset", "tiny") == "tiny" and "model" not in settings
    if small and parameters(args.weights) > min(SIZES):
        settings["model"] = whole(args.weights)  # its size decides, not the tiny tier
    exp = Experiment(lenient=True, **settings)
    if exp.defaults_by_size:
        print(exp.defaults_by_size, file=sys.stderr)
    from . import planning
    from .evaluate import evaluate as measure
    from .policies import load_policy
    from .tasks import make_task

    task = make_task(exp)
    wanted = args.split or list(task.curve_splits)
    for split in wanted:
        check("split", split, split in task.splits, task.splits, change="--split")
    exp = planning.settled(exp, "evaluate")
    planning.require(exp, "evaluate")
    use_threads(small=exp.model.ours)
    folder = Path(args.weights)
    policy = load_policy(exp, folder if folder.is_dir() else args.weights)
    episodes = args.episodes or exp.evaluation.eval_episodes
    rows, _ = measure(policy, task, exp, dict.fromkeys(wanted, episodes))
    if RANK:  # of several processes, all know the rows
        return
    table = pd.DataFrame(rows).round(3)
    print(json.dumps(rows, indent=1) if args.json else table.to_string(index=False))


@_command("routes", ("folder", dict(type=Path, help="has route_infos.json")), _JSON)
def routes(args: Namespace) -> int:
    """Check a folder of routes of the released V-IRL shape."""
    from worlds.routes import load_routes

    summary = load_routes(args.folder).summary()
    usable = summary["usable"]
    if args.json:
        print(json.dumps(summary, indent=1))
        return 0 if usable else 1
    problems = summary.pop("problems")
    print(", ".join(f"{count} {what}" for what, count in summary.items()))
    for problem in problems[:20]:
        where = "the folder" if problem["route"] is None else f"route {problem['route']}"
        print(f"{where}: {problem['field']} {problem['what']}")
    if problems[20:]:
        print(f"and {len(problems) - 20} more problems; --json lists them all")
    return 0 if usable else 1


@_command(
    "plan",
    ("--gpu-memory", dict(type=_gigabytes, help="e.g. 24GB (default: this machine's GPU)")),
    _JSON,
    settings=True,
)
def plan(args: Namespace) -> int:
    """Estimate the memory each stage needs, before anything is loaded."""
    from .planning import main

    planned = {"task": "gp-vl", "preset": "llama-11b"} | _given(args)
    return main(Experiment(lenient=True, **planned), args.gpu_memory, args.json)


@_command(
    "merge",
    ("adapter", dict(type=Path, help="e.g. runs/RUN/weights")),
    ("folder", dict(type=Path, help="of the checkpoint")),
    ("--base", dict(default="", help="folder of the adapter's base, where it has moved")),
)
def merge(args: Namespace) -> None:
    """Write an adapter and its base as one checkpoint."""
    from engine import adapters

    adapters.merge(args.adapter, args.folder, base=args.base)
    print(f"the checkpoint is in {args.folder}")


def main(argv: list[str] | None = None) -> int:
    """Run a command; what went wrong is one sentence, and 2."""
    if hasattr(sys.stdout, "reconfigure"):  # a notebook's cannot
        sys.stdout.reconfigure(errors="replace")  # of signs that the terminal's code page lacks
    try:
        try:
            args = _parser().parse_args(argv)
            return args.run(args) or 0
        finally:
            sys.stdout.flush()  # while a reader that has gone is still ours to notice
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell says of the signal
    except KeyboardInterrupt:
        print("stopped; the same command goes on where this one ended.", file=sys.stderr)
        return 130
    except (SftrlError, OSError) as error:
        said: object = error
        if isinstance(error, OSError):
            if error.errno not in _NO_PLACE:
                raise
            said = (
                f"{error.filename or 'a file'} cannot be written or read ({error.strerror}); make "
                "room or set the permissions, or set SFTRL_HOME to a folder that you may write to."
            )
        print(f"error: {said}", file=sys.stderr)
        return 2
