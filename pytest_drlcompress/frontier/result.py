"""What a search found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.frontier.costs import KNOWN, beyond
from pytest_drlcompress.frontier.halving import pareto
from pytest_drlcompress.frontier.text import frontier_table
from pytest_drlcompress.frontier.trial import Trial


@dataclass(frozen=True)
class Frontier:
    """All trials and the winner.

    ``winner`` is the smallest artifact that a gate has shown to keep the return within
    ``budgets``; ``None`` where there is none, and ``reason`` says why. ``verdicts`` are the
    gates of the finalists by recipe: the probability that any passed although it keeps less is at
    most ``alpha``. ``command`` makes the winner again.
    """

    policy: str
    budgets: Mapping[str, float]
    min_retention: float
    alpha: float
    size_name: str
    trials: Sequence[Trial]
    verdicts: Mapping[str, Verdict]
    winner: Trial | None
    reason: str
    command: str

    @property
    def front(self) -> list[Trial]:
        """The trials that no other one beats in both size and retention."""
        return pareto(self.trials)

    def rows(self) -> list[dict[str, Any]]:
        """A row a trial, by size: what the table, the CSV file and the plot show."""
        front = {trial.recipe for trial in self.front}
        return [self._row(trial, front) for trial in sorted(self.trials, key=lambda t: t.size)]

    def _row(self, trial: Trial, front: set[str]) -> dict[str, Any]:
        verdict = self.verdicts.get(trial.recipe)
        return {
            "policy": self.policy,
            "recipe": trial.recipe,
            **{name: trial.figures.get(name) for name in (*KNOWN, "zstd")},
            "retention": trial.retention if verdict is None else verdict.estimate,
            "low": verdict.interval[0] if verdict and verdict.interval else None,
            "high": verdict.interval[1] if verdict and verdict.interval else None,
            "episodes": trial.episodes if verdict is None else verdict.sample_size,
            "verdict": verdict.state.value if verdict else "",
            "beyond": beyond(trial.figures, self.budgets),
            "on_front": trial.recipe in front,
            "winner": trial is self.winner,
            "seconds": trial.seconds,
        }

    def _repr_markdown_(self) -> str:
        """For notebooks."""
        return f"{frontier_table(self.rows())}\n\n{self.reason}"


def passed(verdict: Verdict) -> bool:
    """Whether a gate has shown it."""
    return verdict.state is State.PASS
