"""Fake quantization in torch, in the places where ONNX Runtime quantizes.

``x -> s * clamp(round(x / s), low, high)`` with the straight-through estimator for the rounding
(Bengio et al. 2013) and the step ``s`` itself learned (Esser et al. 2020, LSQ): where nothing
saturates its gradient is the rounding error, where something does the integer's limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.compression.quantization.quantizer import QuantizationParameters, quantize
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.onnx_graph.placement import Placement, QuantizedLayer


class Grid(nn.Module):
    """The grid ``s * {low, ..., high}``; the integers are stored with ``zero_point`` added.

    ``scale`` has shape ``()`` or ``(channels,)``, the latter along ``axis``. What is learned is
    the scale's logarithm, so that it stays positive.
    """

    def __init__(
        self, scale: NDArray[Any], zero_point: int, low: int, high: int, axis: int | None = None
    ) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.log(torch.from_numpy(np.array(scale, np.float32))))
        self.zero_point, self.low, self.high, self.axis = zero_point, low, high, axis

    def scale(self) -> Tensor:
        """The step, ``()`` or ``(channels,)``."""
        return torch.exp(self.log_scale)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` on the grid, same shape."""
        scale = self.scale()
        if self.axis is not None:
            scale = scale.reshape([-1 if d == self.axis else 1 for d in range(x.dim())])
        # clamp after rounding, as QuantizeLinear does; its gradient is 0 where it saturates
        return torch.clamp(_round(x / scale), self.low, self.high) * scale

    def parameters_of(self) -> QuantizationParameters:
        """The grid as QuantizeLinear's parameters."""
        scale = self.scale().detach().cpu().numpy()
        return QuantizationParameters(
            scale,
            np.full(scale.shape, self.zero_point),
            self.low + self.zero_point,
            self.high + self.zero_point,
            self.axis,
        )


class BiasGrid(nn.Module):
    """Biases on the grid of the accumulator: multiples of input scale times weight scale."""

    def __init__(self, source: Grid, weight: Grid) -> None:
        super().__init__()
        self._grids = (source, weight)  # a tuple: their parameters are counted where they live

    def step(self) -> Tensor:
        """The step, ``()`` or ``(channels,)``."""
        source, weight = self._grids
        return source.scale() * weight.scale()

    def forward(self, bias: Tensor) -> Tensor:
        """``bias`` of shape ``(channels,)`` on the grid."""
        step = self.step()
        return _round(bias / step) * step


