"""Rollouts: the order of episodes, what fails and how, engines and why, workers that misbehave."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from pytest_drlcompress.errors import ActionError, EnvironmentSpecError, EpisodeError
from pytest_drlcompress.evaluation import mujoco_engine
from pytest_drlcompress.evaluation.episodes import Episode, run_episodes
from pytest_drlcompress.evaluation.perturb import UNPERTURBED
from pytest_drlcompress.evaluation.rollout import (
    RandomPilot,
    ZeroPilot,
    engine_choice,
    make_stepper,
    rollout,
)
from pytest_drlcompress.evaluation.workers import Crew
from pytest_drlcompress.policies.environment import EnvSpec

WAIT_S = 60
pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")


class CountingEnv(gym.Env):
    """An episode of ``seed % 7 + 1`` steps, reward ``seed`` each, and a ``fault`` if asked for.

    The fault strikes in episodes with ``seed == faulty`` (-1: every one) at step ``at``. With
    ``helpers`` it strikes in helper processes alone, and steps in this one are slow until a helper
    has made the file ``helpers``, so that some seeds are left for it.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fault="", faulty=-1, at=1, helpers=""):
        self.fault, self.faulty, self.at, self.helpers = fault, faulty, at, helpers

    def reset(self, *, seed=None, options=None):  # noqa: ARG002 (Gymnasium)
        self.number, self.steps = seed, 0
        if self.fault == "reset" and seed == self.faulty:
            raise RuntimeError("no reset today")
        return self._observation(), {}

    def step(self, action):  # noqa: ARG002 (Gymnasium)
        self.steps += 1
        here = bool(self.helpers) and threading.current_thread() is not threading.main_thread()
        if here and not Path(self.helpers).exists():
            time.sleep(0.02)
        elif self.helpers and not here:
            Path(self.helpers).touch()
        if self.faulty in (self.number, -1) and self.steps == self.at and not here:
            self._strike()
        reward = np.nan if self._struck("nan reward") else float(self.number)
        return self._observation(), reward, self.steps > self.number % 7, False, {}

    def _observation(self):
        bad = self._struck("nan observation")
        return np.array([self.number, np.nan if bad else self.steps], np.float64)

    def _struck(self, fault):
        return self.fault == fault and self.number == self.faulty and self.steps == self.at

    def _strike(self):
        if self.fault == "raise":
            raise RuntimeError("a wheel came off")
        if self.fault == "exit":
            sys.exit("enough")
        if self.fault == "die":
            os._exit(3)
        if self.fault == "loop":
            while True:
                pass
        if self.fault == "sleep":
            time.sleep(3600)


class Mirror:
    """A pilot for ``CountingEnv``: action 0, but 2 (outside) for the seeds in ``bad``."""

    def __init__(self, bad=()):
        self.bad = bad

    def act(self, observations):
        outside = np.isin(observations[:, :1], self.bad)
        return np.where(outside, 2, 0).astype(np.float32)


@pytest.fixture(autouse=True)
def _register():
    gym.register("drlcTests/Counting-v0", CountingEnv, disable_env_checker=True)
    yield
    del gym.registry["drlcTests/Counting-v0"]


def counting(**kwargs):
    return EnvSpec("drlcTests/Counting-v0", tuple(sorted(kwargs.items())))


def expected(seeds):
    return [Episode(seed, float(seed * (seed % 7 + 1)), seed % 7 + 1) for seed in seeds]


