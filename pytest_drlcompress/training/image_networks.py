"""The networks of the image policies: Q values of four stacked 84x84 screens.

``nature`` is the convolutional network of Mnih et al. 2015; ``resnet`` the residual one of
Ivanov et al. 2024, supplement, Table 2: in each of three stacks a convolution, max-pooling and
two residual blocks.
"""

import math
from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import nn

from pytest_drlcompress.policies.network import Argmax, Pixels, Residual

_SIDE = 84
_STACKS = ((32, 8, 4, 2), (64, 4, 2, 1), (64, 3, 1, 1))
"""Channels, kernel, stride and padding of the convolution that opens each stack."""

_LAST_GAIN = 0.1
"""First Q values near zero: returns are of about one."""


def make_image_network(name: str, stack: int, actions: int) -> nn.Sequential:
    """The network ``name`` from ``uint8`` images ``(batch, stack, 84, 84)`` to Q values.

    Weights are orthogonal with a gain of sqrt(2), drawn from torch's global generator.
    """
    network = nn.Sequential(Pixels(), *IMAGE_NETWORKS[name](stack, actions))
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, math.sqrt(2))
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    nn.init.orthogonal_(layers[-1].weight, _LAST_GAIN)
    return network


def greedy(network: nn.Sequential) -> nn.Sequential:
    """The deployed policy: the action of the largest Q value, weights rounded to bfloat16.

    A file holds them in half the bytes. Training under autocast acts on just these; training in
    single precision loses the rounding, before the policy is evaluated.
    """
    layers = make_like(network)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    return nn.Sequential(*layers, Argmax()).eval()


def make_like(network: nn.Sequential) -> nn.Sequential:
    """A copy in float32 and torch's usual memory format."""
    from pytest_drlcompress.policies.network import build, describe

    copy = build(describe(network))
    copy.load_state_dict(network.state_dict())
    return copy


def _nature(stack: int, actions: int) -> list[nn.Module]:
    return [
        nn.Conv2d(stack, 32, 8, 4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, 2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, actions),
    ]


def _resnet(stack: int, actions: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels, side = stack, _SIDE
    for width, kernel, stride, padding in _STACKS:
        layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.MaxPool2d(3, 2, 1)]
        layers += [_block(width), _block(width)]
        side = (side + 2 * padding - kernel) // stride + 1
        side = (side - 1) // 2 + 1
        channels = width
    return [
        *layers,
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(channels * side * side, 512),
        nn.ReLU(),
        nn.Linear(512, actions),
    ]


def _block(width: int) -> Residual:
    return Residual(
        nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )
    )


IMAGE_NETWORKS: MappingProxyType[str, Callable[[int, int], list[nn.Module]]] = MappingProxyType(
    {"nature": _nature, "resnet": _resnet}
)
"""By the name that a training recipe gives."""
