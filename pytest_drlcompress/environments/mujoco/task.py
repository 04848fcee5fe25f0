"""What a MuJoCo task is: reset noise, observation, reward and termination, for many slots.

A task's formulas are those of Gymnasium's class in the same order of operations: its
results are the same to the last bit, which the parity tests hold it to. The parameters are
read off the environment that Gymnasium made, so that every keyword argument counts.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.environments.mujoco.simulations import Floats, Simulations

Booleans = NDArray[np.bool_]
Range = tuple[float, float]


@dataclass(frozen=True)
class ResetNoise:
    """Noise of the initial state: positions uniform within ``scale``, velocities that or normal."""

    scale: float
    normal_velocity: bool = False

    def draw(
        self, generator: np.random.Generator, qpos: Floats, qvel: Floats
    ) -> tuple[Floats, Floats]:
        """The initial state around ``qpos`` ``(nq,)`` and ``qvel`` ``(nv,)``."""
        low, high = -self.scale, self.scale
        position = qpos + generator.uniform(low=low, high=high, size=qpos.size)
        if self.normal_velocity:
            return position, qvel + self.scale * generator.standard_normal(qvel.size)
        return position, qvel + generator.uniform(low=low, high=high, size=qvel.size)


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of the observation: a live array ``(slots, ...)``, clipped if ``limits`` are given."""

    source: Floats
    limits: Range | None = None


class Task(Protocol):
    """One task."""

    @property
    def noise(self) -> ResetNoise:
        """How episodes start."""
        ...

    @property
    def derived(self) -> tuple[str, ...]:
        """The ``MjData`` fields that are read beside positions and velocities."""
        ...

    @property
    def contact_forces(self) -> bool:
        """Whether ``cfrc_ext`` is one of them."""
        ...

    def pieces(self, state: Simulations) -> list[Piece]:
        """The observation's parts in order."""
        ...

    def before(self, state: Simulations) -> Floats:
        """What the reward compares across a step, ``(slots, ...)``; a copy."""
        ...

    def outcome(
        self, state: Simulations, before: Floats, actions: NDArray[Any]
    ) -> tuple[Floats, Booleans]:
        """Rewards and terminations ``(slots,)`` of the step from ``before``."""
        ...


def sum_of_squares(rows: NDArray[Any]) -> NDArray[Any]:
    """``np.sum(np.square(row))`` of each row, in the rows' own precision."""
    return np.asarray(np.add.reduce(np.square(rows), axis=1))


def inside(values: Floats, limits: Range) -> Booleans:
    """``low < value < high``; NaN is outside."""
    return (limits[0] < values) & (values < limits[1])


def every(rows: Booleans) -> Booleans:
    """``rows.all(1)``; counting first is several times faster while every row holds."""
    if np.count_nonzero(rows) == rows.size:
        return np.ones(len(rows), np.bool_)
    return np.asarray(rows.all(1))


def survival(healthy: Booleans, reward: float, *, always: bool) -> NDArray[Any] | float:
    """The reward for being healthy; ``always`` pays it in the last, unhealthy step as well.

    v4 environments that terminate when unhealthy do so; v5 do not.
    """
    return float(reward) if always else np.asarray(healthy * reward)


def version_of(env: Any) -> int:
    """4 or 5, from the module that defines the class of ``env``."""
    return int(type(env).__module__.rpartition("_v")[2])
