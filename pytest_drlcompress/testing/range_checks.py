"""What holds for how a range is chosen: coverage, tightness, scaling, degenerate inputs."""

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.compression.quantization.quantizer import SMALLEST_SCALE
from pytest_drlcompress.compression.quantization.ranges import minmax
from pytest_drlcompress.testing.checks import UNIT
from pytest_drlcompress.testing.grid import Grid, MakeQuantizer, codes_of, fail, show, worst

# Scaling up and down: odd numbers of octaves, exact in float32 unless bits fall off the end.
_OCTAVES = (9, -7)
_REFUSALS = (ValueError, ArithmeticError, RuntimeError)


def range_slack(grid: Grid) -> NDArray[np.float64]:
    """How far float32 arithmetic may leave the chosen range short of the data, beyond ``s/2``.

    Seven operations are rounded: the span, the scale, min over scale, the zero point before it
    is made an integer, x over scale (two, by a reciprocal), and the product on the way back. Each
    has a result of at most ``n = qmax - qmin + 1`` scales, so errs by ``n u s`` at most; the
    products of these errors (n u <= 2**-16) together stay below one more.
    """
    return 8 * (grid.qmax - grid.qmin + 1) * UNIT * grid.scale


def check_range(
    make: MakeQuantizer,
    x: NDArray[np.float32],
    *,
    axis: int | None = None,
    group: int | None = None,
    smallest_scale: float = SMALLEST_SCALE,
) -> None:
    """A minmax range covers its own data to ``s/2``, and does not reach a step beyond it.

    ``axis`` and ``group`` say which values share a scale (``None``: all). Where the scale is
    ``smallest_scale`` or below, or all values are zero, the range may be wider.
    """
    name = "check_range"
    quantizer = make(x)
    grid = Grid.of(name, quantizer, x.shape)
    back = np.asarray(quantizer.dequantize(quantizer.quantize(x)), np.float64)
    slack = range_slack(grid)
    excess = np.abs(back - x) - (grid.scale / 2 + slack)
    if not (excess <= 0).all():
        index, where = worst(np.nan_to_num(excess, nan=np.inf))
        fail(
            name,
            f"{where} = {show(x[index])}, one of the values that the range was chosen from, came"
            f" back as {show(back[index])}, off by more than half a scale"
            f" ({grid.scale[index]:.6g}); the range is [{grid.low[index]:.6g},"
            f" {grid.high[index]:.6g}]",
            "a range that does not cover its own data was taken from other values (another batch,"
            " another channel); inside the range, see check_round_trip",
        )
    low, high = _units(x, axis, group)
    step = grid.scale + slack
    beyond_high, beyond_low = grid.high > high + step, grid.low < low - step
    lopsided = np.abs(grid.qmax + grid.qmin - 2 * grid.zero_point) > 1
    loose = np.where(lopsided, beyond_high | beyond_low, beyond_high & beyond_low)
    loose &= (grid.scale > smallest_scale * (1 + 2 * UNIT)) & (low < high)
    if loose.any():
        index, where = worst(loose.astype(np.float64))
        fail(
            name,
            f"the values around {where} span [{low[index]:.6g}, {high[index]:.6g}] (zero"
            f" included), but the range is [{grid.low[index]:.6g}, {grid.high[index]:.6g}]",
            "integers are spent on values that do not occur, and every step is coarser: the range"
            " was taken from other values, along another axis, or has a floor (smallest_scale)",
        )


