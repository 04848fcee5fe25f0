"""Perturbations: the same gate with noisy sensors and actuators, other masses and friction.

A compression can keep the nominal return and lose the margin around it. Written as text::

    observation_noise=0.05,action_noise=0.1,mass=1.2,friction=0.8
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError, OptionTextError
from pytest_drlcompress.core.key_values import format_options, parse_options
from pytest_drlcompress.environments.action import ActionSpec

_BLOCK = 64
"""Steps for which noise is drawn at once: a call for every step would cost more than the step."""


@dataclass(frozen=True)
class Perturbation:
    """What is disturbed, and how much.

    ``observation_noise`` is the standard deviation of Gaussian noise on every observation, in
    units of a given standard deviation per dimension (usually that of the baseline's
    undisturbed observations). ``action_noise`` is that of Gaussian noise on every action,
    in units of half the action range per dimension, the sum clipped to the action space; for
    discrete actions it is the probability that a uniformly random one is taken instead.
    ``mass`` multiplies every body's mass and inertia, ``friction`` every friction coefficient of
    a MuJoCo model. Random numbers depend on the episode's seed alone.

    Raises:
        OptionTextError: a figure out of its range.
    """

    observation_noise: float = 0.0
    action_noise: float = 0.0
    mass: float = 1.0
    friction: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            noise = field.name.endswith("noise")
            if not math.isfinite(value) or value < 0 or (value == 0 and not noise):
                limit = "0 or more" if noise else "more than 0"
                raise OptionTextError(f"perturbation {field.name}={value} must be {limit}")

    @classmethod
    def parse(cls, text: str) -> "Perturbation":
        """Read ``key=number,...``; what is left out stays undisturbed.

        Raises:
            OptionTextError: an unknown key, or a value that is no number in its range.
        """
        options = parse_options(text)
        names = [field.name for field in fields(cls)]
        for name, value in options.items():
            if name not in names:
                raise OptionTextError(f"unknown perturbation {name!r}; known: {', '.join(names)}")
            if isinstance(value, bool | str):
                raise OptionTextError(f"perturbation {name}={value} must be a number")
        return cls(**{name: float(value) for name, value in options.items()})

    def __str__(self) -> str:
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        return format_options(changed)

    @property
    def noisy(self) -> bool:
        """Whether observations or actions are disturbed."""
        return self.observation_noise > 0 or self.action_noise > 0

    @property
    def same_physics(self) -> bool:
        """Whether masses and friction stay as they are."""
        return self.mass == self.friction == 1

    def change_environment(self, env: gym.Env[Any, Any]) -> None:
        """Scale masses and friction in the MuJoCo model of ``env``, before its first reset.

        Raises:
            EnvironmentSpecError: they are to change and ``env`` has no MuJoCo model.
        """
        if self.same_physics:
            return
        model, data = (getattr(env.unwrapped, name, None) for name in ("model", "data"))
        import mujoco  # type: ignore[import-untyped]

        if not isinstance(model, mujoco.MjModel):
            raise EnvironmentSpecError(
                f"perturbing mass or friction needs a MuJoCo environment, not {env.unwrapped}"
            )
        model.body_mass *= self.mass
        model.body_inertia *= self.mass
        model.geom_friction *= self.friction
        model.pair_friction *= self.friction
        # invweight0 and the like follow from the masses
        mujoco.mj_setConst(model, data)


UNPERTURBED = Perturbation()
"""Nothing is changed."""


class EpisodeNoise:
    """The noise of a ``Perturbation`` for ``slots`` episodes; implements ``Noise``.

    ``scale``, ``(*observation_shape,)``, is the unit of observation noise, needed if there is any.
    """

    def __init__(
        self,
        perturbation: Perturbation,
        action: ActionSpec,
        slots: int,
        scale: NDArray[np.float64] | None,
    ) -> None:
        assert scale is not None or not perturbation.observation_noise, "noise without a unit"
        self._action, self._action_noise = action, perturbation.action_noise
        self._generators = [np.random.default_rng(0) for _ in range(slots)]
        self._step = np.zeros(slots, np.int64)
        self._deviation = None
        if scale is not None and perturbation.observation_noise:
            self._deviation = perturbation.observation_noise * scale
        self._sensor = np.zeros((_BLOCK, slots, *(() if scale is None else scale.shape)))
        self._actuator = np.zeros((_BLOCK, slots, *action.shape))
        self._random_action = np.zeros((_BLOCK, slots, *action.shape), np.int64)

    def begin(self, slot: int, seed: int) -> None:
        """Restart the slot's random numbers."""
        # further entropy words: Gymnasium's reset and the random policy use SeedSequence(seed)
        # and SeedSequence([seed, 1])
        self._generators[slot] = np.random.default_rng([seed, 2])
        self._step[slot] = 0
        self._draw(slot)

    def observe(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Observations with noise, in their own dtype (integers: rounded, within its range)."""
        if self._deviation is None:
            return observations
        noisy = observations + self._deviation * self._now(self._sensor)
        if observations.dtype.kind == "f":
            return np.asarray(noisy, observations.dtype)
        limits = np.iinfo(observations.dtype)
        return np.asarray(np.clip(np.rint(noisy), limits.min, limits.max), observations.dtype)

    def disturb(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Actions with noise, clipped to the action space, in their own dtype."""
        action = self._action
        if self._action_noise:
            noise = self._now(self._actuator)
            if action.discrete:
                swap = noise < self._action_noise
                actions = np.where(swap, self._now(self._random_action), actions)
            else:
                half_range = (action.high.astype(np.float64) - action.low) / 2
                noisy = actions + self._action_noise * half_range * noise
                actions = np.clip(noisy, action.low, action.high).astype(actions.dtype)
        self._step += 1
        for slot in np.flatnonzero(self._step % _BLOCK == 0).tolist():
            self._draw(slot)
        return actions

    def _draw(self, slot: int) -> None:
        generator = self._generators[slot]
        if self._deviation is not None:
            self._sensor[:, slot] = generator.standard_normal(self._sensor[:, slot].shape)
        if self._action_noise and self._action.discrete:
            self._actuator[:, slot] = generator.random(self._actuator[:, slot].shape)
            self._random_action[:, slot] = self._action.random_integers(generator, _BLOCK)
        elif self._action_noise:
            self._actuator[:, slot] = generator.standard_normal(self._actuator[:, slot].shape)

    def _now(self, drawn: NDArray[Any]) -> NDArray[Any]:
        return drawn[self._step % _BLOCK, np.arange(len(self._step))]
