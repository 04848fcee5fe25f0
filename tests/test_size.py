"""Sizes are those of bytes that could be written and read back, in every weight format."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from scipy.sparse import csr_matrix

from pytest_drlcompress.compression.quantization.packed import PackedWeight, write_packed
from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.measurement.size import measure_size, strip
from pytest_drlcompress.onnx_graph.weights import layer_weights
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.runtime.onnxruntime import OnnxController
from tests.samples import Samples

RNG = np.random.default_rng(0)
FORMATS = ("fp32", "ptdq", "ptdq:per_channel=true", "ptsq", "ptsq:per_channel=true")
SHAPES = ((64, 11), (32, 64), (3, 32))


@pytest.fixture(scope="module")
def models(exporter):
    """An 11-64-32-3 network with 90 % of its weights zero, in each format."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(11, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU(),
        torch.nn.Linear(32, 3), torch.nn.Tanh(),
    )  # fmt: skip
    for layer in network[::2]:
        layer.weight.data *= torch.rand_like(layer.weight) < 0.1
    fp32 = export_onnx(network, (11,), np.dtype(np.float32))
    registry = builtin_registry()
    made = {"fp32": fp32}
    for recipe in FORMATS[1:]:
        (step,) = registry.resolve(parse_recipe(recipe)).steps
        made[recipe] = registry.kinds[step.name].apply(fp32, step, Samples()).value
    return network, made


@pytest.mark.parametrize("recipe", FORMATS)
def test_every_format_gives_the_same_weights(models, recipe):
    network, made = models
    layers = layer_weights(made[recipe])
    assert len(layers) == len(SHAPES)
    for layer, original in zip(layers, network[::2], strict=True):
        expected = original.weight.detach().numpy()
        # ONNX Runtime turns Gemm into MatMul for ptdq: inputs come first there
        values = np.moveaxis(layer.values, layer.output_axis, 0)
        assert values.shape == expected.shape
        close = abs(values - expected).max()
        assert close <= (0 if recipe == "fp32" else 0.02 * abs(expected).max()), close
        # a weight that was zero stays zero: integers are held against their zero point
        assert not (values[expected == 0]).any()
        assert layer.nnz == np.count_nonzero(values)
        assert layer.bits == (32 if recipe == "fp32" else 8)


def test_an_encoding_takes_what_its_bytes_take(models):
    _, made = models
    model = made["ptsq"]
    size, layers = measure_size(model), layer_weights(model)
    others = size.initializers - size.weights
    bitmask = csr = delta = 0
    for layer in layers:
        steps = (layer.stored.astype(int) - layer.zero_point).astype(np.int16)
        bitmask += len(np.packbits(steps != 0)) + np.count_nonzero(steps)
        rows = csr_matrix(steps)
        width = 1 if rows.nnz < 256 else 2
        csr += width * len(rows.indptr) + len(rows.indices) + rows.nnz
        stream = _delta_encoded(steps.ravel())
        assert np.array_equal(_delta_decoded(stream, steps.size), steps.ravel())
        delta += len(stream)
    assert size.encodings == {
        "dense": size.initializers,
        "bitmask": others + bitmask,
        "csr": others + csr,
        "delta": others + delta,
    }
    assert size.smallest_encoding == min(size.encodings, key=size.encodings.get) == "delta"
    assert size.nnz_claim == size.nonzero == sum(layer.nnz for layer in layers)
    assert size.nnz_claim < size.entropy_bound < size.encodings["delta"] < size.initializers
    assert size.sparsity == pytest.approx(0.9, abs=0.02)


def test_a_dense_model_is_smallest_dense(exporter):
    network = torch.nn.Sequential(torch.nn.Linear(300, 300))
    size = measure_size(export_onnx(network, (300,), np.dtype(np.float32)))
    assert size.smallest_encoding == "dense"
    assert size.nnz_claim == 4 * size.nonzero == 4 * 300 * 300
    assert size.initializers == size.nnz_claim + 4 * 300
    assert size.initializers < size.artifact


def test_gaps_longer_than_a_byte_take_more_bytes():
    weights = np.zeros((1, 2000), np.float32)
    weights[0, [3, 1800]] = 1.0
    size = measure_size(_matmul(weights.T))
    # 255 stands for 255 zeros: 1796 = 7 * 255 + 11
    assert size.encodings["delta"] == (1 + 4) + (7 + 1 + 4)
    assert size.entropy_bound < size.encodings["bitmask"] == 250 + 8


