"""Quantization-aware training: what torch computes is what ONNX Runtime executes."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from samples import ENV, SPANS, Samples
from torch import nn

from pytest_drlcompress.compression.distillation.distill import distill
from pytest_drlcompress.compression.pipeline import compress, export_policy
from pytest_drlcompress.compression.quantization.fake_quant import Grid, insert_fake_quantizers
from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.compression.quantization.qat import equalize_network
from pytest_drlcompress.compression.quantization.quantizer import dequantize, quantize
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.compression.step import Result, StepKind
from pytest_drlcompress.core.errors import PolicyError, RecipeError
from pytest_drlcompress.measurement.action_error import measure_action_error
from pytest_drlcompress.onnx_graph.export import export_program
from pytest_drlcompress.onnx_graph.kernels import executed_kernels
from pytest_drlcompress.onnx_graph.placement import read_placement, write_arrays
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import clip_layer, normalize_layer, squash_layers
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.onnxruntime import OnnxController

QUICK = "steps=150,samples=1500,lr=0.002"


def make_policy(kind):
    torch.manual_seed(0)
    low, high = -np.ones(3, np.float32), np.ones(3, np.float32)
    activation = nn.ReLU if kind == "relu" else nn.Tanh
    body = [nn.Linear(11, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 3)]
    if kind == "relu":
        layers = [*body, *squash_layers(low * 0.4, high * 0.4)]
    else:
        front = normalize_layer(np.zeros(11), SPANS**2, epsilon=1e-8, clip=10.0)
        layers = [front, *body, clip_layer(low, high)]
    return Policy("test", ENV, nn.Sequential(*layers).eval())


def make(policy, recipe, registry=None):
    return compress(
        policy,
        parse_recipe(recipe),
        registry or builtin_registry(),
        Samples(),
        export_policy(policy),
    )


def error_of(policy, artifact):
    observations = Samples().sample(4000)[3000:]
    return measure_action_error(
        OnnxController(export_policy(policy).model),
        OnnxController(artifact.model),
        observations,
        ENV.action,
    ).mean


def fake_quantized(network, sample, weight_bits=8):
    """The torch module with fake quantizers and the ONNX model it is written into."""
    template = quantize_statically(export_onnx(network, sample.shape[1:], sample.dtype), sample)
    program, _ = export_program(network, sample.shape[1:], sample.dtype)
    quantized = insert_fake_quantizers(
        program.module(check_guards=False),
        read_placement(template),
        weight_bits=weight_bits,
        activation_bits=8,
    )
    return quantized, write_arrays(template, quantized.arrays())


def act_and_near_ties(quantized, observations):
    """What the torch module gives, and which rows round a value that lies between two steps.

    A row is near a tie if one of its values, in steps before rounding, is within 1e-4 of the
    middle between two: what float32 can make of a sum of 64 products.
    """
    distances = []

    def look(grid, inputs):
        steps = inputs[0] / grid.scale()
        distance = (steps - steps.floor() - 0.5).abs()
        saturated = (steps < grid.low - 1) | (steps > grid.high + 1)
        distances.append(distance.masked_fill(saturated, 0.5).amin(1))

    activations = {id(grid) for grid in quantized.activations.values()}
    grids = [m for m in quantized.module.modules() if id(m) in activations]
    hooks = [grid.register_forward_pre_hook(look) for grid in grids]
    with torch.no_grad():
        actions = quantized.module(torch.from_numpy(observations)).numpy()
    for hook in hooks:
        hook.remove()
    # both divide the observation by the same step: only sums differ in their last digits
    return actions, torch.stack(distances[1:]).amin(0).numpy() < 1e-4


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_torch_and_onnxruntime_agree(kind, bits):
    network = make_policy(kind).network
    observations = Samples().sample(2000)
    quantized, model = fake_quantized(network, observations[:1000], bits)
    assert {k.precision for k in executed_kernels(model)} == {"int8"}
    expected, near_tie = act_and_near_ties(quantized, observations)
    error = np.abs(OnnxController(model).act(observations) - expected).max(1)
    assert error[~near_tie].max() <= 1e-5
    assert near_tie.mean() <= 0.05, "too many exceptions to say anything"
    exact = network(torch.from_numpy(observations)).detach().numpy()
    assert np.abs(exact - expected).max() > 1e-4, "nothing was quantized"


def test_biases_round_to_the_accumulators_grid():
    """As ONNX Runtime stores them: without it, torch trains a network that nobody executes."""
    network = make_policy("relu").network
    observations = Samples().sample(2000)
    quantized, model = fake_quantized(network, observations[:1000])
    for grid in quantized.biases.values():
        grid.forward = lambda bias: bias
    expected, near_tie = act_and_near_ties(quantized, observations)
    error = np.abs(OnnxController(model).act(observations) - expected).max(1)
    # a unit within half a bias step of a tie goes the other way: a good share of the rows
    assert (error[~near_tie] > 1e-5).mean() > 0.1
    assert error[~near_tie].max() > 1e-3


def test_convolutions_are_quantized_per_channel():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 4)
    ).eval()
    images = np.random.default_rng(0).normal(size=(64, 3, 15, 15)).astype(np.float32)
    quantized, model = fake_quantized(network, images)
    assert [k.operator for k in executed_kernels(model)] == ["QLinearConv", "QGemm"]
    scales = [grid.log_scale.shape for grid in quantized.weights.values()]
    assert scales == [(8,), ()]
    with torch.no_grad():
        expected = quantized.module(torch.from_numpy(images)).numpy()
    assert np.abs(OnnxController(model).act(images) - expected).max() <= 1e-3


def test_a_grid_is_the_quantizer_of_onnx():
    x = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32) * 3
    for grid in (
        Grid(np.float32(0.02), 128, -128, 127),
        Grid(np.geomspace(0.01, 0.1, 8), 128, -8, 7, axis=0),
    ):
        with torch.no_grad():
            actual = grid(torch.from_numpy(x)).numpy()
        parameters = grid.parameters_of()
        assert np.array_equal(actual, dequantize(quantize(x, parameters), parameters))


def test_gradients_pass_the_rounding_and_stop_at_saturation():
    grid = Grid(np.float32(0.1), 0, -8, 7)
    x = torch.tensor([0.03, 0.26, 5.0, -5.0], requires_grad=True)
    grid(x).sum().backward()
    assert x.grad.tolist() == pytest.approx([1, 1, 0, 0])
    # of s: round(x/s) - x/s inside, the limit where it saturates; of log s: times s
    assert float(grid.log_scale.grad) == pytest.approx(0.1 * (-0.3 + 0.4 + 7 - 8), abs=1e-4)


@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_training_beats_calibration_and_executes_int8(kind):
    policy = make_policy(kind)
    calibrated, trained = make(policy, "ptsq"), make(policy, f"qat:{QUICK}")
    assert {k.precision for k in executed_kernels(trained.model)} == {"int8"}
    assert error_of(policy, trained) < error_of(policy, calibrated)
    assert abs(len(trained.model) - len(calibrated.model)) < 1000
    report = trained.provenance["qat"]["distillation"]
    assert report["held_out_loss_after"] < report["held_out_loss_before"]


def test_the_same_recipe_gives_the_same_bytes():
    recipe = "qat:steps=20,samples=500"
    assert make(make_policy("relu"), recipe).sha256 == make(make_policy("relu"), recipe).sha256


def test_four_bits_are_stored_in_eight_and_said_to_be():
    artifact = make(make_policy("relu"), f"qat@4:{QUICK}")
    codes = {
        t.name: numpy_helper.to_array(t)
        for t in onnx.load_from_string(artifact.model).graph.initializer
        if t.name.endswith("weight_quantized")
    }
    assert len(codes) == 3
    for array in codes.values():
        assert array.dtype == np.uint8
        assert array.min() >= 120
        assert array.max() <= 135
    assert artifact.provenance["qat"]["packed_weight_bytes"] == (11 * 64 + 64 * 64 + 64 * 3) // 2


def test_pruned_weights_stay_zero():
    def prune(network, step, observations):
        with torch.no_grad():
            for layer in network:
                if isinstance(layer, nn.Linear):
                    layer.weight[torch.rand_like(layer.weight) < 0.5] = 0
        return Result(network)

    registry = builtin_registry().with_kinds([StepKind("half", "network", prune, "")])
    torch.manual_seed(1)
    artifact = make(make_policy("relu"), f"half+qat:{QUICK}", registry)
    for tensor in onnx.load_from_string(artifact.model).graph.initializer:
        if tensor.name.endswith("weight_quantized"):
            assert (numpy_helper.to_array(tensor) == 128).mean() >= 0.45


@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_equalizing_keeps_the_function(kind):
    network, observations = make_policy(kind).network, Samples().sample(500)
    inputs = torch.from_numpy(observations)
    expected = network(inputs)
    actual = equalize_network(network, observations)(inputs)
    assert torch.allclose(actual, expected, atol=1e-4)


def test_a_unit_that_hardly_ever_acts_does_not_set_its_layers_range():
    network, observations = make_policy("relu").network, Samples().sample(500)
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    rare = linear[1]
    with torch.no_grad():
        values = network[: list(network).index(rare) + 1](torch.from_numpy(observations))
        # a unit that is active in one observation of 500, by next to nothing
        rare.bias[0] -= values[:, 0].max() - 1e-6
    expected = network(torch.from_numpy(observations))
    equalized = equalize_network(network, observations)
    rows = [layer for layer in equalized if isinstance(layer, nn.Linear)][1].weight.abs().amax(1)
    assert rows[0] <= rows[1:].max() * 1.001
    assert torch.allclose(equalized(torch.from_numpy(observations)), expected, atol=1e-4)


def test_a_layer_whose_weights_are_only_of_units_that_hardly_ever_act_is_equalized():
    network, observations = make_policy("relu").network, Samples().sample(500)
    inputs = torch.from_numpy(observations)
    layer = [layer for layer in network if isinstance(layer, nn.Linear)][1]
    with torch.no_grad():
        layer.weight[1:] = 0  # the others act by their biases alone
        layer.bias[1:] = 1
        layer.bias[0] -= network[: list(network).index(layer) + 1](inputs)[:, 0].max() - 1e-6
    expected = network(inputs)
    assert torch.allclose(equalize_network(network, observations)(inputs), expected, atol=1e-4)


def test_distillation_keeps_the_best_weights():
    student, inputs = nn.Linear(3, 1), torch.randn(200, 3)
    before = nn.functional.mse_loss(student(inputs[-40:]), torch.zeros(40, 1)).item()
    result = distill(
        student,
        nn.functional.mse_loss,
        [{"params": list(student.parameters()), "lr": 1e6}],  # diverges at once
        inputs,
        torch.zeros(200, 1),
        steps=20,
    )
    assert result.kept_step == 0
    assert result.after == pytest.approx(before)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("qat@3.5", "whole numbers"),
        ("qat:a=9", "whole numbers"),
        ("qat@9", "strictly between"),
        ("qat+ptsq", "quantizes twice"),
        ("ptsq+qat", "must come before"),
    ],
)
def test_impossible_recipes_are_refused(recipe, message):
    with pytest.raises(RecipeError, match=message):
        make(make_policy("relu"), recipe)


def test_an_onnx_policy_cannot_be_trained():
    policy = make_policy("relu")
    file = Policy("file", ENV, export_policy(policy).model)
    with pytest.raises(PolicyError, match="ONNX file"):
        make(file, "qat")
