"""Uniform affine quantization: pure NumPy, and to the last bit what ONNX defines.

``quantize`` is ONNX QuantizeLinear, ``saturate(round_half_to_even(x / scale) + zero_point)``,
and ``dequantize`` ONNX DequantizeLinear, ``(q - zero_point) * scale``, both in float32. The
integers lie in ``[qmin, qmax]``; zero is always exactly representable. Where a scale comes
from, and over which values, is what a ``QuantizerSpec`` says.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_drlcompress.compression.quantization.ranges import (
    find_axis,
    minmax,
    percentiles,
    reduce_units,
)
from pytest_drlcompress.core.errors import QuantizationError

RangeMethod = Literal["minmax", "percentile", "mse"]

# Below the smallest normal float32 a scale loses bits, and its steps their evenness.
SMALLEST_SCALE = float(np.finfo(np.float32).smallest_normal)
_LARGEST = float(np.finfo(np.float32).max)
# The ranges tried by "mse": the minmax range times 2^(-k/16), down to 1/256 of it.
_SHRINKAGE = tuple(2.0 ** (-k / 16) for k in range(129))


@dataclass(frozen=True, kw_only=True)
class QuantizerSpec:
    """How to quantize. The defaults are the papers' scheme: symmetric int8, per tensor.

    Attributes:
        bits: 2 to 8.
        symmetric: the zero point is fixed in the middle (0 signed, ``2**(bits-1)`` unsigned)
            and the range is ``[-a, a]``; otherwise the range is ``[min(x, 0), max(x, 0)]``.
        signed: integers ``[-2**(bits-1), 2**(bits-1) - 1]``, or ``[0, 2**bits - 1]``.
        narrow: symmetric only; drop the lowest integer (``[-127, 127]``), so that every
            integer has its negative.
        axis: one scale for each index along this axis (per channel); ``None``: per tensor.
        group: with ``axis``, one scale for each run of ``group`` values along it (ONNX blocked
            quantization); the last run may be shorter.
        range_method: ``"minmax"`` covers every value; ``"percentile"`` the values between the
            ``100 - percentile`` and the ``percentile`` (symmetric: of ``|x|``); ``"mse"`` takes
            of 129 shrunken minmax ranges, and of the tensor-wide one it would choose, the one
            with the smallest mean squared error.

    Raises:
        QuantizationError: the settings contradict each other.
    """

    bits: int = 8
    symmetric: bool = True
    signed: bool = True
    narrow: bool = False
    axis: int | None = None
    group: int | None = None
    range_method: RangeMethod = "minmax"
    percentile: float = 99.9

    def __post_init__(self) -> None:
        checks = [
            (2 <= self.bits <= 8, "bits is 2 to 8"),
            (self.symmetric or not self.narrow, "narrow restricts a symmetric range"),
            (self.group is None or self.axis is not None, "a group runs along an axis"),
            (self.group is None or self.group >= 1, "a group has 1 value or more"),
            (self.range_method in get_args(RangeMethod), "minmax, percentile or mse"),
            (50 < self.percentile <= 100, "percentile is above 50 and at most 100"),
        ]
        for holds, rule in checks:
            if not holds:
                raise QuantizationError(f"{self}: {rule}")

    @property
    def qmin(self) -> int:
        """The smallest integer used."""
        return (-(1 << (self.bits - 1)) if self.signed else 0) + self.narrow

    @property
    def qmax(self) -> int:
        """The largest integer used."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def middle(self) -> int:
        """The zero point of the symmetric scheme."""
        return 0 if self.signed else 1 << (self.bits - 1)


