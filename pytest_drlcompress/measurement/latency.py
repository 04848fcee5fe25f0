"""Batch-1 latency of an artifact, as a ratio to another measured interleaved with it.

On a shared machine absolute times say little: blocks of the two alternate (ABBA), so that
whatever slows the machine slows both, and the median of the block ratios decides.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from pytest_drlcompress.runtime.controller import Controller

BLOCKS = 40
CALLS = 100
_WARM_UP_CALLS = 200


@dataclass(frozen=True)
class LatencyRatio:
    """Candidate against baseline over ``blocks`` pairs of blocks.

    ``ratio`` is the median of the pairs' ratios, ``interval`` its two-sided distribution-free
    interval: each end alone has confidence ``1 - alpha``. ``baseline_us`` and ``candidate_us``
    are medians in microseconds per call, of this machine at this moment.
    """

    ratio: float
    interval: tuple[float, float]
    baseline_us: float
    candidate_us: float
    blocks: int


def measure_latency_ratio(
    baseline: Controller,
    candidate: Controller,
    observation: NDArray[Any],
    *,
    alpha: float = 0.05,
    blocks: int = BLOCKS,
    calls: int = CALLS,
) -> LatencyRatio:
    """Time ``act_one`` of both on one observation in ``blocks`` alternating pairs."""
    for controller in (baseline, candidate):
        _time(controller, observation, _WARM_UP_CALLS)
    times = np.empty((blocks, 2))
    for block in range(blocks):
        order = (0, 1) if block % 2 == 0 else (1, 0)
        for side in order:
            times[block, side] = _time((baseline, candidate)[side], observation, calls)
    ratios = np.sort(times[:, 1] / times[:, 0])
    low, high = median_interval(ratios, alpha)
    return LatencyRatio(
        ratio=float(np.median(ratios)),
        interval=(low, high),
        baseline_us=float(np.median(times[:, 0]) * 1e6),
        candidate_us=float(np.median(times[:, 1]) * 1e6),
        blocks=blocks,
    )


def median_interval(ordered: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """Order statistics that enclose the median, each side with confidence ``1 - alpha``.

    ``ordered`` is sorted. Too few values for that confidence give the extremes.
    """
    count = len(ordered)
    below = max(int(binom.ppf(alpha, count, 0.5)) - 1, 0)
    return float(ordered[below]), float(ordered[count - 1 - below])


def _time(controller: Controller, observation: NDArray[Any], calls: int) -> float:
    """Seconds per call: the median of single calls, which a preempted one cannot move."""
    samples = np.empty(calls)
    clock, act = time.perf_counter, controller.act_one
    for call in range(calls):
        start = clock()
        act(observation)
        samples[call] = clock() - start
    return float(np.median(samples))
