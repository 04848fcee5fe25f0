"""The betting test: exact against a naive reading of its formulas, and by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_gates import (
    ALPHA,
    LOG_THRESHOLD,
    RHO,
    SOURCES,
    simulate,
)

from pytest_drlcompress.evaluation.eprocess import (
    BETS,
    BETTING_SHARE,
    POOL_SHARE,
    ROUNDING,
    WEIGHTS,
    ReturnRange,
    log_e_values,
    more_episodes,
    retention_interval,
)

DECLARED = ReturnRange(random_mean=-40.0, low=-54.0, high=107.0)

MEAN = (58.0, 62.0)
"""Bounds of the baseline's mean return."""

inside = st.floats(DECLARED.low, DECLARED.high)
returns_inside = st.lists(inside, min_size=1, max_size=30)
returns_anywhere = st.lists(st.floats(-300, 300), min_size=1, max_size=30)
limits = st.floats(-0.5, 2.0)


def naive(
    returns: list[float], mean: tuple[float, float], declared: ReturnRange, rho: float
) -> tuple[list[float], list[float]]:
    """The formulas as they stand in the documentation, for ``0 <= rho``, in plain Python."""
    r, low, high = declared.random_mean, declared.low, declared.high
    most, least = rho * (mean[1] - r), rho * (mean[0] - r)
    lower = most - (low - r)
    upper = max((high - r) - least, 0.05 * (high - low))
    passes, fails = list(WEIGHTS), list(WEIGHTS)
    e_pass, e_fail = [], []
    for c in returns:
        for k, bet in enumerate(BETS):
            passes[k] *= max(0.0, 1 + bet * (c - r - most) / lower)
            fails[k] *= max(0.0, 1 - bet * (c - r - least) / upper)
        e_pass.append(sum(passes))
        e_fail.append(sum(fails))
    return e_pass, e_fail


def test_the_shares_of_the_wealth_are_all_of_it():
    assert sum(WEIGHTS) == pytest.approx(1)
    assert len(WEIGHTS) == len(BETS)
    assert all(0 < bet < 1 for bet in BETS)


@settings(deadline=None, max_examples=200)
@given(returns=returns_anywhere, rho=st.floats(0, 2))
def test_e_values_are_those_of_the_formulas(returns, rho):
    log_pass, log_fail = log_e_values(np.array(returns), MEAN, DECLARED, rho)
    expected_pass, expected_fail = naive(returns, MEAN, DECLARED, rho)
    np.testing.assert_allclose(np.exp(log_pass), expected_pass, rtol=1e-9)
    np.testing.assert_allclose(np.exp(log_fail), expected_fail, rtol=1e-9)


def test_one_episode_by_hand():
    # R = 0, range [-1, 11], mean in [5, 6]: PASS needs 5.4, L = 5.4 + 1 = 6.4, y = 10 - 5.4 = 4.6;
    # FAIL is below 4.5, U = 11 - 4.5 = 6.5, y = 10 - 4.5 = 5.5
    declared = ReturnRange(0.0, -1.0, 11.0)
    log_pass, log_fail = log_e_values(np.array([10.0]), (5.0, 6.0), declared, 0.9)
    bets = sum(bet * weight for bet, weight in zip(BETS, WEIGHTS, strict=True))
    assert math.exp(log_pass[0]) == pytest.approx(1 + bets * 4.6 / 6.4)
    assert math.exp(log_fail[0]) == pytest.approx(1 - bets * 5.5 / 6.5)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 1.0])
def test_no_return_in_the_range_bankrupts_a_side_and_one_end_nearly_does(rho):
    ends = np.array([[DECLARED.low], [DECLARED.high]])
    for side in log_e_values(ends, MEAN, DECLARED, rho):
        # the worse end loses exactly the whole share bet: tight, neither more nor less
        bets = sum(bet * weight for bet, weight in zip(BETS, WEIGHTS, strict=True))
        assert np.exp(side).min() == pytest.approx(1 - bets)


