"""An arm whose encoders tell angles only: how fast it moves must be seen from the past."""

import gymnasium as gym
import numpy as np


class Arm(gym.Env):
    """Two joints to be brought to zero; observes their angles."""

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        """Somewhere, and moving."""
        super().reset(seed=seed)
        self.steps = 0
        self.angles, self.speeds = self.np_random.uniform(-1, 1, (2, 2))
        return self.angles.astype(np.float32), {}

    def step(self, action):
        """A tenth of a second."""
        self.steps += 1
        self.speeds = self.speeds + 0.2 * np.asarray(action, float)
        self.angles = np.clip(self.angles + 0.1 * self.speeds, -10, 10)
        reward = 1 - float(np.abs(self.angles).mean())
        return self.angles.astype(np.float32), reward, False, self.steps == 80, {}
