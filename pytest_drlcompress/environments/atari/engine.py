"""Atari stepped by ale-py's vector environment, in C++ and without Gymnasium's wrappers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.environments.atari.spec import AtariSpec
from pytest_drlcompress.environments.atari.vector import make_vector
from pytest_drlcompress.environments.perturbation import Perturbation
from pytest_drlcompress.environments.spec import EnvSpec

_GROUP = 4
"""Emulators stepped by one call. A group steps all of its own, those without an episode too, so
smaller groups waste less on an evaluation's last episodes; each costs one change of threads."""


@dataclass(frozen=True)
class AtariEngine:
    """Steps emulators of ``env_id`` as ``atari`` says; implements ``Engine``."""

    env_id: str
    atari: AtariSpec
    reason: str = "equal to Gymnasium's AtariPreprocessing and FrameStackObservation"
    name: str = "atari"
    may_hang: bool = False

    def vector_env(self, slots: int) -> "AtariVectorEnv":
        """``slots`` fresh emulators."""
        return AtariVectorEnv(self.env_id, self.atari, slots)


def make_atari_engine(spec: EnvSpec, perturbation: Perturbation) -> AtariEngine | None:
    """The engine for a game with Gymnasium's preprocessing; every other environment is left."""
    atari = spec.atari
    if atari is None or atari.preprocessing != "gymnasium" or not perturbation.same_physics:
        return None
    return AtariEngine(spec.id, atari)


class AtariVectorEnv:
    """``slots`` emulators in groups; implements ``VectorEnv``."""

    def __init__(self, env_id: str, atari: AtariSpec, slots: int) -> None:
        self.slots = slots
        self._groups = [
            make_vector(env_id, atari, min(_GROUP, slots - first))
            for first in range(0, slots, _GROUP)
        ]
        self._fresh = np.ones(len(self._groups), np.bool_)
        shape = self._groups[0].single_observation_space.shape or ()
        self.observations: NDArray[Any] = np.zeros((slots, *shape), np.uint8)
        self.failures: dict[int, EpisodeError] = {}

    def reset(self, slot: int, seed: int) -> None:
        """Start the episode whose emulator has this seed in ``slot``."""
        number, place = divmod(slot, _GROUP)
        group = self._groups[number]
        if self._fresh[number]:  # a partial reset has to follow a full one
            group.reset()  # unseeded: a seed loads the game anew, 90 ms
            self._fresh[number] = False
        mask = np.arange(group.num_envs) == place
        observations, _ = group.reset(seed=np.array([seed]), options={"reset_mask": mask})
        self.observations[slot] = observations[place]

    def step(
        self, actions: NDArray[Any], busy: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Advance the groups that have an episode."""
        rewards, over = np.zeros(self.slots), np.zeros(self.slots, np.bool_)
        for number, group in enumerate(self._groups):
            first = number * _GROUP
            mine = slice(first, first + group.num_envs)
            wanted = busy[mine]
            if not wanted.any():
                continue
            taken = np.where(wanted, actions[mine], 0)
            seen, gained, ended, cut, _ = group.step(taken.astype(np.int64))
            if wanted.all():
                self.observations[mine] = seen
            else:
                self.observations[mine][wanted] = seen[wanted]
            rewards[mine] = np.where(wanted, gained, 0)
            over[mine] = wanted & (ended | cut)
        return rewards, over

    def close(self) -> None:
        """Release the emulators."""
        for group in self._groups:
            group.close()
