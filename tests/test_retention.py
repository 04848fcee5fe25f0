"""The retention gate: reference, choice of episodes, and verdicts."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from retention_gate import (
    DEFAULT,
    ENV,
    NEAR,
    OTHER_SHA,
    SHA,
    Candidate,
    gate,
    make_reference,
    tight_pool,
)

from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.verdict import State
from pytest_drlcompress.evaluation.eprocess import ReturnRange
from pytest_drlcompress.evaluation.reference import RECORDED_SEEDS, Reference
from pytest_drlcompress.evaluation.retention import (
    RetentionSettings,
    episode_seeds,
    pool_order,
)

# --- the reference ---------------------------------------------------------------------------


def test_the_range_of_a_pool():
    reference = make_reference([8900.0, 9100.0])
    assert reference.random_mean == -300
    assert reference.mean == 9000
    assert reference.high == pytest.approx(9100 + 0.05 * 9400)
    assert reference.low == pytest.approx(-300 - 0.1 * 9300)
    assert reference.competence() is None


@pytest.mark.parametrize(
    ("pool", "random", "low", "high"),
    [
        ([500.0] * 100, [20.0, 24.0], 22 - 47.8, 500 + 23.9),  # CartPole: a constant pool
        ([-150.0, -130.0] * 20, [-1200.0, -1240.0], -1220 - 108, -130 + 54.5),  # Pendulum
    ],
)
def test_the_range_of_constant_and_of_negative_returns(pool, random, low, high):
    reference = make_reference(pool, random, random)
    assert reference.low == pytest.approx(low)
    assert reference.high == pytest.approx(high)
    assert reference.competence() is None


def test_the_range_reaches_below_a_baseline_that_sometimes_does_worse_than_random():
    reference = make_reference([250.0] * 60 + [-400.0], [-180.0, -200.0], [-150.0, -140.0])
    assert reference.low < -400 - 0.05 * 400


@hypothesis_settings(deadline=None)
@given(
    pool=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=30),
    random=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=5),
)
def test_a_competent_baselines_range_encloses_its_own_pool(pool, random):
    reference = make_reference(pool, random, random)
    if reference.competence() is None:
        declared = ReturnRange(reference.random_mean, reference.low, reference.high)
        assert declared.low <= min(pool) <= max(pool) <= declared.high


@pytest.mark.parametrize(
    ("returns", "random", "zero", "why"),
    [
        ([950.0, 1000.0, 900.0], [-48.0, -50.0], [994.0, 990.0], "beat the zero-action policy"),
        ([20.0, 10.0, 14.0], [16.0, 18.0], [0.0, 1.0], "beat the random policy"),
        ([100.0, 1000.0, -700.0], [16.0, 18.0], [0.0, 1.0], "significantly beat the random"),
        ([22.0, 22.0], [22.0, 22.0], [9.0, 9.0], "beat the random policy"),  # no variance at all
        ([21.9, 21.9], [22.0, 22.0], [9.0, 9.0], "beat the random policy"),
        ([500.0, 500.0], [22.0, 24.0], [500.0, 500.0], "beat the zero-action policy"),
        ([0.1] * 200, [0.0, 0.01], [0.1] * 99, "beat the zero-action policy"),
        ([500.0], [22.0, 24.0], [9.0, 9.0], "The baseline has 1 recorded episodes"),
        ([], [22.0, 24.0], [9.0, 9.0], "The baseline has 0 recorded episodes"),
        ([500.0, 490.0], [22.0], [9.0, 9.0], "The random policy has 1 recorded episodes"),
        ([500.0, 490.0], [22.0, 24.0], [9.0], "The zero-action policy has 1 recorded"),
    ],
)
def test_incompetent_baselines_are_invalid_and_nothing_is_rolled_out(returns, random, zero, why):
    reference = make_reference(returns, random, zero)
    candidate = Candidate(9000)
    verdict = gate(candidate, reference)
    assert verdict.state is State.INVALID
    assert why in verdict.reason
    assert verdict.reason == reference.competence()
    assert candidate.played == []
    assert verdict.sample_size == 0


@pytest.mark.parametrize(
    ("returns", "random", "zero"),
    [
        ([500.0, 500.0], [22.0, 22.0], [9.0, 9.0]),
        ([500.0, 500.0], [22.0, 24.0], [9.0, 9.0]),
        ([500.0, 490.0], [22.0, 22.0], [9.0, 9.0]),
    ],
)
def test_competence_with_zero_variance_on_either_or_both_sides(returns, random, zero):
    assert make_reference(returns, random, zero).competence() is None


def test_competence_is_judged_at_alpha():
    reference = make_reference([10.0, 14.0, 12.0], [9.0, 10.0, 8.0], [0.0, 0.0])
    # t = 3 / sqrt(4/3 + 1/3) = 2.324 with 2.94 degrees of freedom: p = 0.053
    assert reference.competence(alpha=0.05) is not None
    assert reference.competence(alpha=0.06) is None


@pytest.mark.parametrize("field", ["returns", "random", "zero"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reference_with_a_return_that_is_no_number_is_refused(field, bad):
    values = {"returns": (1.0, 2.0), "random": (0.0, 0.0), "zero": (0.0, 0.0)}
    values[field] = (0.5, bad)
    with pytest.raises(BaselineError, match=rf"{field}\[1\]"):
        Reference(seeds=(0, 1), **values)


@pytest.mark.parametrize("seeds", [(0,), (3, 3), (0, RECORDED_SEEDS), (-1, 0)])
def test_a_reference_with_wrong_seeds_is_refused(seeds):
    with pytest.raises(BaselineError, match="seeds"):
        Reference(returns=(1.0, 2.0), seeds=seeds, random=(0.0, 0.0), zero=(0.0, 0.0))


@pytest.mark.parametrize(
    "wrong", [{"min_retention": 0.0}, {"alpha": 0.0}, {"alpha": 1.0}, {"max_episodes": 0}]
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(AssertionError):
        RetentionSettings(**wrong)


# --- the choice of episodes ------------------------------------------------------------------


def test_candidate_seeds_are_distinct_never_those_of_a_pool_and_fit_a_32_bit_integer():
    seeds = episode_seeds(SHA, ENV, DEFAULT, 5000)
    assert len(set(seeds)) == 5000
    assert all(RECORDED_SEEDS <= seed < 2**31 for seed in seeds)
    # spread over the whole range
    assert np.mean(seeds) == pytest.approx((RECORDED_SEEDS + 2**31) / 2, rel=0.05)


def test_seeds_and_order_are_fixed_for_ever():
    # recorded verdicts depend on these: they may change with neither platform nor library
    assert episode_seeds(SHA, ENV, DEFAULT, 3) == SEEDS
    assert pool_order(SHA, ENV, DEFAULT, 8).tolist() == ORDER


SEEDS = [729633700, 2081302337, 1757993862]
ORDER = [0, 1, 7, 5, 4, 6, 3, 2]


@pytest.mark.parametrize(
    ("sha", "env", "settings"),
    [
        (OTHER_SHA, ENV, DEFAULT),
        (SHA, "Hopper-v4", DEFAULT),
        (SHA, ENV, RetentionSettings(seed=1)),
        (SHA, ENV, RetentionSettings(alpha=0.01)),
        (SHA, ENV, RetentionSettings(min_retention=0.95)),
    ],
)
def test_seeds_and_order_follow_from_artifact_environment_and_settings(sha, env, settings):
    assert not set(episode_seeds(sha, env, settings, 50)) & set(
        episode_seeds(SHA, ENV, DEFAULT, 50)
    )
    assert pool_order(sha, env, settings, 50).tolist() != pool_order(SHA, ENV, DEFAULT, 50).tolist()


@given(pool=st.integers(1, 60), cap=st.integers(1, 60))
@hypothesis_settings(deadline=None)
def test_the_order_uses_each_pool_episode_at_most_once(pool, cap):
    order = pool_order(SHA, ENV, RetentionSettings(max_episodes=cap), pool)
    assert len(order) == min(pool, cap)
    assert len(set(order.tolist())) == len(order)
    assert set(order.tolist()) <= set(range(pool))


def test_every_pool_episode_comes_first_about_equally_often():
    firsts = [pool_order(f"{i:064x}", ENV, DEFAULT, 5)[0] for i in range(1000)]
    # five cells of 200 +- 12.6: 4.5 standard deviations
    assert np.all(np.abs(np.bincount(firsts, minlength=5) - 200) < 57)


def test_a_higher_cap_goes_on_with_the_same_episodes_instead_of_drawing_new_ones():
    short, long = RetentionSettings(max_episodes=60), RetentionSettings(max_episodes=200)
    assert episode_seeds(SHA, ENV, long, 200)[:60] == episode_seeds(SHA, ENV, short, 60)
    assert (
        pool_order(SHA, ENV, long, 200)[:60].tolist() == pool_order(SHA, ENV, short, 200).tolist()
    )
    first, second = [], []
    verdict = gate(NEAR, settings=short, progress=first)
    assert verdict.state is State.INCONCLUSIVE
    gate(NEAR, settings=long, progress=second)
    assert second[:60] == first


# --- verdicts --------------------------------------------------------------------------------


def test_a_candidate_that_keeps_everything_passes_within_sixty_episodes():
    candidate = Candidate(9000)
    verdict = gate(candidate)
    assert verdict.state is State.PASS
    assert verdict.sample_size <= 60
    assert verdict.estimate == pytest.approx(1, abs=0.01)
    assert verdict.interval[0] >= 0.9
    assert verdict.e_value == verdict.details["e_pass"] >= 20
    assert verdict.reason == f"{verdict.sample_size} episodes show a retention of at least 0.9."
    assert (verdict.gate, verdict.policy, verdict.variant) == ("retention", "sac-hopper", "l2@30")
    assert (verdict.limit, verdict.unit, verdict.alpha) == (0.9, "episodes", 0.05)


def test_a_candidate_that_keeps_sixty_percent_fails():
    verdict = gate(Candidate(-300 + 0.6 * 9300))
    assert verdict.state is State.FAIL
    assert verdict.sample_size <= 40
    assert verdict.estimate == pytest.approx(0.6, abs=0.01)
    assert verdict.interval[1] <= 0.9
    assert verdict.e_value == verdict.details["e_fail"] >= 20


def test_losing_everything_fails_within_few_episodes():
    assert gate(Candidate(-300.0)).state is State.FAIL
    assert gate(Candidate(-300.0)).sample_size <= 20


def test_the_share_is_counted_from_the_random_policy_also_where_returns_are_negative():
    # an identical policy of a task with negative returns keeps everything, not 1 / 0.9 of it
    reference = make_reference(
        np.random.default_rng(1).normal(-150, 10, 200), [-1200.0, -1240.0], [-1300.0, -1310.0]
    )
    verdict = gate(Candidate(-150, sd=10), reference)
    assert verdict.state is State.PASS
    assert verdict.estimate == pytest.approx(1, abs=0.02)


def test_a_constant_pool_is_judged():
    reference = make_reference([500.0] * 200, [20.0, 24.0], [9.0, 10.0])
    assert gate(Candidate(500, sd=0), reference).state is State.PASS
    assert gate(Candidate(300, sd=20), reference).state is State.FAIL


@pytest.mark.parametrize("mean", [9000, 5000])
def test_no_episode_is_drawn_beyond_the_deciding_one(mean):
    candidate, progress = Candidate(mean), []
    verdict = gate(candidate, progress=progress)
    assert verdict.state in (State.PASS, State.FAIL)
    assert len(candidate.played) == verdict.sample_size == len(progress) < 200
    for step, n in zip(progress, itertools.count(1), strict=False):
        assert step.episodes == n
        assert (max(step.e_pass, step.e_fail) >= 20) == (n == verdict.sample_size)
    assert progress[-1].estimate == verdict.estimate
    assert progress[-1].e_pass == verdict.details["e_pass"]


@pytest.mark.parametrize(("cap", "pool"), [(25, 200), (200, 25), (25, 25)])
def test_no_episode_is_drawn_beyond_the_cap_or_the_pool(cap, pool):
    candidate = Candidate(9000)
    reference = make_reference(tight_pool(pool))
    verdict = gate(candidate, reference, RetentionSettings(max_episodes=cap))
    assert verdict.state is State.INCONCLUSIVE
    assert len(candidate.played) == verdict.sample_size == 25


def test_the_same_artifact_always_gets_the_same_verdict():
    candidate = -300 + 0.93 * 9300
    first, second = gate(Candidate(candidate, sd=600)), gate(Candidate(candidate, sd=600))
    assert first == second
    assert gate(Candidate(candidate, sd=600), sha=OTHER_SHA) != first


def test_the_verdict_uses_the_pool_in_the_given_order():
    pool = np.random.default_rng(2).normal(9000, 1000, 200)
    reference = make_reference(pool)
    order = pool_order(SHA, ENV, DEFAULT, 200)
    verdict = gate(Candidate(9000), reference)
    used = pool[order[: verdict.sample_size]]
    assert verdict.details["baseline_mean"] == pytest.approx(used.mean())
    gain = verdict.details["candidate_mean"] + 300
    assert verdict.estimate == pytest.approx(gain / (used.mean() + 300))


def test_an_undecided_gate_says_how_many_episodes_would_decide():
    settings = RetentionSettings(max_episodes=30)
    verdict = gate(Candidate(9000), settings=settings)
    assert verdict.state is State.INCONCLUSIVE
    low, high = verdict.interval
    assert low < 0.9 < high
    more = verdict.details["more_episodes"]
    e_pass = verdict.details["e_pass"]
    assert verdict.e_value == e_pass > verdict.details["e_fail"]
    assert more == math.ceil(30 * math.log(20) / math.log(e_pass)) - 30
    assert f"About {more} more would decide: set --drlc-max-episodes={30 + more}." in verdict.reason
    # and the forecast is about right
    needed = gate(Candidate(9000)).sample_size
    assert abs(30 + more - needed) <= 0.25 * needed


def test_an_undecided_gate_with_a_small_pool_asks_for_more_baseline_episodes():
    verdict = gate(Candidate(9000), make_reference(tight_pool(30)))
    assert verdict.state is State.INCONCLUSIVE
    assert "record as many baseline episodes (now 30)" in verdict.reason


def test_without_growing_evidence_there_is_no_forecast():
    constant = make_reference([9000.0] * 200)
    verdict = gate(Candidate(-300 + 0.9 * 9300, sd=0), constant)
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.sample_size == 200
    assert verdict.e_value == pytest.approx(1)
    assert verdict.details["more_episodes"] is None
    assert "not growing" in verdict.reason
