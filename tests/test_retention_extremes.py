"""The retention gate: returns outside the declared range, no returns at all, verdicts as data."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from retention_gate import (
    DEFAULT,
    NEAR,
    REFERENCE,
    Candidate,
    gate,
    make_reference,
    reread,
)

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.core.verdict import State
from pytest_drlcompress.evaluation.retention import (
    RetentionSettings,
    judge,
)

# --- returns outside the declared range --------------------------------------------------------

LOW, HIGH = REFERENCE.low, REFERENCE.high
BELOW, ABOVE = LOW - 1, HIGH + 1
RUINOUS = {2: 7e4, 6: -4e5}
"""First a return that ends all bets on a FAIL, then one that ends those on a PASS."""


def test_a_return_below_the_range_delays_a_pass_and_is_named():
    """It costs the largest bets all they have; smaller ones have paid for it and go on."""
    usual = gate(Candidate(9000))
    verdict = gate(Candidate(9000, odd={3: BELOW}))
    assert verdict.state is State.PASS
    assert verdict.sample_size > 1.2 * usual.sample_size
    assert verdict.details["left_range"] == [
        f"Episode 4 returned {BELOW:.6g}, below the declared range [{LOW:.6g}, {HIGH:.6g}]"
    ]
    # what was seen is counted, and is not said to be rare
    assert verdict.details["unseen"] is None
    # as long as it is undecided, nothing is invalid
    short = gate(Candidate(9000, odd={3: BELOW}), settings=RetentionSettings(max_episodes=40))
    assert short.state is State.INCONCLUSIVE
    assert "below the declared range" in short.reason


def test_falls_that_no_bet_can_pay_for_rule_out_a_pass_for_good():
    abyss = REFERENCE.random_mean - 40 * (REFERENCE.mean - REFERENCE.random_mean)
    verdict = gate(Candidate(9000, odd={3: abyss}))
    assert verdict.state is State.FAIL  # it weighs more than all the others


def test_a_broken_candidate_fails_although_it_left_the_range():
    verdict = gate(Candidate(-5000))
    assert verdict.state is State.FAIL
    assert verdict.details["left_range"][0].startswith("Episode 1 returned")
    assert verdict.estimate < 0
    assert verdict.interval[0] < verdict.estimate < verdict.interval[1] <= 0.9


def test_a_catastrophic_return_fails_without_overflow():
    verdict = gate(Candidate(9000, odd=dict.fromkeys(range(200), -1e250)))
    assert verdict.state is State.FAIL
    json.dumps(verdict.to_json(), allow_nan=False)


def test_a_return_above_the_range_rules_out_neither():
    assert gate(Candidate(9000, odd={3: ABOVE})).state is State.PASS
    usual = gate(Candidate(4000))
    verdict = gate(Candidate(4000, odd={3: ABOVE}))
    assert verdict.state is usual.state is State.FAIL
    assert verdict.sample_size > usual.sample_size
    assert "above the declared range" in verdict.details["left_range"][0]


def test_an_improved_candidate_passes_although_it_left_the_range():
    verdict = gate(Candidate(12000))
    assert verdict.state is State.PASS
    assert verdict.estimate > 1.2


def test_a_gate_that_neither_side_can_decide_ends_at_once():
    candidate = Candidate(9000, odd=RUINOUS)
    verdict = gate(candidate)
    assert verdict.state is State.INVALID
    assert len(candidate.played) == 7
    assert "Episode 3" in verdict.reason
    assert "Episode 7" in verdict.reason
    assert verdict.e_value == 0


def test_what_the_task_itself_bounds_is_not_assumed():
    pool = make_reference([500.0] * 190 + [480.0] * 10, [20.0, 24.0], [9.0, 10.0])
    guessed, bounded = (
        gate(Candidate(498, sd=1), pool, bounds=b) for b in ((None, None), (1, 500))
    )
    assert guessed.state is bounded.state is State.PASS
    assert bounded.details["range"] == [1, 500]
    assert bounded.sample_size <= guessed.sample_size
    assert guessed.details["unseen"] is not None
    assert bounded.details["unseen"] is None
    # a bound that is no narrower changes nothing
    loose = gate(Candidate(498, sd=1), pool, bounds=(-1e6, 1e6))
    assert loose == guessed


@pytest.mark.parametrize("random", [[-200.0, -200.0], [-200.0, -199.0]])
def test_a_task_whose_random_policy_earns_the_least_there_is(random):
    """MountainCar."""
    pool = make_reference(np.random.default_rng(1).normal(-110, 10, 200), random, random)
    assert gate(Candidate(-110, sd=10), pool, bounds=(-200, -1)).state is State.PASS
    assert gate(Candidate(-150, sd=10), pool, bounds=(-200, -1)).state is State.FAIL


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    odd=st.dictionaries(st.integers(0, 80), st.floats(-20000, 20000), max_size=80),
    mean=st.sampled_from([4000.0, 7500.0, 8070.0, 9000.0]),
    sd=st.sampled_from([50.0, 2000.0]),
)
def test_whatever_the_returns_state_interval_and_evidence_agree(odd, mean, sd):
    candidate = Candidate(mean, sd, odd)
    verdict = gate(candidate, settings=RetentionSettings(max_episodes=80))
    low, high = verdict.interval
    threshold = verdict.details["threshold"]
    outside = [v for i, v in odd.items() if i < verdict.sample_size]
    left = any(not REFERENCE.low <= value <= REFERENCE.high for value in outside)
    assert low <= high
    if verdict.state is State.PASS:
        assert low >= 0.9
        assert verdict.details["e_pass"] >= threshold
    elif verdict.state is State.FAIL:
        assert high <= 0.9
        assert verdict.details["e_fail"] >= threshold
    else:
        assert verdict.state is State.INCONCLUSIVE
        assert low < 0.9 < high
        assert verdict.e_value < threshold
    assert not left or verdict.details["left_range"]
    reread(verdict)


# --- what is not a return ----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_no_number_never_becomes_a_verdict(bad):
    with pytest.raises(EpisodeError, match="episode 6 returned"):
        gate(Candidate(9000, odd={5: bad}))


def test_what_the_rollout_raises_passes_through():
    def broken():
        yield 9000.0
        raise EpisodeError("the simulator diverged")

    with pytest.raises(EpisodeError, match="diverged"):
        judge(broken(), REFERENCE, DEFAULT, policy="p", variant="v")


# --- as data -----------------------------------------------------------------------------------


def test_verdicts_of_every_state_survive_json():
    verdicts = [
        gate(Candidate(9000)),
        gate(Candidate(4000)),
        gate(NEAR),
        gate(Candidate(9000, odd=RUINOUS)),
        gate(Candidate(9000), make_reference([1.0, 2.0])),
    ]
    assert [v.state for v in verdicts] == ["PASS", "FAIL", "INCONCLUSIVE", "INVALID", "INVALID"]
    for verdict in verdicts:
        reread(verdict)


def test_the_statistics_need_neither_torch_nor_an_environment():
    code = (
        "import sys, pytest_drlcompress.evaluation.retention\n"
        "print(sorted({'torch', 'gymnasium', 'onnxruntime', 'scipy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
