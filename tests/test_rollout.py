"""Rollouts: the order of episodes, and what fails and how."""

import numpy as np
import pytest
from counting import Mirror, counting, expected

from pytest_drlcompress.core.errors import ActionError, EnvironmentSpecError, EpisodeError
from pytest_drlcompress.environments.engines import engine_choice
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.episodes import run_episodes
from pytest_drlcompress.evaluation.rollout import (
    RandomActor,
    ZeroActor,
    rollout,
)

pytestmark = [
    pytest.mark.usefixtures("counting_env"),
    pytest.mark.filterwarnings("ignore:.*out of date"),
]


def test_episodes_come_in_the_order_of_their_seeds():
    """Long ones first or last, more or fewer than slots."""
    for seeds in ([6, 0, 1, 5, 3, 2, 0, 4] * 4, [3], [], range(5)):
        assert list(rollout(counting(), Mirror(), seeds, slots=4)) == expected(seeds)


def test_a_finished_slot_is_refilled_at_once():
    """Started in order, none waits for the slowest: 4 slots, lengths 7 1 1 1 1 1 1 7."""
    started = []
    envs = engine_choice(counting()).vector_env(4)
    spec = counting()
    episodes = run_episodes(
        envs,
        Mirror(),
        spec.action,
        iter([6, 0, 7, 14, 21, 28, 35, 13]),
        on_start=lambda slot, seed: started.append((slot, seed)),
    )
    assert next(episodes).seed == 6
    assert [seed for _, seed in started] == [6, 0, 7, 14, 21, 28, 35, 13]
    assert [slot for slot, _ in started] == [0, 1, 2, 3, 1, 2, 3, 1]
    assert [episode.seed for episode in episodes] == [0, 7, 14, 21, 28, 35, 13]


def test_observations_are_recorded_as_the_policy_saw_them():
    first, second = rollout(counting(), Mirror(), [2, 4], record=True)
    np.testing.assert_array_equal(first.observations, [[2, 0], [2, 1], [2, 2]])
    np.testing.assert_array_equal(second.observations[:, 1], range(5))
    assert next(rollout(counting(), Mirror(), [2])).observations is None


@pytest.mark.parametrize("workers", [1, 2])
def test_steps_are_counted(workers):
    counted = []
    seeds = range(40)
    actor = ZeroActor(counting().action)
    list(rollout(counting(), actor, seeds, on_steps=counted.append, workers=workers))
    assert sum(counted) == sum(seed % 7 + 1 for seed in seeds)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "raise",
            r"environment failed \(RuntimeError\('a wheel came off'\)\) at step 2 .*seed 5",
        ),
        ("reset", r"reset\(seed=5\): RuntimeError\('no reset today'\)"),
        ("nan reward", r"reward nan at step 2 of the episode with seed 5"),
        ("nan observation", r"NaN or infinity before step 3 of the episode with seed 5"),
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"slots": 2}, {"workers": 2}, {"step_timeout_s": None}])
def test_a_fault_ends_the_rollout_when_its_turn_has_come(fault, message, arguments):
    """The episodes before it are complete, whatever was in flight; nothing comes after."""
    spec = counting(fault=fault, faulty=5, at=2)
    episodes = rollout(spec, ZeroActor(spec.action), [6, 13, 5, 4, 3, 2], **arguments)
    assert [next(episodes), next(episodes)] == expected([6, 13])
    with pytest.raises(EpisodeError, match=message):
        next(episodes)
    with pytest.raises(StopIteration):
        next(episodes)


def test_after_a_fault_only_the_episodes_before_it_are_finished():
    """Seed 5 fails at its first step: seed 13 beside it is dropped, seed 20 never started."""
    spec = counting(fault="raise", faulty=5, at=1)
    started, steps = [], []
    episodes = run_episodes(
        engine_choice(spec).vector_env(3),
        Mirror(),
        spec.action,
        [6, 5, 13, 20],
        on_start=lambda slot, seed: started.append(seed),
        on_steps=steps.append,
    )
    assert next(episodes).seed == 6
    with pytest.raises(EpisodeError, match="seed 5"):
        next(episodes)
    assert started == [6, 5, 13]
    assert steps == [3, 1, 1, 1, 1, 1, 1]


def test_of_two_faults_the_first_in_order_counts():
    """Seed 12 fails at its first step, seed 6 before it in order, but six steps later."""

    class Late(Mirror):
        def act(self, observations):
            seeds, steps = observations.T
            outside = (seeds == 12) | ((seeds == 6) & (steps == 5))
            return np.where(outside, 2, 0).astype(np.float32)[:, None]

    with pytest.raises(ActionError, match=r"action \[2.\] at step 6 of the episode with seed 6"):
        list(rollout(counting(), Late(), [6, 12, 3]))


def test_actions_of_idle_slots_do_not_matter():
    """Seed 9 (3 steps) is the last to fly; the slot of seed 0 still shows its observation."""
    actor = Mirror()

    class Idle(Mirror):
        def act(self, observations):
            actions = actor.act(observations)
            actions[observations[:, 1] > observations[:, 0] % 7] = np.nan
            return actions

    assert list(rollout(counting(), Idle(), [0, 2], slots=2)) == expected([0, 2])


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda o: np.full((len(o), 1), np.nan, np.float32), ActionError, r"action \[nan\]"),
        (lambda o: np.zeros((len(o), 3), np.float32), ActionError, r"shape \(3,\).*Box \[-1, 1\]"),
        (lambda o: np.zeros(len(o), np.float32), ActionError, r"has shape \(\)"),
        (lambda o: 1 / 0, EpisodeError, r"policy failed on observations of shape \(2,\): division"),
    ],
)
def test_policies_that_do_not_fit(act, error, message):
    actor = Mirror()
    actor.act = act
    with pytest.raises(error, match=message):
        list(rollout(counting(), actor, [1, 2]))


def test_environments_that_cannot_be_made():
    for arguments in ({}, {"workers": 2}):
        with pytest.raises(EnvironmentSpecError, match="cannot be made"):
            rollout(EnvSpec.parse("Nothing-v3"), Mirror(), [1], **arguments)


def test_a_live_controller_has_one_worker():
    with pytest.raises(TypeError, match="live Mirror cannot be shared by 2 workers"):
        rollout(counting(), Mirror(), [1, 2], workers=2)


@pytest.mark.parametrize("actor", [RandomActor, ZeroActor])
@pytest.mark.parametrize("text", ["CartPole-v1", "Swimmer-v5:max_episode_steps=30"])
def test_reference_policies_have_their_own_random_numbers(actor, text):
    spec = EnvSpec.parse(text)
    alone = [next(rollout(spec, actor(spec.action), [seed])) for seed in range(20)]
    assert list(rollout(spec, actor(spec.action), range(20), slots=8)) == alone
    assert list(rollout(spec, actor(spec.action), range(20), workers=2, slots=3)) == alone
