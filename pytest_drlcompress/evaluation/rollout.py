"""Rollouts of a controller or a reference policy on an environment specification."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.evaluation.episodes import Episode, Pilot, Stepper, run_episodes
from pytest_drlcompress.evaluation.gymnasium import GymnasiumStepper
from pytest_drlcompress.evaluation.mujoco_engine import NotProvenError, mujoco_setup
from pytest_drlcompress.evaluation.mujoco_stepper import MujocoStepper
from pytest_drlcompress.evaluation.perturb import Perturbation
from pytest_drlcompress.policies.environment import ActionSpec, EnvSpec

SLOTS = 16
"""Environments stepped together. A constant: the batch shape must not depend on the run."""


def make_stepper(spec: EnvSpec, slots: int = SLOTS) -> Stepper:
    """The fastest stepper that is proven equal to Gymnasium for ``spec``."""
    try:
        return MujocoStepper(mujoco_setup(spec, Perturbation()), slots)
    except NotProvenError:
        return GymnasiumStepper(spec, slots)


def rollout(
    spec: EnvSpec,
    pilot: Pilot,
    seeds: Sequence[int],
    *,
    record: bool = False,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Iterator[Episode]:
    """Episodes of ``pilot`` on ``spec`` in the order of ``seeds`` (see ``run_episodes``)."""
    stepper = make_stepper(spec)
    on_start = pilot.begin if isinstance(pilot, RandomPilot) else _ignore
    with closing(stepper):
        yield from run_episodes(
            stepper, pilot, spec.action, seeds, record=record, on_start=on_start, on_steps=on_steps
        )


class RandomPilot:
    """Uniformly random actions, drawn for each episode from its own seed."""

    def __init__(self, action: ActionSpec, slots: int = SLOTS) -> None:
        self._action = action
        self._generators = [np.random.default_rng(0) for _ in range(slots)]

    def begin(self, slot: int, seed: int) -> None:
        """Restart the slot's random numbers."""
        # a second entropy word: Gymnasium's own reset uses SeedSequence(seed)
        self._generators[slot] = np.random.default_rng([seed, 1])

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002 (Pilot)
        """One draw for each slot."""
        action = self._action
        if action.discrete:
            return np.array([int(g.integers(action.n)) for g in self._generators])
        low, high = _finite_bounds(action)
        return np.stack([g.uniform(low, high) for g in self._generators]).astype(np.float32)


class ZeroPilot:
    """The zero action (for a box that excludes zero: its nearest point; discrete: action 0)."""

    def __init__(self, action: ActionSpec, slots: int = SLOTS) -> None:
        if action.discrete:
            self._actions: NDArray[Any] = np.zeros(slots, np.int64)
        else:
            still = np.clip(np.zeros(action.shape, np.float32), action.low, action.high)
            self._actions = np.tile(still, (slots,) + (1,) * len(action.shape))

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002 (Pilot)
        """The same action for every slot."""
        return self._actions


def _finite_bounds(action: ActionSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # an unbounded box has no uniform distribution; Gymnasium samples those around zero too
    return (
        np.where(np.isfinite(action.low), action.low, np.float32(-1)),
        np.where(np.isfinite(action.high), action.high, np.float32(1)),
    )


def _ignore(slot: int, seed: int) -> None:  # noqa: ARG001 (a callback)
    return None
