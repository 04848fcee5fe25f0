"""A search in lines that a person reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_drlcompress.frontier.costs import SIZES

_SHOWN = ("flash", "ram", "instructions", "weights", "zstd", "file", "latency_us")


def frontier_table(trials: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of ``Frontier.rows``: ``*`` is on the Pareto front, ``>`` the winner."""
    rows = [["", "recipe", *_SHOWN, "kept", "episodes", "verdict"]]
    rows.append(["---"] * len(rows[0]))
    rows += [_cells(row) for row in trials]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    kept = row["retention"]
    shown = "-" if kept is None else f"{kept:.3f}"
    if row["low"] is not None:
        shown += f" [{row['low']:.3f}, {row['high']:.3f}]"
    over = f"over: {row['beyond']}" if row["beyond"] else "screened"
    return [
        ">" if row["winner"] else "*" if row["on_front"] else "",
        row["recipe"],
        *(_figure(name, row[name]) for name in _SHOWN),
        shown,
        str(row["episodes"]),
        row["verdict"] or over,
    ]


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if name not in (*SIZES, "zstd", "instructions") else f"{value:,.0f}"
