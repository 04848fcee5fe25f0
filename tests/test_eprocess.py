"""The betting test: exact against a naive reading of its formulas, and by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from simulated_gates import (
    ALPHA,
    LOG_THRESHOLD,
    RHO,
    SOURCES,
    simulate,
)

from pytest_drlcompress.evaluation.eprocess import (
    BETS,
    PRECISION,
    ReturnRange,
    log_e_values,
    more_episodes,
    retention_interval,
)

DECLARED = ReturnRange(random_mean=-40.0, low=-54.0, high=107.0)

inside = st.floats(DECLARED.low, DECLARED.high)
pairs_inside = st.lists(st.tuples(inside, inside), min_size=1, max_size=30)
anywhere = st.floats(-300, 300)
pairs_anywhere = st.lists(st.tuples(anywhere, anywhere), min_size=1, max_size=30)
limits = st.floats(-0.5, 2.0)


def columns(pairs: list[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    array = np.array(pairs)
    return array[:, 0], array[:, 1]


def naive(
    pairs: list[tuple[float, float]], declared: ReturnRange, rho: float
) -> tuple[list[float], list[float]]:
    """The formulas as they stand in the documentation, for ``rho >= 0``, in plain Python."""
    r, low, high = declared.random_mean, declared.low, declared.high
    lower, upper = rho * (high - r) - (low - r), (high - r) - rho * (low - r)
    passes, fails = [1.0] * len(BETS), [1.0] * len(BETS)
    e_pass, e_fail = [], []
    for c, b in pairs:
        y = (c - r) - rho * (b - r)
        for k, bet in enumerate(BETS):
            passes[k] *= 0.0 if c < low or b > high else 1 + bet * y / lower
            fails[k] *= 0.0 if c > high or b < low else 1 - bet * y / upper
        e_pass.append(sum(passes) / len(BETS))
        e_fail.append(sum(fails) / len(BETS))
    return e_pass, e_fail


@settings(deadline=None, max_examples=200)
@given(pairs=pairs_anywhere, rho=st.floats(0, 2))
def test_e_values_are_those_of_the_formulas(pairs, rho):
    log_pass, log_fail = log_e_values(*columns(pairs), DECLARED, rho)
    expected_pass, expected_fail = naive(pairs, DECLARED, rho)
    np.testing.assert_allclose(np.exp(log_pass), expected_pass, rtol=1e-9)
    np.testing.assert_allclose(np.exp(log_fail), expected_fail, rtol=1e-9)


def test_one_episode_by_hand():
    # R = 0, range [-1, 11]: L = 9.9 + 1 = 10.9, U = 11 + 0.9 = 11.9; y = 10 - 0.9 * 5 = 5.5
    declared = ReturnRange(0.0, -1.0, 11.0)
    log_pass, log_fail = log_e_values(np.array([10.0]), np.array([5.0]), declared, 0.9)
    bets = (0.15 + 0.4 + 0.7 + 0.97) / 4
    assert math.exp(log_pass[0]) == pytest.approx(1 + bets * 5.5 / 10.9)
    assert math.exp(log_fail[0]) == pytest.approx(1 - bets * 5.5 / 11.9)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.5, 0.9, 1.0, 1.7])
def test_no_return_in_the_range_can_bankrupt_a_side_and_one_corner_nearly_does(rho):
    corners = itertools.product((DECLARED.low, DECLARED.high), repeat=2)
    candidate, baseline = (np.array(values)[:, None] for values in zip(*corners, strict=True))
    for side in log_e_values(candidate, baseline, DECLARED, rho):
        # the worst corner loses exactly the whole share bet: tight, neither more nor less
        assert np.exp(side).min() == pytest.approx(1 - sum(BETS) / len(BETS))


@settings(deadline=None, max_examples=200)
@given(
    candidate=st.lists(inside, min_size=1, max_size=3),
    baseline=st.lists(inside, min_size=1, max_size=3),
    weights=st.lists(st.floats(0.05, 1), min_size=6, max_size=6),
)
def test_expected_e_value_is_one_at_the_limit_itself(candidate, baseline, weights):
    """Every outcome of two episodes of discrete returns is enumerated: no sampling error."""
    p_c = np.array(weights[: len(candidate)]) / sum(weights[: len(candidate)])
    p_b = np.array(weights[3 : 3 + len(baseline)]) / sum(weights[3 : 3 + len(baseline)])
    gain = float(p_b @ np.array(baseline)) - DECLARED.random_mean
    if gain < 1:
        return
    truth = (float(p_c @ np.array(candidate)) - DECLARED.random_mean) / gain
    outcomes = list(itertools.product(range(len(candidate)), range(len(baseline)), repeat=2))
    c = np.array([[candidate[i], candidate[k]] for i, _, k, _ in outcomes])
    b = np.array([[baseline[j], baseline[m]] for _, j, _, m in outcomes])
    p = np.array([p_c[i] * p_b[j] * p_c[k] * p_b[m] for i, j, k, m in outcomes])
    log_pass, log_fail = log_e_values(c, b, DECLARED, truth)
    np.testing.assert_allclose(p @ np.exp(log_pass), 1, rtol=1e-9)
    np.testing.assert_allclose(p @ np.exp(log_fail), 1, rtol=1e-9)


@settings(deadline=None)
@given(pairs=pairs_anywhere, rho=limits, data=st.data())
def test_evidence_so_far_never_depends_on_episodes_to_come(pairs, rho, data):
    n = data.draw(st.integers(1, len(pairs)))
    candidate, baseline = columns(pairs)
    whole = log_e_values(candidate, baseline, DECLARED, rho)
    prefix = log_e_values(candidate[:n], baseline[:n], DECLARED, rho)
    for long, short in zip(whole, prefix, strict=True):
        np.testing.assert_allclose(long[:n], short, rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(pairs=pairs_anywhere, several=st.lists(limits, min_size=1, max_size=5))
def test_an_array_of_limits_gives_what_each_gives_alone(pairs, several):
    candidate, baseline = columns(pairs)
    together = log_e_values(candidate, baseline, DECLARED, np.array(several))
    for row, rho in enumerate(several):
        alone = log_e_values(candidate, baseline, DECLARED, rho)
        for side in (0, 1):
            np.testing.assert_allclose(together[side][row], alone[side], rtol=1e-12, atol=1e-12)


def test_two_hundred_episodes_neither_overflow_nor_underflow():
    best, worst = np.full(200, DECLARED.high), np.full(200, DECLARED.low)
    log_pass, log_fail = log_e_values(best, worst, DECLARED, RHO)
    assert log_pass[-1] > 100
    assert np.all(np.isfinite(log_pass))
    assert np.all(np.isfinite(log_fail))
    assert log_fail[-1] < -10


BAD_PAIRS = {
    # what leaves the range: (candidate, baseline), the side that ends, for rho >= 0
    "candidate below": ((DECLARED.low - 1, 50.0), 0),
    "candidate above": ((DECLARED.high + 1, 50.0), 1),
    "baseline below": ((50.0, DECLARED.low - 1), 1),
    "baseline above": ((50.0, DECLARED.high + 1), 0),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_a_return_outside_the_range_ends_one_side_for_good_and_leaves_the_other(name):
    bad, ended = BAD_PAIRS[name]
    pairs = [(50.0, 50.0)] * 5 + [bad] + [(90.0, 20.0), (20.0, 90.0)] * 20
    sides = log_e_values(*columns(pairs), DECLARED, RHO)
    assert np.all(np.isfinite(sides[ended][:5]))
    assert np.all(sides[ended][5:] == -np.inf)
    expected = naive(pairs, DECLARED, RHO)[1 - ended]
    np.testing.assert_allclose(np.exp(sides[1 - ended]), expected, rtol=1e-9)


def test_returns_on_the_edge_of_the_range_are_inside():
    edges = [(DECLARED.low, DECLARED.high), (DECLARED.high, DECLARED.low)]
    for side in log_e_values(*columns(edges), DECLARED, RHO):
        assert np.all(np.isfinite(side))


@settings(deadline=None)
@given(pairs=pairs_anywhere, rho=st.floats(-2, -1e-3))
def test_below_a_limit_of_zero_the_ends_of_the_baselines_range_swap_roles(pairs, rho):
    candidate, baseline = columns(pairs)
    log_pass, log_fail = log_e_values(candidate, baseline, DECLARED, rho)
    low, high = DECLARED.low, DECLARED.high
    for n, (c, b) in enumerate(pairs):
        assert (log_pass[n] == -np.inf) >= (c < low or b < low)
        assert (log_fail[n] == -np.inf) >= (c > high or b > high)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_no_number_raises(bad):
    good, poisoned = np.array([50.0, 50.0]), np.array([50.0, bad])
    with pytest.raises(ValueError, match="NaN or infinite"):
        log_e_values(poisoned, good, DECLARED, RHO)
    with pytest.raises(ValueError, match="NaN or infinite"):
        log_e_values(good, poisoned, DECLARED, RHO)


@pytest.mark.parametrize(("low", "high"), [(0.0, 10.0), (-1.0, 0.0), (1.0, 2.0), (math.nan, 1.0)])
def test_a_range_that_does_not_enclose_the_random_mean_raises(low, high):
    with pytest.raises(ValueError, match="must enclose"):
        ReturnRange(0.0, low, high)


# --- interval and forecast -----------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    pairs=st.one_of(pairs_inside, pairs_anywhere),
    repeat=st.integers(1, 6),
    rho=st.floats(0.3, 1.2),
)
def test_the_interval_never_disagrees_with_the_verdict(pairs, repeat, rho):
    candidate, baseline = columns(pairs * repeat)
    passing, failing = (
        (side >= LOG_THRESHOLD) for side in log_e_values(candidate, baseline, DECLARED, rho)
    )
    first = (passing | failing).argmax() + 1 if (passing | failing).any() else len(candidate)
    low, high = retention_interval(
        candidate[:first], baseline[:first], DECLARED, rho=rho, alpha=ALPHA
    )
    assert low <= high
    if passing[first - 1]:
        assert low >= rho
    elif failing[first - 1]:
        assert high <= rho
    else:
        assert low < rho < high


@pytest.mark.parametrize("truth", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("damage", ["scaled", "falls"])
def test_interval_ends_are_those_of_a_fine_scan(truth, damage):
    candidate, baseline, declared = simulate(SOURCES["heavy-tailed"], damage, truth, seed=6)
    grid = np.arange(-0.2, 2.0, 2e-4)
    for c, b in zip(candidate[:2, :50], baseline[:2, :50], strict=True):
        low, high = retention_interval(c, b, declared, rho=RHO, alpha=ALPHA)
        passing, failing = (
            side.max(1) >= LOG_THRESHOLD for side in log_e_values(c, b, declared, grid)
        )
        # rounded outward, by no more than it says
        assert grid[passing].max() - PRECISION - 2e-4 <= low <= grid[passing].max() + 2e-4
        assert grid[failing].min() - 2e-4 <= high <= grid[failing].min() + PRECISION + 2e-4


@pytest.mark.parametrize("truth", [0.7, 0.97])
def test_the_interval_holds_the_truth_at_all_times(truth):
    """A confidence sequence: looked at after every episode up to 100, each end at alpha."""
    candidate, baseline, declared = simulate(SOURCES["bimodal"], "falls", truth, seed=7)
    gates = 200
    missed = np.zeros(2)
    for c, b in zip(candidate[:gates, :100], baseline[:gates, :100], strict=True):
        # the ends use the running maximum, so the last interval is the intersection of all
        low, high = retention_interval(c, b, declared, rho=RHO, alpha=ALPHA)
        missed += (truth < low, truth > high)
    assert np.all(missed <= ALPHA * gates)


def test_an_end_without_evidence_is_open():
    low, high = retention_interval(
        np.array([50.0]), np.array([50.0]), DECLARED, rho=RHO, alpha=ALPHA, span=(-3.0, 4.0)
    )
    assert (low, high) == (-3.0, 4.0)


def test_a_candidate_worse_than_random_gets_a_negative_interval():
    rng = np.random.default_rng(8)
    candidate, baseline = rng.normal(-700, 20, 60), rng.normal(60, 5, 60)
    low, high = retention_interval(
        candidate, baseline, DECLARED, rho=RHO, alpha=ALPHA, span=(-8.0, 2.0)
    )
    # the PASS side ended with the first return, so nothing bounds the retention from below
    assert low == -8.0
    assert -6.7 < high < -2


def test_the_forecast_extrapolates_the_growth_of_the_evidence():
    assert more_episodes(LOG_THRESHOLD / 2, 100, ALPHA) == 100
    assert more_episodes(LOG_THRESHOLD * 2, 100, ALPHA) == 0
    assert more_episodes(1.0, 200, ALPHA) == math.ceil(200 * LOG_THRESHOLD) - 200


@pytest.mark.parametrize("log_e", [1e-15, 0.0, -0.5, -math.inf])
def test_no_forecast_without_growth(log_e):
    assert more_episodes(log_e, 200, ALPHA) is None
