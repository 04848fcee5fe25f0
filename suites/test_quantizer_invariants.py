"""The quantizer behind the recipes keeps its invariants, on arrays chosen to break it.

Copy this file and put your own quantizer in place of ``reference_quantizer(spec)``: any function
that chooses scale and zero point for an array (see docs/quantizer.md).
"""

import pytest
from hypothesis import HealthCheck, given, settings

from pytest_drlcompress import QuantizerSpec
from pytest_drlcompress.testing import (
    arrays,
    channel_arrays,
    check_per_channel_error,
    check_quantizer,
    reference_quantizer,
)

SCHEMES = {
    "int8-per-tensor": QuantizerSpec(),  # fully connected layers
    "int8-per-channel": QuantizerSpec(axis=0),  # convolutions
    "int8-narrow": QuantizerSpec(narrow=True),
    "uint8-asymmetric": QuantizerSpec(symmetric=False, signed=False),  # activations
    "uint8-symmetric": QuantizerSpec(signed=False),  # zero point 128
    "int4-per-group": QuantizerSpec(bits=4, axis=-1, group=4),
    "uint4-asymmetric": QuantizerSpec(bits=4, symmetric=False, signed=False),
    "ternary": QuantizerSpec(bits=2, narrow=True),
}
thorough = settings(
    max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("spec", SCHEMES.values(), ids=SCHEMES)
@thorough
@given(x=arrays())
def test_invariants(spec, x):
    """Rounding, saturation, zero, order, scaling, degenerate inputs, ONNX Runtime's nodes."""
    check_quantizer(
        reference_quantizer(spec), x, symmetric=spec.symmetric, axis=spec.axis, group=spec.group
    )


@pytest.mark.parametrize("bits", [8, 4, 2])
@thorough
@given(x=channel_arrays(axis=0))
def test_a_scale_per_channel_is_worth_its_bytes(bits, x):
    """No larger error than with one scale for the tensor, as far as that is a theorem."""
    check_per_channel_error(
        reference_quantizer(QuantizerSpec(bits=bits, axis=0)),
        reference_quantizer(QuantizerSpec(bits=bits)),
        x,
    )
