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
)

from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.verdict import State
from pytest_drlcompress.evaluation.eprocess import ReturnRange
from pytest_drlcompress.evaluation.reference import POOL_EPISODES, RECORDED_SEEDS, Reference
from pytest_drlcompress.evaluation.retention import (
    Progress,
    RetentionSettings,
    episode_seeds,
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
    "wrong",
    [
        {"min_retention": 0.0},
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"max_episodes": 0},
        {"precision": 0.0},
    ],
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


def test_seeds_are_fixed_for_ever():
    # recorded verdicts depend on these: they may change with neither platform nor library
    assert episode_seeds(SHA, ENV, DEFAULT, 3) == SEEDS


SEEDS = [729633700, 2081302337, 1757993862]


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
def test_seeds_follow_from_artifact_environment_and_settings(sha, env, settings):
    assert not set(episode_seeds(sha, env, settings, 50)) & set(
        episode_seeds(SHA, ENV, DEFAULT, 50)
    )


def test_a_higher_cap_goes_on_with_the_same_test_instead_of_beginning_another():
    caps = [60, 200, 400, 1600]
    settings = [RetentionSettings(max_episodes=cap) for cap in caps]
    seeds = [episode_seeds(SHA, ENV, s, s.max_episodes) for s in settings]
    progress: list[list[Progress]] = [[] for _ in caps]
    for s, seen in zip(settings, progress, strict=True):
        gate(NEAR, settings=s, progress=seen)
    for n, shorter, longer in zip(caps, range(3), range(1, 4), strict=False):
        assert seeds[longer][:n] == seeds[shorter]
        assert progress[longer][:n] == progress[shorter]


def test_a_precision_is_part_of_neither_the_test_nor_its_decision():
    candidate = Candidate(9000)
    verdict = gate(candidate)
    narrow = gate(candidate, settings=RetentionSettings(precision=0.01))
    assert narrow.state is verdict.state is State.PASS
    assert narrow.details["decided_at"] == verdict.sample_size < narrow.sample_size < 1000
    low, high = narrow.interval
    assert high - low <= 0.01 < verdict.interval[1] - verdict.interval[0]
    assert f"{verdict.sample_size} episodes show a retention of at least 0.9." in narrow.reason


def test_a_precision_that_the_pool_does_not_give_says_so():
    noisy = make_reference(np.random.default_rng(3).normal(9000, 3000, 500))
    verdict = gate(Candidate(12000), noisy, RetentionSettings(precision=0.001, max_episodes=300))
    assert verdict.state is State.PASS
    assert verdict.sample_size == 300
    assert "leave the baseline's own mean uncertain by" in verdict.reason


# --- what the pool knows ---------------------------------------------------------------------


def test_a_larger_pool_knows_the_mean_better_and_declares_the_same_range():
    returns = np.random.default_rng(4).normal(9000, 1000, 5000)
    small, large = (make_reference(returns[:n]) for n in (POOL_EPISODES, 5000))
    assert (small.low, small.high) == (large.low, large.high)
    widths = [b - a for a, b in (r.mean_bounds(0.001) for r in (small, large))]
    assert widths[1] == pytest.approx(widths[0] * math.sqrt(2 / 5), rel=0.05)
    assert widths[0] == pytest.approx(2 * 3.09 * 1000 / math.sqrt(2000), rel=0.05)


def test_a_constant_pool_knows_its_mean():
    assert make_reference([500.0] * 200).mean_bounds(0.0025) == (500.0, 500.0)


