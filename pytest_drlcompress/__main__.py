"""``python -m pytest_drlcompress``: train and list baselines, import, sweep, compare."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from pytest_drlcompress.core.defects import describe_defect, describe_os_error
from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.extras import missing_extra

FAIL, USAGE, DEFECT, INTERRUPTED = 1, 2, 3, 130
"""Exit codes of every command, beside 0 (docs/reference.md)."""


_COMMANDS = (
    ("train", "train", "train baselines from recipes.toml; the same command resumes"),
    ("baselines", "baselines", "list the baselines, or verify what is recorded of them"),
    ("import", "import_policy", "make an SB3 zip a baseline"),
    ("sweep", "sweep", "find the most pruning that keeps the return"),
    ("compare", "compare", "compare two JSON reports: what got better, what got worse"),
    ("costs", "costs", "what variants cost: microseconds, bytes, estimated energy"),
    ("compress", "compress", "write the ONNX file that a recipe makes of a policy"),
    ("export", "export", "write a policy as C99 for a microcontroller, and check it"),
    ("reproduce", "reproduce", "make both papers' tables and figures, ours beside theirs"),
    ("search", "search", "find the smallest artifact within budgets that keeps the return"),
    ("sparsity", "sparsity", "measure a policy at rising sparsity, with and without QAT"),
)
"""Name, module under ``cli``, and summary."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; ``run`` in what it parses carries the command out."""
    parser = argparse.ArgumentParser(prog="python -m pytest_drlcompress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module, summary in _COMMANDS:
        try:
            carried_out = import_module(f"pytest_drlcompress.cli.{module}")
        except ImportError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            _without(commands, name, summary, missing)
            continue
        command = commands.add_parser(name, help=summary, description=summary)
        carried_out.add_arguments(command)
        command.set_defaults(run=carried_out.run)
    return parser


def _without(commands: Any, name: str, summary: str, missing: DrlcError) -> None:
    """A command whose packages are missing: whatever follows its name, it says which."""

    def refuse(arguments: argparse.Namespace) -> int:  # noqa: ARG001
        raise missing

    # no text begins with this character, so that options are words like others
    command = commands.add_parser(name, help=summary, prefix_chars="\0", add_help=False)
    command.add_argument("rest", nargs="*")
    command.set_defaults(run=refuse)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 for a pass, 1 for a fail, 2 and a line for what the user can mend.

    3 and a line, which says where the traceback is, for a defect of this package.
    """
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
        code: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAIL
    except Exception as error:
        told = _mendable(error)
        return _say(f"error: {told or describe_defect(error)}", USAGE if told else DEFECT)
    return code


def _mendable(error: Exception) -> str:
    """What the user is told of an ``error`` that they can mend; empty for others."""
    if isinstance(error, OSError) and error.filename is not None:
        return describe_os_error(error)
    known = missing_extra(error) if isinstance(error, ImportError) else error
    return str(known) if isinstance(known, DrlcError) else ""


def _say(text: str, code: int) -> int:
    # an argument may hold what the terminal cannot show
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