def wait_for(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_episodes_come_in_the_order_of_their_seeds():
    """Long ones first or last, more or fewer than slots."""
    for seeds in ([6, 0, 1, 5, 3, 2, 0, 4] * 4, [3], [], range(5)):
        assert list(rollout(counting(), Mirror(), seeds, slots=4)) == expected(seeds)


def test_a_finished_slot_is_refilled_at_once():
    """Started in order, none waits for the slowest: 4 slots, lengths 7 1 1 1 1 1 1 7."""
    started = []
    stepper = make_stepper(counting(), 4)
    spec = counting()
    episodes = run_episodes(
        stepper,
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
    pilot = ZeroPilot(counting().action)
    list(rollout(counting(), pilot, seeds, on_steps=counted.append, workers=workers))
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
    episodes = rollout(spec, ZeroPilot(spec.action), [6, 13, 5, 4, 3, 2], **arguments)
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
        make_stepper(spec, 3),
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
    pilot = Mirror()

    class Idle(Mirror):
        def act(self, observations):
            actions = pilot.act(observations)
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
    pilot = Mirror()
    pilot.act = act
    with pytest.raises(error, match=message):
        list(rollout(counting(), pilot, [1, 2]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CartPole-v1", "CartPoleEnv has no fast path"),
        ("InvertedPendulum-v5", "InvertedPendulumEnv has no fast path"),
        ("Hopper-v5", "bit for bit equal"),
    ],
)
def test_the_engine_says_why_it_is_chosen(text, reason):
    engine = engine_choice(EnvSpec.parse(text))
    assert reason in engine.reason
    assert engine.name == ("mujoco" if "equal" in reason else "gymnasium")


def test_unproven_versions_are_left_to_gymnasium(monkeypatch):
    monkeypatch.setattr(mujoco_engine, "PROVEN_MUJOCO", ("0.1", "0.2"))
    engine = engine_choice(EnvSpec.parse("Hopper-v5"))
    assert engine.name == "gymnasium"
    assert "with MuJoCo 0.1, 0.2; installed are" in engine.reason
    assert "installed" not in engine_choice(EnvSpec.parse("CartPole-v1")).reason


def test_a_model_that_the_fast_path_cannot_take_is_left_to_gymnasium(monkeypatch):
    def different(env):
        raise KeyError("no torso")

    monkeypatch.setattr(mujoco_engine, "_makers", lambda: {"ant:AntEnv": different})
    assert "cannot take it: KeyError('no torso')" in engine_choice(EnvSpec.parse("Ant-v5")).reason


def test_wrappers_and_subclasses_are_left_to_gymnasium():
    from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

    class Custom(HopperEnv):
        pass

    gym.register("drlcTests/Hopper-v0", Custom)
    gym.register(
        "drlcTests/Wrapped-v0",
        "gymnasium.envs.mujoco.hopper_v5:HopperEnv",
        additional_wrappers=(gym.wrappers.ClipReward.wrapper_spec(min_reward=0),),
    )
    try:
        assert (
            "Custom has no fast path" in engine_choice(EnvSpec.parse("drlcTests/Hopper-v0")).reason
        )
        assert "ClipReward" in engine_choice(EnvSpec.parse("drlcTests/Wrapped-v0")).reason
    finally:
        del gym.registry["drlcTests/Hopper-v0"], gym.registry["drlcTests/Wrapped-v0"]


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("the observation after reset", lambda env: env.init_qpos.__iadd__(1e-9)),
        ("the observation at step", lambda env: env.model.opt.gravity.__iadd__(1e-9)),
        ("the reward at step", lambda env: setattr(env, "_forward_reward_weight", 1 + 1e-12)),
        ("the end of the episode at step", lambda env: setattr(env, "_healthy_z_range", (9, 10))),
    ],
)
def test_the_comparison_finds_differences(where, change):
    """What is compared before the fast path is used: here with an environment changed behind it."""
    env = EnvSpec.parse("Hopper-v4").make()
    setup = mujoco_engine.mujoco_setup(EnvSpec.parse("Hopper-v4"), UNPERTURBED)
    assert mujoco_engine.first_difference(setup, env) == ""
    change(env.unwrapped)
    assert where in mujoco_engine.first_difference(setup, env)


def test_environments_that_cannot_be_made():
    for arguments in ({}, {"workers": 2}):
        with pytest.raises(EnvironmentSpecError, match="cannot be made"):
            rollout(EnvSpec.parse("Nothing-v3"), Mirror(), [1], **arguments)


def test_a_live_controller_has_one_worker():
    with pytest.raises(TypeError, match="live Mirror cannot be shared by 2 workers"):
        rollout(counting(), Mirror(), [1, 2], workers=2)


@pytest.mark.parametrize("pilot", [RandomPilot, ZeroPilot])
@pytest.mark.parametrize("text", ["CartPole-v1", "Swimmer-v5:max_episode_steps=30"])
def test_reference_policies_have_their_own_random_numbers(pilot, text):
    spec = EnvSpec.parse(text)
    alone = [next(rollout(spec, pilot(spec.action), [seed])) for seed in range(20)]
    assert list(rollout(spec, pilot(spec.action), range(20), slots=8)) == alone
    assert list(rollout(spec, pilot(spec.action), range(20), workers=2, slots=3)) == alone


def test_closing_stops_the_workers(monkeypatch):
    """After closing no thread of the rollout runs on; it is not even interrupted."""
    monkeypatch.setattr("pytest_drlcompress.evaluation.workers.PATIENCE_S", 1e6)
    spec = EnvSpec.parse("HalfCheetah-v5")
    episodes = rollout(spec, ZeroPilot(spec.action), range(10**6), workers=2)
    next(episodes)
    episodes.close()
    assert not [t for t in threading.enumerate() if t.name == "drlcompress"]


