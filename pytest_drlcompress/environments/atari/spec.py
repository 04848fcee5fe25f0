"""Atari games as an environment specification: everything between emulator and policy, spelled out.

::

    ALE/Pong-v5:preprocessing=gymnasium
    ALE/Boxing-v5:frame_skip=4,stack=4,sticky=0.25,noop_max=30,terminal_on_life_loss=false
    PongNoFrameskip-v4:preprocessing=sb3

Any key of ``AtariSpec`` asks for preprocessing; what is left out takes the preprocessing's
defaults. Without one, ``ALE/Pong-v5`` is Gymnasium's own environment with its RGB screens.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from pytest_drlcompress.core.errors import EnvironmentSpecError

_DEFAULTS: MappingProxyType[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gymnasium": {"sticky": 0.25, "terminal_on_life_loss": False, "fire_reset": False},
        # RL-Zoo's: no sticky actions, an observation reset at every lost life
        "sb3": {"sticky": 0.0, "terminal_on_life_loss": True, "fire_reset": True},
    }
)
KEY = "preprocessing"


@dataclass(frozen=True)
class AtariSpec:
    """What stands between the emulator and the policy.

    ``preprocessing`` is ``"gymnasium"`` (``AtariPreprocessing``, then ``FrameStackObservation``)
    or ``"sb3"`` (Stable-Baselines3's ``AtariWrapper``, then ``VecFrameStack``); both give
    ``uint8`` images ``(stack, 84, 84)``, oldest first. ``frame_skip`` counts emulator frames a
    step, ``sticky`` is the probability that the emulator repeats the action before (Machado et
    al. 2018), ``noop_max`` the most no-ops an episode begins with, ``max_frames`` the frames
    after them at which it is cut (108,000: half an hour of play; 18,000: the five minutes of
    Mnih et al. 2015). ``fire_reset`` presses FIRE first, in games that have it.

    With ``"gymnasium"`` ``terminal_on_life_loss`` ends the episode with a life. With ``"sb3"``
    an episode is a whole game, as SB3's ``evaluate_policy`` counts them, and a lost life resets
    what the policy sees.

    Raises:
        EnvironmentSpecError: an unknown key, or a value out of its range.
    """

    preprocessing: str
    frame_skip: int = 4
    stack: int = 4
    sticky: float = 0.25
    noop_max: int = 30
    terminal_on_life_loss: bool = False
    fire_reset: bool = False
    full_action_space: bool = False
    max_frames: int = 108_000

    def __post_init__(self) -> None:
        for name, least in (("frame_skip", 1), ("stack", 1), ("noop_max", 0), ("max_frames", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise EnvironmentSpecError(f"{name}={value} must be a whole number >= {least}")
        for name in ("terminal_on_life_loss", "fire_reset", "full_action_space"):
            if not isinstance(getattr(self, name), bool):
                raise EnvironmentSpecError(f"{name}={getattr(self, name)} must be true or false")
        if isinstance(self.sticky, bool | str) or not 0 <= self.sticky < 1:
            raise EnvironmentSpecError(f"sticky={self.sticky} must be a probability below 1")
        if self.preprocessing == "sb3" and not self.fire_reset:
            raise EnvironmentSpecError("preprocessing=sb3 always has fire_reset=true")

    @classmethod
    def of(cls, env_id: str, options: Mapping[str, Any]) -> "AtariSpec | None":
        """What ``options`` of ``env_id`` ask for; ``None`` where they ask for no preprocessing.

        Raises:
            EnvironmentSpecError: see the class.
        """
        known = {field.name for field in fields(cls)}
        asked = KEY in options or (env_id.startswith("ALE/") and known & set(options))
        if not asked:
            return None
        kind = options.get(KEY, "gymnasium")
        if kind not in _DEFAULTS:
            raise EnvironmentSpecError(f"{KEY}={kind} is not one of {', '.join(_DEFAULTS)}")
        unknown = sorted(set(options) - known)
        if unknown:
            raise EnvironmentSpecError(
                f"{', '.join(unknown)} cannot be combined with {KEY}; known:"
                f" {', '.join(sorted(known))}"
            )
        return cls(**{KEY: kind, **_DEFAULTS[kind], **options})

    def options(self) -> dict[str, Any]:
        """Every key with its value: the canonical form of the specification."""
        return asdict(self)
