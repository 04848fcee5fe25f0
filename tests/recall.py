"""A task that nobody solves without memory, and a small recurrent policy that solves it."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env


class Recall(gym.Env[NDArray[Any], Any]):
    """The first observation says which of two actions is right, for ten steps."""

    observation_space = gym.spaces.Box(-2, 2, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.right, self.steps = int(self.np_random.integers(2)), 0
        return self._see(2 * self.right - 1), {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._see(0), float(action == self.right), self.steps == 10, False, {}

    def _see(self, cue: int) -> NDArray[Any]:
        return np.array([cue, *self.np_random.normal(0, 0.3, 2)], np.float32)


def train_recall(path: Path) -> RecurrentPPO:
    """Two seconds; saved at ``path``."""
    model = RecurrentPPO(
        "MlpLstmPolicy",
        make_vec_env(Recall, 8, seed=0),
        n_steps=40,
        batch_size=320,
        n_epochs=4,
        learning_rate=0.02,
        seed=0,
        device="cpu",
        policy_kwargs={
            "lstm_hidden_size": 16, "net_arch": [], "enable_critic_lstm": False,
            "shared_lstm": True,
        },
    )  # fmt: skip
    model.learn(6400)
    model.save(path)
    return model
