"""Returns with a known retention, and what 2,000 gates decide on them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.evaluation.eprocess import (
    POOL_SHARE,
    ReturnRange,
    log_e_values,
    log_threshold,
)
from pytest_drlcompress.evaluation.reference import Reference

ALPHA = 0.05
RHO = 0.9
LOG_THRESHOLD = log_threshold(ALPHA)

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


@dataclass(frozen=True)
class Source:
    """Baseline returns above the random policy's mean: exact mean, support ``[0, top]``."""

    draw: Draw
    mean: float
    top: float


def _normal(rng, shape):
    # clipping a symmetric distribution symmetrically leaves its mean
    return np.clip(rng.normal(100, 10, shape), 60, 140)


def _bimodal(rng, shape):
    return np.where(
        rng.random(shape) < 0.5, rng.uniform(20, 40, shape), rng.uniform(150, 170, shape)
    )


def _heavy(rng, shape):
    return np.clip(100 + 12 * rng.standard_t(2, shape), 20, 180)


def _skewed(rng, shape):
    # E min(X, 24) of a Lomax variable with shape 1.5 is 2 (1 - 25^-0.5) = 1.6
    return 120 - 5 * np.minimum(rng.pareto(1.5, shape), 24)


def _tight(rng, shape):
    return np.clip(rng.normal(100, 2, shape), 94, 106)


TIGHT = Source(_tight, 100.0, 106.0)
SOURCES = {
    "normal": Source(_normal, 100.0, 140.0),
    "bimodal": Source(_bimodal, 95.0, 170.0),
    "heavy-tailed": Source(_heavy, 100.0, 180.0),
    "skewed": Source(_skewed, 112.0, 120.0),
}
RANDOM_MEAN = -300.0
SHAPE = (2000, 200)


def simulate(source: Source, damage: str, truth: float, seed: int):
    """Returns of a candidate with retention exactly ``truth``, bounds of the baseline's mean from a
    pool of 2,000 episodes, and the range."""
    rng = np.random.default_rng(seed)
    pool = RANDOM_MEAN + source.draw(rng, (1, 2000))[0]
    reference = Reference(tuple(pool.tolist()), tuple(range(2000)), (0.0, 0.0), (0.0, 0.0))
    own = source.draw(rng, SHAPE)
    low, high = -0.1 * source.mean, 1.05 * source.top
    if damage == "scaled":
        candidate = truth * own
    else:
        floor = {"falls": 0.05 * source.mean, "rare deep falls": low}[damage]
        share = (1 - truth) * source.mean / (source.mean - floor)
        candidate = np.where(rng.random(SHAPE) < share, floor, own)
    declared = ReturnRange(RANDOM_MEAN, RANDOM_MEAN + low, RANDOM_MEAN + high)
    return RANDOM_MEAN + candidate, reference.mean_bounds(POOL_SHARE * ALPHA), declared


def decisions(candidate, baseline, declared, rho=RHO) -> tuple[float, float, float]:
    """Shares of PASS and FAIL of gates that stop at the first crossing, and the mean episodes."""
    crossed = [side >= LOG_THRESHOLD for side in log_e_values(candidate, baseline, declared, rho)]
    cap = candidate.shape[1]
    at_pass, at_fail = (np.where(c.any(1), c.argmax(1), cap) for c in crossed)
    passed, failed = at_pass < at_fail, at_fail < at_pass
    used = np.minimum(np.minimum(at_pass, at_fail) + 1, cap)
    return float(passed.mean()), float(failed.mean()), float(used.mean())
