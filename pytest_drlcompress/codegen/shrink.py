"""Units that cannot matter are removed from an ONNX file; what it computes keeps its bits.

A hidden unit of a fully connected integer layer is dead where nothing looks at it, or where it
looks at nothing: then it always gives one code, which goes into the biases of the next layer.
Float layers stay as they are: their sums would be taken in another order.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


@dataclass(eq=False)
class _Layer:
    """A Gemm of integers: ``weight`` is ``(units, inputs)`` less its zero point."""

    weight: NDArray[np.int64]
    bias: NDArray[np.int64]
    names: tuple[str, str]
    zero_point: int
    transposed: bool
    input_scale: np.float32
    input_zero_point: int
    weight_scale: NDArray[np.float32]


@dataclass(frozen=True)
class _Link:
    """What stands between two layers: ReLU or not, then a quantizer."""

    relu: bool
    scale: np.float32
    zero_point: int
    low: int
    high: int


def shrink(model: bytes) -> bytes:
    """``model`` without its dead units; the same bytes where there are none."""
    proto = onnx.load_from_string(model)
    graph = _Graph(proto.graph)
    changed = False
    for first, link, second in graph.pairs():
        changed |= _remove(first, link, second)
    # a unit that has just gone may have been the only one that looked at another
    while changed and any(_remove(*pair) for pair in graph.pairs()):
        pass
    if not changed:
        return model
    graph.write()
    del proto.graph.value_info[:]
    return bytes(proto.SerializeToString())


def _remove(first: _Layer, link: _Link, second: _Layer) -> bool:
    unseen = ~(second.weight != 0).any(0)
    constant = ~(first.weight != 0).any(1)
    dead = unseen | constant
    if dead.all():  # one unit has to stay: an empty layer is no layer
        dead[0] = False
        constant = constant & dead
    if not dead.any():
        return False
    codes = _codes(first, link, constant)
    second.bias = second.bias + second.weight[:, constant] @ (codes - second.input_zero_point)
    first.weight, first.bias = first.weight[~dead], first.bias[~dead]
    if first.weight_scale.ndim:
        first.weight_scale = first.weight_scale[~dead]
    second.weight = second.weight[:, ~dead]
    return True


def _codes(layer: _Layer, link: _Link, units: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The codes of ``units`` that have no weights: of their biases alone."""
    multiplier = (layer.input_scale * layer.weight_scale).astype(np.float32) / link.scale
    if multiplier.ndim:
        multiplier = multiplier[units]
    steps = np.rint(layer.bias[units].astype(np.float32) * multiplier.astype(np.float32))
    low = max(link.low, link.zero_point) if link.relu else link.low
    return np.clip(steps.astype(np.int64) + link.zero_point, low, link.high)


class _Graph:
    """The chain of Gemms of a QDQ graph that may be shrunk."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.layers = {node.output[0]: self._layer(node) for node in graph.node}
        self.links = [
            (name, link, following)
            for name, layer in self.layers.items()
            if layer is not None and (found := self._link(name)) is not None
            for link, following in [found]
        ]

    def pairs(self) -> list[tuple[_Layer, _Link, _Layer]]:
        """Layers that follow each other."""
        return [
            (first, link, second)
            for name, link, following in self.links
            if (first := self.layers[name]) is not None
            and (second := self.layers[following]) is not None
        ]

    def write(self) -> None:
        """Put the layers' weights and biases back."""
        for layer in self.layers.values():
            if layer is None:
                continue
            weight = layer.weight + layer.zero_point
            arrays = (weight.T if layer.transposed else weight, layer.bias)
            for name, array in zip(layer.names, arrays, strict=True):
                old = self.tensors[name]
                dtype = numpy_helper.to_array(old).dtype
                old.CopyFrom(numpy_helper.from_array(np.array(array, dtype, order="C"), name))

    def _layer(self, node: onnx.NodeProto) -> _Layer | None:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1 and not given.get("transA")
        if node.op_type != "Gemm" or len(node.input) != 3 or not plain:
            return None
        weight, bias = (self._dequantized(name) for name in node.input[1:])
        source = self.makers.get(node.input[0])
        if weight is None or bias is None or source is None:
            return None
        if source.op_type != "DequantizeLinear" or weight.op_type != "DequantizeLinear":
            return None
        grid = self._grid(source)
        scale = self._array(weight.input[1])
        zero = self._zero(weight)
        # per-channel scales are arrays of their own, which would have to shrink as well
        if grid is None or scale is None or scale.size != 1 or zero is None or zero.size != 1:
            return None
        names = (weight.input[0], bias.input[0])
        if any(len(self.users[name]) != 1 for name in (*names, *node.input[1:])):
            return None
        codes = numpy_helper.to_array(self.tensors[names[0]]).astype(np.int64)
        transposed = not given.get("transB", 0)
        offset = int(zero.ravel()[0])
        return _Layer(
            (codes.T if transposed else codes) - offset,
            numpy_helper.to_array(self.tensors[names[1]]).astype(np.int64).ravel(),
            names,
            offset,
            transposed,
            np.float32(grid[0]),
            grid[1],
            np.asarray(scale.ravel()[0], np.float32),
        )

    def _dequantized(self, name: str) -> onnx.NodeProto | None:
        node = self.makers.get(name)
        quantized = node is not None and node.op_type == "DequantizeLinear"
        return node if quantized and node is not None and node.input[0] in self.tensors else None

    def _array(self, name: str) -> NDArray[np.float32] | None:
        tensor = self.tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor).astype(np.float32)

    def _zero(self, node: onnx.NodeProto) -> NDArray[np.int64] | None:
        if len(node.input) < 3 or node.input[2] not in self.tensors:
            return None
        return numpy_helper.to_array(self.tensors[node.input[2]]).astype(np.int64)

    def _grid(self, node: onnx.NodeProto) -> tuple[float, int] | None:
        scale, zero = self._array(node.input[1]), self._zero(node)
        if scale is None or zero is None or scale.size != 1 or zero.size != 1:
            return None
        return float(scale.ravel()[0]), int(zero.ravel()[0])

    def _link(self, name: str) -> tuple[_Link, str] | None:
        """The quantizer after the layer ``name`` and the layer that reads its codes."""
        relu, link = False, None
        while True:
            users = self.users.get(name, [])
            if len(users) != 1:
                return None
            node = users[0]
            if node.op_type == "Relu" and link is None:
                relu = True
            elif node.op_type == "QuantizeLinear" and link is None:
                grid = self._grid(node)
                if grid is None:
                    return None
                limits = np.iinfo(numpy_helper.to_array(self.tensors[node.input[2]]).dtype)
                link = _Link(relu, np.float32(grid[0]), grid[1], int(limits.min), int(limits.max))
            elif node.op_type == "Gemm" and link is not None:
                found = self.layers.get(node.output[0])
                return None if found is None else (link, node.output[0])
            elif node.op_type != "DequantizeLinear" or link is None:
                return None
            name = node.output[0]
