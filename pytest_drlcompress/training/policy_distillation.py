"""Policy distillation (Rusu et al. 2016) of one image policy into another network, on policy.

The student acts, the teacher tells what it thinks of every action there; the student learns the
distribution that a softmax makes of it. A tenth of the steps of learning from rewards is enough.
Of a state's Q values only their differences count, in units of their spread over the actions,
which is a game's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pytest_drlcompress.training.hardware import CPU, Hardware
from pytest_drlcompress.training.image_learner import (
    ImageLearner,
    LearnerSettings,
    lay_out,
    q_values,
    settings_of,
)
from pytest_drlcompress.training.recipes import TrainingRecipe


@dataclass(frozen=True)
class DistillationSettings(LearnerSettings):
    """A recipe's hyperparameters.

    After ``rollout`` steps of every environment come ``batches`` of what the last ``memory``
    rollouts have seen. In ``teacher_acts`` of the environments the teacher acts; elsewhere the
    student does, and anything at all with probability ``epsilon``. ``temperature`` sharpens the
    softmax: the best action counts most.
    """

    rollout: int = 32
    batches: int = 24
    batch_size: int = 128
    memory: int = 12
    learning_rate: float = 5e-4
    temperature: float = 0.25
    teacher_acts: float = 0.25
    epsilon: float = 0.02


class PolicyDistillation(ImageLearner):
    """See the module. ``teacher`` ends in Q values and begins with ``Pixels``."""

    settings: DistillationSettings
    checkpoint = "distillation.pt"

    def __init__(
        self,
        recipe: TrainingRecipe,
        teacher: nn.Sequential,
        steps: int,
        seed: int,
        source: Path | None,
        *,
        hardware: Hardware = CPU,
    ) -> None:
        self.settings = settings_of(DistillationSettings, recipe)
        super().__init__(recipe, steps, seed, source, hardware=hardware)
        lay_out(teacher, self._device)
        self._teacher = teacher

    def learn(self, steps: int, on_steps: Callable[[int], None]) -> None:
        """As the base class says."""
        settings = self.settings
        env = self._environments(life_loss_info=False)
        random = np.random.default_rng(self._seed)
        observations, _ = env.reset(seed=random.integers(2**31, size=self._slots))
        rows = settings.memory * settings.rollout * self._slots
        memory = _Memory(rows, observations.shape[1:], self._actions, self._device)
        end = self.steps + steps
        try:
            while self.steps < end:
                for _ in range(settings.rollout):
                    observations = self._step(env, memory, observations, random)
                self._update(memory)
                self.steps += settings.rollout * self._slots
                on_steps(self.steps)
        finally:
            env.close()

    @torch.no_grad()
    def _step(
        self, env: Any, memory: "_Memory", observations: NDArray[Any], random: np.random.Generator
    ) -> NDArray[Any]:
        seen = torch.from_numpy(observations).to(self._device)
        advice = q_values(self._teacher, seen)
        memory.add(seen, advice)
        actions = q_values(self.network, seen).argmax(1).cpu().numpy()
        led = round(self.settings.teacher_acts * self._slots)
        actions[:led] = advice[:led].argmax(1).cpu().numpy()
        stray = random.random(self._slots) < self.settings.epsilon
        actions = np.where(stray, random.integers(0, self._actions, self._slots), actions)
        following: NDArray[Any] = env.step(actions)[0]
        return following

    def _update(self, memory: "_Memory") -> None:
        settings = self.settings
        observations, advice = memory.filled()
        self._set_rate()
        spread = advice.std(1).mean().clamp_min(1e-6)
        for _ in range(settings.batches):
            rows = torch.randint(len(advice), (settings.batch_size,), device=self._device)
            wanted = torch.softmax(advice[rows] / (settings.temperature * spread), 1)
            loss = functional.cross_entropy(q_values(self.network, observations[rows]), wanted)
            self._descend(loss)


class _Memory:
    """The last rollouts' observations and what the teacher thinks of each action there."""

    def __init__(
        self, rows: int, shape: tuple[int, ...], actions: int, device: torch.device
    ) -> None:
        self._observations = torch.zeros((rows, *shape), dtype=torch.uint8, device=device)
        self._advice = torch.zeros((rows, actions), device=device)
        self._written = 0

    def add(self, observations: Tensor, advice: Tensor) -> None:
        """Write over the oldest."""
        first = self._written % len(self._advice)
        rows = slice(first, first + len(advice))
        self._observations[rows], self._advice[rows] = observations, advice
        self._written += len(advice)

    def filled(self) -> tuple[Tensor, Tensor]:
        """All that there is."""
        rows = min(self._written, len(self._advice))
        return self._observations[:rows], self._advice[:rows]
