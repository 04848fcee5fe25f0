"""Humanoid and HumanoidStandup: one observation, two rewards."""

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
    inside,
    sum_of_squares,
    survival,
    version_of,
)


@dataclass(frozen=True)
class HumanoidObservation:
    """Which ``MjData`` fields are observed, each from which row on (v5 leaves the world out)."""

    hidden: int
    fields: tuple[tuple[str, int], ...]

    def pieces(self, state: Simulations) -> list[Piece]:
        """Positions, velocities, then the fields."""
        parts = [Piece(state.qpos[:, self.hidden :]), Piece(state.qvel)]
        return parts + [Piece(state.derived[name][:, first:]) for name, first in self.fields]


@dataclass(frozen=True, eq=False)
class HumanoidTask:
    """``HumanoidEnv``; implements ``Task``. ``mass`` is ``(nbody,)`` in kg."""

    noise: ResetNoise
    observation: HumanoidObservation
    dt: float
    mass: Floats
    forward_weight: float
    control_weight: float
    contact_weight: float
    contact_range: Range
    contact_costs: bool
    z: Range
    survival_reward: float
    terminates: bool
    paid_when_unhealthy: bool
    derived: tuple[str, ...]
    contact_forces: bool

    def pieces(self, state: Simulations) -> list[Piece]:
        """See ``HumanoidObservation``."""
        return self.observation.pieces(state)

    def before(self, state: Simulations) -> Floats:
        """The centre of mass, ``(slots, 3)``."""
        weighted = np.einsum("b,sbj->sj", self.mass, state.derived["xipos"])
        return np.asarray(weighted / self.mass.sum())

    def outcome(
        self,
        state: Simulations,
        before: Floats,
        actions: NDArray[Any],  # noqa: ARG002 (Task)
    ) -> tuple[Floats, Booleans]:
        """Weighted speed of the centre of mass, survival, control cost, contact cost."""
        velocity = (self.before(state)[:, 0] - before[:, 0]) / self.dt
        healthy = inside(state.qpos[:, 2], self.z)
        reward = self.forward_weight * velocity
        reward = reward + survival(healthy, self.survival_reward, always=self.paid_when_unhealthy)
        # of the controls in double precision, not of the action
        cost = self.control_weight * sum_of_squares(state.ctrl)
        if self.contact_costs:
            contact = self.contact_weight * _squared_forces(state)
            cost = cost + np.clip(contact, *self.contact_range)
        return reward - cost, ~healthy if self.terminates else np.zeros(len(healthy), np.bool_)


@dataclass(frozen=True)
class StandupTask:
    """``HumanoidStandupEnv``; implements ``Task``. ``timestep`` is the physics' own, in seconds."""

    noise: ResetNoise
    observation: HumanoidObservation
    timestep: float
    control_weight: float
    impact_weight: float
    impact_range: Range
    derived: tuple[str, ...]
    contact_forces: bool

    def pieces(self, state: Simulations) -> list[Piece]:
        """See ``HumanoidObservation``."""
        return self.observation.pieces(state)

    def before(self, state: Simulations) -> Floats:
        """Nothing: the height counts, not its change."""
        return state.qpos[:, :0]

    def outcome(
        self,
        state: Simulations,
        before: Floats,  # noqa: ARG002 (Task)
        actions: NDArray[Any],  # noqa: ARG002 (Task)
    ) -> tuple[Floats, Booleans]:
        """Height over the time step, control cost, impact cost, and 1 for each step."""
        up = state.qpos[:, 2] / self.timestep
        control = self.control_weight * sum_of_squares(state.ctrl)
        impact = np.clip(self.impact_weight * _squared_forces(state), *self.impact_range)
        return up - control - impact + 1, np.zeros(len(up), np.bool_)


def humanoid(env: Any) -> HumanoidTask:
    """``HumanoidEnv``: v4 has no contact cost; a v5 weight of zero need not be computed."""
    given = vars(env)
    v4 = version_of(env) == 4
    observation = _observation(env, v4=v4)
    weight, limits = 0.0, (-np.inf, np.inf)
    if not v4:
        weight, limits = given["_contact_cost_weight"], given["_contact_cost_range"]
    costs = weight != 0 or not limits[0] <= 0 <= limits[1]
    fields = {name for name, _ in observation.fields} | ({"cfrc_ext"} if costs else set())
    return HumanoidTask(
        noise=ResetNoise(given["_reset_noise_scale"]),
        observation=observation,
        dt=env.dt,
        mass=env.model.body_mass.copy(),
        forward_weight=given["_forward_reward_weight"],
        control_weight=given["_ctrl_cost_weight"],
        contact_weight=weight,
        contact_range=limits,
        contact_costs=costs,
        z=given["_healthy_z_range"],
        survival_reward=given["_healthy_reward"],
        terminates=given["_terminate_when_unhealthy"],
        paid_when_unhealthy=v4 and given["_terminate_when_unhealthy"],
        derived=("xipos", *sorted(fields)),
        contact_forces="cfrc_ext" in fields,
    )


def humanoid_standup(env: Any) -> StandupTask:
    """``HumanoidStandupEnv``: v4 has its figures written into its code."""
    given = vars(env)
    v4 = version_of(env) == 4
    observation = _observation(env, v4=v4)
    fields = {"cfrc_ext", *(name for name, _ in observation.fields)}
    return StandupTask(
        noise=ResetNoise(0.01 if v4 else given["_reset_noise_scale"]),
        observation=observation,
        timestep=env.model.opt.timestep,
        control_weight=0.1 if v4 else given["_ctrl_cost_weight"],
        impact_weight=5e-07 if v4 else given["_impact_cost_weight"],
        impact_range=(-np.inf, 10.0) if v4 else given["_impact_cost_range"],
        derived=tuple(sorted(fields)),
        contact_forces=True,
    )


def _observation(env: Any, *, v4: bool) -> HumanoidObservation:
    given = vars(env)
    if v4:
        fields = (("cinert", 0), ("cvel", 0), ("qfrc_actuator", 0), ("cfrc_ext", 0))
        return HumanoidObservation(_hidden(env), fields)
    asked = (
        ("cinert", 1, given["_include_cinert_in_observation"]),
        ("cvel", 1, given["_include_cvel_in_observation"]),
        ("qfrc_actuator", 6, given["_include_qfrc_actuator_in_observation"]),
        ("cfrc_ext", 1, given["_include_cfrc_ext_in_observation"]),
    )
    return HumanoidObservation(
        _hidden(env), tuple((name, first) for name, first, wanted in asked if wanted is True)
    )


def _hidden(env: Any) -> int:
    given = vars(env)
    # HumanoidStandup-v4 has no such argument and always hides them
    return 2 if given.get("_exclude_current_positions_from_observation", True) else 0


def _squared_forces(state: Simulations) -> Floats:
    forces = state.derived["cfrc_ext"]
    return sum_of_squares(forces.reshape(len(forces), -1))
