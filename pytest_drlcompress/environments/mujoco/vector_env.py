"""A ``VectorEnv`` that reproduces Gymnasium's MuJoCo environments on many simulations at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.environments.mujoco.simulations import (
    BatchSimulations,
    Floats,
    SeparateSimulations,
    Simulations,
    batch_exists,
)
from pytest_drlcompress.environments.mujoco.task import Piece, Task

_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class MujocoSetup:
    """Everything needed to step one environment: nothing in it changes while stepping.

    ``qpos`` and ``qvel`` are the state that the reset noise is added to, ``max_steps`` the
    time limit (0: none). ``padding`` zeros and, where ``time_steps > 0``, ``1 - t/time_steps``
    are appended to each observation.
    """

    model: mujoco.MjModel
    task: Task
    frame_skip: int
    qpos: Floats
    qvel: Floats
    max_steps: int
    padding: int = 0
    time_steps: int = 0


class MujocoVectorEnv:
    """``slots`` simulations of one environment on the calling thread; implements ``VectorEnv``."""

    def __init__(self, setup: MujocoSetup, slots: int) -> None:
        self._setup, self._task = setup, setup.task
        make: Callable[[mujoco.MjModel, int, int, Sequence[str]], Simulations] = SeparateSimulations
        if batch_exists() and not self._task.contact_forces:
            make = BatchSimulations
        self._state = make(setup.model, slots, setup.frame_skip, self._task.derived)
        pieces = self._task.pieces(self._state)
        size = sum(_width(piece) for piece in pieces)
        width = size + setup.padding + (setup.time_steps > 0)
        self.slots = slots
        self.observations: NDArray[Any] = np.zeros((slots, width))
        self.failures: dict[int, EpisodeError] = {}
        self._parts = _targets(self.observations[:, :size], pieces)
        self._steps = np.zeros(slots, np.int64)
        self._everyone = np.arange(slots, dtype=np.int32)

    def reset(self, slot: int, seed: int) -> None:
        """Start the episode of ``seed`` in ``slot``."""
        generator, _ = seeding.np_random(seed)
        setup = self._setup
        self._state.reset(slot, *self._task.noise.draw(generator, setup.qpos, setup.qvel))
        self._steps[slot] = 0
        self._observe(slice(slot, slot + 1))

    def step(
        self, actions: NDArray[Any], busy: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Advance the busy slots; rows of the others are meaningless."""
        before = self._task.before(self._state)
        everyone = np.count_nonzero(busy) == self.slots  # cheaper than busy.all()
        slots = self._everyone if everyone else np.flatnonzero(busy).astype(np.int32)
        errors = self._state.step(actions, slots)
        self._steps += busy
        rewards, over = self._task.outcome(self._state, before, actions)
        if self._setup.max_steps:
            over = over | (self._steps >= self._setup.max_steps)
        self._observe(_ALL)
        self.failures = {slot: EpisodeError(f"MuJoCo failed ({e})") for slot, e in errors.items()}
        return rewards, over

    def close(self) -> None:
        """Nothing is held but memory."""

    def _observe(self, slots: slice) -> None:
        # rows of slots that did not move are written again, with what they held
        for target, piece in self._parts:
            rows, source = target[slots], piece.source[slots]
            if piece.limits is None:
                rows[...] = source
            else:
                low, high = piece.limits
                np.maximum(source, low, out=rows)
                np.minimum(rows, high, out=rows)
        if self._setup.time_steps:
            self.observations[slots, -1] = 1 - self._steps[slots] / self._setup.time_steps


def _width(piece: Piece) -> int:
    return int(np.prod(piece.source.shape[1:]))


def _targets(observations: Floats, pieces: list[Piece]) -> list[tuple[Floats, Piece]]:
    """Each piece with the view of ``observations`` ``(slots, size)`` that it fills."""
    targets, start = [], 0
    for piece in pieces:
        stop = start + _width(piece)
        targets.append((observations[:, start:stop].reshape(piece.source.shape, copy=False), piece))
        start = stop
    return targets
