"""The check of executed kernels catches "quantized" models that ONNX Runtime runs in fp32."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import ROOT
from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.onnx_graph.kernels import (
    contains_quantization,
    executed_kernels,
    in_fp32_although_quantized,
)
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.store import load_network

RNG = np.random.default_rng(0)


def qdq_model(*, hidden="uint8", bias="int32", observation="uint8", weight="uint8", uneven=False):
    """A 4-8-2 ReLU network with Q/DQ pairs; each argument plants one obstacle.

    ``hidden`` and ``observation`` are the types the activations are quantized to (``None``: not
    at all), ``bias`` and ``weight`` those that are stored.
    """
    nodes, constants = [], {}
    middles = {"uint8": 128, "int8": 0, "uint16": 32768, "int32": 0}

    def constant(name, array):
        constants[name] = array
        return name

    def pair(tensor, kind, scale, zero_point=None):
        if kind is None:
            return tensor
        zero = np.array(middles[kind] if zero_point is None else zero_point, kind)
        step = np.array(scale, np.float32)
        parameters = [constant(f"{tensor}.s", step), constant(f"{tensor}.z", zero)]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *parameters], [f"{tensor}.q"]))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{tensor}.q", *parameters], [f"{tensor}.dq"])
        )
        return f"{tensor}.dq"

    def stored(name, values, kind, scale):
        if kind is None:
            return constant(name, values.astype(np.float32))
        zero = np.array(middles[kind], kind)
        codes = (np.rint(values / scale) + zero).astype(kind)
        names = [
            constant(f"{name}.codes", codes),
            constant(f"{name}.s", np.array([scale] if uneven else scale, np.float32)),
            constant(f"{name}.z", zero),
        ]
        nodes.append(helper.make_node("DequantizeLinear", names, [f"{name}.dq"]))
        return f"{name}.dq"

    def layer(number, source, step, size):
        weights, offsets = RNG.uniform(-1, 1, (size[1], size[0])), RNG.uniform(-1, 1, size[1])
        product = np.float32(step) * np.float32(1 / 127)
        inputs = [
            source,
            stored(f"w{number}", weights, weight, np.float32(1 / 127)),
            stored(f"b{number}", offsets, bias, product),
        ]
        nodes.append(
            helper.make_node("Gemm", inputs, [f"linear{number}"], f"layer{number}", transB=1)
        )
        return f"linear{number}"

    first = layer(1, pair("observation", observation, 0.02), 0.02, (4, 8))
    nodes.append(helper.make_node("Relu", [first], ["relu"], "relu"))
    zero_point = 0 if hidden == "uint8" else None
    layer(2, pair("relu", hidden, 0.03, zero_point), 0.03, (8, 2))
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("linear2", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_a_well_placed_model_executes_int8():
    kernels = executed_kernels(qdq_model())
    assert [k.precision for k in kernels] == ["int8", "int8"], kernels
    assert [k.node for k in kernels] == ["layer1", "layer2"]
    assert not in_fp32_although_quantized(kernels, claims=True)


@pytest.mark.parametrize(
    ("planted", "broken", "reason"),
    [
        ({"hidden": "int8", "observation": "int8", "weight": "int8"}, "layer1", "through Relu"),
        ({"bias": None}, "layer2", "its bias is not quantized"),
        ({"observation": None}, "layer1", "its input is not quantized"),
        ({"hidden": None}, "layer2", "its input is not quantized"),
        ({"hidden": "uint16"}, "layer2", "no kernel for uint16"),
        ({"weight": None}, "layer1", "its weight is stored in fp32"),
        ({"uneven": True}, "layer1", "differ in shape"),
    ],
    ids=lambda value: ",".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_a_planted_obstacle_is_caught_and_named(planted, broken, reason):
    model = qdq_model(**planted)
    assert contains_quantization(model)
    found = in_fp32_although_quantized(executed_kernels(model), claims=False)
    named = {kernel.node: kernel.reason for kernel in found}
    assert reason in named[broken], named


def test_an_fp32_model_promises_nothing():
    model = qdq_model(hidden=None, bias=None, observation=None, weight=None)
    assert not contains_quantization(model)
    kernels = executed_kernels(model)
    assert [k.precision for k in kernels] == ["fp32", "fp32"]
    assert not in_fp32_although_quantized(kernels, claims=False)
    assert len(in_fp32_although_quantized(kernels, claims=True)) == 2


def test_the_gate_fails_a_file_that_only_looks_quantized(suites):
    """Whole: its actions are right, its weights are 8-bit, and its last layer executes in fp32."""
    network = load_network(ROOT / "baselines/trpo-hopper")
    observations = RNG.normal(size=(512, 11)).astype(np.float32)
    honest = quantize_statically(export_onnx(network, (11,), np.dtype(np.float32)), observations)
    model = onnx.load_from_string(honest)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    last = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
    codes, scale, zero_point = (constants[name] for name in makers[last.input[2]].input)
    bias = ((codes - zero_point) * scale).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    last.input[2] = "bias"
    (suites.path / "honest.onnx").write_bytes(honest)
    (suites.path / "planted.onnx").write_bytes(model.SerializeToString())
    variants = ("--drlc-variant=honest.onnx", "--drlc-variant=planted.onnx")
    result = suites.runpytest("suites/test_quantization_error.py", *variants)
    result.assert_outcomes(passed=1, failed=1)
    reason = f"executes in fp32 '{last.name}' as Gemm: its bias is not quantized."
    result.stdout.fnmatch_lines(
        ["action error trpo-hopper / honest: PASS*", "action error trpo-hopper / planted: FAIL*"]
    )
    result.stdout.fnmatch_lines([f"*Not quantized in effect, ONNX Runtime {reason}*"])
