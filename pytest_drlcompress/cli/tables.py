"""Tables that commands print row by row as they measure, and the CSV files they leave."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_drlcompress.core.files import write_atomic


@dataclass(frozen=True)
class Table:
    """A Markdown table: its headings, and how wide each column is at least.

    Without ``widths`` a column is as wide as its heading. The first column is flush left.
    """

    headings: Sequence[str]
    widths: Sequence[int] = ()

    def head(self) -> str:
        """The headings and the line below them."""
        rule = ["-" * max(3, width) for width in self._widths()]
        return f"{self.row(self.headings)}\n{self.row(rule)}"

    def row(self, cells: Sequence[str]) -> str:
        """One row; there are as many cells as headings."""
        first, *others = (
            f"{cell:>{width}}" if place else f"{cell:<{width}}"
            for place, (cell, width) in enumerate(zip(cells, self._widths(), strict=True))
        )
        return "| " + " | ".join((first, *others)) + " |"

    def _widths(self) -> Sequence[int]:
        return self.widths or [len(heading) for heading in self.headings]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``rows``, which all have the keys of the first, under one line of headings."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
