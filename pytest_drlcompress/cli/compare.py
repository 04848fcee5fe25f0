"""``python -m pytest_drlcompress compare old.json new.json``: exit code 1 where something is worse.

Gates that the new report lacks count as worse, because nothing passes unmeasured;
``--allow-missing`` is for a new report of a partial run. 2 is for reports that cannot be read.
"""

import argparse
from pathlib import Path
from typing import get_args

from pytest_drlcompress.cli.arguments import add_value
from pytest_drlcompress.core.option_values import at_least
from pytest_drlcompress.reporting.compare import TOLERANCE, Kind, compare, read_report, summary

_KINDS: tuple[Kind, ...] = get_args(Kind)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``compare``."""
    parser.add_argument("old", type=Path, help="a JSON report (--drlc-report=old.json)")
    parser.add_argument("new", type=Path, help="a later one")
    add_value(
        parser,
        "--tolerance",
        at_least(0),
        default=TOLERANCE,
        metavar="SHARE",
        help="relative change of a figure that still counts as the same (default 0.05)",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="gates that only the old report has are shown and do not fail",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; 1 if something is worse or missing.

    Raises:
        ReportError: a report that cannot be read.
    """
    comparison = compare(
        read_report(arguments.old), read_report(arguments.new), arguments.tolerance
    )
    for kind in _KINDS:
        found = comparison.of(kind)
        if kind == "same" or not found:
            continue
        print(f"{kind}:")
        for difference in found:
            policy, variant, gate = difference.key
            print(f"    {gate} {policy} / {variant}: {difference.text}")
    if comparison.artifacts:
        print("artifacts that changed:")
        for line in comparison.artifacts:
            print(f"    {line}")
    for note in comparison.notes:
        print(note)
    print(summary(comparison, _KINDS))
    common = [d for d in comparison.differences if d.kind not in ("missing", "new")]
    if not common:
        print("The reports have no gate in common.")
        return 1
    failing = comparison.of("worse") or (comparison.of("missing") and not arguments.allow_missing)
    return 1 if failing else 0
