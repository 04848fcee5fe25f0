"""Whether an environment may be stepped by ``MujocoVectorEnv``: only where that is proven equal.

Proven are the classes below in the versions below, by the parity tests. What those cannot
know (a user's model file, an argument nobody tried) is compared with Gymnasium for some steps
before it is used. Whatever is not equal is stepped by Gymnasium itself, and the reason told.
"""

import contextlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from pytest_drlcompress.environments.engine import DeclinedError
from pytest_drlcompress.environments.perturbation import Perturbation
from pytest_drlcompress.environments.spec import EnvSpec

if TYPE_CHECKING:
    from pytest_drlcompress.environments.mujoco.task import Task
    from pytest_drlcompress.environments.mujoco.vector_env import MujocoSetup, MujocoVectorEnv

Maker = Callable[[Any], "Task"]

PROVEN_GYMNASIUM = ("1.1.1", "1.2.3", "1.3.0", "1.4.0")
PROVEN_MUJOCO = ("3.3.7", "3.16.0", "3.17.0", "4.0.0")
"""Versions with which every parity test passed, each of one with each of the other."""

_FOLDER = "gymnasium.envs.mujoco."
_CHECKED_SEEDS, _CHECKED_STEPS = (0, 1), 25
_TRANSPARENT = (OrderEnforcing, PassiveEnvChecker, TimeLimit)


class NotProvenError(DeclinedError):
    """An environment is left to Gymnasium; ``reason`` says why."""


@dataclass(frozen=True, eq=False)
class MujocoEngine:
    """Steps many simulations outside the interpreter; implements ``Engine``."""

    setup: "MujocoSetup"
    reason: str = "bit for bit equal to Gymnasium"
    name: str = "mujoco"
    may_hang: bool = False

    def vector_env(self, slots: int) -> "MujocoVectorEnv":
        """``slots`` fresh simulations."""
        from pytest_drlcompress.environments.mujoco.vector_env import MujocoVectorEnv

        return MujocoVectorEnv(self.setup, slots)


def make_mujoco_engine(spec: EnvSpec, perturbation: Perturbation) -> MujocoEngine:
    """The engine for ``spec``; errors as in ``mujoco_setup``."""
    return MujocoEngine(mujoco_setup(spec, perturbation))


def mujoco_setup(spec: EnvSpec, perturbation: Perturbation) -> "MujocoSetup":
    """Everything ``MujocoVectorEnv`` needs for ``spec``, compared with Gymnasium.

    Raises:
        NotProvenError: Gymnasium has to step this environment itself.
        EnvironmentSpecError: it cannot be made.
    """
    env = replace(spec, pad_observation=0, time_feature=0).make()
    with contextlib.closing(env):
        maker = _maker(env)
        _check_versions()
        perturbation.change_environment(env)
        try:
            setup = _setup(spec, env, maker(env.unwrapped))
            difference = first_difference(replace(setup, padding=0, time_steps=0), env)
        except Exception as error:  # a model file of the user's may be unlike all others
            raise NotProvenError(f"the fast path cannot take it: {error!r}") from error
    if difference:
        raise NotProvenError(f"the fast path differs from Gymnasium: {difference}")
    return setup


def first_difference(setup: "MujocoSetup", env: gym.Env[Any, Any]) -> str:
    """Where ``setup`` and ``env`` first differ under random actions; empty if nowhere."""
    from pytest_drlcompress.environments.mujoco.vector_env import MujocoVectorEnv

    envs, busy = MujocoVectorEnv(setup, 1), np.ones(1, np.bool_)
    assert isinstance(env.action_space, gym.spaces.Box)
    low, high = env.action_space.low, env.action_space.high
    for seed in _CHECKED_SEEDS:
        generator = np.random.default_rng(seed)
        envs.reset(0, seed)
        expected, _ = env.reset(seed=seed)
        if not np.array_equal(envs.observations[0], expected):
            return f"the observation after reset(seed={seed})"
        for step in range(_CHECKED_STEPS):
            action = generator.uniform(low, high).astype(np.float32)
            expected, reward, terminated, truncated, _ = env.step(action)
            rewards, over = envs.step(action[None], busy)
            where = f"at step {step + 1} of the episode with seed {seed}"
            if not np.array_equal(envs.observations[0], expected):
                return f"the observation {where}"
            if rewards[0] != reward:
                return f"the reward {where}"
            if over[0] != (terminated or truncated):
                return f"the end of the episode {where}"
            if over[0]:
                break
    return ""


def _maker(env: gym.Env[Any, Any]) -> Maker:
    """What describes the task of ``env``, if that is Gymnasium's own in its plain wrappers."""
    module, name = type(env.unwrapped).__module__, type(env.unwrapped).__qualname__
    family, _, version = module.removeprefix(_FOLDER).rpartition("_v")
    proven = module == f"{_FOLDER}{family}_v{version}" and version in {"4", "5"}
    maker = _makers().get(f"{family}:{name}")
    if maker is None or not proven:
        raise NotProvenError(f"{name} has no fast path")
    layer = env
    while isinstance(layer, gym.Wrapper):
        if type(layer) not in _TRANSPARENT:
            raise NotProvenError(f"the wrapper {type(layer).__name__} has no fast path")
        layer = layer.env
    return maker


def _makers() -> dict[str, Maker]:
    """By ``module:class``, without folder and version."""
    from pytest_drlcompress.environments.mujoco import ant, humanoid, planar

    return {
        "ant:AntEnv": ant.ant,
        "half_cheetah:HalfCheetahEnv": planar.half_cheetah,
        "hopper:HopperEnv": planar.hopper,
        "humanoid:HumanoidEnv": humanoid.humanoid,
        "humanoidstandup:HumanoidStandupEnv": humanoid.humanoid_standup,
        "swimmer:SwimmerEnv": planar.swimmer,
        "walker2d:Walker2dEnv": planar.walker2d,
    }


def _check_versions() -> None:
    gymnasium, mujoco = (importlib.metadata.version(name) for name in ("gymnasium", "mujoco"))
    if gymnasium not in PROVEN_GYMNASIUM or mujoco not in PROVEN_MUJOCO:
        raise NotProvenError(
            f"the fast path is proven for Gymnasium {', '.join(PROVEN_GYMNASIUM)} with MuJoCo"
            f" {', '.join(PROVEN_MUJOCO)}; installed are {gymnasium} and {mujoco}"
        )


def _setup(spec: EnvSpec, env: gym.Env[Any, Any], task: "Task") -> "MujocoSetup":
    from pytest_drlcompress.environments.mujoco.vector_env import MujocoSetup

    inner: Any = env.unwrapped
    limit = (env.spec.max_episode_steps if env.spec else None) or 0
    return MujocoSetup(
        model=inner.model,
        task=task,
        frame_skip=inner.frame_skip,
        qpos=inner.init_qpos,
        qvel=inner.init_qvel,
        max_steps=limit,
        padding=spec.pad_observation,
        time_steps=spec.time_feature,
    )
