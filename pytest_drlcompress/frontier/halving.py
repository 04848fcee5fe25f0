"""Who goes on: successive halving (Jamieson and Talwalkar, 2016) for the smallest that is enough.

Plain halving keeps the best half by return, which is the widest networks'. Here, of candidates
that keep enough already, the smaller is the better.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

MARGIN = 0.02
"""What a few episodes must show above the retention asked for, to count as enough."""

HOPE = 0.1
"""Candidates that fall this far short on a few episodes are not worth a gate."""

FINALISTS = 3
RUNGS = (0.25, 0.5, 1.0)
"""Shares of the full training, rung by rung."""


class Screened(Protocol):
    """What halving looks at."""

    @property
    def retention(self) -> float | None: ...  # noqa: D102
    @property
    def size(self) -> float: ...  # noqa: D102


_Trial = TypeVar("_Trial", bound=Screened)


def rank(trial: Screened, asked: float) -> tuple[int, float]:
    """Sorts the most promising first."""
    kept = -1.0 if trial.retention is None else trial.retention
    enough = kept >= asked + MARGIN
    return (0, trial.size) if enough else (1, -kept)


def survivors(trials: Sequence[_Trial], asked: float) -> list[_Trial]:
    """The better half, rounded up."""
    ordered = sorted(trials, key=lambda trial: rank(trial, asked))
    return ordered[: (len(ordered) + 1) // 2]


def finalists(trials: Sequence[_Trial], asked: float) -> list[_Trial]:
    """At most three to be put before the gate, the smallest first."""
    hopeful = [t for t in trials if t.retention is not None and t.retention >= asked - HOPE]
    best = sorted(hopeful, key=lambda trial: rank(trial, asked))[:FINALISTS]
    return sorted(best, key=lambda trial: trial.size)


def affordable(count: int, seconds: float, left: float, workers: int) -> int:
    """How many of ``count`` trials of ``seconds`` each fit in ``left`` seconds."""
    if seconds <= 0:
        return count
    return min(count, int(left / seconds) * workers)


def pareto(trials: Sequence[_Trial]) -> list[_Trial]:
    """The trials that no other one beats in both size and retention, by size."""
    known = [(t.size, -t.retention, t) for t in trials if t.retention is not None]
    front: list[_Trial] = []
    best = -float("inf")
    for _, lost, trial in sorted(known, key=lambda item: item[:2]):
        if -lost > best:
            front.append(trial)
            best = -lost
    return front
