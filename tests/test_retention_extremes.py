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
    ENV,
    NEAR,
    REFERENCE,
    SHA,
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
    pool_order,
)

# --- returns outside the declared range --------------------------------------------------------

BELOW = REFERENCE.low - 1
ABOVE = REFERENCE.high + 1


def test_a_return_below_the_range_rules_out_a_pass_even_of_a_perfect_remainder():
    verdict = gate(Candidate(9000, odd={3: BELOW}))
    assert verdict.state is State.INVALID
    assert verdict.sample_size == 200
    assert verdict.details["e_pass"] == 0
    assert f"Episode 4 returned {BELOW:.6g}, below the declared range" in verdict.reason
    assert "rules out a PASS" in verdict.reason


def test_a_broken_candidate_fails_although_it_left_the_range():
    verdict = gate(Candidate(-5000))
    assert verdict.state is State.FAIL
    assert verdict.details["e_pass"] == 0
    assert verdict.details["left_range"][0].startswith("Episode 1 returned")
    assert verdict.estimate < 0
    assert verdict.interval[0] < verdict.estimate < verdict.interval[1] <= 0.9


def test_a_catastrophic_return_fails_without_overflow():
    verdict = gate(Candidate(9000, odd=dict.fromkeys(range(200), -1e250)))
    assert verdict.state is State.FAIL
    json.dumps(verdict.to_json(), allow_nan=False)


def test_a_return_above_the_range_rules_out_a_fail_but_not_a_pass():
    assert gate(Candidate(9000, odd={3: ABOVE})).state is State.PASS
    verdict = gate(Candidate(4000, odd={3: ABOVE}))
    assert verdict.state is State.INVALID
    assert "above the declared range" in verdict.reason
    assert "rules out a FAIL" in verdict.reason


def test_an_improved_candidate_passes_although_it_left_the_range():
    verdict = gate(Candidate(12000))
    assert verdict.state is State.PASS
    assert verdict.details["e_fail"] == 0
    assert verdict.estimate > 1.2


def test_a_gate_that_neither_side_can_decide_ends_at_once():
    candidate = Candidate(9000, odd={2: BELOW, 6: ABOVE})
    verdict = gate(candidate)
    assert verdict.state is State.INVALID
    assert len(candidate.played) == 7
    assert "Episode 3" in verdict.reason
    assert "Episode 7" in verdict.reason
    assert verdict.e_value == 0


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
    outside = [v for i, v in odd.items() if i < verdict.sample_size]
    below = any(value < REFERENCE.low for value in outside)
    above = any(value > REFERENCE.high for value in outside)
    assert low <= high
    if verdict.state is State.PASS:
        assert low >= 0.9
        assert verdict.details["e_pass"] >= 20
        assert not below
    elif verdict.state is State.FAIL:
        assert high <= 0.9
        assert verdict.details["e_fail"] >= 20
        assert not above
    else:
        assert low < 0.9 < high
        assert verdict.e_value < 20
    if below:
        assert verdict.state in (State.FAIL, State.INVALID)
    if verdict.state is State.INVALID:
        assert verdict.details["left_range"]
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

    order = pool_order(SHA, ENV, DEFAULT, 200)
    with pytest.raises(EpisodeError, match="diverged"):
        judge(broken(), REFERENCE, order, DEFAULT, policy="p", variant="v")


def test_a_pool_episode_is_not_used_twice():
    with pytest.raises(AssertionError, match="only once"):
        judge([9000.0], REFERENCE, np.array([4, 4]), DEFAULT, policy="p", variant="v")


# --- as data -----------------------------------------------------------------------------------


def test_verdicts_of_every_state_survive_json():
    verdicts = [
        gate(Candidate(9000)),
        gate(Candidate(4000)),
        gate(NEAR),
        gate(Candidate(9000, odd={3: BELOW})),
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
