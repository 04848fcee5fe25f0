"""What the retention gate promises, in short; ``gate_simulation.py`` prints the whole tables."""

import numpy as np
import pytest
from gate_simulation import (
    ALPHA,
    SHAPES,
    conditional_errors,
    paired_error,
    power,
    raised_caps,
    reference,
)

from pytest_drlcompress.evaluation.eprocess import POOL_SHARE


@pytest.mark.parametrize("name", SHAPES)
def test_errors_stay_below_alpha_over_all_pools_and_given_the_worst_of_forty(name):
    mean, worst = conditional_errors(
        SHAPES[name], np.random.default_rng(5), pools=40, screen=20, gates=1000, worst=1
    )
    assert np.all(mean <= ALPHA)
    assert np.all(worst <= ALPHA)


def test_raising_the_cap_and_the_pool_until_it_decides_keeps_alpha():
    rates = raised_caps(SHAPES["bimodal (cv 0.6)"], np.random.default_rng(6), gates=200)
    assert np.all(rates <= ALPHA)
    assert np.all(np.diff(rates, axis=0) >= 0)


def test_pairing_with_the_pools_episodes_would_not_keep_it():
    """Why the pool enters as bounds of its mean."""
    rng = np.random.default_rng(7)
    assert paired_error(SHAPES["bimodal (cv 0.6)"], rng, pools=40, gates=200) > 1.5 * ALPHA


@pytest.mark.parametrize("name", SHAPES)
def test_bounds_of_the_mean_hold_as_often_as_they_say(name):
    shape, rng = SHAPES[name], np.random.default_rng(8)
    mean = shape.baseline(rng, 4_000_000).mean()
    p, pools = 10 * POOL_SHARE * ALPHA, 500
    bounds = np.array(
        [
            reference(shape.random_mean, shape.baseline(rng, 2000)).mean_bounds(p)
            for _ in range(pools)
        ]
    )
    allowed = pools * p + 4 * np.sqrt(pools * p)
    assert np.sum(bounds[:, 0] > mean) <= allowed
    assert np.sum(bounds[:, 1] < mean) <= allowed


@pytest.mark.parametrize(
    ("cv", "size", "retention", "decided", "episodes"),
    [
        (0.02, 200, 1.0, 1.0, 48),
        (0.02, 200, 0.8, 1.0, 15),
        (0.2, 2000, 1.0, 0.99, 75),
        (0.2, 2000, 0.97, 0.95, 140),
        (0.2, 2000, 0.85, 0.99, 160),
        (0.35, 5000, 0.97, 0.95, 350),
    ],
)
def test_how_soon_it_decides(cv, size, retention, decided, episodes):
    rng = np.random.default_rng(9)
    returns = rng.normal(1000, 1000 * cv, size)
    passed, failed, used = power(returns, 0.0, retention, rng, pools=8, gates=20)
    assert (passed if retention > 0.9 else failed) >= decided
    assert used <= episodes
