"""Testing the retained share of a return by betting, valid at whatever episode it stops.

``R`` is the mean return of acting at random, ``C`` the candidate's episode returns and ``B`` the
baseline's mean return. The retention ``r = (E[C] - R) / (B - R)`` reaches ``rho`` exactly if
``E[C] - R >= rho (B - R)``. What is known of ``B`` is the mean of a recorded pool, with bounds
``B- <= B <= B+`` at its own error (``Reference.mean_bounds``): PASS is held against ``B+`` and
FAIL against ``B-``, so that a lucky or unlucky pool decides nothing. Two bettors start with a
wealth of 1 and bet fixed shares ``l`` of it, weighted ``w``, on every episode::

    E_pass(n) = sum over l of w_l prod_i (1 + l y_i / L)    y = C - R - rho (B+ - R)
    E_fail(n) = sum over l of w_l prod_i (1 - l y_i / U)    y = C - R - rho (B- - R)

with ``L`` and ``U`` the largest loss and gain in the declared range ``[low, high]`` of a return.
While the hypothesis a bettor bets against is true, its wealth is a non-negative
supermartingale, so by Ville's inequality it *ever* reaches ``1 / a`` with probability at
most ``a``, however often one looks (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 2024; Ville 1939). This holds *given the pool*,
whenever its bounds hold: ``POOL_SHARE`` of ``alpha`` is kept for the pools whose bounds do not, and
the bettors have ``BETTING_SHARE`` of it.

**Returns outside the range.** A share ``l`` is bankrupt when a return loses it everything, at
``y <= -L / l``: the largest one just beyond the range, the smallest one 33 times as far. A bankrupt
share ends for good; the others have paid for the loss like for any other and go on. So each
share's guarantee assumes only what that share can pay: a candidate with one fall below the
range may still PASS by the small shares, at their pace and on the strength of many more
episodes, a badly broken one FAILs, an improved one PASSes.

A bankrupt share must never be revived, by skipping the return, clipping it or starting
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

BETS = (0.03, 0.1, 0.3, 0.6, 0.99)
"""Shares of the wealth bet on an episode, relative to the largest that cannot go bankrupt.

Large ones decide tight tasks soon, those in the middle noisy ones; small ones stand falls.
"""

WEIGHTS = (0.03, 0.07, 0.25, 0.30, 0.35)
"""The part of the wealth that each share begins with."""

BETTING_SHARE = 0.9
"""The part of ``alpha`` that the bettors have."""

POOL_SHARE = 0.02
"""The part of ``alpha`` kept for a pool whose mean is further off than its bounds say.

One pool in a thousand at the default ``alpha``. What is left of ``alpha`` is for bounds that hold a
little less often than they say, as those of very skewed returns may.
"""

ROUNDING = 5e-4
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


def log_threshold(alpha: float) -> float:
    """What the logarithm of an e-value must reach to decide."""
    return -math.log(BETTING_SHARE * alpha)


def log_e_values(
    candidate: NDArray[Any],
    baseline: tuple[float, float],
    declared: ReturnRange,
    rho: float | NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``log E_pass(n)`` and ``log E_fail(n)`` for ``n = 1 ..``; minus infinity when bankrupt.

    ``candidate`` holds returns ``(..., episodes)``, ``baseline`` the bounds of the baseline's
    mean return, ``rho`` a number or an array ``(...,)``; the leading axes broadcast, and so are
    those of both results ``(..., episodes)``.

    Raises:
        ValueError: a return that is not finite.
    """
    if not (np.all(np.isfinite(candidate)) and np.all(np.isfinite(baseline))):
        raise ValueError("a return is NaN or infinite")
    zero = declared.random_mean
    limit = np.asarray(rho, np.float64)[..., None]
    low, high = declared.low - zero, declared.high - zero
    ends = limit * (baseline[0] - zero), limit * (baseline[1] - zero)
    most, least = np.maximum(*ends), np.minimum(*ends)  # a negative limit swaps them
    gain = candidate - zero
    # beyond the range there is no loss in it; any scale is valid, and this one moderate
    smallest = 0.05 * (high - low)
    loss = np.maximum(most - low, smallest)
    win = np.maximum(high - least, smallest)
    return _log_wealth((gain - most) / loss), _log_wealth((least - gain) / win)


def retention_interval(
    candidate: NDArray[Any],
    baseline: tuple[float, float],
    declared: ReturnRange,
    *,
    rho: float,
    alpha: float,
    span: tuple[float, float] = (-1.0, 2.0),
) -> tuple[float, float]:
    """The values of the retention that the returns so far do not contradict.

    A confidence sequence: ``r'`` is excluded from below if ``E_pass`` at ``rho = r'`` reached
    the threshold at any episode so far, from above if ``E_fail`` did; each end is right with
    probability ``1 - alpha`` at all episodes together, the pool's own error included. The
    gate's own ``rho`` is tried first, so the interval never disagrees with the verdict: PASS puts
    the lower end at or above ``rho``, FAIL the upper end at or below it, and otherwise ``rho``
    lies between. Ends are rounded outward by at most ``ROUNDING``; one that equals an end of
    ``span``, where the search stops, is open.
    """
    threshold = log_threshold(alpha)

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

    ``episodes * threshold / log E`` in all (logarithms); ``None`` where it does not grow, or so
    slowly that not even a hundred times as many would do.
    """
    needed = log_threshold(alpha)
    if log_e < needed / 100:
        return None
    return max(0, math.ceil(episodes * needed / log_e) - episodes)


def _log_wealth(gain: NDArray[Any]) -> NDArray[np.float64]:
    """``log sum_l w_l prod (1 + l gain)`` over the last axis."""
    shares = np.array(BETS)[:, None]
    with np.errstate(divide="ignore"):
        steps = np.log1p(np.maximum(shares * gain[..., None, :], -1.0))
    wealth = np.cumsum(steps, axis=-1) + np.log(WEIGHTS)[:, None]
    total: NDArray[np.float64] = np.logaddexp.reduce(wealth, axis=-2)
    return total


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
    # relative to ends beyond 1, where floats may be coarser than ROUNDING
    while abs(inside - outside) > ROUNDING * max(1.0, min(abs(inside), abs(outside))):
        grid = np.linspace(outside, inside, 32)
        kept = ~excluded(grid)
        # the ends of the bracket are settled: the outer one excluded or open, the inner one kept
        kept[0], kept[-1] = False, True
        first = int(np.argmax(kept))
        outside, inside = float(grid[first - 1]), float(grid[first])
    return outside
