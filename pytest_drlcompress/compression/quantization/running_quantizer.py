"""Fake quantization of a network in RL training, whose data change while it learns.

Symmetric int8 as in Ivanov et al., section 2.3: weights by their largest magnitude, activations by
a running one. The observation's dimensions are evened out by fixed factors found at the first
batch (see ``equalize``): one step for all of them would lose the small ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pytest_drlcompress.compression.quantization.equalize import STRENGTH, migration
from pytest_drlcompress.compression.quantization.fake_quant import BiasGrid, Grid

_MOMENTUM = 0.01


class RunningQuantizer:
    """Runs ``layers`` (in the order of the network) on 8-bit weights and inputs once attached.

    Ranges follow the batches seen in training mode. ``state`` as ``state()`` returned it.
    """

    def __init__(self, layers: Sequence[nn.Linear | nn.Conv2d], state: Mapping[str, Any]) -> None:
        self.layers = list(layers)
        self.low: list[float | None] = list(state.get("low", [None] * len(self.layers)))
        self.high: list[float | None] = list(state.get("high", [None] * len(self.layers)))
        factor = state.get("factor")
        self.factor = None if factor is None else torch.tensor(factor, dtype=torch.float32)

    def state(self) -> dict[str, Any]:
        """Ranges of each layer's input and the observation's factors, as JSON builtins."""
        factor = None if self.factor is None else [float(value) for value in self.factor]
        return {"low": self.low, "high": self.high, "factor": factor}

    def attach(self) -> list[Any]:
        """Start quantizing; returns the handles whose ``remove()`` ends it."""
        return [
            layer.register_forward_hook(self._hook(position))
            for position, layer in enumerate(self.layers)
        ]

    def input_grid(self, position: int) -> Grid:
        """The grid of a layer's input: from 0 where it never was negative, else symmetric."""
        low, high = self.low[position], self.high[position]
        assert low is not None
        assert high is not None
        if low >= 0:
            return _fixed(Grid(_scalar(high / 255), 0, 0, 255))
        return _fixed(Grid(_scalar(max(-low, high) / 127), 128, -128, 127))

    def weight_grid(self, position: int) -> Grid:
        """The grid of a layer's weights (per channel for convolutions)."""
        weight = self.weight(position).detach().abs()
        if weight.dim() == 2:
            return _fixed(Grid(_scalar(float(weight.max()) / 127), 128, -127, 127))
        largest = weight.flatten(1).amax(1).clamp_min(1e-8).numpy() / 127
        return _fixed(Grid(largest, 128, -127, 127, axis=0))

    def weight(self, position: int) -> Tensor:
        """A layer's weights as they meet its (evened-out) input."""
        weight = self.layers[position].weight
        return weight / self.factor if position == 0 and self.factor is not None else weight

    def _hook(self, position: int) -> Any:
        def quantized(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]
            if module.training:
                self._observe(position, x.detach())
            if self.low[position] is None:
                return output  # nothing seen yet
            if position == 0 and self.factor is not None:
                x = x * self.factor
            source, weights = self.input_grid(position), self.weight_grid(position)
            x, weight = source(x), weights(self.weight(position))
            bias = module.bias
            if bias is not None:
                bias = BiasGrid(source, weights)(bias)
            if isinstance(module, nn.Conv2d):
                return functional.conv2d(
                    x, weight, bias, module.stride, module.padding, module.dilation, module.groups
                )
            return functional.linear(x, weight, bias)

        return quantized

    def _observe(self, position: int, x: Tensor) -> None:
        if position == 0 and x.dim() == 2:
            if self.factor is None:
                span = x.abs().amax(0).numpy()
                largest = self.layers[0].weight.detach().abs().amax(0).numpy()
                self.factor = torch.from_numpy(1 / migration(span, largest, STRENGTH))
            x = x * self.factor
        for ends, now in ((self.low, float(x.min())), (self.high, float(x.max()))):
            before = ends[position]
            ends[position] = now if before is None else before + _MOMENTUM * (now - before)


def _scalar(step: float) -> NDArray[np.float32]:
    return np.array(max(step, 1e-8), np.float32)


def _fixed(grid: Grid) -> Grid:
    grid.log_scale.requires_grad = False
    return grid
