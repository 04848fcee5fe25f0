"""Packed weights of 4 and 2 bits: stored so, read so by the kernel, and what torch computes."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from samples import Samples
from test_qat import QUICK, make, make_policy
from torch import nn

from pytest_drlcompress.compression.quantization.packed import PackedWeight, pack, write_packed
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.onnx_graph.kernels import (
    contains_quantization,
    executed_kernels,
    in_fp32_although_quantized,
)
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.runtime.onnxruntime import OnnxController

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("inputs", [11, 64, 300])
def test_onnxruntime_reads_what_was_packed(bits, inputs):
    """Sizes below, at and above a block; every code occurs."""
    network = nn.Sequential(nn.Linear(inputs, 7), nn.ReLU(), nn.Linear(7, 3, bias=False)).eval()
    model = export_onnx(network, (inputs,), np.dtype(np.float32))
    codes = [RNG.integers(0, 2**bits, (7, inputs)), RNG.integers(0, 2**bits, (3, 7))]
    scales = [np.float32(0.03), np.float32(0.2)]
    weights = {
        f"{layer}.weight": PackedWeight(code.astype(np.uint8), np.asarray(scale))
        for layer, code, scale in zip((0, 2), codes, scales, strict=True)
    }
    bias = RNG.normal(size=7).astype(np.float32)
    packed = write_packed(model, weights, {"0.bias": bias}, bits)
    x = RNG.normal(size=(50, inputs)).astype(np.float32)
    first, second = (s * (c - 2.0 ** (bits - 1)) for s, c in zip(scales, codes, strict=True))
    wanted = np.maximum(x @ first.T + bias, 0) @ second.T
    np.testing.assert_allclose(OnnxController(packed).act(x), wanted, atol=2e-5)


def test_the_first_code_of_a_byte_is_in_its_lowest_bits():
    codes = np.array([[1, 2, 3]], np.uint8)
    assert pack(codes, 4, 16)[0, 0, :3].tolist() == [0x21, 0x83, 0x88]
    assert pack(codes, 2, 16)[0, 0].tolist() == [0b10_11_10_01, 0b10101010, 0b10101010, 0b10101010]


@pytest.mark.parametrize("bits", [4, 2])
def test_a_packed_artifact_is_small_and_executes_packed(bits):
    policy = make_policy("relu")
    packed = make(policy, f"qat@{bits}:storage=packed,{QUICK}")
    stored = make(policy, f"qat@{bits}:steps=1,samples=100")
    kernels = executed_kernels(packed.model)
    assert [k.precision for k in kernels] == ["packed"] * 3, kernels
    assert contains_quantization(packed.model)
    assert not in_fp32_although_quantized(kernels, claims=True)
    report = packed.provenance["qat"]
    assert (report["stored_weight_bits"], report["activation_bits"]) == (bits, 32)
    assert stored.provenance["qat"]["stored_weight_bits"] == 8
    matrices = [
        numpy_helper.to_array(t)
        for t in onnx.load_from_string(packed.model).graph.initializer
        if t.name.endswith("_packed")
    ]
    # 11 and 64 inputs fill blocks of 16 and 64
    assert sum(m.nbytes for m in matrices) == (64 * 16 + 64 * 64 + 3 * 64) * bits // 8
    assert len(packed.model) < len(stored.model)


def test_more_bits_come_closer():
    policy, observations = make_policy("tanh"), Samples().sample(1000)
    exact = policy.network(torch.from_numpy(observations)).detach().numpy()
    errors = [
        np.abs(OnnxController(make(policy, recipe).model).act(observations) - exact).mean()
        for recipe in (f"qat@4:storage=packed,{QUICK}", f"qat@2:storage=packed,{QUICK}")
    ]
    assert 0 < errors[0] < errors[1] < 0.1


@pytest.mark.parametrize(
    ("quantize_input", "relu", "precision", "reason"),
    [
        (False, False, "packed", ""),
        (False, True, "fp32", "int4 weight is DequantizeLinear'd to fp32: its input is not"),
        (True, False, "fp32", "there is no kernel for int4 weights"),
    ],
)
def test_why_weights_are_not_stored_as_int4_initializers(quantize_input, relu, precision, reason):
    """What ONNX Runtime makes of them; when it learns more, the recipe has a better way."""
    codes = RNG.integers(-8, 8, (32, 16))
    constants = [
        helper.make_tensor("codes", TensorProto.INT4, codes.shape, codes.ravel().tolist()),
        numpy_helper.from_array(np.asarray(np.float32(0.1)), "scale"),
        numpy_helper.from_array(np.asarray(np.uint8(128)), "middle"),
        numpy_helper.from_array(np.ones(16, np.float32), "bias"),
    ]
    nodes = [helper.make_node("DequantizeLinear", ["codes", "scale"], ["weight"])]
    if quantize_input:
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "scale", "middle"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "middle"], ["x2"]),
        ]
    source = "x2" if quantize_input else "x"
    nodes.append(helper.make_node("Gemm", [source, "weight", "bias"], ["y"], "layer"))
    nodes.append(helper.make_node("Relu" if relu else "Tanh", ["y"], ["h"]))
    nodes.append(helper.make_node("Tanh", ["h"], ["z"]))
    graph = helper.make_graph(
        nodes,
        "int4",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 32])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 16])],
        constants,
    )
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    (kernel,) = executed_kernels(model)
    assert kernel.precision == precision, kernel
    assert reason in kernel.reason


def test_a_convolution_cannot_be_packed():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 1)).eval()
    model = export_onnx(network, (1, 3, 3), np.dtype(np.float32))
    with pytest.raises(RecipeError, match="is a Conv: only fully connected layers can be packed"):
        write_packed(model, {}, {}, 4)


@pytest.mark.parametrize("recipe", ["qat:storage=packed", "qat@4:storage=packed,a=4"])
def test_only_four_and_two_bits_are_packed(recipe):
    with pytest.raises(RecipeError, match="storage=packed is for qat@4 and qat@2"):
        make(make_policy("relu"), recipe)