@settings(deadline=None, max_examples=200)
@given(
    candidate=st.lists(inside, min_size=1, max_size=3),
    mean=inside,
    weights=st.lists(st.floats(0.05, 1), min_size=3, max_size=3),
)
def test_expected_e_value_is_one_at_the_limit_itself(candidate, mean, weights):
    """Every outcome of two episodes of discrete returns is enumerated: no sampling error."""
    p_c = np.array(weights[: len(candidate)]) / sum(weights[: len(candidate)])
    gain = mean - DECLARED.random_mean
    truth = float(p_c @ np.array(candidate) - DECLARED.random_mean) / gain if gain >= 1 else -1
    if not 0 <= truth <= (DECLARED.high - DECLARED.random_mean) * 0.9 / max(gain, 1):
        return
    outcomes = list(itertools.product(range(len(candidate)), repeat=2))
    c = np.array([[candidate[i], candidate[k]] for i, k in outcomes])
    p = np.array([p_c[i] * p_c[k] for i, k in outcomes])
    log_pass, log_fail = log_e_values(c, (mean, mean), DECLARED, truth)
    np.testing.assert_allclose(p @ np.exp(log_pass), 1, rtol=1e-9)
    np.testing.assert_allclose(p @ np.exp(log_fail), 1, rtol=1e-9)


@settings(deadline=None)
@given(returns=returns_inside, rho=st.floats(0, 2), wider=st.floats(0, 30))
def test_a_pool_that_says_less_never_makes_more_evidence(returns, rho, wider):
    """Returns in the range: beyond it, a share may be spared a bankruptcy by a larger scale."""
    known = log_e_values(np.array(returns), MEAN, DECLARED, rho)
    bounds = (MEAN[0] - wider, MEAN[1] + wider)
    for less, more in zip(
        log_e_values(np.array(returns), bounds, DECLARED, rho), known, strict=True
    ):
        assert np.all(less <= more + 1e-9)


