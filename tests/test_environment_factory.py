"""Environments that a function or class of the user's makes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_drlcompress.core.errors import EnvironmentSpecError
from pytest_drlcompress.environments.identity import identify
from pytest_drlcompress.environments.spec import EnvSpec
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
