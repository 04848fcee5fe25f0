"""What a quantizer must offer to be checked, and the values it can represent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_drlcompress.compression.quantization.quantizer import (
    QuantizationParameters,
    QuantizerSpec,
    choose_parameters,
    dequantize,
    quantize,
)


class Quantizer(Protocol):
    """A quantizer whose scale and zero point have been chosen.

    ``scale`` and ``zero_point`` broadcast against the arrays it quantizes (per channel along
    axis 0 of a matrix: shape ``(channels, 1)``); ``qmin`` and ``qmax`` are the outermost
    integers it uses.
    """

    @property
    def scale(self) -> ArrayLike:
        """Positive step, float32."""
        ...

    @property
    def zero_point(self) -> ArrayLike:
        """The integer that stands for zero."""
        ...

    @property
    def qmin(self) -> int:
        """The smallest integer used."""
        ...

    @property
    def qmax(self) -> int:
        """The largest integer used."""
        ...

    def quantize(self, x: NDArray[np.float32], /) -> NDArray[Any]:
        """Integers of the shape of ``x``."""
        ...

    def dequantize(self, q: NDArray[Any], /) -> NDArray[np.float32]:
        """What the integers stand for, float32."""
        ...


MakeQuantizer = Callable[[NDArray[np.float32]], Quantizer]
"""What the checks are given: it chooses scale and zero point for an array."""


@dataclass(frozen=True)
class _Reference:
    parameters: QuantizationParameters
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    qmin: int
    qmax: int

    def quantize(self, x: NDArray[np.float32], /) -> NDArray[Any]:
        return quantize(x, self.parameters)

    def dequantize(self, q: NDArray[Any], /) -> NDArray[np.float32]:
        return dequantize(q, self.parameters)


def reference_quantizer(spec: QuantizerSpec) -> MakeQuantizer:
    """The quantizer of this package by ``spec``, in the form that the checks take."""

    def make(x: NDArray[np.float32]) -> Quantizer:
        parameters = choose_parameters(x, spec)
        scale, zero_point = parameters.expanded(np.shape(x))
        return _Reference(parameters, scale, zero_point, parameters.qmin, parameters.qmax)

    return make


@dataclass(frozen=True)
class Grid:
    """A quantizer's figures for each element of an array; float64, in which they are exact."""

    scale: NDArray[np.float64]
    zero_point: NDArray[np.float64]
    qmin: int
    qmax: int

    @classmethod
    def of(cls, check: str, quantizer: Quantizer, shape: tuple[int, ...]) -> "Grid":
        """The grid over an array of ``shape``; AssertionError where there cannot be one."""
        scale = np.asarray(quantizer.scale, np.float64)
        zero_point = np.asarray(quantizer.zero_point, np.float64)
        qmin, qmax = int(quantizer.qmin), int(quantizer.qmax)
        for name, values in (("scale", scale), ("zero_point", zero_point)):
            try:
                fits = np.broadcast_shapes(values.shape, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                fail(
                    check,
                    f"{name} has shape {values.shape}, which does not broadcast against the"
                    f" array's {shape}",
                    "the checks need each element's own scale and zero point; per channel along"
                    " axis 0 of a matrix, give them as a column (channels, 1)",
                )
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            fail(
                check,
                f"the scale is {scale.min():.6g} at its smallest, {scale.max():.6g} at its largest",
                "dividing by a scale that is zero, infinite or NaN yields integers that mean"
                " nothing",
            )
        rounded = np.rint(zero_point)
        if (rounded != zero_point).any() or (rounded < qmin).any() or (rounded > qmax).any():
            fail(
                check,
                f"the zero point {zero_point.ravel()[:4]} is not an integer in [{qmin}, {qmax}]",
                "zero is then not representable: padding, ReLU and pruned weights get an offset",
            )
        return cls(np.broadcast_to(scale, shape), np.broadcast_to(zero_point, shape), qmin, qmax)

    @property
    def low(self) -> NDArray[np.float64]:
        """The smallest representable value."""
        return (self.qmin - self.zero_point) * self.scale

    @property
    def high(self) -> NDArray[np.float64]:
        """The largest representable value."""
        return (self.qmax - self.zero_point) * self.scale

    def at(self, steps: ArrayLike) -> NDArray[np.float32]:
        """``steps`` times the scale, rounded to float32 (beyond its range: infinite)."""
        with np.errstate(over="ignore"):
            return np.asarray(np.asarray(steps) * self.scale).astype(np.float32)

    def probes(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Arrays like ``x``: itself, representable values, and the ties between two of them."""
        first, last = self.qmin - self.zero_point, self.qmax - self.zero_point
        probes = [np.asarray(x, np.float32)]
        for part in np.linspace(0.0, 1.0, 8):
            step = np.rint(first + part * (last - first))
            tie = self.at(step + 0.5)
            probes += [self.at(step), tie]
            probes += [np.nextafter(tie, np.float32(end)) for end in (-np.inf, np.inf)]
        return probes


def codes_of(quantizer: Quantizer, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The integers of ``x`` as float64 (differences of unsigned integers would wrap)."""
    return np.asarray(quantizer.quantize(x), np.float64)


def fail(check: str, what: str, why: str) -> NoReturn:
    """Raise the AssertionError of a violated invariant."""
    raise AssertionError(f"{check}: {what}. Why it matters: {why}.")


def worst(excess: NDArray[np.float64]) -> tuple[tuple[int, ...], str]:
    """Index of the largest value, and its text as a subscript."""
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), excess.shape))
    return index, f"x{list(index)}" if index else "x"


def show(value: object) -> str:
    """A float32 written so that it reads back exactly."""
    return f"{float(np.asarray(value)):.9g}"
