"""Pruning sweeps as figures: return, latency and bytes against the ratio (Lu et al., Figs. 2, 3).

Needs matplotlib (``pip install 'pytest-drlcompress[plot]'``).
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_PANELS = (
    ("retention", "share of the return kept"),
    ("latency", "latency, ratio to the baseline"),
    ("bytes", "artifact, bytes"),
)


def write_plots(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """One PNG for each policy of ``rows`` (of ``Point.figures``, with policy and family)."""
    return [
        _write(folder / f"{policy}.png", policy, list(mine))
        for policy, mine in groupby(rows, lambda row: row["policy"])
    ]


def _write(path: Path, policy: str, rows: Sequence[dict[str, Any]]) -> Path:
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(1, len(_PANELS))
    for family, mine in groupby(rows, lambda row: row["family"]):
        points = list(mine)
        for axis, (name, _) in zip(axes, _PANELS, strict=True):
            shown = [point for point in points if point[name] is not None]
            ratios = [point["ratio"] for point in shown]
            axis.plot(ratios, [point[name] for point in shown], marker=".", label=family)
            if name == "retention":
                low = [p["retention"] if p["low"] is None else p["low"] for p in shown]
                high = [p["retention"] if p["high"] is None else p["high"] for p in shown]
                axis.fill_between(ratios, low, high, alpha=0.2)
    for axis, (name, title) in zip(axes, _PANELS, strict=True):
        axis.set_xlabel("channels pruned, per cent")
        axis.set_title(title, fontsize="medium")
        axis.set_ylim(bottom=0 if name != "retention" else None)
    axes[0].axhline(0.9, color="grey", linewidth=0.8, linestyle=":")
    axes[0].legend()
    figure.suptitle(policy)
    figure.savefig(path, dpi=120)
    return path
