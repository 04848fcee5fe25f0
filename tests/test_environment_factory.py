"""Environments that a function or class of the user's makes."""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

from pytest_drlcompress.core.errors import EnvironmentSpecError
from pytest_drlcompress.environments.bounds import return_bounds
from pytest_drlcompress.environments.engines import OUR_ENGINES
from pytest_drlcompress.environments.identity import identify
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.local import WorkerPool
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout

MODULE = """
import gymnasium as gym
import numpy as np

class Glider(gym.Env):
    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, lift=1.0):
        self.lift = lift

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(2, np.float32), self.lift, self.left == 0, False, {}

def make_env(lift=1.0):
    return gym.wrappers.TransformReward(Glider(lift), lambda reward: 2 * reward)

def broken():
    return 3

class Gusts(gym.Wrapper):
    def __init__(self, env, strength=1.0):
        super().__init__(env)
        self.strength = strength

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return observation, reward + self.strength, *rest

def doubled(env):
    return gym.wrappers.TransformReward(env, lambda reward: 2 * reward)

def make_goal(goal, gains):
    return Glider(sum(goal) + gains["p"])

gym.register("Glider-v0", Glider)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "gliders.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("gliders", None)


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("gliders:make_env", 10),
        ("gliders:make_env:lift=3", 30),
        ("gliders:Glider:lift=3", 15),
        ("gliders:Glider-v0:lift=2", 10),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_returns(text: str, total: float, workers: int, project: Path) -> None:
    spec = EnvSpec.parse(text)
    assert str(spec) == text
    assert spec.observation_shape == (2,)
    episodes = list(rollout(spec, ZeroActor(spec.action), [1, 2, 3], workers=workers))
    assert [episode.total for episode in episodes] == [total] * 3


def test_a_change_of_its_code_is_seen(project: Path) -> None:
    spec = EnvSpec.parse("gliders:make_env")
    before = identify(spec)
    assert identify(EnvSpec.parse("gliders:make_env")).digest == before.digest
    (project / "gliders.py").write_text(MODULE.replace("2 * reward", "3 * reward"))
    assert identify(EnvSpec.parse("gliders:make_env")).digest != before.digest


def test_refusals(project: Path) -> None:
    for text, message in (
        ("gliders:nothing", "nothing"),
        ("gliders:broken", "returned a int"),
        ("nowhere:make_env", "No module named"),
        ("gliders:make_env:weight=1", "unexpected keyword argument"),
    ):
        with pytest.raises(EnvironmentSpecError, match=message):
            EnvSpec.parse(text).make()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("gliders:Glider-v0:wrap=gliders:Gusts", 10),
        ("gliders:Glider:lift=2,wrap=gliders:Gusts(strength=3)+gliders:doubled", 50),
        ("gliders:Glider:wrap=gliders:doubled+gliders:Gusts(strength=3),lift=2", 35),
        ('gliders:make_goal:goal=[1, 2],gains={"p": 0.5}', 17.5),
    ],
)
def test_wrappers_and_arguments_that_are_no_scalars(text: str, total: float) -> None:
    spec = EnvSpec.parse(text)
    assert EnvSpec.parse(str(spec)) == spec
    assert hash(spec) == hash(EnvSpec.parse(str(spec)))
    totals = [
        [episode.total for episode in rollout(spec, ZeroActor(spec.action), range(8), workers=n)]
        for n in (1, 2)
    ]
    assert totals == [[total] * 8] * 2


def test_a_wrapper_changes_the_spaces_the_engine_and_the_identity(project: Path) -> None:
    plain = EnvSpec.parse("Pendulum-v1")
    history = EnvSpec.parse(
        "Pendulum-v1:wrap=gymnasium.wrappers:FrameStackObservation(stack_size=4)"
    )
    assert history.observation_shape == (4, *plain.observation_shape)
    windy = EnvSpec.parse("Hopper-v5:wrap=gliders:Gusts")
    assert OUR_ENGINES.describe(windy) == "gymnasium (it is wrapped by yours)"
    assert return_bounds(EnvSpec.parse("Pendulum-v1:wrap=gliders:Gusts")) == (None, None)
    before = identify(windy).digest
    (project / "gliders.py").write_text(MODULE.replace("reward + self", "reward - self"))
    assert identify(windy).digest not in (None, before, identify(EnvSpec("Hopper-v5")).digest)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Pendulum-v1:wrap=Gusts", r"wrap=Gusts must be package\.module:Wrapper"),
        ("Pendulum-v1:wrap=gliders:Nothing", "wrapper gliders:Nothing fails"),
        ("Pendulum-v1:wrap=gliders:Gusts(speed=3)", "unexpected keyword argument 'speed'"),
        ("Pendulum-v1:g=[1, 2", "option 'g' is not JSON"),
        ("gymnasium.vector:SyncVectorEnv:env_fns=[]", "cannot be made"),
    ],
)
def test_what_cannot_be_wrapped_says_so(text: str, message: str) -> None:
    with pytest.raises(EnvironmentSpecError, match=message):
        _ = EnvSpec.parse(text).spaces


def test_an_environment_that_does_not_pickle_runs_here_and_says_so_once() -> None:
    gym.register(
        "drlc-test/Local-v0", lambda: gym.make("Pendulum-v1").unwrapped, max_episode_steps=9
    )
    try:
        spec = EnvSpec("drlc-test/Local-v0")
        actor = ZeroActor(spec.action)
        alone = [episode.total for episode in rollout(spec, actor, range(6), workers=1)]
        with WorkerPool(2) as pool, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                assert [e.total for e in rollout(spec, actor, range(6), workers=pool)] == alone
    finally:
        del gym.registry["drlc-test/Local-v0"]
    (said,) = [str(w.message) for w in caught if "cores" in str(w.message)]
    assert "cannot be sent to other processes and runs in this one" in said