def check_power_of_two_scaling(
    make: MakeQuantizer, x: NDArray[np.float32], *, smallest_scale: float = SMALLEST_SCALE
) -> None:
    """``2**k x`` gets the same integers, and comes back ``2**k`` times what ``x`` does, exactly.

    Powers of two only change float32's exponent. Says nothing where bits of ``x`` would fall
    off float32's ends, or a scale is at its floor ``smallest_scale``.
    """
    name = "check_power_of_two_scaling"
    quantizer = make(x)
    grid = Grid.of(name, quantizer, x.shape)
    codes = codes_of(quantizer, x)
    back = np.asarray(quantizer.dequantize(quantizer.quantize(x)), np.float64)
    for octaves in _OCTAVES:
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ldexp(x, octaves).astype(np.float32)
        exact = (scaled.astype(np.float64) == np.ldexp(x.astype(np.float64), octaves)).all()
        floor = smallest_scale * (1 + 2 * UNIT) * max(1.0, 2.0**-octaves)
        if not exact or grid.scale.min() <= floor or np.abs(scaled).max() > 2.0**120:
            continue
        other = make(scaled)
        other_codes = codes_of(other, scaled)
        other_back = np.asarray(other.dequantize(other.quantize(scaled)), np.float64)
        differs = (other_codes != codes) | (other_back != np.ldexp(back, octaves))
        if differs.any():
            index, where = worst(differs.astype(np.float64))
            fail(
                name,
                f"{where} = {show(x[index])} became {codes[index]:.0f} and came back as"
                f" {show(back[index])}; 2**{octaves} times the array gives"
                f" {other_codes[index]:.0f} there, and {show(other_back[index])} instead of"
                f" {show(np.ldexp(back[index], octaves))}",
                "the range depends on more than the values (an added epsilon, a minimum scale,"
                " another batch): layers with small weights are quantized more coarsely",
            )


def check_degenerate_inputs(make: MakeQuantizer, x: NDArray[np.float32]) -> None:
    """All-zero, constant, denormal, empty and non-finite arrays in the shape of ``x``.

    The first three must work like any other: a positive finite scale, an error of ``s/2``.
    Empty: refused (ValueError, ArithmeticError or RuntimeError) or empty. NaN and infinities:
    refused, or left out of the range, but never part of it.
    """
    name = "check_degenerate_inputs"
    ordinary = {
        "all zeros": 0.0,
        "a constant": 0.3,
        "a negative constant": -300.0,
        "the smallest denormal": 1e-45,
        "a large denormal": -1e-38,
    }
    for label, value in ordinary.items():
        values = np.full(x.shape, value, np.float32)
        quantizer = make(values)
        grid = Grid.of(f"{name} ({label})", quantizer, x.shape)
        back = np.asarray(quantizer.dequantize(quantizer.quantize(values)), np.float64)
        excess = np.abs(back - values) - (grid.scale / 2 + range_slack(grid))
        if not (excess <= 0).all() or (value == 0 and back.any()):
            index, _ = worst(np.nan_to_num(excess, nan=np.inf))
            fail(
                f"{name} ({label})",
                f"{value} came back as {show(back[index])} (scale {grid.scale[index]:.6g})",
                "dead channels, freshly initialised biases and unused observation dimensions look"
                " like this",
            )
    for label, value in {"NaN": np.nan, "infinity": np.inf}.items():
        values = np.array(x)
        values.flat[0] = value
        try:
            quantizer = make(values)
        except _REFUSALS:
            continue
        scale = np.asarray(quantizer.scale)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            fail(
                f"{name} ({label})",
                f"the scale became {scale.ravel()[0]}",
                "one bad value makes every weight NaN or zero, and nothing says so: refuse it",
            )
    empty = np.empty((0, *x.shape[1:]), np.float32)
    try:
        quantizer = make(empty)
        back = np.asarray(quantizer.dequantize(quantizer.quantize(empty)))
    except _REFUSALS:
        return
    if back.shape != empty.shape:
        fail(
            f"{name} (empty)",
            f"shape {empty.shape} became {back.shape}",
            "values appeared out of nothing",
        )


def _units(
    x: NDArray[np.float32], axis: int | None, group: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest value, zero included, of the unit each element belongs to."""
    low, high = minmax(x, axis, group)
    if axis is not None:
        axis %= x.ndim
        if group is None:
            column = (-1, *(1,) * (x.ndim - 1 - axis))
            low, high = low.reshape(column), high.reshape(column)
        else:
            here = (slice(None),) * axis + (slice(x.shape[axis]),)
            low, high = (np.repeat(end, group, axis)[here] for end in (low, high))
    return (
        np.broadcast_to(np.minimum(low, 0), x.shape),
        np.broadcast_to(np.maximum(high, 0), x.shape),
    )
