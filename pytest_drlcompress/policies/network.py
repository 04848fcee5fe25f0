"""The network of a policy: a ``Sequential`` of known layers that JSON can describe.

A layer may hold a ``Sequential`` of its own (``Residual``), described in the same way.

Everything the deployed controller needs is a layer: observation normalisation, squashing,
rescaling to the action bounds, clipping, argmax. What they hold are buffers, not
parameters, so that neither training nor pruning touches them.
"""

import inspect
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.policies.part_layers import Floats, OneHot, Parts
from pytest_drlcompress.reading.typed import ContentError, check

Layer = dict[str, Any]


class Normalize(nn.Module):
    """``clamp((x - mean) * scale, -clip, clip)``: what VecNormalize does to observations."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape ``(batch, size)``."""
        return torch.clamp((x - self.mean) * self.scale, -self.clip, self.clip)


class Scale(nn.Module):
    """``x * factor`` per dimension: brings observation dimensions to one range (equalize)."""

    factor: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``x`` of shape ``(batch, size)``."""
        return x * self.factor


class Pixels(nn.Module):
    """``uint8`` images to floats in [0, 1], as SB3 preprocesses them."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``x`` of shape ``(batch, channels, height, width)``."""
        return x.to(torch.float32) / 255.0


class Rescale(nn.Module):
    """``middle + half_range * x``: from [-1, 1] to the action bounds, clamped against rounding."""

    middle: Tensor
    half_range: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(size))
        self.register_buffer("half_range", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Rescale ``x`` of shape ``(batch, size)``."""
        low, high = self.middle - self.half_range, self.middle + self.half_range
        return torch.minimum(torch.maximum(self.middle + self.half_range * x, low), high)


class Clip(nn.Module):
    """``min(max(x, low), high)`` per action dimension, as SB3 clips before ``env.step``."""

    low: Tensor
    high: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.full((size,), -1.0))
        self.register_buffer("high", torch.full((size,), 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Clip ``x`` of shape ``(batch, size)``."""
        return torch.minimum(torch.maximum(x, self.low), self.high)


class Residual(nn.Module):
    """``x + branch(x)``: a residual block, whose branch keeps the shape of its input."""

    def __init__(self, branch: nn.Sequential) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch's output to ``x`` of any shape."""
        added: Tensor = x + self.branch(x)
        return added


class Argmax(nn.Module):
    """The greedy action of a discrete policy: int64 ``(batch,)`` from ``(batch, n)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Index of the largest of ``x`` along the last axis."""
        return torch.argmax(x, dim=-1)


class ArgmaxParts(nn.Module):
    """The greedy action of a MultiDiscrete policy: int64 ``(batch, len(sizes))``.

    ``sizes`` are the numbers of choices, whose values stand one after the other.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Indices of the largest of each part of ``x`` ``(batch, sum(sizes))``."""
        parts = torch.split(x, list(self.sizes), dim=-1)
        return torch.stack([torch.argmax(part, dim=-1) for part in parts], dim=-1)


class LikelyBits(nn.Module):
    """The likeliest action of a MultiBinary policy: int64 0 or 1 for each logit."""

    def forward(self, x: Tensor) -> Tensor:
        """1 where the probability of ``x`` ``(batch, n)`` is above one half."""
        likely = torch.sigmoid(x)
        # by argmax, through which pruning finds its way
        return torch.argmax(torch.stack([torch.full_like(likely, 0.5), likely], dim=-1), dim=-1)


class Reshape(nn.Module):
    """From flat actions ``(batch, size)`` to ``(batch, *shape)``."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` in its new shape."""
        return x.reshape(-1, *self.shape)


class ChannelsFirst(nn.Module):
    """Images ``(batch, height, width, channels)`` as ``(batch, channels, height, width)``."""

    def forward(self, x: Tensor) -> Tensor:
        """What SB3's ``VecTransposeImage`` does."""
        return x.permute(0, 3, 1, 2)


_LAYERS: MappingProxyType[str, tuple[type[nn.Module], tuple[str, ...]]] = MappingProxyType(
    {
        "linear": (nn.Linear, ("in_features", "out_features")),
        "conv2d": (nn.Conv2d, ("in_channels", "out_channels", "kernel_size", "stride", "padding")),
        "max_pool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding")),
        "residual": (Residual, ("branch",)),
        "flatten": (nn.Flatten, ()),
        "relu": (nn.ReLU, ()),
        "tanh": (nn.Tanh, ()),
        "elu": (nn.ELU, ()),
        "leaky_relu": (nn.LeakyReLU, ()),
        "silu": (nn.SiLU, ()),
        "gelu": (nn.GELU, ()),
        "sigmoid": (nn.Sigmoid, ()),
        "hardtanh": (nn.Hardtanh, ("min_val", "max_val")),
        "parts": (Parts, ("widths", "branches")),
        "one_hot": (OneHot, ("sizes",)),
        "floats": (Floats, ()),
        "pixels": (Pixels, ()),
        "normalize": (Normalize, ("size", "clip")),
        "scale": (Scale, ("size",)),
        "rescale": (Rescale, ("size",)),
        "clip": (Clip, ("size",)),
        "argmax": (Argmax, ()),
        "argmax_parts": (ArgmaxParts, ("sizes",)),
        "likely_bits": (LikelyBits, ()),
        "reshape": (Reshape, ("shape",)),
        "channels_first": (ChannelsFirst, ()),
        "mish": (nn.Mish, ()),
        "hardswish": (nn.Hardswish, ()),
        "hardsigmoid": (nn.Hardsigmoid, ()),
        "softplus": (nn.Softplus, ()),
        "softsign": (nn.Softsign, ()),
        "relu6": (nn.ReLU6, ()),
        "selu": (nn.SELU, ()),
        "celu": (nn.CELU, ()),
        "logsigmoid": (nn.LogSigmoid, ()),
        "tanhshrink": (nn.Tanhshrink, ()),
    }
)
Size = Annotated[int, Meta(ge=0, le=2**31)]
Sizes = Size | Annotated[list[Size], Meta(max_length=4096)]
_VALUES: MappingProxyType[str, Any] = MappingProxyType(
    {
        "branch": list[dict[str, Any]],
        "branches": Annotated[list[list[dict[str, Any]]], Meta(max_length=4096)],
        "widths": Annotated[list[Size], Meta(max_length=4096)],
        "approximate": Literal["none", "tanh"],
        "shape": Annotated[list[Size], Meta(max_length=16)],
        "sizes": Annotated[list[Size], Meta(max_length=4096)],
        **dict.fromkeys(
            (
                "min_val",
                "max_val",
                "clip",
                "alpha",
                "negative_slope",
                "beta",
                "threshold",
            ),
            float,
        ),
    }
)
"""What arguments of layers must be, where they are not ``Sizes``."""

