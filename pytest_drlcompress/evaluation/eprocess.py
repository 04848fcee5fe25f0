"""Testing the retained share of a return by betting, valid at whatever episode it stops.

``R`` is the mean return of acting at random, ``B`` and ``C`` episode returns of baseline
and candidate, two independent samples. The retention ``r = (E[C] - R) / (E[B] - R)``
reaches ``rho`` exactly if ``E[y] >= 0`` for ``y = (C - R) - rho (B - R)``. Returns lie in
a declared range ``[low, high]``, hence ``-L <= y <= U`` with ``L = rho (high - R) - (low - R)``
and ``U = (high - R) - rho (low - R)``. Two bettors start with a wealth of 1 and bet fixed
shares ``l`` of it on every episode::

    E_pass(n) = mean over l of prod_i (1 + l y_i / L)     against E[y] <= 0
    E_fail(n) = mean over l of prod_i (1 - l y_i / U)     against E[y] >= 0

While the hypothesis a bettor bets against is true, its wealth is a non-negative
supermartingale, so by Ville's inequality it *ever* reaches ``1 / alpha`` with probability at
most ``alpha``, however often one looks (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 2024; Ville 1939).

**Returns outside the range.** ``E_pass`` needs ``y >= -L`` only: every candidate return at
least ``low``, every baseline return at most ``high``. ``E_fail`` needs the opposite half. So a
return that leaves the range ends just the side that relied on it: its wealth is 0 from
then on. The guarantee of each side assumes its own half of the range. Where that half is true
the side never ends, and where it ends its wealth only got smaller; either way it crosses no
more often than before. The other side never assumed anything about that half, so it goes on
as it was: a badly broken candidate can still FAIL, an improved one PASS.

A side that ended must never be revived, by skipping the return, clipping it or starting
afresh: a candidate that falls once in twenty episodes would then be judged by the other
nineteen, and the bettor would keep what it won while being spared its one great loss. Here
both processes are recomputed from all episodes, which leaves nothing to revive. What no
such test can exclude is a loss beyond the range too rare to have been seen yet.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BETS = (0.15, 0.4, 0.7, 0.97)
"""Shares of the wealth bet on an episode, relative to the largest that cannot go bankrupt."""

PRECISION = 5e-4
"""How far an end of the interval may lie outside the exact one (relative to ends beyond 1)."""


@dataclass(frozen=True)
class ReturnRange:
    """The declared range ``[low, high]`` of an episode's return, around the random policy's mean.

    Raises:
        ValueError: unless ``low < random_mean < high``.
    """

    random_mean: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.random_mean < self.high:
            raise ValueError(
                f"the range [{self.low:g}, {self.high:g}] must enclose the random policy's mean"
                f" return {self.random_mean:g}"
            )


def log_e_values(
    candidate: NDArray[Any],
    baseline: NDArray[Any],
    declared: ReturnRange,
    rho: float | NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``log E_pass(n)`` and ``log E_fail(n)`` for ``n = 1 ..``; minus infinity once a side ended.

    ``candidate`` and ``baseline`` are returns ``(..., episodes)``, ``rho`` a number or an
    array ``(...,)``; the leading axes broadcast, and so are those of both results
    ``(..., episodes)``. For ``rho < 0`` the two ends of the baseline's range swap roles.

    Raises:
        ValueError: a return that is not finite.
    """
    if not (np.all(np.isfinite(candidate)) and np.all(np.isfinite(baseline))):
        raise ValueError("a return is NaN or infinite")
    limit = np.asarray(rho, np.float64)[..., None]
    low, high = declared.low - declared.random_mean, declared.high - declared.random_mean
    y = (candidate - declared.random_mean) - limit * (baseline - declared.random_mean)
    most, least = np.maximum(limit * low, limit * high), np.minimum(limit * low, limit * high)
    too_low, too_high = baseline < declared.low, baseline > declared.high
    ends_pass = (candidate < declared.low) | np.where(limit >= 0, too_high, too_low)
    ends_fail = (candidate > declared.high) | np.where(limit >= 0, too_low, too_high)
    return _log_wealth(y / (most - low), ends_pass), _log_wealth(-y / (high - least), ends_fail)


def retention_interval(
    candidate: NDArray[Any],
    baseline: NDArray[Any],
    declared: ReturnRange,
    *,
    rho: float,
    alpha: float,
    span: tuple[float, float] = (-1.0, 2.0),
) -> tuple[float, float]:
    """The values of the retention that the returns so far do not contradict.

    A confidence sequence: ``r'`` is excluded from below if ``E_pass`` at ``rho = r'`` reached
    ``1 / alpha`` at any episode so far, from above if ``E_fail`` did; each end is right with
    probability ``1 - alpha`` at all episodes together. The gate's own ``rho`` is tried first,
    so the interval never disagrees with the verdict: PASS puts the lower end at or
    above ``rho``, FAIL the upper end at or below it, and otherwise ``rho`` lies between. Ends
    are rounded outward by at most ``PRECISION``; one that equals an end of ``span``, where the
    search stops, is open.
    """
    threshold = math.log(1 / alpha)

    def excluded(side: int) -> Callable[[NDArray[np.float64]], NDArray[np.bool_]]:
        return lambda limits: (
            log_e_values(candidate, baseline, declared, limits)[side].max(axis=-1) >= threshold
        )

    bottom, top = min(span[0], rho), max(span[1], rho)
    lower = _edge(excluded(0), bottom, rho, top)
    upper = _edge(excluded(1), top, rho, bottom)
    # both sides can exclude the same value when the data change in mid-course: then the
    # set is empty, and what lies between the two edges is what they disagree about
    return min(lower, upper), max(lower, upper)


def more_episodes(log_e: float, episodes: int, alpha: float) -> int | None:
    """How many more episodes should decide if the evidence keeps growing as it did.

    ``episodes * log(1 / alpha) / log E`` in all; ``None`` where it does not grow, or so
    slowly that not even a hundred times as many would do.
    """
    needed = math.log(1 / alpha)
    if log_e < needed / 100:
        return None
    return max(0, math.ceil(episodes * needed / log_e) - episodes)


def _log_wealth(gain: NDArray[Any], ends: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``log mean_l prod (1 + l gain)`` over the last axis; nothing is left after an end."""
    ended = np.logical_or.accumulate(np.broadcast_to(ends, gain.shape), axis=-1)
    steps = np.log1p(np.array(BETS)[:, None] * np.where(ended, 0.0, gain)[..., None, :])
    total: NDArray[np.float64] = np.logaddexp.reduce(np.cumsum(steps, axis=-1), axis=-2)
    return np.where(ended, -np.inf, total - math.log(len(BETS)))


def _edge(
    excluded: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    outside: float,
    middle: float,
    inside: float,
) -> float:
    """The last excluded value on the way from ``outside`` to ``inside`` (``outside`` if none)."""
    if excluded(np.array([middle]))[0]:
        outside = middle
    else:
        inside = middle
    # relative to ends beyond 1, where floats may be coarser than PRECISION
    while abs(inside - outside) > PRECISION * max(1.0, min(abs(inside), abs(outside))):
        grid = np.linspace(outside, inside, 32)
        kept = ~excluded(grid)
        # the ends of the bracket are settled: the outer one excluded or open, the inner one kept
        kept[0], kept[-1] = False, True
        first = int(np.argmax(kept))
        outside, inside = float(grid[first - 1]), float(grid[first])
    return outside
