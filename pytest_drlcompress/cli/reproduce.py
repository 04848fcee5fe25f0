"""``python -m pytest_drlcompress reproduce``: both papers' tables and figures, ours beside theirs.

Each figure is kept in ``--results`` as soon as it is measured: the same command goes on where the
last one ended, and measures again what no longer holds (another policy, another reference).
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.cli.arguments import (
    add_baselines_folder,
    add_options,
    add_retention_arguments,
    add_value,
    settings_of,
)
from pytest_drlcompress.core.errors import OptionError, ReportError
from pytest_drlcompress.core.files import write_atomic
from pytest_drlcompress.core.option_values import output_file, output_folder
from pytest_drlcompress.papers.targets import TARGETS, Cell, Target

if TYPE_CHECKING:
    from pytest_drlcompress.papers.measured import Measured
    from pytest_drlcompress.papers.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``reproduce``."""
    names = "; ".join(f"{name}: {target.title}" for name, target in TARGETS.items())
    parser.add_argument("targets", nargs="*", metavar="NAME", help=names.replace("%", "%%"))
    parser.add_argument("--all", action="store_true", help="every table and figure")
    parser.add_argument(
        "--policy", action="append", default=[], metavar="ID", help="only this baseline; repeatable"
    )
    parser.add_argument(
        "--recipe", action="append", default=[], metavar="RECIPE",
        help="only this recipe of a table, as sparse@80+qat; repeatable",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--show", action="store_true", help="measure nothing: show what is there")
    what.add_argument("--again", action="store_true", help="measure what is there again, too")
    add_value(
        parser, "--results", output_folder, default="results", metavar="DIR",
        help="where figures are kept, one JSON file a baseline (default results)",
    )  # fmt: skip
    add_value(
        parser, "--page", output_file, metavar="FILE.md",
        help="write all tables between the marks in FILE, and the figures beside it",
    )  # fmt: skip
    add_retention_arguments(parser)
    add_options(parser, ["alpha", "workers"])
    add_baselines_folder(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure what is missing, and print the tables; 1 if a cell could not be made.

    Raises:
        DrlcError: no such table, a file of results or a page that cannot be read.
    """
    from pytest_drlcompress.papers.measured import Measured
    from pytest_drlcompress.papers.page import section
    from pytest_drlcompress.papers.store import Store

    targets = _targets(arguments.targets, everything=arguments.all, show=arguments.show)
    if arguments.page is not None and importlib.util.find_spec("matplotlib") is None:
        raise ReportError("--page draws figures: pip install 'pytest-drlcompress[plot]'")
    store = Store(arguments.results)
    store.read()  # a file that cannot be read is said before anything runs
    failed = 0 if arguments.show else _measure(arguments, targets, store)
    measured = Measured(_of_today(store, arguments.baselines))
    for target in targets:
        print("\n" + "\n".join(section(measured, target)))
    if arguments.page is not None:
        _write_page(arguments.page, measured)
    return int(failed > 0)


def _of_today(store: "Store", baselines: Path) -> dict[str, dict[str, Any]]:
    """What is stored, without the figures of a policy that its baseline has since replaced."""
    from pytest_drlcompress.policies.load import baseline_ids
    from pytest_drlcompress.policies.record_file import read_record

    stored = store.read()
    for policy in sorted(stored.keys() & set(baseline_ids(baselines))):
        if stored[policy].get("policy_sha256") != read_record(baselines / policy)["sha256"]:
            print(
                f"left out: {store.folder / policy}.json is of an earlier {policy}; measure it"
                f" again: python -m pytest_drlcompress reproduce --all --policy {policy}",
                file=sys.stderr,
            )
            del stored[policy]
    return stored


def _targets(names: Sequence[str], *, everything: bool, show: bool) -> list[Target]:
    unknown = [name for name in names if name not in TARGETS]
    if unknown or not (names or everything or show):
        wrong = f"there is no {', '.join(unknown)}" if unknown else "say what to make"
        raise OptionError(f"reproduce: {wrong}; known: {', '.join(TARGETS)}, or --all")
    return [t for name, t in TARGETS.items() if everything or name in names or not names]


def _measure(arguments: argparse.Namespace, targets: Sequence[Target], store: "Store") -> int:
    """Measure the cells that are missing, in their order; how many could not be made."""
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.papers.measure import absence, head_of, measure
    from pytest_drlcompress.policies.load import baseline_ids
    from pytest_drlcompress.workbench.workbench import Workbench

    cells = list(dict.fromkeys(cell for target in targets for cell in target.cells))
    known = baseline_ids(arguments.baselines)
    cells = _chosen(cells, "--policy", arguments.policy, lambda cell: cell.policy)
    cells = _chosen(cells, "--recipe", arguments.recipe, lambda cell: cell.recipe)
    for policy in dict.fromkeys(cell.policy for cell in cells if cell.policy not in known):
        store.put_absent(absence(arguments.baselines, policy))
    failed = 0
    present = [cell for cell in cells if cell.policy in known]
    for policy in dict.fromkeys(cell.policy for cell in present):
        mine = [cell for cell in present if cell.policy == policy]
        # a workbench for each: what it keeps of a policy is let go
        bench = Workbench(settings_of(arguments, [policy]), builtin_registry())
        try:
            head = head_of(bench.load(policy))
            for number, cell in _missing(store, mine, head, again=arguments.again):
                print(f"[{number}/{len(mine)}] {policy} {cell.section} {cell.recipe}", flush=True)
                figures = measure(bench, cell, lambda text: print(f"    {text}", flush=True))
                store.put(cell, head, figures)
                failed += "error" in figures
                print(f"    {_summary(figures)}", flush=True)
        finally:
            bench.close()
    return failed


def _chosen(
    cells: Sequence[Cell], option: str, wanted: Sequence[str], of: Callable[[Cell], str]
) -> list[Cell]:
    """Those of ``cells`` of which ``of`` gives one of the ``wanted``; all, if none is wanted."""
    known = dict.fromkeys(map(of, cells))
    unknown = sorted(set(wanted) - known.keys())
    if unknown:
        raise OptionError(f"{option}: {', '.join(unknown)} is not in it; it has {', '.join(known)}")
    return [cell for cell in cells if not wanted or of(cell) in wanted]


def _missing(
    store: "Store", cells: Sequence[Cell], head: dict[str, Any], *, again: bool
) -> Iterator[tuple[int, Cell]]:
    for number, cell in enumerate(cells, 1):
        if again or store.get(cell, head) is None:
            yield number, cell


def _summary(figures: dict[str, Any]) -> str:
    from pytest_drlcompress.papers.measured import retention_text

    if "error" in figures:
        return f"cannot be made: {figures['error']}"
    if "reason" in figures:
        return str(figures["reason"])
    if "latency" in figures:
        return f"latency ratio {figures['latency']['estimate']:.3f}, {figures['bytes']:,} bytes"
    return retention_text(figures["retention"])


def _write_page(path: Path, measured: "Measured") -> None:
    from pytest_drlcompress.papers.figures import write_figure
    from pytest_drlcompress.papers.page import FIGURES, between_marks, section

    content = path.read_text("utf-8") if path.exists() else ""
    write_atomic(path, between_marks(content, measured).encode())
    print(f"written: {path}")
    for name in FIGURES:
        if f"figures/{name}.svg" in "\n".join(section(measured, TARGETS[name])):
            print(f"written: {write_figure(path.parent / 'figures', name, measured)}")
