"""Which engine steps an environment, and why."""

import gymnasium as gym
import pytest

from pytest_drlcompress.environments.engines import engine_choice
from pytest_drlcompress.environments.mujoco import engine as mujoco_engine
from pytest_drlcompress.environments.perturbation import UNPERTURBED
from pytest_drlcompress.environments.spec import EnvSpec

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
