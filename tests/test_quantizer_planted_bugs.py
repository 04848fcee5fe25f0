"""Planted quantizer bugs are each caught: by a named check, and by arrays nobody chose."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from pytest_drlcompress import testing
from pytest_drlcompress.compression.quantization.quantizer import (
    QuantizationParameters,
    QuantizerSpec,
    choose_parameters,
    dequantize,
    quantize,
)

# Square, so that a wrong axis keeps all shapes; channel 0 much larger than the others.
WEIGHTS = np.random.default_rng(3).standard_normal((6, 6)).astype(np.float32)
WEIGHTS[0] *= 20


@dataclass(frozen=True)
class Correct:
    """A quantizer per output channel; the bugs below override one line of it each."""

    parameters: QuantizationParameters
    shape: tuple[int, ...]
    spec = QuantizerSpec(axis=0)

    @classmethod
    def make(cls, x):
        return cls(cls.choose(x), x.shape)

    @classmethod
    def choose(cls, x):
        return choose_parameters(x, cls.spec)

    @property
    def scale(self):
        return self.parameters.expanded(self.shape)[0]

    @property
    def zero_point(self):
        return self.parameters.expanded(self.shape)[1]

    @property
    def qmin(self):
        return self.parameters.qmin

    @property
    def qmax(self):
        return self.parameters.qmax

    def quantize(self, x):
        return quantize(x, self.parameters)

    def dequantize(self, q):
        return dequantize(q, self.parameters)


class OffByOneZeroPoint(Correct):
    def dequantize(self, q):
        codes = q.astype(np.int32) - (self.zero_point + 1)
        return codes.astype(np.float32) * self.scale


class Truncation(Correct):
    def quantize(self, x):
        with np.errstate(over="ignore"):
            steps = np.trunc(x / self.scale)
        return np.clip(steps, self.qmin, self.qmax).astype(np.int8)


class WrongAxis(Correct):
    """Consistent with itself: input channels where output channels were asked for."""

    spec = QuantizerSpec(axis=-1)


class WrongAxisApplied(Correct):
    """Chosen along one axis, applied along the other; square weights keep the shapes."""

    @property
    def scale(self):
        return self.parameters.scale.reshape(1, -1)

    def quantize(self, x):
        return quantize(x.T, self.parameters).T

    def dequantize(self, q):
        return dequantize(q, self.parameters)


class Wraparound(Correct):
    def quantize(self, x):
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.rint(x / self.scale)
        largest = np.float32(2.0**62)
        return np.clip(steps, -largest, largest).astype(np.int64).astype(np.int8)


class WrongBatch(Correct):
    """The range of the calibration batch before this one."""

    @classmethod
    def choose(cls, x):
        before = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
        return choose_parameters(before, cls.spec)


class HalfAwayFromZero(Correct):
    """C's round() instead of ONNX's round half to even."""

    def quantize(self, x):
        with np.errstate(over="ignore"):
            steps = np.trunc(x / self.scale + np.copysign(np.float32(0.5), x))
        return np.clip(steps, self.qmin, self.qmax).astype(np.int8)


class AddedEpsilon(Correct):
    """An epsilon against division by zero, added where a maximum was meant."""

    @classmethod
    def choose(cls, x):
        right = choose_parameters(x, cls.spec)
        return replace(right, scale=right.scale + np.float32(1e-6))


class LargestInsteadOfAbsolute(Correct):
    @classmethod
    def choose(cls, x):
        return choose_parameters(np.maximum(x, 0), cls.spec)


class InPlace(Correct):
    def quantize(self, x):
        codes = quantize(x, self.parameters)
        if x.flags.writeable:
            reach = -self.qmin * self.scale
            np.clip(x, -reach, reach, out=x)
        return codes


class BlindToNan(Correct):
    @classmethod
    def choose(cls, x):
        largest = np.abs(x).reshape(len(x), -1).max(axis=1, initial=1e-30)
        with np.errstate(invalid="ignore"):
            return Unchecked(largest / np.float32(127), np.zeros(len(x), np.int32), -128, 127, 0)


class Unchecked(QuantizationParameters):
    def __post_init__(self):
        pass  # as a dataclass without validation


CHECKS = {
    "check_shape_and_dtype": {},
    "check_zero": {},
    "check_round_trip": {},
    "check_saturation": {},
    "check_idempotence": {},
    "check_monotonicity": {},
    "check_sign_symmetry": {},
    "check_range": {"axis": 0},
    "check_channels_independent": {"axis": 0},
    "check_power_of_two_scaling": {},
    "check_degenerate_inputs": {},
    "check_onnxruntime_agreement": {},
}
# Each bug, the check that names its cause, and the others that it violates as well.
BUGS = {
    OffByOneZeroPoint: (
        "check_zero",
        {
            "check_round_trip",
            "check_idempotence",
            "check_sign_symmetry",
            "check_range",
            "check_degenerate_inputs",
            "check_onnxruntime_agreement",
        },
    ),
    Truncation: (
        "check_round_trip",
        {
            "check_idempotence",
            "check_range",
            "check_degenerate_inputs",
            "check_onnxruntime_agreement",
        },
    ),
    WrongAxis: ("check_channels_independent", {"check_range"}),
    WrongAxisApplied: (
        "check_round_trip",
        {
            "check_idempotence",
            "check_range",
            "check_channels_independent",
            "check_onnxruntime_agreement",
        },
    ),
    Wraparound: ("check_saturation", {"check_monotonicity", "check_onnxruntime_agreement"}),
    WrongBatch: ("check_range", {"check_power_of_two_scaling", "check_degenerate_inputs"}),
    # Beyond the five: one for each check that none of them violates alone.
    HalfAwayFromZero: ("check_onnxruntime_agreement", set()),
    AddedEpsilon: ("check_power_of_two_scaling", {"check_range"}),
    LargestInsteadOfAbsolute: ("check_sign_symmetry", {"check_range", "check_degenerate_inputs"}),
    InPlace: ("check_shape_and_dtype", set()),
    BlindToNan: ("check_degenerate_inputs", set()),
}


def violated_by(quantizer):
    """Text of each violated check, by its name."""
    violated = {}
    for name, arguments in CHECKS.items():
        try:
            getattr(testing, name)(quantizer.make, WEIGHTS.copy(), **arguments)
        except AssertionError as error:
            violated[name] = str(error)
    return violated


def test_the_correct_quantizer_passes():
    assert violated_by(Correct) == {}
    testing.check_quantizer(Correct.make, WEIGHTS, symmetric=True, axis=0)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_bug_violates_the_check_named_for_it(bug):
    check, others = BUGS[bug]
    violated = violated_by(bug)
    assert set(violated) == {check, *others}
    for name, text in violated.items():
        assert text.startswith(name)
        assert "Why it matters" in text


def test_every_check_is_violated_by_some_bug():
    assert {name for check, others in BUGS.values() for name in (check, *others)} == set(CHECKS)


def test_scales_that_are_worse_than_the_tensors_are_caught():
    tensor = testing.reference_quantizer(QuantizerSpec())
    testing.check_per_channel_error(Correct.make, tensor, WEIGHTS)
    with pytest.raises(AssertionError, match=r"the channel's scale .* is larger than the tensor's"):
        testing.check_per_channel_error(WrongBatch.make, tensor, WEIGHTS / 1000)
    with pytest.raises(AssertionError, match=r"is off by .* with a scale of"):
        testing.check_per_channel_error(Truncation.make, tensor, WEIGHTS)
    with pytest.raises(AssertionError, match=r"per channel, .* per tensor"):
        testing.check_per_channel_error(Truncation.make, Correct.make, WEIGHTS, least_mse=True)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_arrays_that_nobody_chose_find_the_bug(bug):
    # square matrices only: elsewhere the two wrong axes fail for their shapes already
    @settings(
        max_examples=50,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(x=testing.arrays(min_dims=2, max_dims=2).map(square))
    def run(x):
        testing.check_quantizer(bug.make, x, symmetric=True, axis=0)

    with pytest.raises(AssertionError, match="Why it matters"):
        run()


def square(x):
    side = min(x.shape)
    return x[:side, :side]
