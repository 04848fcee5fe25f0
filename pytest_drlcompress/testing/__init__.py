"""Run the invariants of quantizers and of gradual pruning against your own (needs no torch).

``check_quantizer(make, x)`` runs every check; ``arrays()`` and ``channel_arrays()`` are
hypothesis strategies of inputs on which quantizers go wrong. ``make(x)`` chooses scale and zero
point for ``x`` and returns an object with what ``Quantizer`` lists.
"""

from pytest_drlcompress.testing.all_checks import check_quantizer
from pytest_drlcompress.testing.channels import (
    check_channels_independent,
    check_per_channel_error,
)
from pytest_drlcompress.testing.checks import (
    check_idempotence,
    check_monotonicity,
    check_round_trip,
    check_saturation,
    check_shape_and_dtype,
    check_sign_symmetry,
    check_zero,
)
from pytest_drlcompress.testing.grid import MakeQuantizer, Quantizer, reference_quantizer
from pytest_drlcompress.testing.onnxruntime_nodes import check_onnxruntime_agreement
from pytest_drlcompress.testing.range_checks import (
    check_degenerate_inputs,
    check_power_of_two_scaling,
    check_range,
)
from pytest_drlcompress.testing.sparsity import (
    SparseTrainer,
    check_distribution,
    check_pruning,
    check_schedule,
)
from pytest_drlcompress.testing.strategies import arrays, channel_arrays

__all__ = [
    "MakeQuantizer",
    "Quantizer",
    "SparseTrainer",
    "arrays",
    "channel_arrays",
    "check_channels_independent",
    "check_degenerate_inputs",
    "check_distribution",
    "check_idempotence",
    "check_monotonicity",
    "check_onnxruntime_agreement",
    "check_per_channel_error",
    "check_power_of_two_scaling",
    "check_pruning",
    "check_quantizer",
    "check_range",
    "check_round_trip",
    "check_saturation",
    "check_schedule",
    "check_shape_and_dtype",
    "check_sign_symmetry",
    "check_zero",
    "reference_quantizer",
]
