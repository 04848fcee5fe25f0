"""The recorded reference of a baseline: its returns, and those of policies that know nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_drlcompress.core.errors import BaselineError

RECORDED_SEEDS = 2**20
"""Recorded reference episodes use seeds below, candidates use seeds from here to 2**31."""

POOL_EPISODES = 2000
"""Recorded baseline episodes, unless more are asked for.

The declared range comes from the first so many, also of a larger pool: a test that goes on with
a pool that has grown must be the test that was begun.
"""


@dataclass(frozen=True)
class Reference:
    """What the baseline and two policies that know nothing earn: undiscounted episode returns.

    ``returns`` is the baseline's pool with the ``seeds`` of its episodes, ``random`` and
    ``zero`` those of uniformly random actions and of the zero action.

    Raises:
        BaselineError: a return that is not finite; seeds that are missing, repeated or not
            in ``[0, RECORDED_SEEDS)``.
    """

    returns: tuple[float, ...]
    seeds: tuple[int, ...]
    random: tuple[float, ...]
    zero: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("returns", "random", "zero"):
            values: tuple[float, ...] = getattr(self, name)
            for position, value in enumerate(values):
                if not math.isfinite(value):
                    raise BaselineError(
                        f"the reference is damaged: {name}[{position}] is {value}; record it again"
                    )
        if len(self.seeds) != len(self.returns) or len(set(self.seeds)) != len(self.seeds):
            raise BaselineError(
                f"the reference is damaged: {len(self.returns)} returns need as many different"
                f" seeds, not {len(set(self.seeds))}; record it again"
            )
        if self.seeds and not 0 <= min(self.seeds) <= max(self.seeds) < RECORDED_SEEDS:
            raise BaselineError(
                f"the reference's seeds {min(self.seeds)} .. {max(self.seeds)} must lie in"
                f" 0 .. {RECORDED_SEEDS - 1}: candidates use those above; record it again"
            )

    @property
    def mean(self) -> float:
        """Mean return of the whole pool."""
        return _moments(self.returns)[0]

    @property
    def random_mean(self) -> float:
        """Mean return of random actions, the zero point of the retention."""
        return _moments(self.random)[0]

    @property
    def low(self) -> float:
        """Lower end of the declared range: 10 % of the baseline's gain below all seen.

        Below the random policy's mean, or below the baseline's worst episode if that was worse.
        """
        first = self.returns[:POOL_EPISODES]
        return min(self.random_mean, *first) - 0.1 * (_moments(first)[0] - self.random_mean)

    @property
    def high(self) -> float:
        """Upper end of the declared range: 5 % of its gain above the baseline's best."""
        best = max(self.returns[:POOL_EPISODES])
        return best + 0.05 * (best - self.random_mean)

    def mean_bounds(self, p: float) -> tuple[float, float]:
        """Bounds of the baseline's true mean return; each is wrong with probability ``p``.

        Student's t, corrected for the skewness of returns with rare falls or rare great
        successes (Hall, "On the removal of skewness by transformation", JRSS B 1992, to first
        order). Simulated on nine shapes, with 2,000 episodes each bound holds as stated.
        """
        from scipy.stats import skew, t

        mean, deviation = _moments(self.returns)
        if deviation == 0:
            return mean, mean
        count = len(self.returns)
        quantile = float(t.isf(p, count - 1))
        shift = float(skew(self.returns)) * (2 * quantile**2 + 1) / (6 * math.sqrt(count))
        # few episodes tell little of their skewness; it must not turn a bound around
        shift = max(-quantile / 2, min(shift, quantile / 2))
        error = deviation / math.sqrt(count)
        return mean - error * (quantile - shift), mean + error * (quantile + shift)

    def competence(self, alpha: float = 0.05) -> str | None:
        """``None``, or why the baseline is no yardstick for what compression may lose.

        It must beat both the random and the zero-action policy: a one-sided Welch t-test at
        ``alpha`` each. (Standing still earns an Ant 1,000; a policy that earns less has
        learned nothing.)
        """
        samples = (
            ("baseline", self.returns),
            ("random policy", self.random),
            ("zero-action policy", self.zero),
        )
        for name, values in samples:
            if len(values) < 2:
                return (
                    f"The {name} has {len(values)} recorded episodes where at least 2 are"
                    " needed: record the reference again."
                )
        for name, values in samples[1:]:
            p = _welch_p(self.returns, values)
            if p >= alpha:
                return (
                    f"The baseline does not significantly beat the {name} (mean return"
                    f" {self.mean:.6g} against {_moments(values)[0]:.6g}, p = {p:.2g}), so there"
                    " is nothing to retain. Check that environment and observation"
                    " normalization are those it was trained with."
                )
        return None


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; those of a constant are exact, free of rounding."""
    if min(values) == max(values):
        return float(values[0]), 0.0
    return float(np.mean(values)), float(np.std(values, ddof=1))


def _welch_p(sample: Sequence[float], other: Sequence[float]) -> float:
    """One-sided p-value for ``E[sample] > E[other]`` by Welch's t-test."""
    from scipy.stats import ttest_ind_from_stats

    (mean, deviation), (other_mean, other_deviation) = _moments(sample), _moments(other)
    if deviation == other_deviation == 0:
        # two constants: no noise that a test could weigh
        return 0.0 if mean > other_mean else 1.0
    result = ttest_ind_from_stats(
        mean,
        deviation,
        len(sample),
        other_mean,
        other_deviation,
        len(other),
        equal_var=False,
        alternative="greater",
    )
    return float(result.pvalue)