@dataclass(frozen=True, eq=False)
class QuantizationParameters:
    """What QuantizeLinear needs, in ONNX's own shapes.

    ``scale`` (float32) and ``zero_point`` (int32) have shape ``()`` per tensor, ``(channels,)``
    with an ``axis``, and with a ``group`` the tensor's shape, its ``axis`` divided by ``group``
    and rounded up. Both are copied and made read-only.

    Raises:
        QuantizationError: a scale that is not positive and finite, a zero point outside
            ``[qmin, qmax]`` (zero would not be representable), or integers beyond 8 bits.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    qmin: int
    qmax: int
    axis: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        scale = np.array(self.scale, np.float32)
        zero_point = np.array(self.zero_point, np.int32)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise QuantizationError(f"scale {scale} is not positive and finite everywhere")
        if not self.qmin < self.qmax or not (
            (self.qmin >= -128 and self.qmax <= 127) or (self.qmin >= 0 and self.qmax <= 255)
        ):
            raise QuantizationError(
                f"[{self.qmin}, {self.qmax}] is no range of int8 or uint8 integers"
            )
        if (zero_point < self.qmin).any() or (zero_point > self.qmax).any():
            raise QuantizationError(
                f"zero point {zero_point} lies outside [{self.qmin}, {self.qmax}]:"
                " zero would not be representable"
            )
        if scale.shape != zero_point.shape:
            raise QuantizationError(
                f"scale has shape {scale.shape}, zero point {zero_point.shape}: give one each"
            )
        scale.setflags(write=False)
        zero_point.setflags(write=False)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the integers are stored in here: int8 or uint8, however few bits they need."""
        return np.dtype(np.int8 if self.qmin < 0 else np.uint8)

    def expanded(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scale and zero point in a form that broadcasts against a tensor of ``shape``.

        Raises:
            QuantizationError: the parameters belong to a tensor of another shape.
        """
        if self.axis is None:
            wanted: tuple[int, ...] = ()
        else:
            axis, length = find_axis(self.axis, shape)
            wanted = (length,)
            if self.group is not None:
                wanted = (*shape[:axis], math.ceil(length / self.group), *shape[axis + 1 :])
        if self.scale.shape != wanted:
            raise QuantizationError(
                f"a tensor of shape {shape} needs scales of shape {wanted}"
                f" (axis={self.axis}, group={self.group}); these have {self.scale.shape}"
            )
        if self.axis is None:
            return self.scale, self.zero_point
        if self.group is None:
            column = (-1, *(1,) * (len(shape) - 1 - axis))
            return self.scale.reshape(column), self.zero_point.reshape(column)
        here = (slice(None),) * axis + (slice(length),)
        return (
            np.repeat(self.scale, self.group, axis)[here],
            np.repeat(self.zero_point, self.group, axis)[here],
        )


def quantize(x: ArrayLike, parameters: QuantizationParameters) -> NDArray[Any]:
    """ONNX QuantizeLinear of ``x`` (taken as float32): int8 or uint8 of the same shape.

    Infinities saturate, as any other value outside the range.

    Raises:
        QuantizationError: ``x`` holds a NaN (ONNX leaves its integer undefined), or its shape
            does not fit the parameters.
    """
    values = _float32(x)
    if np.isnan(values).any():
        raise QuantizationError(f"NaN has no integer; x{_first(np.isnan(values))} is NaN")
    scale, zero_point = parameters.expanded(values.shape)
    zero = zero_point.astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        steps = np.rint(values / scale)
    # Clipping before the zero point is added keeps every number exact in float32.
    codes = np.clip(steps, parameters.qmin - zero, parameters.qmax - zero) + zero
    return np.asarray(codes).astype(parameters.dtype)


def dequantize(q: ArrayLike, parameters: QuantizationParameters) -> NDArray[np.float32]:
    """ONNX DequantizeLinear: float32 of the same shape.

    Raises:
        QuantizationError: ``q`` does not hold integers, or its shape does not fit.
    """
    codes = np.asarray(q)
    if not np.issubdtype(codes.dtype, np.integer):
        raise QuantizationError(f"dequantize takes integers; these are {codes.dtype}")
    scale, zero_point = parameters.expanded(codes.shape)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray((codes.astype(np.int32) - zero_point).astype(np.float32) * scale)


def fake_quantize(x: ArrayLike, parameters: QuantizationParameters) -> NDArray[np.float32]:
    """``dequantize(quantize(x))``: what is left of ``x`` (raises what ``quantize`` raises)."""
    return dequantize(quantize(x, parameters), parameters)


def choose_parameters(x: ArrayLike, spec: QuantizerSpec) -> QuantizationParameters:
    """Scale and zero point for ``x`` (taken as float32) by ``spec``.

    Where all values of a unit (tensor, channel, group) are zero its scale is 1. A scale is
    never below the smallest normal float32, so denormals round to zero or to one step of it. A
    percentile range that is empty though the values are not (a sparse tensor) gives way to minmax.

    Raises:
        QuantizationError: ``x`` is empty or holds NaN or infinities, has no such axis, or spans
            so much that a representable value would overflow float32.
    """
    values = _float32(x)
    if values.size == 0:
        raise QuantizationError(f"an array of shape {values.shape} has no values to span a range")
    bad = ~np.isfinite(values)
    if bad.any():
        raise QuantizationError(
            f"a range needs finite values: {int(bad.sum())} of {values.size} are NaN or infinite,"
            f" the first x{_first(bad)} = {values[bad][0]}; remove them, or clip them on purpose"
        )
    low, high = minmax(values, spec.axis, spec.group)
    if spec.range_method == "mse":
        return _least_mse(values, low, high, spec)
    if spec.range_method == "percentile":
        low, high = percentiles(
            values, spec.axis, spec.group, spec.percentile, symmetric=spec.symmetric
        )
    return _span(low, high, spec)


def _span(low: NDArray[Any], high: NDArray[Any], spec: QuantizerSpec) -> QuantizationParameters:
    """Parameters whose representable values cover ``[low, high]`` and zero (float64 inside)."""
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    if spec.symmetric:
        span, steps = np.maximum(-low, high), spec.qmax - spec.middle
    else:
        span, steps = high - low, spec.qmax - spec.qmin
    scale = np.where(span > 0, np.maximum(span / steps, SMALLEST_SCALE), 1.0).astype(np.float32)
    if spec.symmetric:
        zero_point = np.full_like(scale, spec.middle, np.int32)
    else:
        nearest = np.rint(spec.qmin - low / scale.astype(np.float64))
        zero_point = np.clip(nearest, spec.qmin, spec.qmax).astype(np.int32)
    reach = np.maximum(spec.qmax - zero_point, zero_point - spec.qmin) * scale.astype(np.float64)
    if (reach > _LARGEST).any():
        raise QuantizationError(
            f"values in [{low.min():.6g}, {high.max():.6g}] span too much:"
            f" the outermost representable value, {reach.max():.6g}, overflows float32"
        )
    return QuantizationParameters(scale, zero_point, spec.qmin, spec.qmax, spec.axis, spec.group)


def _least_mse(
    values: NDArray[Any], low: NDArray[Any], high: NDArray[Any], spec: QuantizerSpec
) -> QuantizationParameters:
    candidates = [_span(low * part, high * part, spec) for part in _SHRINKAGE]
    scales = [candidate.scale for candidate in candidates]
    zero_points = [candidate.zero_point for candidate in candidates]
    if spec.axis is not None:
        # With the tensor's own choice among each unit's candidates, sum of minima <= minimum of
        # sums makes "per channel is never worse than per tensor" a theorem.
        whole = choose_parameters(values, replace(spec, axis=None, group=None))
        scales.append(np.full_like(scales[0], whole.scale))
        zero_points.append(np.full_like(zero_points[0], whole.zero_point))
    errors = [
        _squared_error(values, replace(candidates[0], scale=scale, zero_point=zero_point))
        for scale, zero_point in zip(scales, zero_points, strict=True)
    ]
    best = np.argmin(np.stack(errors), axis=0)[np.newaxis]  # ties go to the wider range
    return replace(
        candidates[0],
        scale=np.take_along_axis(np.stack(scales), best, 0)[0],
        zero_point=np.take_along_axis(np.stack(zero_points), best, 0)[0],
    )


def _squared_error(values: NDArray[Any], parameters: QuantizationParameters) -> NDArray[Any]:
    error = np.square(fake_quantize(values, parameters).astype(np.float64) - values)
    return reduce_units(error, parameters.axis, parameters.group, np.mean)


def _float32(x: ArrayLike) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite, and treated so
        return np.asarray(x, np.float32)


def _first(mask: NDArray[np.bool_]) -> str:
    return str([int(i) for i in np.argwhere(mask)[0]]) if mask.ndim else ""
