"""The quantizer against ONNX Runtime's own nodes, hand-computed figures, and its own claims."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_drlcompress.compression.quantization.quantizer import (
    QuantizationParameters,
    QuantizerSpec,
    choose_parameters,
    dequantize,
    fake_quantize,
    quantize,
)
from pytest_drlcompress.core.errors import ArtifactError, QuantizationError
from pytest_drlcompress.testing import (
    arrays,
    check_quantizer,
    check_range,
    reference_quantizer,
)
from pytest_drlcompress.testing.onnxruntime_nodes import (
    onnxruntime_dequantize,
    onnxruntime_quantize,
)

TINY = float(np.finfo(np.float32).smallest_normal)
thorough = settings(
    max_examples=20,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def spec_for(kind, **settings_):
    bits = int(kind[-1])
    return QuantizerSpec(bits=bits, signed=not kind.startswith("u"), **settings_)


# -- agreement with ONNX Runtime, in ONNX's own granularities -----------------------------------


@pytest.mark.parametrize("granularity", ["tensor", "axis", "block"])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int4", "uint4", "int2", "uint2"])
@thorough
@given(data=st.data())
def test_integers_and_values_are_onnxruntimes_bit_for_bit(kind, granularity, data):
    x = data.draw(arrays(max_dims=4, max_side=6))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1)) if granularity != "tensor" else None
    group = data.draw(st.integers(1, x.shape[axis])) if granularity == "block" else None
    spec = spec_for(kind, symmetric=data.draw(st.booleans()), axis=axis, group=group)
    parameters = choose_parameters(x, spec)
    each = parameters.expanded(x.shape)[0]
    if data.draw(st.booleans()):
        values = (np.rint(x / each) + np.float32(0.5)) * each
    else:  # far outside the range too, but within the int32 of the runtime's 4-bit kernels
        values = x * np.float32(data.draw(st.sampled_from([1.0, -3.0, 1000.0])))
    scale, zero_point, where = parameters.scale, parameters.zero_point, {}
    if scale.size > 1:
        where = {"axis": axis, "group": group}
    else:  # a single block or channel is, to the runtime, the whole tensor
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    q = quantize(values, parameters)
    try:
        theirs = onnxruntime_quantize(values, scale, zero_point, kind, **where)
    except ArtifactError:
        if not kind.endswith("2"):
            raise
        pytest.skip("this ONNX Runtime has no 2-bit QuantizeLinear")
    np.testing.assert_array_equal(q, theirs)
    back = dequantize(q, parameters)
    runtime = onnxruntime_dequantize(q, scale, zero_point, kind, **where)
    np.testing.assert_array_equal(back.view(np.uint32), runtime.view(np.uint32))


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_the_8_bit_nodes_agree_to_infinity(kind):
    parameters = choose_parameters([-1.0, 2.0], spec_for(kind, symmetric=False))
    far = np.float32([-np.inf, -3e38, -1e30, -(2.0**40), 2.0**31, 1e30, 3e38, np.inf])
    theirs = onnxruntime_quantize(far, parameters.scale, parameters.zero_point, kind)
    np.testing.assert_array_equal(quantize(far, parameters), theirs)


def test_a_long_vector_runs_the_vectorised_kernel_too():
    x = np.random.default_rng(0).standard_normal(100_003).astype(np.float32) * 3
    for kind in ("int8", "uint8", "int4", "uint4"):
        parameters = choose_parameters(x[:1000], spec_for(kind, symmetric=False))
        theirs = onnxruntime_quantize(x, parameters.scale, parameters.zero_point, kind)
        np.testing.assert_array_equal(quantize(x, parameters), theirs)


# -- figures computed by hand -------------------------------------------------------------------


def test_ties_go_to_the_even_integer():
    unit = QuantizationParameters(np.float32(1), np.int32(0), -128, 127)
    np.testing.assert_array_equal(
        quantize([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], unit), [-2, -2, 0, 0, 2, 2]
    )


@pytest.mark.parametrize(
    ("spec", "scale", "zero_point", "codes"),
    [
        (QuantizerSpec(), 4 / 127, 0, [-32, 0, 76, 127]),
        (QuantizerSpec(narrow=True), 4 / 127, 0, [-32, 0, 76, 127]),
        (QuantizerSpec(signed=False), 4 / 127, 128, [96, 128, 204, 255]),
        (QuantizerSpec(symmetric=False, signed=False), 5 / 255, 51, [0, 51, 173, 255]),
        (QuantizerSpec(symmetric=False), 5 / 255, -77, [-128, -77, 45, 127]),
        (QuantizerSpec(bits=4), 4 / 7, 0, [-2, 0, 4, 7]),
        (QuantizerSpec(bits=2, narrow=True), 4.0, 0, [0, 0, 1, 1]),
        (QuantizerSpec(bits=2, symmetric=False, signed=False), 5 / 3, 1, [0, 1, 2, 3]),
    ],
)
def test_parameters_by_hand(spec, scale, zero_point, codes):
    x = np.float32([-1, 0, 2.4, 4])
    parameters = choose_parameters(x, spec)
    assert parameters.scale == np.float32(scale)
    assert parameters.zero_point == zero_point
    np.testing.assert_array_equal(quantize(x, parameters), codes)


def test_shapes_of_scales_are_onnxs():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 1
    per_channel = choose_parameters(x, QuantizerSpec(axis=1))
    np.testing.assert_allclose(per_channel.scale, np.float32([16, 20, 24]) / 127)
    ragged = choose_parameters(x, QuantizerSpec(axis=-1, group=3))
    assert ragged.scale.shape == (2, 3, 2)
    np.testing.assert_allclose(ragged.scale[0, 0], np.float32([3, 4]) / 127)


# -- invariants of what the suite leaves out -----------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        QuantizerSpec(symmetric=False, axis=1),
        QuantizerSpec(bits=3, symmetric=False, axis=0, group=3),
        QuantizerSpec(bits=4, signed=False, narrow=True),
        QuantizerSpec(bits=6, range_method="percentile", percentile=95, axis=0),
        QuantizerSpec(symmetric=False, range_method="percentile", percentile=95),
    ],
    ids=str,
)
@settings(thorough, max_examples=15)
@given(x=arrays(min_dims=2))
def test_invariants(spec, x):
    check_quantizer(
        reference_quantizer(spec),
        x,
        symmetric=spec.symmetric,
        minmax=spec.range_method == "minmax",
        axis=spec.axis,
        group=spec.group,
    )


def test_zero_dimensional_and_foreign_input():
    make = reference_quantizer(QuantizerSpec())
    check_quantizer(make, np.asarray(np.float32(-0.7)), symmetric=True)
    parameters = choose_parameters([1, 2.0, 3], QuantizerSpec())
    for x in ([3], np.float64([3]), np.int64([3]), np.float16([3])):
        assert fake_quantize(x, parameters).dtype == np.float32
        assert fake_quantize(x, parameters) == 3


# -- degenerate inputs --------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_degenerate_values_are_defined(symmetric):
    spec = QuantizerSpec(symmetric=symmetric)
    zeros = choose_parameters(np.zeros((2, 3)), spec)
    assert zeros.scale == 1
    assert not fake_quantize(np.zeros((2, 3)), zeros).any()
    for constant in (0.1, -3.0, 1e-30, 2.0**100):
        back = fake_quantize([constant], choose_parameters([constant], spec))
        # one rounding of the scale, one of the product
        assert back == pytest.approx(np.float32(constant), rel=2.0**-23)
    denormal = choose_parameters(np.float32([1e-40, -1e-45]), spec)
    assert denormal.scale == np.float32(TINY)
    assert not fake_quantize([1e-40], denormal).any()
    dead_channel = choose_parameters([[0.0, 0.0], [1.0, 2.0]], replace(spec, axis=0))
    assert dead_channel.scale[0] == 1


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1, np.nan]], r"1 of 2 are NaN or infinite, the first x\[0, 1\] = nan"),
        ([-np.inf, np.inf], "2 of 2 are NaN or infinite"),
        (np.float64([1e300]), "infinite"),
        (np.nan, "NaN"),
        ([], "no values to span a range"),
        ([-3e38, 3.4e38], "overflows float32"),
    ],
)
def test_a_range_is_refused(x, message):
    for spec in (QuantizerSpec(), QuantizerSpec(range_method="mse")):
        with pytest.raises(QuantizationError, match=message):
            choose_parameters(x, spec)
    assert issubclass(QuantizationError, ValueError)


def test_quantize_refuses_nan_and_saturates_infinity():
    parameters = choose_parameters([1.0], QuantizerSpec())
    with pytest.raises(QuantizationError, match=r"x\[1\] is NaN"):
        quantize([0, np.nan], parameters)
    np.testing.assert_array_equal(quantize([-np.inf, np.inf], parameters), [-128, 127])
    assert quantize(np.empty((0, 3)), parameters).shape == (0, 3)
    assert dequantize(np.empty((0, 3), np.int8), parameters).dtype == np.float32


def test_the_largest_values_that_fit():
    largest = np.finfo(np.float32).max
    with pytest.raises(QuantizationError, match="overflows"):
        choose_parameters([largest], QuantizerSpec())  # -128 would overflow
    make = reference_quantizer(QuantizerSpec(narrow=True))
    check_range(make, np.float32([largest * (1 - 2.0**-20), -(2.0**127)]))


@pytest.mark.parametrize(
    ("settings_", "rule"),
    [
        ({"bits": 9}, "bits is 2 to 8"),
        ({"bits": 1}, "bits is 2 to 8"),
        ({"narrow": True, "symmetric": False}, "narrow"),
        ({"group": 4}, "along an axis"),
        ({"group": 0, "axis": 0}, "1 value or more"),
        ({"range_method": "entropy"}, "minmax, percentile or mse"),
        ({"percentile": 50}, "above 50"),
    ],
)
def test_contradicting_settings(settings_, rule):
    with pytest.raises(QuantizationError, match=rule):
        QuantizerSpec(**settings_)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0, -128, 127), "positive"),
        ((np.nan, 0, -128, 127), "positive"),
        ((1.0, 128, -128, 127), "zero would not be representable"),
        ((1.0, 0, -128, 255), "no range of int8 or uint8"),
        (([1.0, 2.0], 0, -128, 127), "one each"),
    ],
)
def test_impossible_parameters(arguments, message):
    with pytest.raises(QuantizationError, match=message):
        QuantizationParameters(*arguments)


def test_parameters_of_another_tensor():
    parameters = choose_parameters(np.ones((3, 4)), QuantizerSpec(axis=0))
    with pytest.raises(QuantizationError, match=r"shape \(4, 3\) needs scales of shape \(4,\)"):
        quantize(np.ones((4, 3)), parameters)
    with pytest.raises(QuantizationError, match="takes integers"):
        dequantize(np.ones((3, 4)), parameters)
    with pytest.raises(QuantizationError, match="no axis 2"):
        choose_parameters(np.ones((3, 4)), QuantizerSpec(axis=2))
    with pytest.raises(ValueError, match="read-only"):
        parameters.scale[0] = 2


# -- the public strategies ----------------------------------------------------------------------


@thorough
@given(x=arrays(smallest=1e-6, largest=50.0))
def test_arrays_keep_to_what_was_asked(x):
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert np.abs(x).max() <= 50
    assert np.abs(x[x != 0]).min(initial=1) >= np.float32(1e-6)


def test_the_checks_run_without_torch():
    code = (
        "import sys, numpy; from pytest_drlcompress import testing as t;"
        "from pytest_drlcompress.compression.quantization.quantizer import QuantizerSpec;"
        "t.check_quantizer(t.reference_quantizer(QuantizerSpec()), numpy.float32([1, 2]));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
