"""``python -m pytest_drlcompress search``: the smallest artifact that keeps the return.

Within budgets on flash, RAM, instructions, latency or bytes; says what it does and how much time
is left, and ends with the Pareto front, as a table, ``frontier.csv`` and ``frontier.png``.
"""

import argparse
import importlib.util
import shutil

from pytest_drlcompress.cli.arguments import (
    add_executor_arguments,
    add_options,
    add_out_folder,
    add_policy_arguments,
    add_retention_arguments,
    add_value,
    settings_of,
)
from pytest_drlcompress.cli.tables import write_csv
from pytest_drlcompress.core.option_values import number
from pytest_drlcompress.frontier.costs import KNOWN, read_budget


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``search``."""
    parser.add_argument("policy", metavar="POLICY", help="as --drlc-policy")
    figures = "; ".join(f"{name}: {what}" for name, what in KNOWN.items())
    add_value(
        parser,
        "--budget",
        read_budget,
        action="append",
        default=[],
        metavar="FIGURE=LIMIT",
        help=f"for example flash=8KiB or latency_us=5; repeatable. {figures}",
    )
    add_value(
        parser,
        "--minutes",
        number(0, 100_000),
        default=20.0,
        metavar="N",
        help="no training is begun that would not end in this time (default 20)",
    )
    add_out_folder(parser, help="artifacts and figures; the same command goes on from there"
                   " (default search-POLICY)")  # fmt: skip
    add_retention_arguments(parser)
    add_options(parser, ["alpha", "target", "runtime"])
    add_executor_arguments(parser)
    add_policy_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, print the table and the command that makes the winner; 1 where there is none.

    Raises:
        DrlcError: a policy that does not exist, a baseline that is no yardstick, missing tools.
    """
    from pytest_drlcompress.frontier.search import default_folder, run_search
    from pytest_drlcompress.frontier.text import frontier_table

    settings = settings_of(arguments, [arguments.policy])
    found = run_search(
        settings,
        arguments.policy,
        dict(arguments.budget),
        minutes=arguments.minutes,
        out=arguments.out,
        on_line=lambda line: print(line, flush=True),
    )
    folder = arguments.out or default_folder(found.policy)
    if rows := found.rows():
        print(f"\n{frontier_table(rows)}\n")
        write_csv(folder / "frontier.csv", rows)
        print(folder / "frontier.csv")
        if importlib.util.find_spec("matplotlib") is None:
            print("no plot: pip install 'pytest-drlcompress[plot]'")
        else:
            from pytest_drlcompress.frontier.plot import write_plot

            print(write_plot(folder / "frontier.png", found))
    print(f"\n{found.reason}")
    if found.winner is None:
        return 1
    winner = folder / "winner.onnx"
    shutil.copyfile(found.winner.model_path, winner)
    print(f"  {winner}, made again by\n  {found.command}")
    return 0
