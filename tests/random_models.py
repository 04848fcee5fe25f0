"""Small random networks as ONNX bytes, in floats or as ONNX Runtime quantizes them."""

import itertools
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """A chain of nodes under construction."""

    def __init__(self, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info("observation", dtype, ["batch", *shape])
        self.name = "observation"

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def add(self, operator: str, *others: str, first: bool = True, **attributes: Any) -> None:
        output = f"t{len(self.nodes)}"
        inputs = [self.name, *others] if first else [*others, self.name]
        self.nodes.append(
            helper.make_node(operator, inputs, [output], name=f"{operator}_{output}", **attributes)
        )
        self.name = output

    def quantize(self, scale: float, zero_point: int, dtype: Any = np.uint8) -> None:
        grid = self.constant(scale), self.constant(zero_point, dtype)
        self.add("QuantizeLinear", *grid)
        self.add("DequantizeLinear", *grid)
        self.scale = np.float32(scale)

    def dequantized(self, codes: Any, scale: Any, zero_point: Any, dtype: Any, axis: int) -> str:
        inputs = [
            self.constant(codes, dtype),
            self.constant(scale),
            self.constant(np.broadcast_to(zero_point, np.shape(scale)), dtype),
        ]
        output = f"d{len(self.tensors)}"
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [output], axis=axis))
        return output

    def linear(
        self, operator: str, weight: Any, bias: Any, scale: Any, zero_point: int, **attributes: Any
    ) -> None:
        """``weight`` are integers stored in uint8, ``bias`` in int32."""
        scale = np.asarray(scale, np.float32)
        weight_name = self.dequantized(weight, scale, zero_point, np.uint8, 0)
        bias_scale = np.atleast_1d(self.scale * scale).astype(np.float32)
        bias_name = self.dequantized(bias, bias_scale, 0, np.int32, 0)
        self.add(operator, weight_name, bias_name, **attributes)

    def model(self, size: Any, dtype: int = TensorProto.FLOAT) -> bytes:
        shape = ["batch", *size]
        output = helper.make_tensor_value_info(self.name, dtype, shape)
        graph = helper.make_graph(self.nodes, "g", [self.input], [output], self.tensors)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
        proto.ir_version = 10
        onnx.checker.check_model(proto)
        return bytes(proto.SerializeToString())


def integer_network(
    widths: list[int], seed: int, *, zeros: float = 0.0, hidden: str = "Relu", end: str = "Tanh"
) -> bytes:
    """A QDQ network as ``ptsq`` and ``qat`` make them, with a share of weights that are zero."""
    random = np.random.default_rng(seed)
    graph = Graph((widths[0],))
    if random.random() < 0.5:
        graph.add("Sub", graph.constant(random.standard_normal(widths[0])))
        graph.add("Mul", graph.constant(random.uniform(0.2, 3, widths[0])))
        graph.add("Clip", graph.constant(-5.0), graph.constant(5.0))
    graph.quantize(random.uniform(0.02, 0.06), int(random.integers(0, 256)))
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        zero_point = 128 if random.random() < 0.7 else int(random.integers(0, 256))
        weight = random.integers(0, 256, (outputs, inputs))
        weight[random.random(weight.shape) < zeros] = zero_point
        reach = 127 * np.sqrt(max(inputs * (1 - zeros), 1))
        bias = random.integers(-300, 300, outputs) * int(max(reach / 10, 1))
        scale = random.uniform(0.5, 2) / reach
        graph.linear("Gemm", weight, bias, scale, zero_point, transB=1)
        if number == len(widths) - 2:
            break
        graph.add(hidden)
        if hidden == "Relu":
            graph.quantize(random.uniform(0.005, 0.05), 0)
        else:
            graph.quantize(1 / 127, 128)
    if end == "Tanh":
        graph.add("Tanh")
    elif end == "clip":
        graph.add("Max", graph.constant(-np.ones(widths[-1])))
        graph.add("Min", graph.constant(np.ones(widths[-1])))
    elif end == "choice":
        graph.add("ArgMax", axis=1, keepdims=0)
        return graph.model([], TensorProto.INT64)
    return graph.model([widths[-1]])


def float_network(widths: list[int], seed: int, hidden: str = "Relu") -> bytes:
    """A network of floats."""
    random = np.random.default_rng(seed)
    graph = Graph((widths[0],))
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = random.standard_normal((outputs, inputs)) / np.sqrt(inputs)
        bias = graph.constant(random.standard_normal(outputs) / 4)
        graph.add("Gemm", graph.constant(weight), bias, transB=1)
        graph.add(hidden if number < len(widths) - 2 else "Tanh")
    return graph.model([widths[-1]])


def convolutional_network(seed: int, *, quantize_reshaped: bool = True) -> bytes:
    """Images to choices: two quantized convolutions, one per channel, and two dense layers."""
    random = np.random.default_rng(seed)
    graph = Graph((2, 12, 12), TensorProto.UINT8)
    graph.add("Cast", to=TensorProto.FLOAT)
    graph.add("Mul", graph.constant(1 / 255))
    graph.quantize(1 / 255, 0)
    graph.linear(
        "Conv", random.integers(0, 256, (4, 2, 4, 4)), random.integers(-9999, 9999, 4),
        random.uniform(0.001, 0.01, 4), 128, strides=[2, 2],
    )  # fmt: skip
    graph.add("Relu")
    graph.quantize(0.02, 0)
    graph.linear(
        "Conv", random.integers(0, 256, (3, 4, 3, 3)), random.integers(-9999, 9999, 3),
        random.uniform(0.001, 0.01, 3), 128, pads=[1, 1, 1, 1],
    )  # fmt: skip
    graph.add("Relu")
    graph.quantize(0.02, 0)
    graph.add("Flatten", axis=1)
    if quantize_reshaped:
        graph.quantize(0.02, 0)
    graph.linear(
        "Gemm", random.integers(0, 256, (5, 75)), random.integers(-999, 999, 5), 0.002, 128,
        transB=1,
    )  # fmt: skip
    return graph.model([5])
