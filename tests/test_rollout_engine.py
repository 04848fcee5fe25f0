"""Which engine steps an environment, and why."""

import importlib.util
import sys
import warnings

import gymnasium as gym
import pytest
from counting import Mirror, counting, expected

from pytest_drlcompress.core.errors import EnvironmentSpecError
from pytest_drlcompress.environments.engines import Engines, engine_choice
from pytest_drlcompress.environments.mujoco import engine as mujoco_engine
from pytest_drlcompress.environments.perturbation import UNPERTURBED
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")


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


ADDED = """
import gymnasium as gym
from pytest_drlcompress.environments.gymnasium import GymnasiumEngine

class Doubled(gym.RewardWrapper):
    def reward(self, reward):
        return 2 * reward

def doubled(spec, perturbation):
    if spec.id == "drlcTests/Counting-v0":
        return GymnasiumEngine(spec, perturbation, "rewards doubled", wrappers=(Doubled,))
    return None
"""


@pytest.fixture
def doubled(tmp_path, monkeypatch, counting_env):
    """A factory in a conftest.py, whose module name another conftest.py takes over."""
    path = tmp_path / "conftest.py"
    path.write_text(ADDED)
    spec = importlib.util.spec_from_file_location("conftest", path)
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "conftest", module)
        spec.loader.exec_module(module)
    return module.doubled


@pytest.mark.parametrize("workers", [1, 3])
def test_an_added_engine_steps_what_it_takes_in_every_process(doubled, workers):
    engines, seeds = Engines.of([doubled]), range(300)
    plain = [episode.total for episode in expected(seeds)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a process that cannot find the factory would warn
        got = list(rollout(counting(), Mirror(), seeds, engines=engines)) if workers == 1 else []
        actor = ZeroActor(counting().action)
        got = got or list(rollout(counting(), actor, seeds, engines=engines, workers=workers))
    assert [episode.total for episode in got] == [2 * total for total in plain]
    assert engines.describe(counting()) == "gymnasium (rewards doubled)"
    assert engines.choose(EnvSpec.parse("Hopper-v5")).name == "mujoco"


def test_a_factory_that_fails_or_returns_something_else_is_one_clear_error(doubled):
    def broken(spec, perturbation):
        raise ZeroDivisionError

    for factory, message in ((broken, "failed for .*ZeroDiv"), (lambda s, p: 3, "an engine has")):
        with pytest.raises(EnvironmentSpecError, match=message):
            Engines((factory,)).choose(counting())
    with pytest.raises(EnvironmentSpecError, match="cannot be found by worker processes"):
        Engines.of([broken])
