"""The betting test by simulation: both error rates at the limit, power away from it."""

import numpy as np
import pytest
from simulated_gates import (
    ALPHA,
    LOG_THRESHOLD,
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
    """2,000 gates on one recorded pool, each looking after every one of 200 episodes, at a
    retention of exactly 0.90."""
    false_pass, false_fail, _ = decisions(*simulate(SOURCES[name], damage, truth=RHO, seed=1))
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
    """Why bankruptcy is for good: leaving out returns below the range hides exactly the falls."""
    rng = np.random.default_rng(5)
    candidate = TIGHT.draw(rng, (500, 200))
    declared, mean = ReturnRange(0.0, -10.0, 1.05 * TIGHT.top), (TIGHT.mean, TIGHT.mean)
    # one episode in twenty ends far below random: the true retention is below 0.5
    fell = rng.random(candidate.shape) < 0.05
    passed_if_left_out, _, _ = decisions(candidate, mean, declared)
    assert passed_if_left_out > 0.99
    candidate[fell] = -1000.0
    log_pass, _ = log_e_values(candidate, mean, declared, RHO)
    fell_before = np.logical_or.accumulate(fell, axis=1)
    assert not np.any((log_pass >= LOG_THRESHOLD) & fell_before)
    # a fall that is not seen before the crossing is what only a wider range could cover
    passed, _, _ = decisions(candidate, mean, declared)
    assert passed < 0.2


def test_a_fall_below_the_range_delays_a_pass_and_does_not_rule_it_out():
    """One fall to -30 % of the gain in a hundred episodes, which keeps 98.7 %: a PASS is right."""
    rng = np.random.default_rng(6)
    candidate = TIGHT.draw(rng, (500, 1000))
    candidate[rng.random(candidate.shape) < 0.01] = -30.0
    declared, mean = ReturnRange(0.0, -10.0, 1.05 * TIGHT.top), (TIGHT.mean, TIGHT.mean)
    passed, failed, _ = decisions(candidate, mean, declared)
    assert passed > 0.99
    assert failed == 0
    # and at the limit itself, by such falls, it is as rare as stated
    candidate = TIGHT.draw(rng, (2000, 600))
    candidate[rng.random(candidate.shape) < 0.1 * 100 / 130] = -30.0
    passed, failed, _ = decisions(candidate, mean, declared)
    assert passed <= ALPHA
    assert failed <= ALPHA
