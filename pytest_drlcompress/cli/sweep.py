"""``python -m pytest_drlcompress sweep``: how much pruning does a policy take?

Prints a table; with ``--out`` writes ``sweep.csv`` and a plot for each policy.
"""

import argparse
import contextlib
import importlib.util
from itertools import chain
from typing import Any

from pytest_drlcompress.cli.arguments import (
    add_executor_arguments,
    add_out_folder,
    add_policy_arguments,
    add_retention_arguments,
    add_value,
    notes_of,
    settings_of,
)
from pytest_drlcompress.cli.tables import Table, write_csv
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.option_values import per_cents, recipes
from pytest_drlcompress.gates.budgets import Budgets

_TABLE = Table(
    ("pruned", "parameters", "bytes", "latency", "retention", "episodes", "verdict"), (10,) * 7
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``sweep``."""
    parser.add_argument("policies", nargs="+", metavar="POLICY", help="as --drlc-policy")
    add_value(
        parser,
        "--norm",
        recipes,
        metavar="RECIPE,...",
        help="recipes without an amount, separated by commas or given again (default l1,l2)",
        action="append",
    )
    add_value(
        parser,
        "--ratios",
        per_cents,
        default="5,10,15,20,25,30,35,40,45,50,55,60,65,70",
        metavar="N,...",
        help="per cent of the channels (default 5, 10, ..., 70)",
    )
    add_out_folder(parser, help="write sweep.csv and plots here")
    parser.add_argument("--no-plot", action="store_true", help="with --out: only the CSV file")
    after = parser.add_mutually_exclusive_group()
    after.add_argument(
        "--stop", action="store_true", help="end at the first ratio that is not PASS"
    )
    after.add_argument(
        "--full",
        action="store_true",
        help="measure the return beyond the first ratio that is not PASS, too",
    )
    add_retention_arguments(parser)
    add_executor_arguments(parser)
    add_policy_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sweep each policy by each recipe.

    Raises:
        DrlcError: a policy, recipe or ratio that does not exist or does not fit.
    """
    from pytest_drlcompress.compression.recipe import parse_recipe
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.gates.pruning import recipe_at, run_sweep
    from pytest_drlcompress.reporting.text import verdict_line
    from pytest_drlcompress.workbench.workbench import Workbench

    families = list(dict.fromkeys(chain.from_iterable(arguments.norm or [("l1", "l2")])))
    ratios = arguments.ratios
    plot = arguments.out is not None and not arguments.no_plot
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise RecipeError(
            "the plot needs matplotlib: pip install 'pytest-drlcompress[plot]', or say --no-plot"
        )
    registry = builtin_registry()
    for family in families:
        for ratio in ratios:
            registry.resolve(parse_recipe(recipe_at(family, ratio)))
    bench = Workbench(settings_of(arguments, arguments.policies), registry)
    rows: list[dict[str, Any]] = []
    with contextlib.closing(bench), notes_of(bench.tools.executor):
        for text in bench.policy_texts():
            loaded = bench.load(text)
            policy = loaded.policy.id
            for family in families:
                print(f"\n{policy} / {family}\n{_TABLE.head()}", flush=True)
                sweep = run_sweep(
                    loaded,
                    family,
                    Budgets(),
                    ratios,
                    after_stop="all" if arguments.full else "end" if arguments.stop else "cost",
                    on_point=lambda point: print(_TABLE.row(_cells(point.figures())), flush=True),
                )
                print(f"{verdict_line(sweep.verdict)}\n    {sweep.verdict.reason}")
                rows += [{"policy": policy, "family": family, **p.figures()} for p in sweep.points]
    if arguments.out is not None:
        write_csv(arguments.out / "sweep.csv", rows)
        if plot:
            from pytest_drlcompress.reporting.sweep_plot import write_plots

            for path in write_plots(arguments.out, rows):
                print(path)
    return 0


def _cells(figures: dict[str, Any]) -> tuple[str, ...]:
    kept = figures["retention"]
    left = figures["parameters"]
    state = figures["state"] or "-"
    return (
        f"{figures['ratio']:g} %",
        "-" if left is None else f"{left:.1%}",
        f"{figures['bytes']:,}",
        f"{figures['latency']:.2f}",
        "-" if kept is None else f"{kept:.3f}",
        f"{figures['episodes'] or '-'}",
        state if figures["in_sequence"] or state == "-" else f"({state})",
    )
