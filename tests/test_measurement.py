"""Latency ratios and action errors, on controllers whose truth is known."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.measurement.action_error import measure_action_error
from pytest_drlcompress.measurement.latency import measure_latency_ratio, median_interval


class Busy:
    """Spins for a given number of microseconds."""

    batch_invariant = True

    def __init__(self, microseconds):
        self.seconds = microseconds * 1e-6

    def act_one(self, observation):
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        return observation


def test_the_ratio_is_of_candidate_to_baseline():
    measured = measure_latency_ratio(Busy(50), Busy(100), np.zeros(1), blocks=10, calls=20)
    assert measured.ratio == pytest.approx(2, rel=0.2)
    assert measured.interval[0] <= measured.ratio <= measured.interval[1]
    assert measured.baseline_us == pytest.approx(50, rel=0.5)


def test_the_median_interval_has_its_coverage():
    generator = np.random.default_rng(0)
    samples = np.sort(generator.exponential(size=(4000, 40)), axis=1)
    ends = np.array([median_interval(row, 0.05) for row in samples])
    above, below = (ends[:, 0] > np.log(2)).mean(), (ends[:, 1] < np.log(2)).mean()
    assert above <= 0.05
    assert below <= 0.05
    assert above + below > 0.02  # not trivially wide


@given(st.integers(1, 6))
def test_too_few_blocks_give_the_extremes(count):
    ordered = np.arange(float(count))
    if count < 5:
        assert median_interval(ordered, 0.05) == (0.0, count - 1.0)


class Fixed:
    """Acts by a function of the observations."""

    batch_invariant = True

    def __init__(self, function):
        self.act = function


BOX = ActionSpec((2,), np.array([-1, 0], np.float32), np.array([1, 0.5], np.float32))


def compare(first, second, action=BOX):
    observations = np.linspace(-1, 1, 50, dtype=np.float32).reshape(25, 2)
    return measure_action_error(Fixed(first), Fixed(second), observations, action)


def test_no_error_is_none():
    error = compare(lambda x: x, lambda x: x)
    assert (error.mean, error.maximum) == (0.0, 0.0)
    assert error.sqnr_db == float("inf")


def test_errors_are_shares_of_each_dimensions_range():
    error = compare(lambda x: x, lambda x: x + np.array([0.2, 0.1], np.float32))
    assert error.by_dimension == pytest.approx((0.1, 0.2), rel=1e-4)
    assert error.mean == pytest.approx(0.15, rel=1e-4)
    assert error.worst_dimension == 1


def test_sqnr_is_in_decibels():
    error = compare(lambda x: x, lambda x: x * np.float32(0.9))
    assert error.sqnr_db == pytest.approx(20, abs=1e-3)


def test_nan_is_never_a_small_error():
    error = compare(lambda x: x, lambda x: x * np.nan)
    assert not error.mean <= 0.05


def test_discrete_actions_count_changes():
    empty = np.zeros(0, np.float32)
    discrete = ActionSpec((), empty, empty, 3)
    chosen = np.zeros(25, np.int64)
    changed = chosen.copy()
    changed[:5] = 1
    error = compare(lambda x: chosen, lambda x: changed, discrete)
    assert (error.mean, error.maximum) == (0.2, 1.0)
