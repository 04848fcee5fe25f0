"""Where the range comes from: percentiles, least squared error, per channel, per group."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_drlcompress.compression.quantization.quantizer import (
    QuantizerSpec,
    choose_parameters,
    fake_quantize,
)
from pytest_drlcompress.testing import (
    arrays,
    channel_arrays,
    check_per_channel_error,
    check_sign_symmetry,
    reference_quantizer,
)

thorough = settings(
    max_examples=20, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


# -- ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_percentile_range_clips_what_it_says(symmetric):
    x = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    spec = QuantizerSpec(range_method="percentile", percentile=99, symmetric=symmetric)
    parameters = choose_parameters(x, spec)
    low, high = (np.array([-128, 127]) - parameters.zero_point) * parameters.scale
    clipped = np.mean((x < low - parameters.scale) | (x > high + parameters.scale))
    assert clipped == pytest.approx(0.01 if symmetric else 0.02, rel=0.2)
    everything = choose_parameters(x, replace(spec, percentile=100))
    minmax = choose_parameters(x, replace(spec, range_method="minmax"))
    assert everything.scale == minmax.scale
    assert everything.zero_point == minmax.zero_point


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_percentile_range_of_a_sparse_tensor_does_not_vanish(symmetric):
    x = np.zeros(10_000, np.float32)
    x[7] = 0.5
    spec = QuantizerSpec(range_method="percentile", symmetric=symmetric)
    assert fake_quantize(x, choose_parameters(x, spec))[7] == pytest.approx(0.5)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("symmetric", [True, False])
@settings(thorough, max_examples=8)
@given(x=arrays(max_side=6), bits=st.integers(2, 8))
def test_an_mse_range_is_never_worse_than_minmax(symmetric, axis, x, bits):
    spec = QuantizerSpec(bits=bits, symmetric=symmetric, axis=axis, range_method="mse")

    def squared_error(chosen):
        back = fake_quantize(x, choose_parameters(x, chosen)).astype(float)
        return np.square(back - x).sum()

    minmax = squared_error(replace(spec, range_method="minmax"))
    assert squared_error(spec) <= minmax * (1 + x.size * 2.0**-50)


def test_an_mse_range_clips_an_outlier_where_that_pays():
    x = np.random.default_rng(2).standard_normal(10_000).astype(np.float32)
    x[0] = 40
    spec = QuantizerSpec(bits=4)
    minmax = fake_quantize(x, choose_parameters(x, spec))
    least = fake_quantize(x, choose_parameters(x, replace(spec, range_method="mse")))
    assert np.square(least - x).mean() < np.square(minmax - x).mean() / 4


# -- per channel, per group ---------------------------------------------------------------------


@pytest.mark.parametrize("group", [None, 2])
@pytest.mark.parametrize("symmetric", [True, False])
@thorough
@given(x=channel_arrays(axis=1), bits=st.integers(2, 8))
def test_finer_minmax_scales_are_no_worse_as_far_as_true(symmetric, group, x, bits):
    spec = QuantizerSpec(bits=bits, symmetric=symmetric)
    finer = reference_quantizer(replace(spec, axis=1, group=group))
    check_per_channel_error(finer, reference_quantizer(spec), x)


@pytest.mark.parametrize("group", [None, 2])
@pytest.mark.parametrize("symmetric", [True, False])
@settings(thorough, max_examples=8)
@given(x=arrays(max_dims=2, max_side=5), bits=st.integers(2, 8))
def test_finer_mse_scales_are_never_worse(symmetric, group, x, bits):
    spec = QuantizerSpec(bits=bits, symmetric=symmetric, range_method="mse")
    finer = reference_quantizer(replace(spec, axis=0, group=group))
    check_per_channel_error(finer, reference_quantizer(spec), x, least_mse=True)


@pytest.mark.parametrize(("symmetric", "largest"), [(True, 127), (False, 255)])
def test_with_minmax_per_channel_can_be_worse(symmetric, largest):
    # why check_per_channel_error does not claim it: the tensor's scale of 1 hits every value,
    # and why an MSE range per channel may be the one the tensor would choose
    x = np.float32([[2, 1], [largest, 0]])
    per_tensor = QuantizerSpec(symmetric=symmetric)
    per_channel = replace(per_tensor, axis=0)
    least = replace(per_channel, range_method="mse")
    errors = [
        np.square(fake_quantize(x, choose_parameters(x, spec)) - x).sum()
        for spec in (per_tensor, per_channel, least)
    ]
    assert errors[0] == errors[2] == 0 < errors[1]


@pytest.mark.parametrize("narrow", [True, False])
@settings(thorough, max_examples=5)
@given(x=arrays(max_side=5))
def test_an_mse_range_keeps_the_signs_symmetric(narrow, x):
    spec = QuantizerSpec(bits=4, narrow=narrow, range_method="mse")
    check_sign_symmetry(reference_quantizer(spec), x, minmax=False)
