"""Ant: forward speed of the torso, survival, control and contact costs."""

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
    sum_of_squares,
    survival,
    version_of,
)


@dataclass(frozen=True)
class AntTask:
    """``AntEnv``; implements ``Task``.

    ``contact_range`` clips contact forces wherever they are used; ``observed_from`` is the
    first body whose forces are observed (``None``: no body's).
    """

    noise: ResetNoise
    dt: float
    forward_weight: float
    control_weight: float
    contact_weight: float
    contact_range: Range
    observed_from: int | None
    z: Range
    survival_reward: float
    terminates: bool
    paid_when_unhealthy: bool
    main_body: int
    hidden: int
    derived: tuple[str, ...]
    contact_forces: bool

    def pieces(self, state: Simulations) -> list[Piece]:
        """Positions, velocities, contact forces."""
        parts = [Piece(state.qpos[:, self.hidden :]), Piece(state.qvel)]
        if self.observed_from is not None:
            forces = state.derived["cfrc_ext"][:, self.observed_from :]
            parts.append(Piece(forces, self.contact_range))
        return parts

    def before(self, state: Simulations) -> Floats:
        """The main body's horizontal position."""
        return state.derived["xpos"][:, self.main_body, 0].copy()

    def outcome(
        self, state: Simulations, before: Floats, actions: NDArray[Any]
    ) -> tuple[Floats, Booleans]:
        """Weighted speed, survival, control cost, contact cost."""
        velocity = (state.derived["xpos"][:, self.main_body, 0] - before) / self.dt
        z, (low, high) = state.qpos[:, 2], self.z
        healthy = (low <= z) & (z <= high)
        healthy &= np.isfinite(state.qpos).all(1) & np.isfinite(state.qvel).all(1)
        reward = velocity * self.forward_weight
        reward = reward + survival(healthy, self.survival_reward, always=self.paid_when_unhealthy)
        cost = self.control_weight * sum_of_squares(actions)
        if self.contact_forces:
            forces = np.clip(state.derived["cfrc_ext"], *self.contact_range)
            cost = cost + self.contact_weight * sum_of_squares(forces.reshape(len(forces), -1))
        return reward - cost, ~healthy if self.terminates else np.zeros(len(z), np.bool_)


def ant(env: Any) -> AntTask:
    """``AntEnv``: v4 counts contacts if asked to, v5 always does.

    A v5 contact cost of weight zero that is not observed either need not be computed.
    """
    given = vars(env)
    v4 = version_of(env) == 4
    if v4:
        counted = given["_use_contact_forces"]
        observed_from = 0 if counted else None
    else:
        observed_from = 1 if given["_include_cfrc_ext_in_observation"] else None
        counted = observed_from is not None or given["_contact_cost_weight"] != 0
    return AntTask(
        noise=ResetNoise(given["_reset_noise_scale"], normal_velocity=True),
        dt=env.dt,
        forward_weight=1 if v4 else given["_forward_reward_weight"],
        control_weight=given["_ctrl_cost_weight"],
        contact_weight=given["_contact_cost_weight"],
        contact_range=given["_contact_force_range"],
        observed_from=observed_from,
        z=given["_healthy_z_range"],
        survival_reward=given["_healthy_reward"],
        terminates=given["_terminate_when_unhealthy"],
        paid_when_unhealthy=v4 and given["_terminate_when_unhealthy"],
        main_body=int(env.model.body("torso" if v4 else given["_main_body"]).id),
        hidden=2 if given["_exclude_current_positions_from_observation"] else 0,
        derived=("xpos", "cfrc_ext") if counted else ("xpos",),
        contact_forces=bool(counted),
    )
