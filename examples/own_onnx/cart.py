"""Your simulator: a cart that is pushed to the origin."""

import gymnasium as gym
import numpy as np


class Cart(gym.Env):
    """Observes position and velocity; the force moves ``mass``."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, mass=1.0):
        """The heavier, the slower."""
        self.mass = mass

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        """Somewhere, at rest."""
        super().reset(seed=seed)
        self.steps, self.state = 0, np.array([self.np_random.uniform(-2, 2), 0.0])
        return self.state.astype(np.float32), {}

    def step(self, action):
        """A tenth of a second."""
        self.steps += 1
        self.state[1] += 0.1 * float(action[0]) / self.mass
        self.state[0] += 0.1 * self.state[1]
        reward = 1 - abs(self.state[0])
        return self.state.astype(np.float32), reward, False, self.steps == 80, {}
