"""An environment whose returns are known, and that fails in the way it is asked to."""

import os
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np

from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.episodes import Episode

ENV_ID = "drlcTests/Counting-v0"


class CountingEnv(gym.Env):
    """An episode of ``seed % 7 + 1`` steps, reward ``seed`` each, and a ``fault`` if asked for.

    The fault strikes in episodes with ``seed == faulty`` (-1: every one) at step ``at``. With
    ``others`` it strikes in worker processes alone, and steps in this one are slow until a worker
    has made the file ``others``, so that some seeds are left for it. Where the environment variable
    ``DRLC_OTHER_ARITHMETIC`` is set, rewards differ in their last bit.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fault="", faulty=-1, at=1, others=""):
        self.fault, self.faulty, self.at, self.others = fault, faulty, at, others

    def reset(self, *, seed=None, options=None):  # noqa: ARG002 (Gymnasium)
        self.number, self.steps = seed, 0
        if self.fault == "reset" and seed == self.faulty:
            raise RuntimeError("no reset today")
        return self._observation(), {}

    def step(self, action):  # noqa: ARG002 (Gymnasium)
        self.steps += 1
        here = bool(self.others) and threading.current_thread() is not threading.main_thread()
        if here and not Path(self.others).exists():
            time.sleep(0.02)
        elif self.others and not here:
            Path(self.others).touch()
        if self.faulty in (self.number, -1) and self.steps == self.at and not here:
            self._strike()
        reward = np.nan if self._struck("nan reward") else float(self.number)
        if os.environ.get("DRLC_OTHER_ARITHMETIC"):
            reward = float(np.nextafter(reward, np.inf))
        return self._observation(), reward, self.steps > self.number % 7, False, {}

    def _observation(self):
        bad = self._struck("nan observation")
        return np.array([self.number, np.nan if bad else self.steps], np.float64)

    def _struck(self, fault):
        return self.fault == fault and self.number == self.faulty and self.steps == self.at

    def _strike(self):
        if self.fault == "raise":
            raise RuntimeError("a wheel came off")
        if self.fault == "exit":
            sys.exit("enough")
        if self.fault == "die":
            os._exit(3)
        if self.fault == "loop":
            while True:
                pass
        if self.fault == "sleep":
            time.sleep(3600)


class Mirror:
    """An actor for ``CountingEnv``: action 0, but 2 (outside) for the seeds in ``bad``."""

    def __init__(self, bad=()):
        self.bad = bad

    def act(self, observations):
        outside = np.isin(observations[:, :1], self.bad)
        return np.where(outside, 2, 0).astype(np.float32)


def counting(**kwargs):
    return EnvSpec(ENV_ID, tuple(sorted(kwargs.items())))


def expected(seeds):
    return [Episode(seed, float(seed * (seed % 7 + 1)), seed % 7 + 1) for seed in seeds]
