"""Is the policy as sparse as it was asked to be, and does gradual pruning keep its invariants?

Copy this file and put your own schedule and training in place of ``CubicSchedule`` and
``masked_adam`` (see docs/sparsity.md).
"""

from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_drlcompress import CubicSchedule, Gate
from pytest_drlcompress.testing import check_pruning, check_schedule

thorough = settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
linear = st.tuples(st.integers(1, 24), st.integers(1, 24))
convolution = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))
networks = st.lists(linear | convolution, min_size=1, max_size=4)


def test_sparsity(sparsity: Gate) -> None:
    """The zeros in the artifact's own initializers, held to what its recipe asked for."""
    sparsity.check()


@pytest.mark.parametrize("count", [600, 300], ids=["sac-600", "dqn-300"])
def test_the_papers_schedule(count):
    """From 20 % to 80 % of a million steps: every pruning step, and exact at both ends."""
    schedule = CubicSchedule.over(1_000_000, 0.95, start=0.2, end=0.8, count=count)
    check_schedule(schedule.at, final=0.95, start=200_000, interval=600_000 / count, count=count)


@thorough
@given(
    final=st.floats(0.01, 0.999),
    start=st.integers(0, 10_000),
    interval=st.integers(1, 2_000),
    count=st.integers(1, 50),
)
def test_any_schedule(final, start, interval, count):
    """Cubic at every pruning step, monotone, exactly 0 and ``final`` at the ends and beyond."""
    schedule = CubicSchedule(final, float(start), float(interval), count)
    check_schedule(schedule.at, final=final, start=start, interval=interval, count=count)


@pytest.mark.skipif(
    find_spec("torch") is None,
    reason="masked_adam needs torch: pip install 'pytest-drlcompress[torch]'",
)
@pytest.mark.parametrize("distribution", ["global", "uniform", "erdos-renyi"])
@thorough
@given(
    shapes=networks,
    sparsities=st.lists(st.floats(0.0, 0.99), min_size=1, max_size=4).map(sorted),
)
def test_pruning(distribution, shapes, sparsities):
    """Distribution met per layer and in total; nothing that was pruned ever comes back."""
    from pytest_drlcompress.testing.masked_adam import masked_adam

    check_pruning(masked_adam, shapes, sparsities, distribution)
