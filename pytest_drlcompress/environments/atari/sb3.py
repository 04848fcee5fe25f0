"""Atari as Stable-Baselines3 and RL-Zoo train on it: ``AtariWrapper``, then ``VecFrameStack``.

Not the same preprocessing as Gymnasium's: screens are turned grey by OpenCV instead of the
emulator, a game that has FIRE is begun with it, and a lost life resets what the policy sees. A
policy is judged on the one it was trained with.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError
from pytest_drlcompress.environments.atari.spec import AtariSpec
from pytest_drlcompress.environments.atari.vector import rom_name


def make_sb3(env_id: str, atari: AtariSpec) -> "Sb3Atari":
    """One game of ``env_id`` as SB3's wrappers show it.

    Raises:
        EnvironmentSpecError: the game or OpenCV is missing.
    """
    rom_name(env_id)
    try:
        import cv2  # noqa: F401 (what SB3's wrapper needs, asked for before it fails)
    except ImportError:
        raise EnvironmentSpecError(
            "preprocessing=sb3 needs OpenCV: pip install 'pytest-drlcompress[atari]'"
        ) from None
    from stable_baselines3.common.atari_wrappers import AtariWrapper

    env = gym.make(
        env_id,
        frameskip=1,
        repeat_action_probability=0.0,
        full_action_space=atari.full_action_space,
        max_num_frames_per_episode=atari.max_frames,
    )
    wrapped = AtariWrapper(
        env,
        noop_max=atari.noop_max,
        frame_skip=atari.frame_skip,
        terminal_on_life_loss=atari.terminal_on_life_loss,
        clip_reward=False,
        action_repeat_probability=atari.sticky,
    )
    return Sb3Atari(wrapped, atari.stack)


class Sb3Atari(gym.Wrapper[NDArray[np.uint8], np.int64, NDArray[np.uint8], np.int64]):
    """Whole games, over all their lives: what SB3's ``evaluate_policy`` counts as episodes.

    Observations are ``uint8`` ``(stack, 84, 84)``, as ``VecTransposeImage`` gives them; every
    reset, that of a lost life too, begins with black frames.
    """

    def __init__(self, env: gym.Env[Any, Any], stack: int) -> None:
        super().__init__(env)
        self._lives = _layer(env, "EpisodicLifeEnv")
        self._frames: NDArray[np.uint8] = np.zeros((stack, 84, 84), np.uint8)
        self.observation_space = gym.spaces.Box(0, 255, self._frames.shape, np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start a new game, also where the last one has lives left."""
        if self._lives is not None:
            self._lives.was_real_done = True
        frame, info = self.env.reset(seed=seed, options=options)
        return self._restack(frame), info

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """One step of ``frame_skip`` frames; it is over when the game is."""
        frame, reward, over, cut, info = self.env.step(np.int64(action))
        if over and not cut and self._lives is not None and not self._lives.was_real_done:
            frame, info = self.env.reset()
            return self._restack(frame), float(reward), False, False, info
        self._frames = np.concatenate([self._frames[1:], frame[None, :, :, 0]])
        return self._frames, float(reward), bool(over), bool(cut), info

    def _restack(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self._frames = np.zeros_like(self._frames)
        self._frames[-1] = frame[:, :, 0]
        return self._frames


def _layer(env: gym.Env[Any, Any], name: str) -> Any:
    while isinstance(env, gym.Wrapper):
        if type(env).__name__ == name:
            return env
        env = env.env
    return None
