"""What holds for every uniform quantizer once its scale and zero point are chosen.

Notation: ``s`` scale, ``u = 2**-24`` the relative error of one float32 operation. Nothing
here depends on how the range was chosen.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.testing.grid import Grid, MakeQuantizer, codes_of, fail, show, worst

UNIT = 2.0**-24


def round_trip_slack(x: NDArray[Any], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far float32 arithmetic may carry |x - DQ(Q(x))| beyond ``s / 2``.

    The quotient is ``(x/s)(1 + d)`` and rounds to ``r``, exactly at most 1/2 away, so
    ``|x - rs| <= s/2 + |d||x|``. Divided as ONNX says, ``|d| <= u``; multiplied by a rounded
    reciprocal, as some do, ``|d| <= 2u + u**2`` (whether that is ONNX's integer is another
    check's matter). The product ``rs`` is rounded once more, by at most
    ``u|rs| <= u(|x| + s/2 + |d||x|)``. Together, with the larger ``d``:
    ``u s/2 + (3u + 3u**2 + u**3)|x|``.
    """
    return UNIT * scale / 2 + (3 + 4 * UNIT) * UNIT * np.abs(x.astype(np.float64))


def check_shape_and_dtype(make: MakeQuantizer, x: NDArray[np.float32]) -> None:
    """Integers in ``[qmin, qmax]`` and float32 come out, in the shape of ``x``, left as it was."""
    name = "check_shape_and_dtype"
    original = x.copy()
    quantizer = make(x)
    with np.errstate(over="ignore"):
        further = (3 * x).astype(np.float32)
    # ``further`` lies outside the range: there, clipping in place shows
    for values, before in ((x, original), (further, further.copy())):
        q = np.asarray(quantizer.quantize(values))
        codes = q.copy()
        back = np.asarray(quantizer.dequantize(q))
        if q.shape != x.shape or back.shape != x.shape:
            fail(
                name,
                f"an array of shape {x.shape} became integers of shape {q.shape} and values of"
                f" shape {back.shape}",
                "a layer would broadcast the changed shape silently",
            )
        if not np.issubdtype(q.dtype, np.integer) or back.dtype != np.float32:
            fail(
                name,
                f"quantize returned {q.dtype} (integers expected), dequantize {back.dtype}"
                " (float32 expected)",
                "a wider type hides the error, and the bytes, of the real integers",
            )
        if q.size and (int(q.min()) < quantizer.qmin or int(q.max()) > quantizer.qmax):
            fail(
                name,
                f"integers span [{q.min()}, {q.max()}], outside"
                f" [{quantizer.qmin}, {quantizer.qmax}]",
                "they do not fit the bits they will be stored in",
            )
        if not np.array_equal(values, before) or not np.array_equal(q, codes):
            fail(name, "the input array was modified", "whoever else holds it has lost it")


def check_round_trip(make: MakeQuantizer, x: NDArray[np.float32]) -> None:
    """Inside the representable range, ``|x - DQ(Q(x))| <= s/2`` (see ``round_trip_slack``)."""
    name = "check_round_trip"
    quantizer = make(x)
    grid = Grid.of(name, quantizer, x.shape)
    for probe in grid.probes(x):
        back = np.asarray(quantizer.dequantize(quantizer.quantize(probe)), np.float64)
        error = np.abs(back - probe)
        bound = grid.scale / 2 + round_trip_slack(probe, grid.scale)
        inside = (probe >= grid.low) & (probe <= grid.high)
        broken = inside & ~(error <= bound)  # a NaN is broken too
        if broken.any():
            index, where = worst(np.where(broken, np.nan_to_num(error / bound, nan=np.inf), 0.0))
            fail(
                name,
                f"{where} = {show(probe[index])} came back as {show(back[index])}, off by"
                f" {error[index] / grid.scale[index]:.6g} scales (scale {grid.scale[index]:.6g},"
                f" zero point {grid.zero_point[index]:.0f}), although it lies inside"
                f" [{grid.low[index]:.6g}, {grid.high[index]:.6g}]",
                "rounding to the nearest representable value is off by half a scale at most; more"
                " means truncation, a wrong zero point, or another channel's scale",
            )


def check_saturation(make: MakeQuantizer, x: NDArray[np.float32]) -> None:
    """Every value beyond the range, infinity included, becomes the outermost integer."""
    name = "check_saturation"
    quantizer = make(x)
    grid = Grid.of(name, quantizer, x.shape)
    largest = np.finfo(np.float32).max
    for beyond in (1.0, 2.0, 100.0, 2.0**8, 257.0, 2.0**15, 2.0**16 + 1, 2.0**31, 2.0**32, np.inf):
        for sign, end, code in ((1, grid.high, quantizer.qmax), (-1, grid.low, quantizer.qmin)):
            with np.errstate(over="ignore", invalid="ignore"):
                far = (end + sign * beyond * grid.scale).astype(np.float32)
            for probe in (far, np.clip(far, -largest, largest)):
                q = codes_of(quantizer, probe)
                if (q != code).any():
                    index, _ = worst(np.abs(q - code))
                    fail(
                        name,
                        f"{show(probe[index])}, {beyond:g} scales beyond the range's end"
                        f" {end[index]:.6g}, became {q[index]:.0f} instead of {code}",
                        "an outlier that wraps around to the other sign, instead of stopping at"
                        " the end, turns the largest activation into its opposite",
                    )