@settings(deadline=None)
@given(returns=returns_anywhere, rho=limits, data=st.data())
def test_evidence_so_far_never_depends_on_episodes_to_come(returns, rho, data):
    n = data.draw(st.integers(1, len(returns)))
    candidate = np.array(returns)
    whole = log_e_values(candidate, MEAN, DECLARED, rho)
    prefix = log_e_values(candidate[:n], MEAN, DECLARED, rho)
    for long, short in zip(whole, prefix, strict=True):
        np.testing.assert_allclose(long[:n], short, rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(returns=returns_anywhere, several=st.lists(limits, min_size=1, max_size=5))
def test_an_array_of_limits_gives_what_each_gives_alone(returns, several):
    candidate = np.array(returns)
    together = log_e_values(candidate, MEAN, DECLARED, np.array(several))
    for row, rho in enumerate(several):
        alone = log_e_values(candidate, MEAN, DECLARED, rho)
        for side in (0, 1):
            np.testing.assert_allclose(together[side][row], alone[side], rtol=1e-12, atol=1e-12)


def test_a_thousand_episodes_neither_overflow_nor_underflow():
    best, worst = np.full(1000, DECLARED.high), np.full(1000, DECLARED.low)
    for returns, wins in ((best, 0), (worst, 1)):
        sides = log_e_values(returns, MEAN, DECLARED, RHO)
        assert sides[wins][-1] > 100
        assert np.all(np.isfinite(sides))
        assert sides[1 - wins][-1] < -10


@pytest.mark.parametrize("side", [0, 1])
def test_a_return_outside_the_range_ends_the_shares_that_cannot_pay_for_it_for_good(side):
    """And leaves the others, which have paid, and the other side, which has won."""
    worst = (
        DECLARED.random_mean + RHO * (MEAN[1] - DECLARED.random_mean),
        DECLARED.random_mean + RHO * (MEAN[0] - DECLARED.random_mean),
    )[side]
    scale = (worst - DECLARED.low, DECLARED.high - worst)[side]
    sign = (-1, 1)[side]
    fall = worst + sign * scale * 2.5  # a share of 0.4 is the largest that can pay
    returns = [50.0] * 5 + [fall] + [90.0, 20.0] * 20
    evidence = log_e_values(np.array(returns), MEAN, DECLARED, RHO)
    expected = naive(returns, MEAN, DECLARED, RHO)
    for got, wanted in zip(evidence, expected, strict=True):
        np.testing.assert_allclose(np.exp(got), wanted, rtol=1e-9)
    left = sum(weight for bet, weight in zip(BETS, WEIGHTS, strict=True) if bet < 0.4)
    assert 0 < math.exp(evidence[side][5]) < left
    assert evidence[1 - side][5] > evidence[1 - side][4]
    # no share can pay for this one
    beyond = worst + sign * scale / min(BETS) * 1.001
    ended = log_e_values(np.array([50.0, beyond, 50.0, 50.0]), MEAN, DECLARED, RHO)[side]
    assert np.all(ended[1:] == -np.inf)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_no_number_raises(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        log_e_values(np.array([50.0, bad]), MEAN, DECLARED, RHO)
    with pytest.raises(ValueError, match="NaN or infinite"):
        log_e_values(np.array([50.0, 50.0]), (50.0, bad), DECLARED, RHO)


@pytest.mark.parametrize(("low", "high"), [(0.0, 10.0), (-1.0, 0.0), (1.0, 2.0), (math.nan, 1.0)])
def test_a_range_that_does_not_enclose_the_random_mean_raises(low, high):
    with pytest.raises(ValueError, match="must enclose"):
        ReturnRange(0.0, low, high)


# --- interval and forecast -----------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    returns=st.one_of(returns_inside, returns_anywhere),
    repeat=st.integers(1, 6),
    rho=st.floats(0.3, 1.2),
)
def test_the_interval_never_disagrees_with_the_verdict(returns, repeat, rho):
    candidate = np.array(returns * repeat)
    passing, failing = (
        (side >= LOG_THRESHOLD) for side in log_e_values(candidate, MEAN, DECLARED, rho)
    )
    first = (passing | failing).argmax() + 1 if (passing | failing).any() else len(candidate)
    low, high = retention_interval(candidate[:first], MEAN, DECLARED, rho=rho, alpha=ALPHA)
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
    for c in candidate[:2, :50]:
        low, high = retention_interval(c, baseline, declared, rho=RHO, alpha=ALPHA)
        passing, failing = (
            side.max(1) >= LOG_THRESHOLD for side in log_e_values(c, baseline, declared, grid)
        )
        # rounded outward, by no more than it says
        assert grid[passing].max() - ROUNDING - 2e-4 <= low <= grid[passing].max() + 2e-4
        assert grid[failing].min() - 2e-4 <= high <= grid[failing].min() + ROUNDING + 2e-4


@pytest.mark.parametrize("truth", [0.7, 0.97])
def test_the_interval_holds_the_truth_at_all_times(truth):
    """A confidence sequence: looked at after every episode up to 100, each end at alpha."""
    candidate, baseline, declared = simulate(SOURCES["bimodal"], "falls", truth, seed=7)
    gates = 200
    missed = np.zeros(2)
    for c in candidate[:gates, :100]:
        # the ends use the running maximum, so the last interval is the intersection of all
        low, high = retention_interval(c, baseline, declared, rho=RHO, alpha=ALPHA)
        missed += (truth < low, truth > high)
    assert np.all(missed <= ALPHA * gates)


def test_an_end_without_evidence_is_open():
    low, high = retention_interval(
        np.array([50.0]), MEAN, DECLARED, rho=RHO, alpha=1e-6, span=(-3.0, 4.0)
    )
    assert (low, high) == (-3.0, 4.0)


def test_a_candidate_worse_than_random_gets_a_negative_interval():
    candidate = np.random.default_rng(8).normal(-700, 20, 60)
    low, high = retention_interval(
        candidate, (59.0, 61.0), DECLARED, rho=RHO, alpha=ALPHA, span=(-8.0, 2.0)
    )
    assert -8 <= low < -6.6 < high < -2


def test_the_interval_is_no_narrower_than_what_the_pool_leaves_open():
    candidate = np.full(500, 60.0)
    known, unknown = (
        retention_interval(candidate, mean, DECLARED, rho=RHO, alpha=ALPHA)
        for mean in ((60.0, 60.0), (55.0, 65.0))
    )
    assert known[1] - known[0] < 0.05
    assert unknown[0] < 100 / 105 < 100 / 95 < unknown[1]


def test_the_forecast_extrapolates_the_growth_of_the_evidence():
    assert more_episodes(LOG_THRESHOLD / 2, 100, ALPHA) == 100
    assert more_episodes(LOG_THRESHOLD * 2, 100, ALPHA) == 0
    assert more_episodes(1.0, 200, ALPHA) == math.ceil(200 * LOG_THRESHOLD) - 200
    assert math.isclose(math.log(1 / (ALPHA * BETTING_SHARE)), LOG_THRESHOLD)
    assert BETTING_SHARE + POOL_SHARE < 1


@pytest.mark.parametrize("log_e", [1e-15, 0.0, -0.5, -math.inf])
def test_no_forecast_without_growth(log_e):
    assert more_episodes(log_e, 200, ALPHA) is None
