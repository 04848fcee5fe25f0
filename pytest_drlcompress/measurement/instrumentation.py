"""Switches behind the quantizers of an ONNX graph: each can be turned on alone.

The rewritten graph computes in fp32. Each switch is an input of the model that chooses between
a quantized tensor and the fp32 one. For the input that is (made of) the observation the switch
has one entry a dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_LINEAR = ("Gemm", "MatMul", "Conv")


@dataclass(frozen=True)
class Site:
    """One quantizer: ``switch`` is the model's input that turns it on, of length ``size``."""

    layer: int
    switch: str
    tensor: str
    scale: float | None
    size: int = 1


@dataclass(frozen=True, eq=False)
class Probe:
    """The instrumented model: its switches, and whether weights were trained, ranges dynamic."""

    model: bytes
    activations: tuple[Site, ...]
    weights: tuple[Site, ...]
    trained: bool
    dynamic: bool


def instrument(model: bytes, reference: bytes) -> Probe:
    """``model`` with its switches; ``reference`` is the fp32 model, whose weights stand in."""
    return _Instrumentation(model, reference).probe()


class _Instrumentation:
    """Rewrites a quantized graph into an fp32 one with a switch behind each quantizer."""

    def __init__(self, model: bytes, reference: bytes) -> None:
        self._proto = onnx.load_from_string(model)
        self._graph = self._proto.graph
        self._arrays = {t.name: numpy_helper.to_array(t) for t in self._graph.initializer}
        exact = onnx.load_from_string(reference).graph.initializer
        self._exact = {t.name: numpy_helper.to_array(t) for t in exact}
        self._activations: list[Site] = []
        self._weights: list[Site] = []
        self._trained = False

    def probe(self) -> Probe:
        self._expand_integer_products()
        nodes = list(self._graph.node)
        makers = {output: node for node in nodes for output in node.output}
        layers = [node for node in nodes if node.op_type in _LINEAR]
        switched: dict[str, str] = {}
        for number, layer in enumerate(layers, start=1):
            source = makers.get(layer.input[0])
            if source is not None and source.op_type == "DequantizeLinear":
                self._switch_activation(number, layer, source, makers, switched)
            self._switch_weights(number, layer, makers)
        self._sort()
        return Probe(
            self._proto.SerializeToString(),
            tuple(self._activations),
            tuple(self._weights),
            self._trained,
            any(node.op_type == "DynamicQuantizeLinear" for node in self._graph.node),
        )

    def _expand_integer_products(self) -> None:
        """MatMulInteger, Cast and Mul become DequantizeLinear and MatMul."""
        makers = {output: node for node in self._graph.node for output in node.output}
        users = {name: node for node in self._graph.node for name in node.input}
        for product in [n for n in self._graph.node if n.op_type == "MatMulInteger"]:
            dynamic = makers[product.input[0]]
            cast = users[product.output[0]]
            scaled = users[cast.output[0]]
            factor = makers[next(i for i in scaled.input if i != cast.output[0])]
            weight_scale = next(i for i in factor.input if i in self._arrays)
            name = product.name
            self._graph.node.extend(
                [
                    helper.make_node("DequantizeLinear", list(dynamic.output), [f"{name}.input"]),
                    helper.make_node(
                        "DequantizeLinear",
                        [product.input[1], weight_scale, product.input[3]],
                        [f"{name}.weight"],
                        axis=1,
                    ),
                    helper.make_node(
                        "MatMul", [f"{name}.input", f"{name}.weight"], list(scaled.output)
                    ),
                ]
            )
            for node in (product, cast, scaled, factor):
                self._graph.node.remove(node)
        self._sort()

    def _switch_activation(
        self,
        number: int,
        layer: onnx.NodeProto,
        dequantize: onnx.NodeProto,
        makers: Mapping[str, onnx.NodeProto],
        switched: dict[str, str],
    ) -> None:
        quantize = makers.get(dequantize.input[0])
        if quantize is None:
            return
        tensor, quantized = quantize.input[0], dequantize.output[0]
        if quantized not in switched:
            size = self._width(layer) if number == 1 and layer.op_type != "Conv" else 1
            switch = f"drlc.switch.activation.{number}"
            scale = self._arrays.get(dequantize.input[1])
            self._add_switch(switch, size, quantized, tensor)
            value = None if scale is None else float(np.max(scale))
            self._activations.append(Site(number, switch, tensor, value, size))
            if size > 1 and tensor != self._graph.input[0].name:
                self._graph.output.append(onnx.ValueInfoProto(name=tensor))
            switched[quantized] = f"{switch}.out"
        layer.input[0] = switched[quantized]

    def _switch_weights(
        self, number: int, layer: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]
    ) -> None:
        switch = f"drlc.switch.weight.{number}"
        scale: float | None = None
        for position, name in list(enumerate(layer.input))[1:3]:
            dequantize = makers.get(name)
            if dequantize is None or dequantize.op_type != "DequantizeLinear":
                continue
            steps = self._arrays[dequantize.input[1]]
            exact = self._counterpart(dequantize, self._dequantized(dequantize), steps)
            if exact is None:
                self._trained = True
                continue
            fp32 = f"{switch}.{position}.fp32"
            self._graph.initializer.append(numpy_helper.from_array(exact, fp32))
            self._add_switch(switch, 1, name, fp32, declare=scale is None, suffix=f".{position}")
            layer.input[position] = f"{switch}.{position}.out"
            scale = float(np.max(steps)) if scale is None else scale
        if scale is not None:
            self._weights.append(Site(number, switch, "", scale))

    def _add_switch(
        self, switch: str, size: int, on: str, off: str, *, declare: bool = True, suffix: str = ""
    ) -> None:
        if declare:
            info = helper.make_tensor_value_info(switch, onnx.TensorProto.BOOL, [size])
            self._graph.input.append(info)
        self._graph.node.append(
            helper.make_node("Where", [switch, on, off], [f"{switch}{suffix}.out"])
        )

    def _dequantized(self, node: onnx.NodeProto) -> NDArray[np.float32]:
        codes = self._arrays[node.input[0]].astype(np.float32)
        scale = self._arrays[node.input[1]]
        zero = self._arrays[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale)
        if scale.size > 1:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1) % codes.ndim
            shape = [-1 if d == axis else 1 for d in range(codes.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
        return np.asarray((codes - zero.astype(np.float32)) * scale, np.float32)

    def _counterpart(
        self, node: onnx.NodeProto, rounded: NDArray[np.float32], steps: NDArray[Any]
    ) -> NDArray[np.float32] | None:
        """The fp32 weights that were rounded; ``None`` if the reference has none that could be."""
        exact = self._exact.get(node.input[0].removesuffix("_quantized"))
        if exact is None:
            return None
        factor = self._arrays.get("equalize.factor")
        candidates = [exact, exact.T] if exact.ndim == 2 else [exact]
        if factor is not None and exact.ndim == 2:
            candidates += [c / f for c in candidates for f in (factor, factor[:, None])
                           if f.size == c.shape[-1 if f.ndim == 1 else 0]]  # fmt: skip
        for candidate in candidates:
            if candidate.shape == rounded.shape:
                difference = np.abs(candidate - rounded)
                if difference.max() <= 1.01 * float(np.max(steps)):
                    return np.ascontiguousarray(candidate, np.float32)
        return None

    def _width(self, layer: onnx.NodeProto) -> int:
        makers = {output: node for node in self._graph.node for output in node.output}
        codes = makers.get(layer.input[1])
        name = codes.input[0] if codes is not None else layer.input[1]
        if name not in self._arrays:
            return 1
        transposed = any(a.name == "transB" and a.i == 1 for a in layer.attribute)
        return int(self._arrays[name].shape[1 if transposed else 0])

    def _sort(self) -> None:
        """Order the nodes so that each follows those it depends on."""
        ready = (
            {i.name for i in self._graph.input} | {t.name for t in self._graph.initializer} | {""}
        )
        waiting, ordered = list(self._graph.node), []
        while waiting:
            runnable = [node for node in waiting if all(name in ready for name in node.input)]
            assert runnable, "a cycle in an ONNX graph"
            for node in runnable:
                ready.update(node.output)
            ordered += runnable
            waiting = [node for node in waiting if node not in runnable]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del self._graph.node[:]
        self._graph.node.extend(copies)
