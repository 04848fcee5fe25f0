"""What an action may be: the numbers that an environment takes."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError

_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""How far beyond a bound, relative to it, an action still counts as rounded."""

_MANY = 2**31
"""More choices than any policy has: their number is not known."""


@dataclass(frozen=True)
class ActionSpec:
    """What an action may be: a box ``[low, high]``, one of ``n`` integers, or several such.

    ``low`` and ``high`` are float32 of the action's shape; ``n`` is 0 for a box. Integers count
    from ``start``. ``sizes`` are the choices of each of several integers (MultiDiscrete;
    MultiBinary: 2 each), in the order of the flattened ``shape``.
    """

    shape: tuple[int, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    n: int = 0
    start: int = 0
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, space: gym.Space[Any]) -> "ActionSpec":
        """What ``space`` allows.

        Raises:
            EnvironmentSpecError: it is none of Box, Discrete, MultiDiscrete and MultiBinary.
        """
        empty = np.zeros(0, np.float32)
        if isinstance(space, gym.spaces.Discrete):
            return cls((), empty, empty, int(space.n), int(space.start))
        if isinstance(space, gym.spaces.MultiDiscrete) and not np.any(space.start):
            sizes = tuple(map(int, space.nvec.ravel()))
            return cls(tuple(space.shape), empty, empty, sizes=sizes)
        if isinstance(space, gym.spaces.MultiBinary):
            shape = tuple(space.shape)
            return cls(shape, empty, empty, sizes=(2,) * int(np.prod(shape)))
        if isinstance(space, gym.spaces.Box):
            low, high = space.low.astype(np.float32), space.high.astype(np.float32)
            return cls(tuple(space.shape), low, high)
        raise EnvironmentSpecError(
            f"has {space} actions; Box, Discrete, MultiDiscrete from 0 and MultiBinary are"
            " supported"
        )

    @property
    def discrete(self) -> bool:
        """Whether actions are integers."""
        return self.n > 0 or bool(self.sizes)

    @property
    def least(self) -> float:
        """A bound that holds in every dimension: what is not below it is not too low."""
        return float(self.start if self.discrete else self.low.max())

    @property
    def most(self) -> float:
        """A bound that holds in every dimension: what is not above it is not too high."""
        if self.discrete:
            return float(min(self.sizes) - 1 if self.sizes else self.start + self.n - 1)
        return float(self.high.min())

    def contains(self, actions: NDArray[Any]) -> bool:
        """Whether every action of a batch ``(batch, *shape)`` lies inside; NaN never does.

        Rounding is forgiven: ONNX Runtime's own tanh reaches 1.0000002.
        """
        if self.sizes:
            sizes = np.reshape(self.sizes, self.shape)
            return bool(np.all((actions >= 0) & (actions < sizes)))
        if self.discrete:
            return bool(np.all((actions >= self.start) & (actions < self.start + self.n)))
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        slack = self._rounding(actions) * np.maximum(np.abs(low), np.abs(high))
        return bool(np.all((actions >= low - slack) & (actions <= high + slack)))

    def random_integers(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """``(count, *shape)`` uniformly random actions of a discrete space."""
        if not self.sizes:
            return self.start + generator.integers(self.n, size=count)
        return generator.integers(0, np.reshape(self.sizes, self.shape), (count, *self.shape))

    @staticmethod
    def _rounding(actions: NDArray[Any]) -> float:
        half = actions.dtype == np.float16
        return 4 * float(np.finfo(np.float16).eps) if half else _ROUNDING

    def cause_outside(self, actions: NDArray[Any]) -> str:
        """Why ``actions`` ``(batch, *shape)``, which are not all inside, may be outside."""
        if self.discrete:
            if self.start and np.all((actions >= 0) & (actions < self.n)):
                return f"it counts from 0, the environment from {self.start}: add that in the model"
            return "it looks exported with another number of actions"
        if not np.isfinite(actions).all():
            return "NaN and infinity come of overflow, or of damaged weights"
        if np.abs(actions).max() <= 1 + _ROUNDING:
            return (
                "all of it lies in [-1, 1]: it looks exported before it is scaled to the action"
                " bounds; build that into the model"
            )
        return (
            "it looks exported before squashing (tanh) or clipping; build squashing or clipping"
            " into the model"
        )

    def describe(self) -> str:
        """``Box [-1, 1] of 6`` or ``Discrete 4``, for messages."""
        if self.sizes:
            listed = ", ".join(map(str, self.sizes[:8])) + (", ..." if len(self.sizes) > 8 else "")
            return f"MultiDiscrete [{listed}] of shape {self.shape}"
        if self.discrete:
            counted = f"Discrete {self.n}" if self.n < _MANY else "integers"
            return f"{counted} from {self.start}" if self.start else counted
        return f"Box [{self.low.min():g}, {self.high.max():g}] of shape {self.shape}"
