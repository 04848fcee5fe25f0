"""Learning on policy: the student acts, the teacher says what it would have done there.

DAgger (Ross et al. 2011): where a student strays, it then learns to come back, which the teacher's
own rollouts cannot show.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.compression.step import Observations

_TEACHER_ACTS = (0.0, 0.25, 0.0, 0.5)


class DaggerDataset:
    """Observations and what the teacher does there, growing; ``(count, *shape)`` each."""

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher
        self.observations = self.answers = torch.empty(0)

    @torch.no_grad()
    def add(self, observations: NDArray[Any]) -> None:
        """Have the teacher answer more observations."""
        seen = torch.from_numpy(observations)
        answers = self.teacher(seen)
        if len(self.observations):
            seen = torch.cat([self.observations, seen])
            answers = torch.cat([self.answers, answers])
        self.observations, self.answers = seen, answers


class Mixture(nn.Module):
    """The student, with the teacher stepping in at random: who acts in what is learned from.

    A student that gets stuck (upside down, say) would teach itself nothing else for the rest of
    each episode. Row by row of a batch, which is episode by episode, the teacher acts more
    often: never, in a quarter of the steps, in half of them.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, seed: int) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, observations: Tensor) -> Tensor:
        """Actions ``(batch, *action_shape)``."""
        actions: Tensor = self.student(observations)
        rows = len(observations)
        share = torch.tensor(_TEACHER_ACTS)[torch.arange(rows) % len(_TEACHER_ACTS)]
        steps_in = torch.rand(rows, generator=self._generator) < share
        shape = (rows, *[1] * (actions.dim() - 1))
        return torch.where(steps_in.reshape(shape), self.teacher(observations), actions)


@dataclass(frozen=True, eq=False)
class VisitedObservations:
    """``Observations`` of states that the student visited, for the steps after this one.

    What comes next (quantization) must be right where the sparse network goes, and ``teacher``,
    the dense network, is still what it is held to.
    """

    origin: Observations
    seen: NDArray[Any]
    teacher: nn.Module

    def blank(self, count: int) -> Tensor:
        """As the original's."""
        return self.origin.blank(count)

    def sample(self, count: int) -> NDArray[Any]:
        """The most recent ``count`` observations, evenly taken where there are more."""
        chosen = np.linspace(0, len(self.seen) - 1, min(count, len(self.seen))).round()
        return np.ascontiguousarray(self.seen[chosen.astype(int)])

    def describe(self, count: int) -> dict[str, Any]:
        """The original's description, with whose observations these are."""
        found = {**self.origin.describe(count), "policy": "the sparse student"}
        return {**found, "observations": min(count, len(self.seen))}

    def visited(self, student: nn.Module, count: int, number: int) -> NDArray[Any]:
        """As the original's."""
        return self.origin.visited(student, count, number)
