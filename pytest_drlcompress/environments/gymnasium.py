"""Any Gymnasium environment, stepped one after the other in Python."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.environments.parts import pack
from pytest_drlcompress.environments.perturbation import UNPERTURBED, Perturbation
from pytest_drlcompress.environments.spec import EnvSpec


@dataclass(frozen=True, eq=False)
class GymnasiumEngine:
    """Steps ``spec`` as Gymnasium does; implements ``Engine``.

    ``wrappers`` are put around each environment in their order, and keep its spaces.
    """

    spec: EnvSpec
    perturbation: Perturbation = UNPERTURBED
    reason: str = ""
    name: str = "gymnasium"
    may_hang: bool = True
    wrappers: tuple[Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]], ...] = ()

    def vector_env(self, slots: int) -> "GymnasiumVectorEnv":
        """``slots`` fresh environments."""
        return GymnasiumVectorEnv(self.spec, slots, self._prepare)

    def _prepare(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        self.perturbation.change_environment(env)
        return reduce(lambda inner, wrapper: wrapper(inner), self.wrappers, env)


class GymnasiumVectorEnv:
    """``slots`` Gymnasium environments in this process; implements ``VectorEnv``.

    ``prepare`` is called with each environment once it is made, and gives what is stepped.
    """

    def __init__(
        self,
        spec: EnvSpec,
        slots: int,
        prepare: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] = lambda env: env,
    ) -> None:
        self.slots = slots
        self._envs = [prepare(spec.make()) for _ in range(slots)]
        shape, dtype, action = spec.spaces
        self._parts = spec.parts
        self.observations: NDArray[Any] = np.zeros((slots, *shape), dtype)
        self.failures: dict[int, EpisodeError] = {}
        self._integer = action.discrete and not action.shape

    def reset(self, slot: int, seed: int) -> None:
        """Start the episode of ``seed`` in ``slot``."""
        try:
            observation, _ = self._envs[slot].reset(seed=seed)
            self.observations[slot] = self._packed(observation)
        except (Exception, SystemExit) as error:  # user environments raise anything
            message = f"the environment failed in reset(seed={seed}): {error!r}"
            raise EpisodeError(message) from error

    def step(
        self, actions: NDArray[Any], busy: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Advance the busy slots."""
        rewards, over = np.zeros(self.slots), np.zeros(self.slots, np.bool_)
        self.failures = {}
        for slot in np.flatnonzero(busy).tolist():
            action = int(actions[slot]) if self._integer else actions[slot]
            try:
                observation, reward, terminated, truncated, _ = self._envs[slot].step(action)
                self.observations[slot] = self._packed(observation)
                rewards[slot], over[slot] = float(reward), terminated or truncated
            except (Exception, SystemExit) as error:  # user environments raise anything
                self.failures[slot] = EpisodeError(f"the environment failed ({error!r})")
        return rewards, over

    def _packed(self, observation: Any) -> Any:
        return pack(self._parts, observation) if self._parts else observation

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs:
            env.close()
