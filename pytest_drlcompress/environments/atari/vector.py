"""``ale_py.AtariVectorEnv`` as an ``AtariSpec`` describes it, and as one Gymnasium environment.

The emulator's seed is the episode's seed. The number of no-ops at its start is drawn by the
vector environment, from the same seed; apart from how that number is drawn, every pixel,
reward and end is that of ``AtariPreprocessing`` and ``FrameStackObservation`` (which begins
with black frames: ``padding_type="zero"``) on an emulator of this seed
(``tests/test_atari_parity.py``).
"""

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError
from pytest_drlcompress.environments.atari.spec import AtariSpec

if TYPE_CHECKING:
    from ale_py import AtariVectorEnv

MISSING = "Atari needs ale-py: pip install 'pytest-drlcompress[atari]'"


def rom_name(env_id: str) -> str:
    """``crazy_climber`` for ``ALE/CrazyClimber-v5``.

    Raises:
        EnvironmentSpecError: ale-py is missing, has no such game, or no ROM of it.
    """
    register_games()
    try:
        game = str(gym.spec(env_id).kwargs["game"])
    except (gym.error.Error, KeyError) as error:
        text = " ".join(str(error).split()) or "it is no Atari game"
        raise EnvironmentSpecError(f"environment {env_id!r} cannot be made: {text}") from None
    from ale_py import roms

    try:
        found = roms.get_rom_path(game)
    except Exception as error:  # the package's own checks raise several classes
        raise EnvironmentSpecError(f"the ROM of {game!r} cannot be used: {error}") from None
    if found is None:
        raise EnvironmentSpecError(
            f"ale-py has no ROM of {game!r}: install a release of ale-py that bundles it"
        )
    return game


def register_games() -> None:
    """Make Gymnasium know ``ALE/...`` and the older Atari ids.

    Raises:
        EnvironmentSpecError: ale-py is missing.
    """
    try:
        import ale_py
    except ImportError:
        raise EnvironmentSpecError(MISSING) from None
    if "ALE/Pong-v5" not in gym.registry:
        gym.register_envs(ale_py)


def make_vector(
    env_id: str,
    spec: AtariSpec,
    slots: int,
    *,
    autoreset: str = "NextStep",
    life_loss_info: bool = False,
    threads: int = 1,
) -> "AtariVectorEnv":
    """``slots`` emulators on ``threads`` threads, rewards as the game gives them.

    With ``life_loss_info`` a lost life is told as a termination, and the game goes on.

    Raises:
        EnvironmentSpecError: the game cannot be made.
    """
    game = rom_name(env_id)
    from ale_py import AtariVectorEnv

    return AtariVectorEnv(
        game,
        slots,
        num_threads=threads,
        frameskip=spec.frame_skip,
        stack_num=spec.stack,
        repeat_action_probability=spec.sticky,
        noop_max=spec.noop_max,
        episodic_life=spec.terminal_on_life_loss,
        life_loss_info=life_loss_info,
        use_fire_reset=spec.fire_reset,
        full_action_space=spec.full_action_space,
        max_num_frames_per_episode=spec.max_frames,
        reward_clipping=False,
        autoreset_mode=autoreset,
    )


class SingleAtari(gym.Env[NDArray[np.uint8], np.int64]):
    """One emulator of the vector environment as a Gymnasium environment."""

    def __init__(self, env_id: str, atari: AtariSpec) -> None:
        self._vector = make_vector(env_id, atari, 1)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode; without a seed its seed is drawn from the ones before."""
        super().reset(seed=seed, options=options)
        chosen = int(self.np_random.integers(2**31)) if seed is None else seed
        observations, info = self._vector.reset(seed=np.array([chosen]))
        return observations[0].copy(), _first(info)

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """One step of ``frame_skip`` frames."""
        observations, rewards, over, cut, info = self._vector.step(np.array([int(action)]))
        return observations[0].copy(), float(rewards[0]), bool(over[0]), bool(cut[0]), _first(info)

    def close(self) -> None:
        """Release the emulator."""
        self._vector.close()


def _first(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value[0] for key, value in info.items()}