_NAMES = MappingProxyType({cls: name for name, (cls, _) in _LAYERS.items()})
_SIZED_BY: MappingProxyType[type[nn.Module], str] = MappingProxyType(
    {Normalize: "mean", Scale: "factor", Rescale: "half_range", Clip: "low"}
)
_TUNABLE: MappingProxyType[type[nn.Module], tuple[str, ...]] = MappingProxyType(
    {
        nn.ELU: ("alpha",),
        nn.CELU: ("alpha",),
        nn.LeakyReLU: ("negative_slope",),
        nn.GELU: ("approximate",),
        nn.Softplus: ("beta", "threshold"),
    }
)
"""Arguments that are described where they are not the default."""

ACTIVATIONS: MappingProxyType[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        cls.__name__: cls
        for cls, _ in _LAYERS.values()
        if cls.__module__ == "torch.nn.modules.activation"
    }
)
"""Activation functions by the class name SB3 writes into a zip."""


def describe(network: nn.Sequential) -> list[Layer]:
    """The architecture of ``network`` as JSON builtins; ``build`` makes it again.

    Raises:
        PolicyError: a layer that the safe format does not know.
    """
    return [_describe(layer) for layer in network]


def build(architecture: Sequence[Layer]) -> nn.Sequential:
    """An uninitialised network of the described ``architecture``.

    Raises:
        PolicyError: an unknown layer type or arguments it does not take.
    """
    layers = []
    for position, layer in enumerate(architecture):
        if not isinstance(layer, dict):
            raise PolicyError(f"layer {position} is not described by an object: {layer!r}")
        arguments = dict(layer)
        name = arguments.pop("type", None)
        if not isinstance(name, str) or name not in _LAYERS:
            raise PolicyError(
                f"layer {position} has unknown type {name!r}; known: {', '.join(_LAYERS)}"
            )
        cls, known = _LAYERS[name]
        _check_arguments(position, name, arguments, (*known, *_TUNABLE.get(cls, ())))
        if "branch" in arguments:
            arguments["branch"] = build(arguments["branch"])
        if isinstance(arguments.get("branches"), list):
            arguments["branches"] = [build(branch) for branch in arguments["branches"]]
        try:
            layers.append(cls(**arguments))
        except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise PolicyError(f"layer {position} ({name}) cannot be built: {error}") from None
    return nn.Sequential(*layers)


