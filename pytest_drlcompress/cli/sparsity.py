"""``python -m pytest_drlcompress sparsity``: what is left of a policy at rising sparsity.

One cell for each sparsity with and without int8, written to ``--out`` as soon as it is measured:
the same command continues where the last one ended. The shape is that of Figure 4 of Ivanov et
al., with the sizes that a file really has beside the claim.
"""

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.cli.arguments import (
    add_executor_arguments,
    add_out_folder,
    add_policy_arguments,
    add_retention_arguments,
    add_value,
    notes_of,
    settings_of,
)
from pytest_drlcompress.cli.tables import Table
from pytest_drlcompress.core.option_values import per_cents, recipes

if TYPE_CHECKING:
    from pytest_drlcompress.workbench.candidate import Candidate
    from pytest_drlcompress.workbench.loaded import LoadedPolicy

LEVELS = "50,70,80,90,95,98,99"
_TABLE = Table(
    ("recipe", "verdict", "retention", "episodes", "nnz claim", "entropy bound",
     "on disk (zstd)", "on disk", "resident", "CPU s"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``sparsity``."""
    parser.add_argument("policies", nargs="+", metavar="POLICY", help="as --drlc-policy")
    add_value(
        parser, "--levels", per_cents, default=LEVELS, metavar="N,...", help=f"default {LEVELS}"
    )
    add_value(
        parser,
        "--tails",
        recipes,
        default="none,qat",
        metavar="STEP,...",
        help="what comes after sparse@N; none for nothing (default none,qat)",
    )
    parser.add_argument(
        "--options", default="", metavar="KEY=VALUE,...", help="options of the sparse step"
    )
    add_out_folder(parser, required=True, help="one file a cell")
    add_retention_arguments(parser)
    add_executor_arguments(parser)
    add_policy_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure every cell that ``--out`` does not hold, and print the whole table.

    Raises:
        DrlcError: a policy, a level or a recipe that does not exist or does not fit.
    """
    from pytest_drlcompress.compression.recipe import parse_recipe
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.core.files import write_json
    from pytest_drlcompress.gates.cells import measured_elsewhere
    from pytest_drlcompress.workbench.workbench import Workbench

    asked = _recipes(arguments.levels, arguments.tails, arguments.options)
    registry = builtin_registry()
    for recipe in asked:
        registry.resolve(parse_recipe(recipe))
    bench = Workbench(settings_of(arguments, arguments.policies), registry)
    with contextlib.closing(bench), notes_of(bench.tools.executor):
        cells = {
            (text, recipe): _path(arguments.out, bench.load(text), recipe)
            for text in bench.policy_texts()
            for recipe in asked
        }
        missing = [bench.candidate(*cell) for cell, path in cells.items() if not path.exists()]
        paths = {id(bench.candidate(*cell)): path for cell, path in cells.items()}
        measure = measured_elsewhere(
            bench.tools.executor,
            missing,
            measure_cell,
            lambda candidate, cell: write_json(paths[id(candidate)], cell),
        )
        for text in bench.policy_texts():
            print(f"\n{bench.load(text).policy.id} on {bench.load(text).policy.env}")
            print(_TABLE.head(), flush=True)
            for recipe in asked:
                path = cells[text, recipe]
                if not path.exists():
                    write_json(path, measure(bench.candidate(text, recipe)))
                print(_TABLE.row(_cells(json.loads(path.read_text()))), flush=True)
    return 0


def _path(folder: Path, loaded: "LoadedPolicy", recipe: str) -> Path:
    policy = loaded.policy
    return folder / f"{policy.id}-{policy.sha256[:8]}-{recipe.replace(':', '~')}.json"


def measure_cell(candidate: "Candidate") -> dict[str, Any]:
    """One cell as JSON builtins: verdict, sizes in bytes, zeros, and CPU seconds of compression.

    These are ``None`` where the baseline brings the variant: its making was not measured here.
    """
    from pytest_drlcompress.papers.measure import measure_variant

    return {
        "policy": candidate.policy,
        "recipe": candidate.recipe,
        "provenance": dict(candidate.artifact.provenance),
        **measure_variant(candidate),
    }


def _recipes(levels: Sequence[float], tails: Sequence[str], options: str) -> list[str]:
    ends = ["" if tail == "none" else f"+{tail}" for tail in tails]
    middle = f":{options}" if options else ""
    return [f"sparse@{level:g}{middle}{end}" for level in levels for end in ends]


def _cells(cell: dict[str, Any]) -> list[str]:
    verdict, sizes = cell["retention"], cell["sizes"]
    estimate, interval = verdict["estimate"], verdict["interval"]
    kept = "-" if estimate is None else f"{estimate:.3f}"
    if interval is not None:
        kept += f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    figures = ("nnz_claim", "entropy_bound", "stripped_zstd", "artifact", "resident")
    return [
        cell["recipe"],
        verdict["state"],
        kept,
        str(verdict["sample_size"]),
        *(f"{sizes[name]:,}" for name in figures),
        "stored" if cell["cpu_seconds"] is None else f"{cell['cpu_seconds']:.0f}",
    ]
