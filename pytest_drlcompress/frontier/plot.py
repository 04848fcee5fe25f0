"""The Pareto front as a figure: return kept against size. Needs matplotlib."""

from pathlib import Path

from matplotlib.figure import Figure

from pytest_drlcompress.frontier.result import Frontier


def write_plot(path: Path, found: Frontier) -> Path:
    """A PNG: every trial, the front as a line, the winner ringed, intervals of the gates."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    name = found.size_name
    rows = [row for row in found.rows() if row[name] is not None and row["retention"] is not None]
    for row in rows:
        axis.plot(row[name], row["retention"], ".", color="tab:blue" if row["on_front"] else "grey")
        if row["low"] is not None:
            axis.plot([row[name]] * 2, [row["low"], row["high"]], color="tab:blue", linewidth=1)
        if row["winner"]:
            axis.plot(row[name], row["retention"], "o", mfc="none", color="tab:green", ms=12)
        if row["on_front"] or row["winner"]:
            label = row["recipe"].split(":")[0]
            axis.annotate(label, (row[name], row["retention"]), fontsize="x-small", rotation=20)
    front = [row for row in rows if row["on_front"]]
    axis.step(
        [row[name] for row in front], [row["retention"] for row in front], where="post", alpha=0.4
    )
    axis.axhline(found.min_retention, color="grey", linewidth=0.8, linestyle=":")
    if name in found.budgets:
        axis.axvline(found.budgets[name], color="tab:red", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    axis.set_xlabel(f"{name}, bytes")
    axis.set_ylabel("share of the return kept")
    axis.set_title(found.policy, fontsize="medium")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