@dataclass(frozen=True, eq=False)
class FakeQuantized:
    """``module`` computes what ONNX Runtime will; ``arrays()`` is what to write for it to do so."""

    module: torch.fx.GraphModule
    layers: tuple[QuantizedLayer, ...]
    activations: Mapping[str, Grid]
    weights: Mapping[str, Grid]
    biases: Mapping[str, BiasGrid]

    def grids(self) -> list[Grid]:
        """Every grid with a step to learn."""
        return [*self.activations.values(), *self.weights.values()]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The initializers of the QDQ model, by name."""
        tensors = {
            name: value.detach().cpu().numpy() for name, value in self.module.named_parameters()
        }
        found: dict[str, NDArray[Any]] = {
            name: grid.parameters_of().scale for name, grid in self.activations.items()
        }
        for layer in self.layers:
            parameters = self.weights[layer.node].parameters_of()
            found[layer.weight.scale] = parameters.scale
            found[layer.weight.codes] = quantize(tensors[layer.weight.name], parameters)
            if layer.bias is not None:
                step = self.biases[layer.node].step().detach().cpu().numpy()
                step = np.broadcast_to(step, tensors[layer.bias.name].shape)
                codes = np.rint(tensors[layer.bias.name] / step)
                found[layer.bias.codes] = np.clip(codes, -(2**31), 2**31 - 129).astype(np.int32)
                # per tensor ONNX Runtime stores one step, or an array of one
                found[layer.bias.scale] = step if layer.weight.axis is not None else step[:1]
        return found


def insert_fake_quantizers(
    module: torch.fx.GraphModule, placement: Placement, *, weight_bits: int, activation_bits: int
) -> FakeQuantized:
    """Put a ``Grid`` behind every tensor that ``placement`` quantizes.

    ``module`` is changed in place; its nodes bear the names of the ONNX tensors and its
    parameters those of the initializers, which is what ``torch.export`` gives.

    Raises:
        RecipeError: a quantized tensor has no counterpart in ``module``.
    """
    graph = module.graph
    nodes = {node.name: node for node in graph.nodes}
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    nodes["observation"] = inputs[0]
    constants = {str(node.target): node for node in graph.nodes if node.op == "get_attr"}
    activations: dict[str, Grid] = {}

    def wrap(node: Any, quantizer: nn.Module, name: str) -> None:
        module.add_module(name, quantizer)
        with graph.inserting_after(node):
            wrapped = graph.call_module(name, (node,))
        node.replace_all_uses_with(wrapped, delete_user_cb=lambda user: user is not wrapped)

    for position, activation in enumerate(placement.activations):
        if activation.name not in nodes:
            raise RecipeError(
                f"the tensor {activation.name!r}, which ONNX Runtime quantizes, is no value of the"
                " torch program: quantization-aware training cannot follow"
            )
        # pooling and reshaping keep the scale of their input: one grid for all that share it
        if activation.scale not in activations:
            activations[activation.scale] = _activation_grid(
                placement.arrays[activation.scale],
                int(placement.arrays[activation.zero_point]),
                activation_bits,
            )
        name = f"activation_grid_{position}"
        wrap(nodes[activation.name], activations[activation.scale], name)
    weights: dict[str, Grid] = {}
    biases: dict[str, BiasGrid] = {}
    for position, layer in enumerate(placement.layers):
        for tensor in (layer.weight, layer.bias):
            if tensor is not None and tensor.name not in constants:
                raise RecipeError(
                    f"the weights {tensor.name!r}, which ONNX Runtime quantizes, are no parameter"
                    " of the torch network: quantization-aware training cannot follow"
                )
        grid = _weight_grid(placement, layer, weight_bits)
        weights[layer.node] = grid
        wrap(constants[layer.weight.name], grid, f"weight_grid_{position}")
        if layer.bias is not None:
            biases[layer.node] = BiasGrid(activations[layer.input.scale], grid)
            wrap(constants[layer.bias.name], biases[layer.node], f"bias_grid_{position}")
    module.recompile()
    return FakeQuantized(module, placement.layers, activations, weights, biases)


def _activation_grid(scale: NDArray[Any], zero_point: int, bits: int) -> Grid:
    # uint8 codes; with fewer bits the same range in coarser steps
    coarser = np.asarray(scale, np.float32) * np.float32(255 / (2**bits - 1))
    low = -(2 ** (bits - 1)) if zero_point else 0
    return Grid(coarser, zero_point, low, low + 2**bits - 1)


def _weight_grid(placement: Placement, layer: QuantizedLayer, bits: int) -> Grid:
    scale = np.asarray(placement.arrays[layer.weight.scale], np.float32)
    zero_point = int(placement.arrays[layer.weight.zero_point].flat[0])
    half = 2 ** (bits - 1)
    # 2 bits: {-1, 0, 1}; a fourth value would have no counterpart on the other side
    low, high = (-1, 1) if bits == 2 else (-half, half - 1)
    if bits < 8:
        # outliers would leave nothing for the rest: twice the mean magnitude over sqrt(high), LSQ
        codes = placement.arrays[layer.weight.codes].astype(np.float32) - zero_point
        axes = tuple(d for d in range(codes.ndim) if d != layer.weight.axis)
        magnitude = np.abs(codes).mean(axis=None if layer.weight.axis is None else axes)
        scale = scale * np.float32(2) * magnitude.astype(np.float32) / np.float32(np.sqrt(high))
    return Grid(scale, zero_point, low, high, layer.weight.axis)


def _round(x: Tensor) -> Tensor:
    return cast("Tensor", _StraightThrough.apply(x))  # type: ignore[no-untyped-call]


class _Context(Protocol):
    """What torch hands to an autograd function; this one keeps nothing."""


class _StraightThrough(torch.autograd.Function):
    """Rounds half to even as ONNX does; the gradient passes as if it did not."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor) -> Tensor:  # noqa: ARG004
        return torch.round(x)

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0]