@given(returns=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
@hypothesis_settings(deadline=None)
def test_the_bounds_of_the_mean_enclose_the_pools_mean(returns):
    reference = make_reference(returns)
    low, high = reference.mean_bounds(0.0025)
    assert low <= reference.mean <= high


# --- verdicts --------------------------------------------------------------------------------


def test_a_candidate_that_keeps_everything_passes_within_sixty_episodes():
    candidate = Candidate(9000)
    verdict = gate(candidate)
    assert verdict.state is State.PASS
    assert verdict.sample_size <= 60
    assert verdict.estimate == pytest.approx(1, abs=0.01)
    assert verdict.interval[0] >= 0.9
    assert verdict.e_value == verdict.details["e_pass"] >= verdict.details["threshold"] >= 20
    n = verdict.sample_size
    unseen = 1 - 0.05 ** (1 / n)
    assert verdict.details["unseen"] == pytest.approx(unseen)
    assert unseen == pytest.approx(3 / n, rel=0.05)  # the rule of three
    assert verdict.reason == (
        f"{n} episodes show a retention of at least 0.9. Returns below the declared range are"
        f" rarer than {unseen:.2g}."
    )
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
        decides = max(step.e_pass, step.e_fail) >= verdict.details["threshold"]
        assert decides == (n == verdict.sample_size)
    assert progress[-1].estimate == verdict.estimate
    assert progress[-1].e_pass == verdict.details["e_pass"]


def test_no_episode_is_drawn_beyond_the_cap():
    candidate = Candidate(9000)
    verdict = gate(candidate, settings=RetentionSettings(max_episodes=25))
    assert verdict.state is State.INCONCLUSIVE
    assert len(candidate.played) == verdict.sample_size == 25


def test_the_same_artifact_always_gets_the_same_verdict():
    candidate = -300 + 0.93 * 9300
    first, second = gate(Candidate(candidate, sd=600)), gate(Candidate(candidate, sd=600))
    assert first == second
    assert gate(Candidate(candidate, sd=600), sha=OTHER_SHA) != first


def test_the_estimate_is_held_against_the_whole_pool():
    pool = np.random.default_rng(2).normal(9000, 1000, 200)
    verdict = gate(Candidate(9000), make_reference(pool))
    assert verdict.details["baseline_mean"] == pytest.approx(pool.mean())
    gain = verdict.details["candidate_mean"] + 300
    assert verdict.estimate == pytest.approx(gain / (pool.mean() + 300))
    low, high = verdict.details["baseline_bounds"]
    assert low < pool.mean() < high


def test_an_undecided_gate_says_how_many_episodes_would_decide():
    settings = RetentionSettings(max_episodes=30)
    verdict = gate(Candidate(9000), settings=settings)
    assert verdict.state is State.INCONCLUSIVE
    low, high = verdict.interval
    assert low < 0.9 < high
    more = verdict.details["more_episodes"]
    e_pass = verdict.details["e_pass"]
    assert verdict.e_value == e_pass > verdict.details["e_fail"]
    threshold = math.log(verdict.details["threshold"])
    assert more == math.ceil(30 * threshold / math.log(e_pass)) - 30
    assert f"About {more} more would decide: set --drlc-max-episodes={30 + more}." in verdict.reason
    # and the forecast is about right
    needed = gate(Candidate(9000)).sample_size
    assert abs(30 + more - needed) <= 0.25 * needed


def test_an_undecided_gate_says_what_its_pool_leaves_open():
    noisy = make_reference(np.random.default_rng(3).normal(9000, 3000, 200))
    verdict = gate(Candidate(8500), noisy, RetentionSettings(max_episodes=30))
    assert verdict.state is State.INCONCLUSIVE
    assert "The 200 recorded episodes leave the baseline's own mean uncertain" in verdict.reason
    assert "baselines --measure --episodes=N" in verdict.reason
    tight = gate(NEAR, settings=RetentionSettings(max_episodes=30))
    assert "uncertain" not in tight.reason


def test_without_growing_evidence_there_is_no_forecast():
    constant = make_reference([9000.0] * 200)
    verdict = gate(Candidate(-300 + 0.9 * 9300, sd=0), constant)
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.sample_size == 1000
    assert verdict.e_value == pytest.approx(1)
    assert verdict.details["more_episodes"] is None
    assert "not growing" in verdict.reason
