"""What an instructor runs: python -m teach cells | student | grade | slides | check."""

import argparse
import sys
from pathlib import Path

from commons.errors import SftrlError
from sftrl_lib.places import HOME

BUILD = HOME / "build"


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m teach", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("cells", help="write exercises and questions into the notebooks")
    student = commands.add_parser("student", help="notebooks without solutions")
    student.add_argument("--to", type=Path, default=BUILD / "student")
    grade = commands.add_parser("grade", help="grade a folder with one folder a student")
    grade.add_argument("submissions", type=Path)
    grade.add_argument("--to", type=Path, default=BUILD / "grades")
    slides = commands.add_parser("slides", help="the lecture as one HTML file")
    slides.add_argument("--to", type=Path, default=BUILD / "slides.html")
    args = parser.parse_args(argv)
    try:
        run(args)
    except SftrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(args: argparse.Namespace) -> None:
    """The command that was asked for; each loads only what it needs."""
    if args.command == "cells":
        from .cells import fill_all

        fill_all()
    elif args.command == "student":
        from .student import write

        write(args.to)
    elif args.command == "grade":
        from .grading import grade

        grade(args.submissions, args.to)
    else:
        from .slides import write

        write(args.to)


if __name__ == "__main__":
    sys.exit(main())
