"""Environment specifications: a Gymnasium id, its keyword arguments, and what is added to it.

A specification is text, so that it fits an option, an ini file and a record::

    Hopper-v5
    Ant-v5:contact_cost_weight=0.0,include_cfrc_ext_in_observation=false,pad_observation=84
    Ant-v4:pad_observation=84,time_feature=1000

``pad_observation=N`` appends N zeros to every observation and ``time_feature=T`` then
appends ``1 - t/T`` (sb3-contrib's ``TimeFeatureWrapper``): some published policies were
trained with such inputs. Neither is ever guessed. Every other key goes to ``gymnasium.make``,
but for the preprocessing of an Atari game (``environments.atari.spec``).

``package.module:make_env`` names a function or class that makes the environment instead; the keys
are its arguments. Lists and objects are written in JSON (``goal=[1, 2]``). ``wrap=module:Wrapper``
puts a wrapper around it, before padding, with arguments in parentheses; several are joined by
``+``, the innermost first.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec as EnvRegistration
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError, OptionTextError
from pytest_drlcompress.core.extras import advice, need
from pytest_drlcompress.core.key_values import (
    Value,
    format_options,
    parse_arguments,
    plain,
    split_outside,
)
from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.environments.atari.spec import AtariSpec
from pytest_drlcompress.environments.making import WRAPPER, make_env, one_line, pad_env, wrap_env
from pytest_drlcompress.environments.parts import Part, packed_dtype, parts_of

_MOST = MappingProxyType({"pad_observation": 2**20, "time_feature": 2**31})
"""More zeros than any policy sees would only take memory, in every step of every episode."""


@dataclass(frozen=True)
class EnvSpec:
    """A reproducible environment: same text, same observations, rewards and terminations."""

    id: str
    kwargs: tuple[tuple[str, Value], ...] = ()
    pad_observation: int = 0
    time_feature: int = 0
    wrap: str = ""

    @classmethod
    def parse(cls, text: str) -> "EnvSpec":
        """Read ``ID[:key=value,...]``. Nothing is imported or made.

        Raises:
            EnvironmentSpecError: empty text, options that cannot be read, negative padding.
        """
        # options begin where a key does; module:make_env is part of the name, as in wrap=...
        head = re.match(r"(.*?):(?=\s*\w+\s*=)", text.strip())
        env_id = head[1] if head else text.strip()
        options_text = text.strip()[head.end() :] if head else ""
        if not env_id:
            raise EnvironmentSpecError("an environment id is empty: write for example Hopper-v5")
        try:
            options = parse_arguments(options_text) if options_text else {}
        except OptionTextError as error:
            raise EnvironmentSpecError(f"environment {text!r}: {error}") from None
        pad = options.pop("pad_observation", 0)
        time = options.pop("time_feature", 0)
        wrap = str(options.pop("wrap", ""))
        for wrapper in split_outside(wrap, "+") if wrap else ():
            if not WRAPPER.fullmatch(wrapper):
                raise EnvironmentSpecError(
                    f"environment {text!r}: wrap={wrapper} must be package.module:Wrapper, with"
                    " arguments as in gymnasium.wrappers:FrameStackObservation(stack_size=4)"
                )
        for name, value in (("pad_observation", pad), ("time_feature", time)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not 0 <= value <= _MOST[name]:  # type: ignore[operator]
                raise EnvironmentSpecError(
                    f"environment {text!r}: {name}={value} must be a whole number from 0 to"
                    f" {_MOST[name]:,}"
                )
        try:
            atari = AtariSpec.of(env_id, options)
        except EnvironmentSpecError as error:
            raise EnvironmentSpecError(f"environment {text!r}: {error}") from None
        if atari is not None:
            options = atari.options()
        assert isinstance(pad, int)
        assert isinstance(time, int)
        return cls(env_id, tuple(sorted(options.items())), pad, time, wrap)

    @property
    def atari(self) -> AtariSpec | None:
        """The preprocessing of an Atari game; ``None`` for every other environment."""
        return AtariSpec.of(self.id, dict(self.kwargs))

    def __str__(self) -> str:
        options: dict[str, Value] = dict(self.kwargs)
        if self.wrap:
            options["wrap"] = self.wrap
        if self.pad_observation:
            options["pad_observation"] = self.pad_observation
        if self.time_feature:
            options["time_feature"] = self.time_feature
        return f"{self.id}:{format_options(options)}" if options else self.id

    def make(self) -> gym.Env[Any, Any]:
        """A fresh Gymnasium environment with everything of this specification applied.

        Raises:
            EnvironmentSpecError: unknown id, keyword arguments the environment refuses,
                or a missing package behind it.
        """
        atari = self.atari
        if atari is not None or self.id.startswith("ALE/"):
            from pytest_drlcompress.environments.atari.vector import register_games

            register_games()
        if atari is not None:
            from pytest_drlcompress.environments.atari.make import make_atari

            return self._wrapped(make_atari(self.id, atari))
        try:
            env = make_env(self.id, self.arguments)
        except (
            Exception,
            SystemExit,
        ) as error:  # Gymnasium passes on whatever a third-party constructor raises
            raise EnvironmentSpecError(
                f"environment {str(self)!r} cannot be made: {one_line(error)}{advice(error)}"
            ) from error
        env = self._wrapped(env)
        if self.pad_observation:
            env = pad_env(env, self.pad_observation)
        if self.time_feature:
            need("sb3_contrib", f"environment {str(self)!r}: time_feature")
            from sb3_contrib.common.wrappers import TimeFeatureWrapper

            limit = env.spec.max_episode_steps if env.spec else None
            if limit not in (None, self.time_feature):  # the wrapper prefers it without a word
                raise EnvironmentSpecError(
                    f"environment {str(self)!r}: episodes end after {limit} steps, which is what"
                    f" the time feature counts against: write time_feature={limit}"
                )
            env = TimeFeatureWrapper(env, max_steps=self.time_feature)
        return env

    @property
    def registration(self) -> EnvRegistration | None:
        """What Gymnasium must know in another process, of what a conftest.py or a test registered.

        ale-py registers its games itself, and would say that they are there already.
        """
        return None if self.atari else gym.registry.get(self.id)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the environment is made with."""
        return {name: plain(value) for name, value in self.kwargs}

    def _wrapped(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        for text in split_outside(self.wrap, "+") if self.wrap else ():
            try:
                env = wrap_env(env, text)
            except Exception as error:  # code of the user's
                raise EnvironmentSpecError(
                    f"environment {str(self)!r}: wrapper {text} fails: {one_line(error)}"
                ) from error
        return env

    @cached_property
    def spaces(self) -> tuple[tuple[int, ...], np.dtype[Any], ActionSpec]:
        """Observation shape and dtype, packed where it has ``parts``, and the action specification.

        Raises:
            EnvironmentSpecError: observations without a fixed number of numbers, or actions other
                than Box, Discrete, MultiDiscrete and MultiBinary.
        """
        observation, action = self._gym_spaces
        try:
            spec = ActionSpec.of(action)
        except EnvironmentSpecError as error:
            raise EnvironmentSpecError(f"environment {str(self)!r} {error}") from None
        if parts := self.parts:
            return (sum(part.width for part in parts),), packed_dtype(parts), spec
        assert observation.shape is not None
        return tuple(observation.shape), np.dtype(observation.dtype), spec

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What observations other than a Box are packed from; none of a Box.

        Raises:
            EnvironmentSpecError: observations without a fixed number of numbers.
        """
        try:
            return parts_of(self._gym_spaces[0])
        except EnvironmentSpecError as error:
            raise EnvironmentSpecError(f"environment {str(self)!r}: {error}") from None

    @property
    def observation_kind(self) -> str:
        """The class of the observation space: ``Box``, ``Dict``, ..."""
        return type(self._gym_spaces[0]).__name__

    @cached_property
    def _gym_spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        env = self.make()
        try:
            return env.observation_space, env.action_space
        finally:
            env.close()

    @property
    def simulated(self) -> bool:
        """Whether there is an environment to step, and so returns."""
        return True

    @property
    def observation_bounds(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The smallest and the largest observation, each of the observation's shape and dtype."""
        assert not self.parts, "bounds of packed observations"
        box: Any = self._gym_spaces[0]
        return box.low, box.high

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation, padding and time feature included."""
        return self.spaces[0]

    @property
    def images(self) -> bool:
        """Whether observations are ``uint8`` images ``(channels, height, width)``."""
        shape, dtype, _ = self.spaces
        return len(shape) == 3 and dtype == np.uint8

    @property
    def action(self) -> ActionSpec:
        """The action space."""
        return self.spaces[2]


def network_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What a torch network takes for observations of ``dtype``: bytes as they are, else float32."""
    return np.dtype(np.uint8 if np.dtype(dtype) == np.uint8 else np.float32)
