"""HalfCheetah, Hopper, Walker2d and Swimmer: forward speed, less control, while healthy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.environments.mujoco.simulations import Floats, Simulations
from pytest_drlcompress.environments.mujoco.task import (
    Booleans,
    Piece,
    Range,
    ResetNoise,
    every,
    inside,
    sum_of_squares,
    survival,
    version_of,
)


@dataclass(frozen=True, eq=False)
class Health:
    """Open intervals: ``low < position < high`` for positions from the second on, ``(k,)`` each.

    ``velocity`` is the interval for every velocity, if there is one.
    """

    low: Floats
    high: Floats
    velocity: Range | None
    reward: float
    terminates: bool
    paid_when_unhealthy: bool

    def holds(self, state: Simulations) -> Booleans:
        """Whether each slot is healthy."""
        positions = state.qpos[:, 1 : 1 + self.low.size]
        healthy = every((self.low < positions) & (positions < self.high))
        if self.velocity is not None:
            healthy &= every(inside(state.qvel, self.velocity))
        return healthy


@dataclass(frozen=True)
class PlanarTask:
    """A body in a plane; implements ``Task``.

    ``hidden`` leading positions are not observed; ``limits`` clip the observed velocities;
    ``dt`` is in seconds of simulated time per step.
    """

    noise: ResetNoise
    dt: float
    forward_weight: float
    control_weight: float
    hidden: int
    limits: Range | None = None
    health: Health | None = None
    derived: tuple[str, ...] = ()
    contact_forces: bool = False

    def pieces(self, state: Simulations) -> list[Piece]:
        """Positions, velocities."""
        return [Piece(state.qpos[:, self.hidden :]), Piece(state.qvel, self.limits)]

    def before(self, state: Simulations) -> Floats:
        """The horizontal position."""
        return state.qpos[:, 0].copy()

    def outcome(
        self, state: Simulations, before: Floats, actions: NDArray[Any]
    ) -> tuple[Floats, Booleans]:
        """Weighted speed, survival, control cost."""
        reward = self.forward_weight * ((state.qpos[:, 0] - before) / self.dt)
        health, cost = self.health, self.control_weight * sum_of_squares(actions)
        if health is None:
            return reward - cost, np.zeros(len(reward), np.bool_)
        healthy = health.holds(state)
        reward = reward + survival(healthy, health.reward, always=health.paid_when_unhealthy)
        over = ~healthy if health.terminates else np.zeros(len(reward), np.bool_)
        return reward - cost, over


def half_cheetah(env: Any) -> PlanarTask:
    """``HalfCheetahEnv``."""
    given = vars(env)
    return _task(env, ResetNoise(given["_reset_noise_scale"], normal_velocity=True), columns=1)


def swimmer(env: Any) -> PlanarTask:
    """``SwimmerEnv``."""
    given = vars(env)
    return _task(env, ResetNoise(given["_reset_noise_scale"]), columns=2)


def hopper(env: Any) -> PlanarTask:
    """``HopperEnv``."""
    given = vars(env)
    health = _health(env, given["_healthy_state_range"])
    noise = ResetNoise(given["_reset_noise_scale"])
    return _task(env, noise, columns=1, limits=(-10, 10), health=health)


def walker2d(env: Any) -> PlanarTask:
    """``Walker2dEnv``."""
    given = vars(env)
    noise = ResetNoise(given["_reset_noise_scale"])
    return _task(env, noise, columns=1, limits=(-10, 10), health=_health(env, None))


def _task(
    env: Any,
    noise: ResetNoise,
    *,
    columns: int,
    limits: Range | None = None,
    health: Health | None = None,
) -> PlanarTask:
    given = vars(env)
    return PlanarTask(
        noise=noise,
        dt=env.dt,
        forward_weight=given["_forward_reward_weight"],
        control_weight=given["_ctrl_cost_weight"],
        hidden=columns if given["_exclude_current_positions_from_observation"] else 0,
        limits=limits,
        health=health,
    )


def _health(env: Any, state: Range | None) -> Health:
    """``state`` is the interval for all of the state but the first two positions, if any."""
    given = vars(env)
    limits = [given["_healthy_z_range"], given["_healthy_angle_range"]]
    if state is not None:
        angle = limits[1]  # it is part of that state as well
        limits[1] = (max(angle[0], state[0]), min(angle[1], state[1]))
        limits += [state] * (env.model.nq - 3)
    low, high = np.array(limits, np.float64).T
    return Health(
        low=low,
        high=high,
        velocity=state,
        reward=given["_healthy_reward"],
        terminates=given["_terminate_when_unhealthy"],
        paid_when_unhealthy=version_of(env) == 4 and given["_terminate_when_unhealthy"],
    )
