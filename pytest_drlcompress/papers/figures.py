"""The papers' figures from our cells, as SVG files. Needs matplotlib."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pytest_drlcompress.papers.measured import Measured
from pytest_drlcompress.papers.targets import (
    COST_POLICIES,
    GAMES,
    LEVELS,
    MUJOCO,
    NETWORKS,
    PRUNED,
    game_id,
)

_LINES = (
    ("fp32", "", "black", "-"),
    ("int8 (qat)", "qat", "tab:orange", "--"),
    ("sparse", "sparse@{level}", "tab:blue", "-"),
    ("sparse, int8", "sparse@{level}+qat", "tab:red", "--"),
)
"""Label, recipe, colour and style of the four lines; the first two do not depend on the level."""


def write_figure(folder: Path, name: str, measured: Measured) -> Path:
    """Draw the target ``name`` into ``folder``; the same cells give the same file."""
    drawn = _DRAWN[name](measured)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        drawn.savefig(path, metadata={"Date": None, "Creator": None})
    return path


def _sparsity(measured: Measured, panels: Mapping[str, str], levels: Sequence[int]) -> Figure:
    """Reward against sparsity, a panel for each of ``panels`` (title to policy)."""
    shown = {title: p for title, p in panels.items() if measured.returns(p) is not None}
    columns = 3
    rows = -(-max(len(shown), 1) // columns)
    figure = Figure(figsize=(10, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for (title, policy), axis in zip(shown.items(), axes, strict=False):
        for label, recipe, color, style in _LINES:
            _line(axis, measured, policy, levels, recipe, label=label, color=color, style=style)
        axis.set_title(f"{title} ({policy})", fontsize="medium")
        axis.set_xlabel("zeros, per cent")
        axis.set_ylabel("return")
        axis.set_xlim(min(levels) - 3, 102)
        axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
    for axis in axes:  # those that are left
        axis.set_axis_off()
    # not every panel has every line
    labels = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.axes[0].legend(labels.values(), labels.keys(), fontsize="small")
    return figure


def _line(
    axis: Any,
    measured: Measured,
    policy: str,
    levels: Sequence[int],
    recipe: str,
    *,
    label: str,
    color: str,
    style: str,
) -> None:
    if "{level}" not in recipe:
        share = 1.0 if not recipe else measured.estimate(policy, recipe)
        if share is not None:
            height = measured.gained(policy, share)
            axis.axhline(height, color=color, linestyle=style, linewidth=1, label=label)
        return
    points = []
    for level in levels:
        cell = measured.cell(policy, "variants", recipe.format(level=level))
        if cell is not None and cell["retention"]["estimate"] is not None:
            points.append((level, cell["retention"]))
    if not points:
        return
    heights = [measured.gained(policy, kept["estimate"]) for _, kept in points]
    axis.plot(
        [level for level, _ in points], heights, style, color=color, marker="o", markersize=3,
        label=label,
    )  # fmt: skip
    for level, kept in points:
        if kept["interval"] is not None:
            ends = [measured.gained(policy, end) for end in kept["interval"]]
            axis.plot([level, level], ends, color=color, alpha=0.3, linewidth=3)


def _costs(measured: Measured) -> Figure:
    """Time, memory and energy against the pruned share; int8 as marks at 0."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels: tuple[tuple[str, Callable[[Mapping[str, Any]], float | None]], ...] = (
        ("latency ratio", lambda cell: float(cell["latency"]["estimate"])),
        ("file, bytes", lambda cell: float(cell["bytes"])),
        ("energy ratio", lambda cell: cell["energy"]["ratio"]),
    )
    recipes = {0: "fp32", **{ratio: f"l2@{ratio}" for ratio in PRUNED}}
    for axis, (title, read) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        reason = ""
        for number, policy in enumerate(COST_POLICIES):
            color, points = f"C{number}", []
            for ratio, recipe in recipes.items():
                cell = measured.cell(policy, "costs", recipe)
                if cell is not None and read(cell) is not None:
                    points.append((ratio, read(cell)))
                elif cell is not None:
                    reason = str(cell["energy"].get("reason", ""))
            if points:
                axis.plot(*zip(*points, strict=True), marker=".", color=color, label=policy)
            for method, marker in (("ptdq", "s"), ("ptsq", "^")):
                cell = measured.cell(policy, "costs", method)
                if cell is not None and read(cell) is not None:
                    axis.plot([0], [read(cell)], marker, color=color, markersize=5, mfc="none")
        if reason:
            axis.text(0.5, 0.5, f"NOT_MEASURED\n{_wrapped(reason)}", ha="center", va="center",
                      transform=axis.transAxes, fontsize="small")  # fmt: skip
        axis.set_title(title, fontsize="medium")
        axis.set_xlabel("channels pruned by L2, per cent")
        axis.set_ylim(bottom=0)
    figure.axes[0].legend(fontsize="small", title="square: ptdq, triangle: ptsq")
    return figure


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 34)


_DRAWN: Mapping[str, Callable[[Measured], Figure]] = {
    "lu-figures": _costs,
    "ivanov-figure4": partial(_sparsity, panels=MUJOCO, levels=LEVELS),
    **{
        name: partial(
            _sparsity,
            panels={game: game_id(game, network) for game in GAMES},
            levels=LEVELS[:-1],
        )
        for name, network in NETWORKS.items()
    },
}