def test_a_crew_is_kept_and_ends_with_its_context():
    spec, seeds = counting(), range(30)
    pilot = ZeroPilot(spec.action)
    with Crew(2) as crew:
        for _ in range(2):
            assert list(rollout(spec, pilot, seeds, workers=crew)) == expected(seeds)
        (helper,) = crew._helpers
        assert helper.free
        assert helper._number == 2, "the second rollout used it again"
        pid = helper._process.pid
        abandoned = rollout(spec, pilot, range(10_000), workers=crew)
        next(abandoned)
        other = list(rollout(spec, pilot, seeds, workers=crew))
        assert other == expected(seeds), "a second rollout beside an unfinished one"
        abandoned.close()
        assert list(rollout(spec, pilot, seeds, workers=crew)) == expected(seeds)
        assert helper._process.pid == pid
    assert not alive(pid)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("die", r"worker process died \(exit status 3\)"),
        ("exit", r"environment failed \(SystemExit\('enough'\)\)"),
        ("raise", r"a wheel came off"),
    ],
)
def test_a_helper_that_fails_is_an_error_at_its_episodes_turn(fault, message, tmp_path):
    spec = counting(fault=fault, helpers=str(tmp_path / "here"))
    seeds, got = list(range(3000)), []
    with Crew(2) as crew:
        with pytest.raises(EpisodeError, match=message):
            got.extend(rollout(spec, ZeroPilot(spec.action), seeds, workers=crew))
        assert got == expected(seeds[: len(got)])
        assert len(got) < len(seeds)
        healthy = counting()
        assert list(rollout(healthy, ZeroPilot(healthy.action), [1, 2], workers=crew))


def test_a_helper_killed_from_outside_is_an_error(tmp_path):
    spec = counting(fault="sleep", helpers=str(tmp_path / "here"))
    with Crew(2) as crew:
        episodes = rollout(
            spec, ZeroPilot(spec.action), range(3000), workers=crew, step_timeout_s=None
        )
        killer = threading.Thread(target=lambda: kill_when_there(tmp_path / "here", crew))
        killer.start()
        with pytest.raises(EpisodeError, match=r"worker process died \(signal 9\)"):
            list(episodes)
        killer.join()


def kill_when_there(path, crew):
    wait_for(path.exists)
    os.kill(crew._helpers[0]._process.pid, signal.SIGKILL)


@pytest.mark.parametrize("fault", ["loop", "sleep"])
def test_a_helper_that_hangs_is_an_error_and_replaced(fault, tmp_path):
    spec = counting(fault=fault, helpers=str(tmp_path / "here"))
    with Crew(2) as crew:
        with pytest.raises(EpisodeError, match=r"no step was finished within 2 s"):
            list(
                rollout(spec, ZeroPilot(spec.action), range(3000), workers=crew, step_timeout_s=2.0)
            )
        hanging = crew._helpers[0]._process.pid
        time.sleep(2.1)  # its patience is over
        healthy = counting()
        assert list(rollout(healthy, ZeroPilot(healthy.action), [1, 2], workers=crew))
        assert not alive(hanging)


def test_a_thread_that_hangs_in_python_code_is_interrupted():
    spec = counting(fault="loop", faulty=3)
    with pytest.raises(EpisodeError, match=r"no step was finished within 1 s .* seed [123]"):
        list(rollout(spec, Mirror(), [1, 2, 3], step_timeout_s=1.0))
    assert not [t for t in threading.enumerate() if t.name == "drlcompress"]


def test_environments_that_take_forever_to_make(monkeypatch):
    def forever(self, slots):
        while True:
            pass

    monkeypatch.setattr("pytest_drlcompress.evaluation.gymnasium.GymnasiumEngine.stepper", forever)
    with pytest.raises(EpisodeError, match="could not be made within 1 s"):
        list(rollout(counting(), Mirror(), [1], step_timeout_s=0.1))


def test_an_environment_that_other_processes_cannot_know_uses_one_worker():
    class Local(CountingEnv):
        pass

    gym.register("drlcTests/Local-v0", Local, disable_env_checker=True)
    try:
        spec = EnvSpec("drlcTests/Local-v0")
        with pytest.warns(RuntimeWarning, match="fewer cores are used.*Local"):
            episodes = list(rollout(spec, ZeroPilot(spec.action), range(9), workers=2))
        assert episodes == expected(range(9))
    finally:
        del gym.registry["drlcTests/Local-v0"]


SCRIPT = """
import signal
from pytest_drlcompress.evaluation.rollout import ZeroPilot, rollout
from pytest_drlcompress.evaluation.workers import Crew
from pytest_drlcompress.policies.environment import EnvSpec

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
spec = EnvSpec.parse("HalfCheetah-v5")
with Crew(2) as crew:
    episodes = rollout(spec, ZeroPilot(spec.action), range(100_000), workers=crew)
    next(episodes)
    print(crew._helpers[0]._process.pid, flush=True)
    list(episodes)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_helper_survives_its_parent(how):
    """Ctrl-C goes through the context manager; a killed parent is noticed by the helper."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        helper = int(process.stdout.readline())
        assert alive(helper)
        process.send_signal(how)
        try:
            _, errors = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()  # leaving the block waits for it
    assert ("KeyboardInterrupt" in errors) == (how == signal.SIGINT)
    wait_for(lambda: not alive(helper))
