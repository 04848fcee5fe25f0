"""``python -m pytest_drlcompress``: train and import baselines."""

import argparse
import sys
from collections.abc import Sequence

from pytest_drlcompress.errors import DrlcError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 and a line on standard error for what the user can mend."""
    from pytest_drlcompress.training import command as train

    parser = argparse.ArgumentParser(prog="python -m pytest_drlcompress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train_parser = commands.add_parser("train", help="train baselines from recipes.toml")
    train.add_arguments(train_parser)
    train_parser.set_defaults(run=train.run)
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except DrlcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
