"""All checks of a quantizer in one call."""

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.compression.quantization.quantizer import SMALLEST_SCALE
from pytest_drlcompress.testing import checks
from pytest_drlcompress.testing.channels import check_channels_independent
from pytest_drlcompress.testing.grid import MakeQuantizer
from pytest_drlcompress.testing.onnxruntime_nodes import check_onnxruntime_agreement
from pytest_drlcompress.testing.range_checks import (
    check_degenerate_inputs,
    check_power_of_two_scaling,
    check_range,
)


def check_quantizer(
    make: MakeQuantizer,
    x: NDArray[np.float32],
    *,
    symmetric: bool = False,
    minmax: bool = True,
    axis: int | None = None,
    group: int | None = None,
    onnxruntime: bool = True,
    smallest_scale: float = SMALLEST_SCALE,
) -> None:
    """Run every check that applies to the quantizer that ``make`` makes for ``x``.

    Args:
        make: chooses scale and zero point for an array and returns a ``Quantizer``.
        x: float32, finite, not empty.
        symmetric: its zero point is fixed in the middle.
        minmax: its range covers every value (percentile and MSE ranges clip).
        axis: the axis along which scales differ; ``None``: one scale.
        group: so many values along ``axis`` share a scale.
        onnxruntime: compare with ONNX Runtime's own nodes.
        smallest_scale: the floor it puts under its scales.

    Raises:
        AssertionError: an invariant is violated; the text says which, where, and why it matters.
    """
    checks.check_shape_and_dtype(make, x)
    checks.check_zero(make, x)
    checks.check_round_trip(make, x)
    checks.check_saturation(make, x)
    checks.check_idempotence(make, x)
    checks.check_monotonicity(make, x)
    if symmetric:
        checks.check_sign_symmetry(make, x, minmax=minmax)
    if minmax:
        check_range(make, x, axis=axis, group=group, smallest_scale=smallest_scale)
        if axis is not None:
            check_channels_independent(make, x, axis=axis, group=group)
    check_power_of_two_scaling(make, x, smallest_scale=smallest_scale)
    check_degenerate_inputs(make, x)
    if onnxruntime:
        check_onnxruntime_agreement(make, x)
