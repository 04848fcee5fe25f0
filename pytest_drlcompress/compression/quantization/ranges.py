"""Which values share one scale, and what range they span."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import QuantizationError

Range = tuple[NDArray[np.float64], NDArray[np.float64]]


def find_axis(axis: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """The axis counted from the front, and the length along it.

    Raises:
        QuantizationError: a tensor of this shape has no such axis.
    """
    if not -len(shape) <= axis < len(shape):
        raise QuantizationError(f"a tensor of shape {shape} has no axis {axis}")
    return axis % len(shape), shape[axis]


def reduce_units(
    values: NDArray[Any],
    axis: int | None,
    group: int | None,
    function: Callable[[NDArray[Any], tuple[int, ...] | None], Any],
) -> NDArray[Any]:
    """``function(part, axes)`` over what shares one scale; the result has the scale's shape.

    Raises:
        QuantizationError: ``values`` has no such axis.
    """
    if axis is None:
        return np.asarray(function(values, None))
    axis, length = find_axis(axis, values.shape)
    if group is None:
        rows = np.moveaxis(values, axis, 0).reshape(length, -1)
        return np.asarray(function(rows, (1,)))
    here = (slice(None),) * axis
    parts = [
        function(values[(*here, slice(i, i + group))], (axis,)) for i in range(0, length, group)
    ]
    return np.stack(parts, axis)


def minmax(values: NDArray[Any], axis: int | None, group: int | None) -> Range:
    """The smallest and the largest value of each unit."""
    low = reduce_units(values, axis, group, np.min)
    return low.astype(np.float64), reduce_units(values, axis, group, np.max).astype(np.float64)


def percentiles(
    values: NDArray[Any],
    axis: int | None,
    group: int | None,
    percent: float,
    *,
    symmetric: bool,
) -> Range:
    """The range between the ``100 - percent`` and the ``percent`` percentile and zero.

    ``symmetric``: plus and minus the ``percent`` percentile of ``|values|``. Where that range is
    empty though the values are not (a sparse tensor), it is the minmax range.
    """

    def at(percentile: float, of: NDArray[Any]) -> NDArray[np.float64]:
        # float64: the interpolation must not leave the values' own range
        return reduce_units(
            of.astype(np.float64),
            axis,
            group,
            lambda part, axes: np.percentile(part, percentile, axes),
        )

    if symmetric:
        high = at(percent, np.abs(values))
        low = -high
    else:
        low = np.minimum(at(100 - percent, values), 0.0)
        high = np.maximum(at(percent, values), 0.0)
    all_low, all_high = minmax(values, axis, group)
    empty = low == high
    return np.where(empty, all_low, low), np.where(empty, all_high, high)