def check_zero(make: MakeQuantizer, x: NDArray[np.float32]) -> None:
    """Zero (of either sign) becomes the zero point, and comes back as exactly zero."""
    name = "check_zero"
    quantizer = make(x)
    grid = Grid.of(name, quantizer, x.shape)
    for zero in (0.0, -0.0):
        q = np.asarray(quantizer.quantize(np.full(x.shape, zero, np.float32)))
        back = np.asarray(quantizer.dequantize(q))
        wrong = (q != grid.zero_point) | (back != 0)
        if wrong.any():
            index, _ = worst(wrong.astype(np.float64))
            fail(
                name,
                f"{zero} became {q[index]} (zero point {grid.zero_point[index]:.0f}) and came back"
                f" as {show(back[index])}",
                "pruned weights, padding and the output of ReLU are exact zeros; an offset there"
                " adds up over every one of them",
            )


def check_idempotence(make: MakeQuantizer, x: NDArray[np.float32]) -> None:
    """Quantizing what was dequantized changes nothing: ``Q(DQ(q)) == q`` for every integer."""
    name = "check_idempotence"
    quantizer = make(x)
    Grid.of(name, quantizer, x.shape)
    kind = np.asarray(quantizer.quantize(x)).dtype
    count = quantizer.qmax - quantizer.qmin + 1
    # Every integer occurs at some place, and with several scales at least 64 at each place.
    single = np.size(quantizer.scale) == 1
    stride = max(1, x.size if single else min(x.size, count // 64))
    for start in range(0, count, stride):
        codes = (np.arange(x.size) + start) % count + quantizer.qmin
        q = codes.reshape(x.shape).astype(kind)
        back = quantizer.dequantize(q)
        drift = codes_of(quantizer, back) - q
        if drift.any():
            index, where = worst(np.abs(drift))
            fail(
                name,
                f"the integer {q[index]} (at {where}) dequantizes to"
                f" {show(np.asarray(back)[index])}, whose integer is"
                f" {q[index] + drift[index]:.0f}",
                "a tensor that passes several quantize/dequantize pairs drifts at each of them",
            )


def check_monotonicity(make: MakeQuantizer, x: NDArray[np.float32]) -> None:
    """A larger value never becomes a smaller integer, nor a smaller value."""
    name = "check_monotonicity"
    quantizer = make(x)
    grid = Grid.of(name, quantizer, x.shape)
    ladder = np.unique(np.concatenate([probe.ravel()[:3] for probe in grid.probes(x)]))
    ladder = ladder[np.isfinite(ladder)]
    codes = [np.asarray(quantizer.quantize(np.full(x.shape, v, np.float32))) for v in ladder]
    values = [np.asarray(quantizer.dequantize(q), np.float64) for q in codes]
    for i in range(len(ladder) - 1):
        drop = np.maximum(
            codes[i].astype(np.float64) - codes[i + 1], np.sign(values[i] - values[i + 1])
        )
        if (drop > 0).any():
            index, _ = worst(drop)
            fail(
                name,
                f"{show(ladder[i])} < {show(ladder[i + 1])}, but their integers are"
                f" {codes[i][index]} and {codes[i + 1][index]}",
                "the order of two actions, or of two Q-values, would be swapped",
            )


def check_sign_symmetry(
    make: MakeQuantizer, x: NDArray[np.float32], *, minmax: bool = True
) -> None:
    """A symmetric quantizer treats ``-x`` as ``x``: same scale, opposite values.

    Inside the range common to both signs; with ``[-128, 127]`` the lowest integer has no
    opposite. A range that clips (``minmax=False``) may then make use of it on one side, so that
    only the values are compared.
    """
    name = "check_sign_symmetry"
    quantizer = make(x)
    grid = Grid.of(name, quantizer, x.shape)
    mirrored = Grid.of(name, make(-x), x.shape)
    differs = (grid.scale != mirrored.scale) | (grid.zero_point != mirrored.zero_point)
    if differs.any() and (minmax or (grid.low == -grid.high).all()):
        index, _ = worst(differs.astype(np.float64))
        fail(
            name,
            f"for x the scale is {grid.scale[index]:.9g} (zero point"
            f" {grid.zero_point[index]:.0f}), for -x it is {mirrored.scale[index]:.9g} (zero"
            f" point {mirrored.zero_point[index]:.0f})",
            "a symmetric range depends on |x| only",
        )
    reach = np.minimum(-grid.low, grid.high)
    for probe in grid.probes(x):
        plus = np.asarray(quantizer.dequantize(quantizer.quantize(probe)), np.float64)
        minus = np.asarray(quantizer.dequantize(quantizer.quantize(-probe)), np.float64)
        broken = (np.abs(probe) <= reach) & (plus != -minus)
        if broken.any():
            index, where = worst(np.where(broken, np.abs(plus + minus), 0.0))
            fail(
                name,
                f"{where} = {show(probe[index])} came back as {show(plus[index])}, its negative as"
                f" {show(minus[index])}",
                "an odd policy network would push harder to one side than to the other",
            )
