"""The program between ONNX and C: a chain of stages, each a loop over the units of one layer.

A stage takes a vector from its ``source``, puts every unit through the ``steps`` and leaves the
result as its ``sink`` says. Everything here is plain arrays: what the graph called its tensors,
and where its constants stood, is gone.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Operator = Literal[
    "add", "sub", "sub_from", "mul", "div", "div_by", "max", "min", "relu", "tanh"
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Elementwise:
    """One operation on each unit; ``constant`` is float32 of shape ``()`` or ``(units,)``.

    ``sub_from`` and ``div_by`` have the constant on the left.
    """

    operator: Operator
    constant: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Observation:
    """Source: the elements ``live`` of the observation, ``size`` in all."""

    size: int
    dtype: np.dtype[Any]
    live: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Codes:
    """Source: the integers of the stage before, as ``(code - zero_point) * scale``."""

    scale: np.float32
    zero_point: int


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution: sizes are ``(rows, columns)``."""

    channels: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    output: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Linear:
    """Source: ``weight @ x + bias``, in integers where ``scale`` is given.

    ``weight`` is ``(units, inputs)``, or ``(units, channels, rows, columns)`` with a ``window``:
    int64 with the zero point taken off, or float32. ``scale`` (float32, ``()`` or ``(units,)``)
    is that of the accumulator, the input's times the weight's; ``zero_point`` the input's, which
    ``bias`` does not yet account for.
    """

    weight: NDArray[Any]
    bias: NDArray[Any]
    scale: NDArray[np.float32] | None = None
    zero_point: int = 0
    window: Window | None = None
    name: str = ""

    @property
    def integer(self) -> bool:
        """Whether it multiplies integers."""
        return self.scale is not None


@dataclass(frozen=True, eq=False)
class Quantize:
    """Sink: ``clip(round_half_to_even(x / scale) + zero_point, low, high)``."""

    scale: np.float32
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Keep:
    """Sink: float32 values, for the next stage or as the action."""


@dataclass(frozen=True)
class LargestIndex:
    """Sink of the last stage: the index of the largest value, the first of equal ones."""


@dataclass(frozen=True, eq=False)
class Stage:
    """``units`` values from ``source`` through ``steps`` to ``sink``."""

    source: Observation | Codes | Linear
    steps: tuple[Elementwise, ...]
    sink: Quantize | Keep | LargestIndex
    units: int


@dataclass(frozen=True, eq=False)
class Program:
    """The whole policy; ``exact`` says that ONNX Runtime gives the same bits.

    That holds where every layer multiplies integers: sums of integers have no order. Sums of
    floats do, and ONNX Runtime's order depends on the processor.
    """

    stages: tuple[Stage, ...]
    observation_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    exact: bool

    @property
    def observation(self) -> Observation:
        """The first stage's source."""
        source = self.stages[0].source
        assert isinstance(source, Observation)
        return source

    @property
    def chooses(self) -> bool:
        """Whether the action is an index."""
        return isinstance(self.stages[-1].sink, LargestIndex)

    @property
    def layers(self) -> tuple[Linear, ...]:
        """The linear layers, in order."""
        return tuple(s.source for s in self.stages if isinstance(s.source, Linear))
