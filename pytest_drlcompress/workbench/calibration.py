"""A policy's own rollouts as ``compression.registry.Observations``: calibration, distillation."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.environments.engines import OUR_ENGINES, Engines
from pytest_drlcompress.environments.spec import EnvSpec, network_dtype
from pytest_drlcompress.evaluation.rollout import rollout

if TYPE_CHECKING:
    from torch import Tensor, nn  # which ONNX files do without

CALIBRATION_SEEDS = 2**19 + 2**17
"""First seed of the episodes that calibration sees; below ``RECORDED_SEEDS``."""

STUDENT_SEEDS = 2**18
"""First seed of the episodes in which a student acts while it learns; below ``RECORDED_SEEDS``."""

EPISODES_PER_SAMPLE = 8
"""Episodes that run side by side where observations are collected."""

IMAGE_EPISODES_PER_SAMPLE = 2
"""The same for images: an Atari game of 4,500 screens of 28 KB takes 127 MB."""

_EPISODES_PER_ROUND = 512


def episodes_per_sample(env: EnvSpec) -> int:
    """How many episodes of ``env`` run side by side where observations are collected."""
    return IMAGE_EPISODES_PER_SAMPLE if env.images else EPISODES_PER_SAMPLE


@dataclass(frozen=True)
class OwnRollouts:
    """See the module. ``observed(first_seed, count)`` gives what the fp32 policy sees."""

    observed: Callable[[int, int], NDArray[Any]]
    env: EnvSpec
    engines: Engines = OUR_ENGINES

    def blank(self, count: int) -> "Tensor":
        """Zeros, to trace a network."""
        import torch

        shape, dtype, _ = self.env.spaces
        return torch.zeros((count, *shape), dtype=torch.uint8 if dtype == np.uint8 else None)

    def sample(self, count: int) -> NDArray[Any]:
        """The same ``count`` observations for every call."""
        return self.observed(CALIBRATION_SEEDS, count)

    def describe(self, count: int) -> dict[str, Any]:
        """Environment and seeds."""
        return {
            "environment": str(self.env),
            "first_seed": CALIBRATION_SEEDS,
            "observations": count,
            "policy": "fp32",
        }

    @property
    def teacher(self) -> None:
        """The network a step is given is its teacher."""
        return None

    def visited(self, student: "nn.Module", count: int, number: int) -> NDArray[Any]:
        """Observations of whole episodes in which ``student`` acts."""
        from pytest_drlcompress.runtime.torch import TorchActor

        first = STUDENT_SEEDS + number * _EPISODES_PER_ROUND
        rows: list[NDArray[Any]] = []
        seeds = range(first, first + _EPISODES_PER_ROUND)
        episodes = rollout(
            self.env,
            TorchActor(student),
            seeds,
            record=True,
            slots=episodes_per_sample(self.env),
            engines=self.engines,
        )
        with closing(episodes):
            for episode in episodes:
                assert episode.observations is not None
                rows.append(episode.observations)
                if sum(map(len, rows)) >= count:
                    break
        seen = np.concatenate(rows)
        if self.env.images:  # of which there is room for no more than were asked for
            seen = seen[np.linspace(0, len(seen) - 1, count).round().astype(int)]
        return np.ascontiguousarray(seen, network_dtype(seen.dtype))
