"""PQN, parallelised Q-learning (Gallici et al. 2024): deep Q-learning that a CPU can afford.

Q(lambda) returns of many environments stepped together take the place of DQN's replay buffer
and target network. What it learns is the same thing, a greedy policy over the Q values of the
same network. Its layer normalisation is left out: the networks are those of Mnih et al. and
Ivanov et al., and learn without. Rewards are clipped to their sign, as DQN's are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pytest_drlcompress.training.hardware import CPU, Hardware
from pytest_drlcompress.training.image_learner import (
    ImageLearner,
    LearnerSettings,
    q_values,
    settings_of,
)
from pytest_drlcompress.training.recipes import TrainingRecipe


@dataclass(frozen=True)
class PqnSettings(LearnerSettings):
    """A recipe's hyperparameters. ``epsilon`` falls from 1 to its end over ``epsilon_steps``.

    ``rollout`` steps of every environment are followed by ``epochs`` passes over them in
    batches. ``life_loss_ends`` tells the learner, not the environment, that a lost life ends
    what can be earned. The learning rate rises over the first ``warmup`` iterations.
    """

    rollout: int = 32
    epochs: int = 2
    batch_size: int = 128
    gamma: float = 0.99
    trace: float = 0.8
    epsilon_end: float = 0.01
    epsilon_steps: int = 100_000
    life_loss_ends: bool = True
    warmup: int = 20


class Pqn(ImageLearner):
    """See the module."""

    settings: PqnSettings
    checkpoint = "pqn.pt"

    def __init__(
        self,
        recipe: TrainingRecipe,
        steps: int,
        seed: int,
        source: Path | None,
        *,
        hardware: Hardware = CPU,
    ) -> None:
        self.settings = settings_of(PqnSettings, recipe)
        super().__init__(recipe, steps, seed, source, hardware=hardware)

    def learn(self, steps: int, on_steps: Callable[[int], None]) -> None:
        """As the base class says."""
        env = self._environments(life_loss_info=self.settings.life_loss_ends)
        random = np.random.default_rng(self._seed)
        observations, _ = env.reset(seed=random.integers(2**31, size=self._slots))
        batch = _Batch(self.settings.rollout, observations, self._device)
        end = self.steps + steps
        try:
            while self.steps < end:
                observations = self._collect(env, batch, observations, random)
                returns = self._returns(batch, torch.from_numpy(observations).to(self._device))
                self._update(batch, returns)
                self.steps += self.settings.rollout * self._slots
                on_steps(self.steps)
        finally:
            env.close()

    def _collect(
        self, env: Any, batch: "_Batch", observations: NDArray[Any], random: np.random.Generator
    ) -> NDArray[Any]:
        """Fill ``batch`` with epsilon-greedy steps; what is seen after the last."""
        settings = self.settings
        share = min(1.0, self.steps / settings.epsilon_steps)
        epsilon = 1 - (1 - settings.epsilon_end) * share
        for step in range(settings.rollout):
            batch.observations[step] = torch.from_numpy(observations)
            value, best = self._values(batch.observations[step]).max(1)
            explore = random.random(self._slots) < epsilon
            actions = np.where(
                explore, random.integers(0, self._actions, self._slots), best.cpu().numpy()
            )
            observations, rewards, over, cut, _ = env.step(actions)
            batch.values[step] = value
            batch.actions[step] = torch.from_numpy(actions)
            batch.rewards[step] = torch.from_numpy(np.sign(rewards).astype(np.float32))
            batch.over[step] = torch.from_numpy((over | cut).astype(np.float32))
        return observations

    def _returns(self, batch: "_Batch", last: Tensor) -> Tensor:
        """Q(lambda) returns (Peng and Williams 1994), ``(rollout, environments)``."""
        settings = self.settings
        following = self._values(last).max(1)[0]
        gain, returns = following, torch.empty_like(batch.rewards)
        for step in reversed(range(settings.rollout)):
            mixed = settings.trace * gain + (1 - settings.trace) * following
            gain = batch.rewards[step] + settings.gamma * (1 - batch.over[step]) * mixed
            returns[step], following = gain, batch.values[step]
        return returns

    def _update(self, batch: "_Batch", returns: Tensor) -> None:
        settings = self.settings
        observations, actions = batch.observations.flatten(0, 1), batch.actions.flatten()
        targets = returns.flatten()
        iteration = self.steps // (settings.rollout * self._slots)
        self._set_rate(min(1.0, (iteration + 1) / settings.warmup))
        for _ in range(settings.epochs):
            order = torch.randperm(len(targets), device=self._device)
            for first in range(0, len(targets), settings.batch_size):
                rows = order[first : first + settings.batch_size]
                values = q_values(self.network, observations[rows])
                chosen = values.gather(1, actions[rows, None]).squeeze(1)
                loss = functional.smooth_l1_loss(chosen, targets[rows])
                self._descend(loss)

    @torch.no_grad()
    def _values(self, observations: Tensor) -> Tensor:
        return q_values(self.network, observations)


class _Batch:
    """One rollout: every tensor is ``(rollout, environments, ...)``."""

    def __init__(self, rollout: int, observations: NDArray[Any], device: torch.device) -> None:
        shape = (rollout, len(observations))
        images = (rollout, *observations.shape)
        self.observations = torch.zeros(images, dtype=torch.uint8, device=device)
        self.actions = torch.zeros(shape, dtype=torch.long, device=device)
        self.rewards, self.over, self.values = (torch.zeros(shape, device=device) for _ in range(3))
