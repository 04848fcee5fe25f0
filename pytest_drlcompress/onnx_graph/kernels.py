"""Which kernels does ONNX Runtime really execute for the linear layers of an artifact?

A "quantized" file runs in fp32 wherever the runtime cannot fuse its Q/DQ nodes into an integer
kernel, and nobody is told. The optimized graph shows it.
"""

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from pytest_drlcompress.runtime.onnxruntime import make_session

_INT8 = frozenset(
    {
        "QGemm", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger",
        "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemmFloat",
    }
)  # fmt: skip
_FLOAT = frozenset(
    {
        "Gemm", "MatMul", "Conv", "ConvTranspose", "FusedGemm", "FusedMatMul", "FusedConv",
        "NhwcFusedConv", "GemmFloat8",
    }
)  # fmt: skip
_PACKED = "MatMulNBits"
_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose"})
_FUSED_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "Tanh", "Sigmoid", "HardSigmoid"})
_CARRIES_QUANTIZATION = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_TYPES = {
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.UINT16: "uint16",
    onnx.TensorProto.INT4: "int4",
    onnx.TensorProto.UINT4: "uint4",
}


@dataclass(frozen=True)
class LayerKernel:
    """One linear layer as it executes: ``operator`` is the optimized graph's.

    ``precision`` is ``"packed"`` for a kernel that reads weights of few bits as they are stored
    and multiplies in another type: the file and the memory are small, the arithmetic need not
    be. ``touched`` says whether its input, weights or bias are quantized in the file; ``reason`` is
    why a layer executes in fp32 all the same (empty for int8).
    """

    node: str
    operator: str
    precision: Literal["int8", "packed", "fp32"]
    touched: bool = True
    reason: str = ""


def executed_kernels(model: bytes) -> tuple[LayerKernel, ...]:
    """The linear layers of ``model``, in order, as ONNX Runtime executes them here.

    A product of two activations is no layer and is left out.

    Raises:
        ArtifactError: ONNX Runtime cannot load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        make_session(model, optimized_model_path=str(path))
        graph = _Graph(onnx.load(path).graph)
    return tuple(kernel for node in graph.nodes if (kernel := _kernel(graph, node)) is not None)


def contains_quantization(model: bytes) -> bool:
    """Whether the file holds Q/DQ nodes, integer kernels or narrow integer weights."""
    graph = onnx.load_from_string(model).graph
    marks = _INT8 | _CARRIES_QUANTIZATION | {_PACKED}
    return any(node.op_type in marks for node in graph.node) or any(
        tensor.data_type in _TYPES for tensor in graph.initializer
    )


def in_fp32_although_quantized(
    kernels: tuple[LayerKernel, ...], *, claims: bool
) -> tuple[LayerKernel, ...]:
    """The layers that break the promise of a quantized file.

    With ``claims`` (the recipe promises quantized kernels) that is every layer in fp32. A file from
    elsewhere may leave a layer in fp32 on purpose: there only a layer counts whose input,
    weights or bias are quantized.
    """
    return tuple(k for k in kernels if k.precision == "fp32" and (claims or k.touched))


class _Graph:
    """An ONNX graph with its edges in both directions."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {output: node for node in self.nodes for output in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.users[name].append(node)

    def constant(self, name: str) -> bool:
        """Whether ``name`` depends on initializers alone."""
        if name in self.constants:
            return True
        maker = self.makers.get(name)
        return maker is not None and all(self.constant(i) for i in maker.input if i)

    def integers(self, name: str) -> str:
        """The integer type that ``name`` is dequantized from; ``""`` if it is not."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return ""
        for candidate in (maker.input[0], *maker.input[2:]):
            if candidate in self.constants:
                return _TYPES.get(self.constants[candidate].data_type, "integer")
        return "integer"

    def uneven(self, name: str) -> bool:
        """Whether ``name`` is dequantized with a scale and a zero point of different shapes."""
        maker = self.makers.get(name)
        if maker is None or len(maker.input) < 3:
            return False
        shapes = [list(self.constants[i].dims) for i in maker.input[1:] if i in self.constants]
        return len(shapes) == 2 and shapes[0] != shapes[1]


def _kernel(graph: _Graph, node: onnx.NodeProto) -> LayerKernel | None:
    name = node.name.removeprefix("fused ") or node.output[0]
    if node.op_type in _INT8:
        return LayerKernel(name, node.op_type, "int8")
    if node.op_type == _PACKED:
        return LayerKernel(name, node.op_type, "packed")
    if node.op_type not in _FLOAT or not graph.constant(node.input[1]):
        return None
    tensors = [name for name in node.input[:3] if name]
    touched = any(map(graph.integers, tensors))
    return LayerKernel(name, node.op_type, "fp32", touched, _reason(graph, node))


def _reason(graph: _Graph, node: onnx.NodeProto) -> str:
    """Why a float kernel runs: the first of the known obstacles that is there."""
    source, weight = (graph.integers(name) for name in node.input[:2])
    biased = len(node.input) > 2 and bool(node.input[2])
    wide = next((t for t in (weight, source) if t not in ("int8", "uint8")), "")
    followers = graph.users.get(node.output[0], [])
    activation = next((a.s.decode() for a in node.attribute if a.name == "activation"), "")
    if not activation and followers and followers[0].op_type in _FUSED_ACTIVATIONS:
        activation = followers[0].op_type
    obstacles = (
        (not weight, "its weight is stored in fp32"),
        (
            not source,
            f"its {weight} weight is DequantizeLinear'd to fp32: its input is not quantized",
        ),
        (bool(wide), f"there is no kernel for {wide} weights or activations"),
        (
            source == "int8" and weight == "uint8",
            "there is no kernel for int8 activations with uint8 weights",
        ),
        (biased and not graph.integers(node.input[-1]), "its bias is not quantized"),
        (
            any(graph.uneven(name) for name in node.input[:2]),
            "the scale and the zero point of its input or weight differ in shape",
        ),
        (bool(activation), f"its output goes through {activation} before QuantizeLinear"),
        (
            node.op_type in _CONVOLUTIONS and not followers,
            "its output is not quantized",
        ),
    )
    unknown = "ONNX Runtime has no int8 kernel for this combination of types and scales"
    return next((reason for found, reason in obstacles if found), unknown)
