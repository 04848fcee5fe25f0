"""One episode of an artifact, step by step, without images: what is worth looking at in it."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.runtime.controller import Controller

LONGEST = 5_000
"""Steps after which an episode is not followed any further."""

_SECONDS = 1.6
_STEPS = (30, 300)
_IMAGE_STEPS_PER_SECOND = 15
"""Of an Atari game whose frames are skipped by four."""


@dataclass(frozen=True)
class Trace:
    """``rewards`` of each step; ``terminated`` where the task ended it (a fall), not the clock."""

    rewards: tuple[float, ...]
    terminated: bool

    @property
    def length(self) -> int:
        """Steps."""
        return len(self.rewards)

    @property
    def total(self) -> float:
        """The return, undiscounted."""
        return float(sum(self.rewards))


@dataclass(frozen=True)
class Window:
    """Steps ``first`` to ``last`` (exclusive) of two episodes that begin alike."""

    first: int
    last: int


def act(controller: Controller, observation: Any, *, integer: bool) -> Any:
    """The action for one observation, as Gymnasium takes it."""
    action = controller.act(np.asarray(observation)[None])[0]
    return int(action) if integer else action


def trace(env: gym.Env[Any, Any], controller: Controller, spec: EnvSpec, seed: int) -> Trace:
    """The episode of ``seed``, at most ``LONGEST`` steps of it."""
    integer = spec.action.discrete and not spec.action.shape
    observation, _ = env.reset(seed=seed)
    rewards: list[float] = []
    while len(rewards) < LONGEST:
        step = env.step(act(controller, observation, integer=integer))
        observation, reward, terminated, truncated, _ = step
        rewards.append(float(reward))
        if terminated or truncated:
            return Trace(tuple(rewards), bool(terminated))
    return Trace(tuple(rewards), terminated=False)


def steps_per_second(env: gym.Env[Any, Any]) -> float:
    """Of simulated time, where the environment tells."""
    dt = getattr(env.unwrapped, "dt", None)
    return 1 / float(dt) if isinstance(dt, float | int) and dt > 0 else _IMAGE_STEPS_PER_SECOND


def telling_window(baseline: Trace, candidate: Trace, rate: float) -> Window:
    """Where to look: at the end of the shorter episode, else where the candidate falls behind.

    ``rate`` is steps a second.
    """
    least, most = _STEPS
    width = int(min(max(rate * _SECONDS, least), most))
    if candidate.length < baseline.length:
        # a moment longer: the baseline goes on
        last = min(candidate.length + width // 6, baseline.length)
        return Window(max(0, last - width), last)
    behind = np.subtract(baseline.rewards, candidate.rewards[: baseline.length])
    if len(behind) <= width:
        return Window(0, max(baseline.length, candidate.length))
    gap = np.convolve(behind, np.ones(width), "valid")
    first = int(np.argmax(gap))
    return Window(first, first + width)


def in_words(baseline: Trace, candidate: Trace, window: Window, seed: int) -> str:
    """What happens in the two episodes: the text alternative of the pictures."""
    text = f"Seed {seed}. The baseline {_fate(baseline)}, the candidate {_fate(candidate)}."
    earned = [
        sum(one.rewards[window.first : window.last]) for one in (baseline, candidate)
    ]  # both are shown in the same steps
    return (
        f"{text} In the steps shown, {window.first:,} to {window.last:,}, the baseline earns"
        f" {earned[0]:,.0f} and the candidate {earned[1]:,.0f}."
    )


def _fate(episode: Trace) -> str:
    steps = f"{episode.length:,} steps"
    if episode.terminated:
        return f"is terminated after {steps} (it falls or fails) and earns {episode.total:,.0f}"
    return f"goes on to the end ({steps}) and earns {episode.total:,.0f}"
