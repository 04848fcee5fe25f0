"""Batch-1 latency of an artifact, as a ratio to another measured interleaved with it.

On a shared machine absolute times say little: blocks of the two alternate (ABBA), so that
whatever slows the machine slows both, and the median of the block ratios decides.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from pytest_drlcompress.runtime.controller import Controller

BLOCKS = 40
LOOKS = (1, 3, 9)
"""The blocks grow to these multiples until the limit is decided."""

CALLS = 100
MAX_MISS_PROBABILITY = 1e-3
"""Share of calls that may miss a deadline; zero misses in 2,995 calls show it at 95 %."""

DEADLINE_CALLS = 10_000
_BLOCK_SECONDS = 2e-3
_FEWEST_CALLS = 7
_WARM_UP_CALLS = 200
_WARM_UP_SECONDS = 0.2


@dataclass(frozen=True)
class LatencyRatio:
    """Candidate against baseline over ``blocks`` pairs of blocks.

    ``ratio`` is the median of the pairs' ratios, ``interval`` its two-sided distribution-free
    interval: each end alone has confidence ``1 - alpha``, however often it was looked at.
    ``baseline_us`` and ``candidate_us`` are medians in microseconds per call, of this machine at
    this moment.
    """

    ratio: float
    interval: tuple[float, float]
    baseline_us: float
    candidate_us: float
    blocks: int


@dataclass(frozen=True)
class Deadline:
    """``misses`` of ``calls`` took longer than the deadline.

    ``interval`` encloses the probability of a miss (Clopper and Pearson, 1934); each end alone
    has confidence ``1 - alpha``. ``p99_us`` is the 99th percentile in microseconds.
    """

    calls: int
    misses: int
    interval: tuple[float, float]
    p99_us: float


def measure_latency_ratio(
    baseline: Controller,
    candidate: Controller,
    observation: NDArray[Any],
    *,
    alpha: float = 0.05,
    limit: float | None = None,
    blocks: int = BLOCKS,
    calls: int = CALLS,
) -> LatencyRatio:
    """Time ``act_one`` of both on one observation; see ``compare_calls``."""
    first, second = (partial(c.act_one, observation) for c in (baseline, candidate))
    return compare_calls(first, second, alpha=alpha, limit=limit, blocks=blocks, calls=calls)


def compare_calls(
    baseline: Callable[[], Any],
    candidate: Callable[[], Any],
    *,
    alpha: float = 0.05,
    limit: float | None = None,
    blocks: int = BLOCKS,
    calls: int = CALLS,
) -> LatencyRatio:
    """Time both in alternating blocks of at most ``calls`` calls.

    With a ``limit``, ``blocks`` grow threefold, twice at most, while the interval encloses it;
    each of the three looks spends a third of ``alpha``.
    """
    calls = min(warm_up(act) * calls // CALLS for act in (baseline, candidate))
    calls = max(calls, _FEWEST_CALLS)
    looks = (1,) if limit is None else LOOKS
    times: list[tuple[float, float]] = []
    for look in looks:
        while len(times) < look * blocks:
            if len(times) % 2:
                second, first = (
                    median_call_seconds(candidate, calls),
                    median_call_seconds(baseline, calls),
                )
            else:
                first, second = (
                    median_call_seconds(baseline, calls),
                    median_call_seconds(candidate, calls),
                )
            times.append((first, second))
        measured = _ratio(np.array(times), alpha / len(looks))
        if limit is None or not measured.interval[0] <= limit <= measured.interval[1]:
            break
    return measured


def seconds_inside(controller: Controller) -> float | None:
    """Seconds of one action without the call from Python; ``None`` where it cannot loop itself."""
    repeat = getattr(controller, "repeat_network", None)
    if repeat is None:
        return None
    count = max(1, int(_BLOCK_SECONDS / max(median_call_seconds(controller.run_network, 7), 1e-7)))
    return median_call_seconds(partial(repeat, count), BLOCKS) / count


def measure_deadline(
    act: Callable[[], Any], seconds: float, *, alpha: float = 0.05, calls: int = DEADLINE_CALLS
) -> Deadline:
    """How often does a call take longer than ``seconds``?"""
    warm_up(act)
    times = _times(act, calls)
    misses = int(np.count_nonzero(times > seconds))
    return Deadline(
        calls=calls,
        misses=misses,
        interval=miss_interval(misses, calls, alpha),
        p99_us=float(np.quantile(times, 0.99) * 1e6),
    )


def miss_interval(misses: int, calls: int, alpha: float) -> tuple[float, float]:
    """Clopper and Pearson's bounds on a probability, each with confidence ``1 - alpha``."""
    low = float(beta.ppf(alpha, misses, calls - misses + 1)) if misses else 0.0
    high = float(beta.ppf(1 - alpha, misses + 1, calls - misses)) if misses < calls else 1.0
    return low, high


def median_interval(ordered: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """Order statistics that enclose the median, each side with confidence ``1 - alpha``.

    ``ordered`` is sorted. Too few values for that confidence give the extremes.
    """
    count = len(ordered)
    below = max(int(binom.ppf(alpha, count, 0.5)) - 1, 0)
    return float(ordered[below]), float(ordered[count - 1 - below])


def _ratio(times: NDArray[np.float64], alpha: float) -> LatencyRatio:
    ratios = np.sort(times[:, 1] / times[:, 0])
    return LatencyRatio(
        ratio=float(np.median(ratios)),
        interval=median_interval(ratios, alpha),
        baseline_us=float(np.median(times[:, 0]) * 1e6),
        candidate_us=float(np.median(times[:, 1]) * 1e6),
        blocks=len(times),
    )


def warm_up(act: Callable[[], Any]) -> int:
    """Call ``act`` for a while; then how many calls fill a block, ``CALLS`` at most."""
    start = time.perf_counter()
    for _ in range(_WARM_UP_CALLS):
        act()
        if time.perf_counter() - start > _WARM_UP_SECONDS:
            break
    return max(min(CALLS, int(_BLOCK_SECONDS / median_call_seconds(act, _FEWEST_CALLS))), 1)


def median_call_seconds(act: Callable[[], Any], calls: int) -> float:
    """Seconds per call: the median of single calls, which a preempted one cannot move."""
    return float(np.median(_times(act, calls)))


def _times(act: Callable[[], Any], calls: int) -> NDArray[np.float64]:
    samples = np.empty(calls)
    clock = time.perf_counter
    for call in range(calls):
        start = clock()
        act()
        samples[call] = clock() - start
    return samples
