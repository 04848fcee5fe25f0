"""Gymnasium environments by name, in wrappers by name, and with padded observations."""

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from pytest_drlcompress.core.errors import EnvironmentSpecError
from pytest_drlcompress.core.imports import current_directory_importable
from pytest_drlcompress.core.key_values import parse_arguments, plain

WRAPPER = re.compile(r"(?P<module>[\w.]+):(?P<name>\w+)(?:\((?P<arguments>.*)\))?")
"""``package.module:Wrapper(key=value)``, the arguments left out where there are none."""


@contextlib.contextmanager
def quiet_mujoco() -> Iterator[None]:
    """Keep MuJoCo's warnings about its own model files off stderr and out of MUJOCO_LOG.TXT.

    A handler that was set before stays in place.
    """
    try:
        import mujoco  # type: ignore[import-untyped]
    except ImportError:
        yield
        return
    get: Callable[[], Any] | None = getattr(mujoco, "get_mju_user_warning", None)
    if get is None or get() is not None:
        yield
        return
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


@quiet_mujoco()
def make_env(env_id: str, kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    """A registered environment, or what ``package.module:factory`` returns.

    Gymnasium reads ``package.module:Env-v0`` as an id that importing the module registers, and so
    does this: only the name of something callable in the module is taken as a factory.
    """
    module_name, colon, attribute = env_id.partition(":")
    if not colon:
        return gym.make(env_id, **kwargs)
    with current_directory_importable():
        factory = getattr(importlib.import_module(module_name), attribute, None)
        if not callable(factory):
            return gym.make(env_id, **kwargs)
        env = factory(**kwargs)
    if isinstance(env, gym.vector.VectorEnv):
        raise TypeError(
            f"{env_id} returned a {type(env).__name__}: give one of its environments, or an engine"
            " that steps them together (docs/policies.md)"
        )
    if not isinstance(env, gym.Env):
        raise TypeError(f"{env_id} returned a {type(env).__name__}, not a gymnasium.Env")
    return env


def wrap_env(env: gym.Env[Any, Any], text: str) -> gym.Env[Any, Any]:
    """``env`` in the wrapper ``package.module:Wrapper(key=value)``."""
    match = WRAPPER.fullmatch(text)
    assert match is not None  # as parse saw to
    given = parse_arguments(match["arguments"]) if match["arguments"] else {}
    with current_directory_importable():
        wrapper = getattr(importlib.import_module(match["module"]), match["name"])
        wrapped = wrapper(env, **{name: plain(value) for name, value in given.items()})
    if not isinstance(wrapped, gym.Env):
        raise TypeError(f"it returned a {type(wrapped).__name__}, not a gymnasium.Env")
    return wrapped


def pad_env(env: gym.Env[Any, Any], zeros: int) -> gym.Env[Any, Any]:
    """``env`` with ``zeros`` zeros after every observation, which must be flat.

    Raises:
        EnvironmentSpecError: observations of another shape, or of several parts.
    """
    space = env.observation_space
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise EnvironmentSpecError(f"pad_observation needs flat observations, not {space}")
    tail = np.zeros(zeros, space.dtype)
    padded = gym.spaces.Box(
        np.concatenate([space.low, tail]),
        np.concatenate([space.high, tail]),
        dtype=space.dtype.type,
    )
    return gym.wrappers.TransformObservation(env, lambda o: np.concatenate([o, tail]), padded)


def one_line(error: BaseException) -> str:
    """What ``error`` says, without line breaks; its class where it says nothing."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
