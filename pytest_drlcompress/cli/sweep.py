"""``python -m pytest_drlcompress sweep``: how much pruning does a policy take?

Prints a table; with ``--out`` writes ``sweep.csv`` and a plot for each policy.
"""

import argparse
import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_drlcompress.cli.arguments import (
    add_policy_arguments,
    add_retention_arguments,
    settings_of,
)
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.gates.budgets import Budgets

_HEADINGS = ("pruned", "parameters", "bytes", "latency", "retention", "episodes", "verdict")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``sweep``."""
    parser.add_argument("policies", nargs="+", metavar="POLICY", help="as --drlc-policy")
    parser.add_argument(
        "--norm",
        metavar="RECIPE,...",
        help="recipes without an amount, separated by commas or given again (default l1,l2);"
        " a recipe with options, such as l2:train=distill, stands alone",
        action="append",
    )
    parser.add_argument(
        "--ratios",
        default="5,10,15,20,25,30,35,40,45,50,55,60,65,70",
        metavar="N,...",
        help="per cent of the channels (default 5, 10, ..., 70)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write sweep.csv and plots here")
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

    families, ratios = _families(arguments.norm or ["l1,l2"]), _ratios(arguments.ratios)
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
    for text in bench.policy_texts():
        policy = bench.load(text).policy.id
        for family in families:
            print(f"\n{policy} / {family}\n{_line(_HEADINGS)}", flush=True)
            sweep = run_sweep(
                bench,
                text,
                family,
                Budgets(),
                ratios,
                after_stop="all" if arguments.full else "end" if arguments.stop else "cost",
                on_point=lambda point: print(_line(_cells(point.figures())), flush=True),
            )
            print(f"{verdict_line(sweep.verdict)}\n    {sweep.verdict.reason}")
            rows += [{"policy": policy, "family": family, **p.figures()} for p in sweep.points]
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        _write_csv(arguments.out / "sweep.csv", rows)
        if plot:
            from pytest_drlcompress.reporting.sweep_plot import write_plots

            for path in write_plots(arguments.out, rows):
                print(path)
    return 0


def _families(texts: Sequence[str]) -> list[str]:
    families: list[str] = []
    for text in texts:
        # a comma inside a recipe's options belongs to them
        families += [text] if ":" in text else [part.strip() for part in text.split(",")]
    return list(dict.fromkeys(families))


def _ratios(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise RecipeError(
            f"--ratios={text}: write per cents separated by commas, for example 10,30,50"
        ) from None


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


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(f"{cell:>10}" for cell in cells) + " |"


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
