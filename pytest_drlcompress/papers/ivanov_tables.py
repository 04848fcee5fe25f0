"""Ivanov et al.'s Figures 4 to 6 as tables: what is kept at each sparsity, and the bytes."""

from pytest_drlcompress.papers.ivanov_claims import smaller
from pytest_drlcompress.papers.measured import Measured, number, table
from pytest_drlcompress.papers.targets import TARGETS

_SIZES = ("nnz_claim", "entropy_bound", "stripped_zstd", "artifact", "resident")


def sparsity_table(measured: Measured, target: str) -> list[str]:
    """A row for each cell that is measured."""
    rows = []
    for cell in TARGETS[target].cells:
        found = measured.cell(cell.policy, "variants", cell.recipe)
        if found is None:
            continue
        seconds = found["cpu_seconds"]
        rows.append(
            [
                f"`{cell.policy}`",
                cell.recipe,
                measured.verdict_text(cell.policy, cell.recipe),
                number(measured.gained(cell.policy, found["retention"]["estimate"])),
                f"{smaller(found['zeros']):.0f}x" if cell.recipe.endswith("qat") else "",
                *(number(found["sizes"][name]) for name in _SIZES),
                "stored" if seconds is None else f"{seconds:.0f}",
            ]
        )
    headings = (
        "policy", "recipe", "verdict", "return", "smaller by their count", "nonzero weights",
        "entropy bound", "zstd", "file", "resident", "CPU s",
    )  # fmt: skip
    return table(headings, rows) if rows else []
