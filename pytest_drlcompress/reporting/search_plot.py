"""A search as a figure: return kept against flash, every trial and the front.

Needs matplotlib (``pip install 'pytest-drlcompress[plot]'``).
"""

from pathlib import Path

from matplotlib.figure import Figure

from pytest_drlcompress.search.run import Outcome


def write_front(path: Path, outcome: Outcome) -> None:
    """A PNG at ``path``."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for trial in outcome.trials:
        axes.plot(trial.figures["flash"], trial.kept, ".", color="grey")
    axes.plot(
        [trial.figures["flash"] for trial in outcome.front],
        [trial.kept for trial in outcome.front],
        drawstyle="steps-post",
        label="front",
    )
    if outcome.winner is not None:
        winner = outcome.winner
        axes.plot(winner.figures["flash"], winner.kept, "*", markersize=12, label=winner.entry)
    if (limit := outcome.budgets.get("flash")) is not None:
        axes.axvline(limit, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("flash, bytes")
    axes.set_ylabel("share of the return kept (screening episodes)")
    axes.set_title(outcome.policy)
    axes.legend()
    figure.savefig(path, dpi=120)
