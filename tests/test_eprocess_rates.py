"""The betting test by simulation: both error rates at the limit, power away from it."""

import numpy as np
import pytest
from simulated_gates import (
    ALPHA,
    LOG_THRESHOLD,
    RANDOM_MEAN,
    RHO,
    SOURCES,
    TIGHT,
    decisions,
    simulate,
)

from pytest_drlcompress.evaluation.eprocess import (
    ReturnRange,
    log_e_values,
)


@pytest.mark.parametrize("damage", ["scaled", "falls", "rare deep falls"])
@pytest.mark.parametrize("name", SOURCES)
def test_each_error_rate_stays_below_alpha_at_the_limit(name, damage):
    """2,000 gates, each looking after every one of 200 episodes, at a retention of exactly 0.90."""
    false_pass, false_fail, _ = decisions(*simulate(SOURCES[name], damage, truth=RHO, seed=1))
    assert false_pass <= ALPHA
    assert false_fail <= ALPHA


@pytest.mark.parametrize("damage", ["scaled", "falls", "rare deep falls"])
@pytest.mark.parametrize("name", SOURCES)
def test_error_rates_stay_below_alpha_when_the_range_comes_from_a_pool(name, damage):
    """As in the gate: a range guessed from 200 baseline episodes, which the candidate may leave."""
    candidate, baseline, _ = simulate(SOURCES[name], damage, truth=RHO, seed=2)
    results = []
    for c, b in zip(candidate[:1000], baseline[:1000], strict=True):
        gain, best = b.mean() - RANDOM_MEAN, b.max() - RANDOM_MEAN
        low, high = RANDOM_MEAN - 0.1 * gain, RANDOM_MEAN + 1.05 * best
        declared = ReturnRange(RANDOM_MEAN, low, high)
        results.append(decisions(c[None], b[None], declared))
    false_pass, false_fail, _ = np.mean(results, axis=0)
    assert false_pass <= ALPHA
    assert false_fail <= ALPHA


def test_a_tight_policy_that_keeps_everything_passes_within_sixty_episodes():
    passed, failed, used = decisions(*simulate(TIGHT, "scaled", truth=1.0, seed=3))
    assert passed > 0.99
    assert failed == 0
    assert used < 60


@pytest.mark.parametrize("damage", ["scaled", "falls"])
@pytest.mark.parametrize("name", SOURCES)
def test_a_policy_that_keeps_sixty_percent_fails(name, damage):
    passed, failed, _ = decisions(*simulate(SOURCES[name], damage, truth=0.6, seed=4))
    assert passed <= ALPHA
    assert failed > 0.95


def test_a_side_revived_after_a_catastrophe_would_pass_what_it_must_not():
    """Why a side ends for good: leaving out returns below the range hides exactly the falls."""
    rng = np.random.default_rng(5)
    shape = (500, 200)
    baseline, candidate = TIGHT.draw(rng, shape), TIGHT.draw(rng, shape)
    declared = ReturnRange(0.0, -10.0, 1.05 * TIGHT.top)
    # one episode in twenty-five ends far below random: the true retention is below 0.6
    fell = rng.random(shape) < 0.04
    passed_if_left_out, _, _ = decisions(candidate, baseline, declared)
    assert passed_if_left_out > 0.99
    candidate[fell] = -1000.0
    log_pass, _ = log_e_values(candidate, baseline, declared, RHO)
    fell_before = np.logical_or.accumulate(fell, axis=1)
    assert not np.any((log_pass >= LOG_THRESHOLD) & fell_before)
    # a fall that is not seen before the crossing is what only a wider range could cover
    passed, _, _ = decisions(candidate, baseline, declared)
    assert passed < 0.2