def test_a_layer_of_zeros_takes_no_values():
    size = measure_size(_matmul(np.zeros((4, 5), np.float32)))
    assert (size.nnz_claim, size.entropy_bound, size.sparsity) == (0, 0, 1.0)


@pytest.mark.parametrize("recipe", FORMATS)
def test_a_stripped_model_acts_the_same(models, recipe):
    model = models[1][recipe]
    stripped = strip(model)
    onnx.checker.check_model(onnx.load_from_string(stripped))
    observations = Samples().sample(50)
    before, after = (OnnxController(m).act(observations) for m in (model, stripped))
    assert np.array_equal(before, after)
    assert len(stripped) < len(model)
    assert measure_size(stripped).initializers == measure_size(model).initializers


def test_convolutions_per_channel_keep_their_zeros(exporter):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 2)
    )
    network[0].weight.data[:, 0] = 0
    fp32 = export_onnx(network, (2, 8, 8), np.dtype(np.float32))
    samples = RNG.normal(size=(64, 2, 8, 8)).astype(np.float32)
    convolution = layer_weights(quantize_statically(fp32, samples))[0]
    assert convolution.scale.shape == (8, 1, 1, 1)
    assert not convolution.nonzero[:, 0].any()
    original = network[0].weight.detach().numpy()
    assert abs(convolution.values - original).max() < 0.01
    assert convolution.nnz > 60


@pytest.mark.parametrize("bits", [2, 4])
def test_packed_weights_are_unpacked(bits, models):
    network, made = models
    layers = network[::2]
    tensors = [node.input for node in onnx.load_from_string(made["fp32"]).graph.node
               if node.op_type == "Gemm"]  # fmt: skip
    weights, biases = {}, {}
    for names, layer in zip(tensors, layers, strict=True):
        codes = RNG.integers(0, 2**bits, layer.weight.shape).astype(np.uint8)
        weights[names[1]] = PackedWeight(codes, np.float32(0.5))
        biases[names[2]] = layer.bias.detach().numpy()
    model = write_packed(made["fp32"], weights, biases, bits)
    read = layer_weights(model)
    for layer, weight in zip(read, weights.values(), strict=True):
        expected = 0.5 * (weight.codes.astype(int) - 2 ** (bits - 1))
        assert np.array_equal(layer.values, expected)
        assert layer.bits == bits
    size = measure_size(model)
    assert size.weights == sum(w.codes.size for w in weights.values())
    assert size.nnz_claim <= -(-size.nonzero * bits // 8) + 3
    assert size.encodings["dense"] == size.initializers


def test_four_bit_weights_behind_a_transpose():
    helper = onnx.helper
    codes = RNG.integers(-8, 8, (4, 6)).astype(np.int8)
    tensor = helper.make_tensor("w", onnx.TensorProto.INT4, codes.shape, codes.ravel())
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["w.dq"], axis=0),
        helper.make_node("Transpose", ["w.dq"], ["w.t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w.t"], ["y"], name="layer"),
    ]
    scale = numpy_helper.from_array(np.arange(1, 5, dtype=np.float32), "scale")
    (layer,) = layer_weights(_model(nodes, [tensor, scale], 6, 4))
    assert (layer.bits, layer.output_axis, layer.node) == (4, 0, "layer")
    assert np.array_equal(layer.values, codes * np.arange(1, 5)[:, None])
    size = measure_size(_model(nodes, [tensor, scale], 6, 4))
    assert size.initializers == 12 + 16
    assert size.nnz_claim == -(-np.count_nonzero(codes) // 2)


def _delta_encoded(values):
    stream, gap = [], 0
    for value in values:
        if value == 0:
            gap += 1
            continue
        stream += [255] * (gap // 255) + [gap % 255, value]
        gap = 0
    return stream


def _delta_decoded(stream, size):
    values, place, i = np.zeros(size, int), 0, 0
    while i < len(stream):
        if stream[i] == 255:
            place, i = place + 255, i + 1
            continue
        place += stream[i]
        values[place] = stream[i + 1]
        place, i = place + 1, i + 2
    return values


def _matmul(weights):
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    return _model([node], [numpy_helper.from_array(weights, "w")], *weights.shape)


def _model(nodes, initializers, inputs, outputs):
    def value(name, size):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])

    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", inputs)], [value("y", outputs)], initializers
    )
    opset = [onnx.helper.make_opsetid("", 21)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
