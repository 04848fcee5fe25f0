"""``python -m pytest_drlcompress``: train and list baselines, import, sweep, compare."""

import argparse
import sys
from collections.abc import Sequence

from pytest_drlcompress.core.errors import DrlcError


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
    """Run one command; 2 and a line on standard error for what the user can mend."""
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
        code: int = arguments.run(arguments)
    except DrlcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:  # no file's fault: a defect, whose traceback is needed
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
