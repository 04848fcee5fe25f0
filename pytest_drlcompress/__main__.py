"""``python -m pytest_drlcompress``: train and list baselines, import, sweep, compare."""

import argparse
import os
import sys
from collections.abc import Sequence

from pytest_drlcompress.core.defects import describe_defect, describe_os_error
from pytest_drlcompress.core.errors import DrlcError

FAIL, USAGE, DEFECT, INTERRUPTED = 1, 2, 3, 130
"""Exit codes of every command, beside 0 (docs/commands.md)."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; ``run`` in what it parses carries the command out."""
    from pytest_drlcompress.cli import (
        baselines,
        compare,
        compress,
        costs,
        export,
        import_policy,
        reproduce,
        search,
        sparsity,
        sweep,
        train,
    )

    parser = argparse.ArgumentParser(prog="python -m pytest_drlcompress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module, summary in (
        ("train", train, "train baselines from recipes.toml; the same command resumes"),
        ("baselines", baselines, "list the baselines, or verify what is recorded of them"),
        ("import", import_policy, "make an SB3 zip a baseline"),
        ("sweep", sweep, "find the most pruning that keeps the return"),
        ("compare", compare, "compare two JSON reports: what got better, what got worse"),
        ("costs", costs, "what variants cost: microseconds, bytes, estimated energy"),
        ("compress", compress, "write the ONNX file that a recipe makes of a policy"),
        ("export", export, "write a policy as C99 for a microcontroller, and check it"),
        ("reproduce", reproduce, "make both papers' tables and figures, ours beside theirs"),
        ("search", search, "find the smallest artifact within budgets that keeps the return"),
        (
            "sparsity",
            sparsity,
            "measure a policy at rising sparsity, with and without QAT",
        ),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 for a pass, 1 for a fail, 2 and a line for what the user can mend.

    3 and a line, which says where the traceback is, for a defect of this package.
    """
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
        code: int = arguments.run(arguments)
    except DrlcError as error:
        return _say(f"error: {error}", USAGE)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAIL
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            return _say(f"error: {describe_os_error(error)}", USAGE)
        return _say(f"error: {describe_defect(error)}", DEFECT)
    return code


def _say(text: str, code: int) -> int:
    # an argument may hold what the terminal cannot show
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
