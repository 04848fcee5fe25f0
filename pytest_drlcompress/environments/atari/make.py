"""From an Atari specification to one Gymnasium environment."""

from typing import Any

import gymnasium as gym

from pytest_drlcompress.environments.atari.spec import AtariSpec
from pytest_drlcompress.environments.atari.vector import SingleAtari


def make_atari(env_id: str, atari: AtariSpec) -> gym.Env[Any, Any]:
    """One emulator of ``env_id`` behind the preprocessing that ``atari`` names.

    Raises:
        EnvironmentSpecError: the game, or a package behind it, is missing.
    """
    if atari.preprocessing == "sb3":
        from pytest_drlcompress.environments.atari.sb3 import make_sb3

        return make_sb3(env_id, atari)
    return SingleAtari(env_id, atari)
