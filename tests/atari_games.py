"""One Atari episode behind Gymnasium's and SB3's own wrappers, to hold ours against."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

GAMES = ("Pong", "Boxing", "Tutankham", "CrazyClimber")
Step = tuple[NDArray[np.uint8], float, bool]


class Emulator(gym.Wrapper):
    """Begins each episode with an emulator of this very seed, and this many no-ops."""

    def __init__(self, env: gym.Env[Any, Any], seed: int, noops: int) -> None:
        super().__init__(env)
        self._seed, self._noops = seed, noops

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        inner: Any = self.env.unwrapped
        inner.ale.setInt("random_seed", self._seed)
        inner.load_game()
        observation, info = self.env.reset()
        for _ in range(self._noops):
            observation, _, _, _, info = self.env.step(0)
        return observation, info


def gymnasium_episode(
    game: str, seed: int, noops: int, actions: NDArray[np.int64], **options: Any
) -> Iterator[Step]:
    """What a policy sees and earns behind ``AtariPreprocessing`` and ``FrameStackObservation``,
    which begins with black frames.
    """
    preprocessing = {
        key: options.pop(key) for key in ("frame_skip", "terminal_on_life_loss") if key in options
    }
    stack = options.pop("stack", 4)
    env = gym.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=0.25, **options)
    wrapped: Any = gym.wrappers.AtariPreprocessing(
        Emulator(env, seed, noops), noop_max=0, **preprocessing
    )
    wrapped = gym.wrappers.FrameStackObservation(wrapped, stack, padding_type="zero")
    observation, _ = wrapped.reset()
    yield np.array(observation), 0.0, False
    for action in actions:
        observation, reward, terminated, truncated, _ = wrapped.step(int(action))
        yield np.array(observation), float(reward), terminated or truncated
        if terminated or truncated:
            return
    raise AssertionError("the episode did not end")