def _check_arguments(position: int, name: str, arguments: Layer, known: tuple[str, ...]) -> None:
    """Only sizes and figures reach a layer: no device, no type, nothing that takes memory at once.

    Raises:
        PolicyError: an argument that it does not have, or a value of another kind or range.
    """
    for argument, value in arguments.items():
        if argument not in known:
            raise PolicyError(f"layer {position} ({name}) has no argument {argument!r}")
        try:
            check(value, _VALUES.get(argument, Sizes))
        except ContentError as error:
            raise PolicyError(f"layer {position} ({name}): {argument}: {error}") from None


def normalize_layer(
    mean: NDArray[Any], variance: NDArray[Any], *, epsilon: float, clip: float
) -> Normalize:
    """The layer equal to VecNormalize with these statistics (float64 arrays of one shape)."""
    layer = Normalize(mean.size, float(clip))
    with torch.no_grad():
        layer.mean.copy_(torch.from_numpy(np.array(mean, np.float64).ravel()))
        layer.scale.copy_(torch.from_numpy(1.0 / np.sqrt(np.asarray(variance).ravel() + epsilon)))
    return layer


def clip_layer(low: NDArray[np.float32], high: NDArray[np.float32]) -> Clip:
    """Clipping to a flat action box."""
    layer = Clip(low.size)
    with torch.no_grad():
        layer.low.copy_(torch.from_numpy(low.ravel().copy()))
        layer.high.copy_(torch.from_numpy(high.ravel().copy()))
    return layer


def squash_layers(low: NDArray[np.float32], high: NDArray[np.float32]) -> list[nn.Module]:
    """tanh, then rescaling to the action bounds (left out where they are [-1, 1])."""
    layers: list[nn.Module] = [nn.Tanh()]
    if not (np.all(low == -1.0) and np.all(high == 1.0)):
        layer = Rescale(low.size)
        with torch.no_grad():
            layer.middle.copy_(torch.from_numpy((low.ravel() + high.ravel()) / 2))
            layer.half_range.copy_(torch.from_numpy((high.ravel() - low.ravel()) / 2))
        layers.append(layer)
    return layers


def _describe(layer: nn.Module) -> Layer:
    name = _NAMES.get(type(layer))
    if name is None:
        raise PolicyError(
            f"a layer of type {type(layer).__name__} cannot be stored; known: {', '.join(_LAYERS)}"
        )
    described: Layer = {"type": name}
    for argument in _LAYERS[name][1]:
        if argument == "size":
            described[argument] = int(getattr(layer, _SIZED_BY[type(layer)]).numel())
        elif argument == "branch":
            described[argument] = describe(getattr(layer, argument))
        elif argument == "branches":
            described[argument] = [describe(branch) for branch in getattr(layer, argument)]
        else:
            value = getattr(layer, argument)
            described[argument] = list(value) if isinstance(value, tuple) else value
    signature = inspect.signature(type(layer)).parameters
    for argument in _TUNABLE.get(type(layer), ()):
        if getattr(layer, argument) != signature[argument].default:
            described[argument] = getattr(layer, argument)
    return described
