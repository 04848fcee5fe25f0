"""The weights of an ONNX model's linear layers as the file stores them, whatever its format.

A layer's weight may be a float initializer (fp32), the integer input of an integer kernel
(``ptdq``), or integers behind a DequantizeLinear (``ptsq``, ``qat``); a toolchain may have put a
Transpose in between. Whether a weight is zero is asked of the file, not of the training state: an
integer weight that equals its zero point is a zero.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_WEIGHT_INPUT = MappingProxyType(
    {
        "Gemm": 1, "MatMul": 1, "Conv": 1, "ConvTranspose": 1,
        "FusedGemm": 1, "FusedMatMul": 1, "FusedConv": 1,
        "MatMulInteger": 1, "ConvInteger": 1, "MatMulIntegerToFloat": 1,
        "DynamicQuantizeMatMul": 1,
        "QLinearMatMul": 3, "QLinearConv": 3, "QGemm": 3, "MatMulNBits": 1,
    }
)  # fmt: skip
"""Operators of linear layers and which of their inputs the weight is."""

_ZERO_POINT_INPUT = MappingProxyType(
    {
        "MatMulInteger": 3, "ConvInteger": 3, "MatMulIntegerToFloat": 5,
        "DynamicQuantizeMatMul": 3, "QLinearMatMul": 5, "QLinearConv": 5, "QGemm": 5,
    }
)  # fmt: skip
_SCALE_INPUT = MappingProxyType(
    {
        "MatMulIntegerToFloat": 3, "DynamicQuantizeMatMul": 2,
        "QLinearMatMul": 4, "QLinearConv": 4, "QGemm": 4,
    }
)  # fmt: skip
_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvInteger", "QLinearConv"})
_PASSED_THROUGH = frozenset({"QuantizeLinear", "DequantizeLinear", "Transpose", "Identity", "Cast"})
_FOUR_BITS = frozenset({onnx.TensorProto.INT4, onnx.TensorProto.UINT4})


@dataclass(frozen=True, eq=False)
class LayerWeight:
    """The weight of one linear layer.

    ``node`` is the layer's name, ``initializer`` the tensor's; ``stored`` holds the tensor as it
    lies in the file (integers for a quantized layer), ``zero_point`` what stands for 0.0 and
    ``scale`` the step, both shaped to broadcast against it. ``scale`` is ``None`` where the
    values are floats, and where the file does not say which scale belongs to the integers.
    ``bits`` are those one weight takes in the file, ``output_axis`` is the output channels',
    ``stored_bytes`` the tensor takes as it lies there. Packed weights (``qat@4``) are unpacked.
    """

    node: str
    operator: str
    initializer: str
    stored: NDArray[Any]
    zero_point: NDArray[np.int64]
    scale: NDArray[np.float32] | None
    bits: int
    output_axis: int
    stored_bytes: int

    @cached_property
    def nonzero(self) -> NDArray[np.bool_]:
        """Which weights are not zero, in the shape of ``stored``."""
        return np.asarray(self.stored != self.zero_point)

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """What the weights stand for: exactly zero where ``nonzero`` is false.

        Integer steps from the zero point where ``scale`` is ``None`` and the layer is quantized.
        """
        if self.stored.dtype.kind == "f":
            return self.stored.astype(np.float32)
        steps = (self.stored.astype(np.int64) - self.zero_point).astype(np.float32)
        return steps if self.scale is None else steps * self.scale

    @property
    def nnz(self) -> int:
        """How many weights are not zero."""
        return int(np.count_nonzero(self.nonzero))

    @property
    def sparsity(self) -> float:
        """Share of the weights that are zero."""
        return 1 - self.nnz / self.stored.size


def layer_weights(model: bytes) -> tuple[LayerWeight, ...]:
    """The weights of every linear layer of ``model``, in the order of its nodes.

    A tensor that several layers share is listed once; a product of two activations has none.
    """
    graph = _Constants(onnx.load_from_string(model).graph)
    found: dict[str, LayerWeight] = {}
    for node in graph.nodes:
        weight = graph.weight(node)
        if weight is not None:
            found.setdefault(weight.initializer, weight)
    return tuple(found.values())


class _Constants:
    """The constants of a graph, and who makes them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.tensors = {tensor.name: tensor for tensor in constant_tensors(graph)}
        self.makers = {output: node for node in self.nodes for output in node.output}

    def weight(self, node: onnx.NodeProto) -> LayerWeight | None:
        """The weight of ``node``; ``None`` if it is no linear layer or has no constant weight."""
        position = _WEIGHT_INPUT.get(node.op_type)
        if position is None:
            return None
        # W @ x has its weight on the left
        places = (position, 0) if node.op_type == "MatMul" else (position,)
        for place in places:
            path = self._path(node.input[place])
            if path is not None and node.op_type == "MatMulNBits":
                return self._unpack(node, path[0])
            if path is not None:
                return self._read(node, place, *path)
        return None

    def _path(self, name: str) -> tuple[onnx.TensorProto, list[onnx.NodeProto]] | None:
        """The constant that ``name`` comes from, and the nodes from it to ``name``."""
        between: list[onnx.NodeProto] = []
        while name not in self.tensors:
            maker = self.makers.get(name)
            if maker is None or maker.op_type not in _PASSED_THROUGH:
                return None
            between.insert(0, maker)
            name = maker.input[0]
        return self.tensors[name], between

    def _read(
        self,
        node: onnx.NodeProto,
        place: int,
        tensor: onnx.TensorProto,
        between: list[onnx.NodeProto],
    ) -> LayerWeight:
        stored, bits = _integers_or_floats(tensor), bits_per_value(tensor)
        axis = _output_axis(node, place, stored.ndim)
        for maker in reversed(between):
            if maker.op_type == "Transpose":
                axis = _permutation(maker, stored.ndim)[axis]
        dequantize = next((n for n in between if n.op_type == "DequantizeLinear"), None)
        integer = stored.dtype.kind != "f"
        if integer and dequantize is not None:
            channel = next((a.i for a in dequantize.attribute if a.name == "axis"), 1)
            block = next((a.i for a in dequantize.attribute if a.name == "block_size"), 0)
            shape = _broadcaster(stored.shape, channel, block)
            scale, zero_point = self._optional(dequantize, 1), self._optional(dequantize, 2)
        else:
            shape = _broadcaster(stored.shape, axis, 0)
            scale = self._optional(node, _SCALE_INPUT.get(node.op_type))
            # ptdq multiplies the scale in after the product; ONNX Runtime names it after the weight
            named = self.tensors.get(tensor.name.removesuffix("_quantized") + "_scale")
            if scale is None and node.op_type in ("MatMulInteger", "ConvInteger") and named:
                scale = _integers_or_floats(named)
            zero_point = self._optional(node, _ZERO_POINT_INPUT.get(node.op_type))
        scaled = integer and scale is not None
        return LayerWeight(
            node=node.name or node.output[0],
            operator=node.op_type,
            initializer=tensor.name,
            stored=stored,
            zero_point=np.zeros((), np.int64)
            if zero_point is None or not integer
            else shape(zero_point.astype(np.int64)),
            scale=shape(scale.astype(np.float32)) if scaled and scale is not None else None,
            bits=bits,
            output_axis=axis,
            stored_bytes=tensor_bytes(tensor),
        )

    def _unpack(self, node: onnx.NodeProto, tensor: onnx.TensorProto) -> LayerWeight:
        """``(N, K)`` codes of a MatMulNBits; its first code of a byte is in the lowest bits."""
        given = {attribute.name: attribute.i for attribute in node.attribute}
        rows, columns, bits = given["N"], given["K"], given.get("bits", 4)
        block = given["block_size"]
        zero_point = np.full((), 2 ** (bits - 1), np.int64)
        offsets = self._optional(node, 3)
        if offsets is not None and offsets.dtype.kind in "iu":
            blocks = -(-columns // block)
            offsets = unpack(offsets.reshape(rows, -1), bits)[:, :blocks].astype(np.int64)
            zero_point = np.repeat(offsets, block, axis=1)[:, :columns]
        scale = self._optional(node, 2)
        if scale is not None:
            scale = scale.astype(np.float32).reshape(rows, -1)
            scale = np.repeat(scale, block, axis=1)[:, :columns]
        return LayerWeight(
            node=node.name or node.output[0],
            operator=node.op_type,
            initializer=tensor.name,
            stored=unpack(numpy_helper.to_array(tensor).reshape(rows, -1), bits)[:, :columns],
            zero_point=zero_point,
            scale=scale,
            bits=bits,
            output_axis=0,
            stored_bytes=tensor_bytes(tensor),
        )

    def _optional(self, node: onnx.NodeProto, place: int | None) -> NDArray[Any] | None:
        if place is None or place >= len(node.input) or node.input[place] not in self.tensors:
            return None
        return _integers_or_floats(self.tensors[node.input[place]])


def constant_tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Every constant of ``graph`` under the name its users know: initializers, Constant nodes."""
    tensors = list(graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensor = onnx.TensorProto()
                    tensor.CopyFrom(attribute.t)
                    tensor.name = node.output[0]
                    tensors.append(tensor)
    return tensors


def unpack(packed: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """``(rows, bytes)`` of codes of ``bits`` bits each as ``(rows, codes)``."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (packed.astype(np.uint8)[..., None] >> shifts) & np.uint8(2**bits - 1)
    return np.asarray(codes.reshape(len(packed), -1), np.uint8)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the values of ``tensor``."""
    return math.ceil(int(math.prod(tensor.dims)) * bits_per_value(tensor) / 8)


def bits_per_value(tensor: onnx.TensorProto) -> int:
    """Bits that one value of ``tensor`` takes in the file; two 4-bit values share a byte."""
    if tensor.data_type in _FOUR_BITS:
        return 4
    return int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize) * 8


def _integers_or_floats(tensor: onnx.TensorProto) -> NDArray[Any]:
    array = numpy_helper.to_array(tensor)
    # 4-bit integers and bfloat16 are types of ml_dtypes, which NumPy's functions do not all take
    if tensor.data_type in _FOUR_BITS:
        return array.astype(np.int8)
    return array if array.dtype.kind in "iuf" else array.astype(np.float32)


def _broadcaster(
    shape: tuple[int, ...], axis: int, block: int
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What brings a scale or zero point (one, one a channel, one a block) to ``shape``'s rank."""

    def spread(array: NDArray[Any]) -> NDArray[Any]:
        if array.size == 1:
            return array.reshape(())
        if block:
            return np.repeat(array, block, axis=axis).take(range(shape[axis]), axis=axis)
        sizes = [1] * len(shape)
        sizes[axis] = array.size
        return array.reshape(sizes)

    return spread


def _output_axis(node: onnx.NodeProto, place: int, rank: int) -> int:
    if node.op_type in _CONVOLUTIONS:
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if place == 0:
        return rank - 2
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return rank - 2 if transposed else rank - 1


def _permutation(node: onnx.NodeProto, rank: int) -> list[int]:
    given = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
    return given or list(range(rank))[::-1]
