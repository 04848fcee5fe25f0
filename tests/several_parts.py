"""Environments whose observations have several parts, or are integers."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

PARTS: dict[str, gym.Space[Any]] = {
    "pose": Box(-3, 3, (2, 3), np.float32),
    "mode": Discrete(3),
    "switches": MultiDiscrete([2, 4]),
    "bits": MultiBinary(3),
    "ram": Box(0, 200, (4,), np.uint8),
}
SPACES: dict[str, gym.Space[Any]] = {
    "dict": Dict(PARTS),
    "camera": Dict({"camera": Box(0, 255, (3, 36, 36), np.uint8), "pose": PARTS["pose"]}),
    "last": Dict({"camera": Box(0, 255, (36, 40, 3), np.uint8), "pose": PARTS["pose"]}),
    "nested": Dict({"arm": Dict({"joints": Box(-1, 1, (4,)), "grip": Discrete(2)})}),
    "tuple": Tuple([PARTS["pose"], PARTS["mode"]]),
    "integer": Discrete(7),
    "integers": MultiDiscrete([3, 5]),
    "binary": MultiBinary(6),
    "from_one": Discrete(4, start=1),
    "words": gym.spaces.Text(5),
}
ACTIONS: dict[str, gym.Space[Any]] = {
    "box": Box(-2, 2, (2,), np.float32),
    "choice": Discrete(3),
}


class Several(gym.Env[Any, Any]):
    """Random observations; a reward for the action, so that returns differ."""

    def __init__(self, observed: str = "dict", acted: str = "box") -> None:
        self.observation_space = copy.deepcopy(SPACES[observed])  # each has its own generator
        self.action_space = ACTIONS[acted]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = float(np.sum(action))
        return self.observation_space.sample(), reward, self.steps == 20, False, {}
