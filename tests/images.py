"""Small image networks and observations for them: an emulator is only needed where it is tested."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.policies.network import Argmax, Pixels, Residual


def small_resnet(actions: int = 6, side: int = 20) -> nn.Sequential:
    """Every layer of the Atari networks once: strided convolution, max-pooling, two residuals."""
    torch.manual_seed(0)

    def block() -> Residual:
        return Residual(
            nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        )

    left = ((side - 4) // 2 + 1 - 1) // 2 + 1
    return nn.Sequential(
        Pixels(), nn.Conv2d(4, 8, 4, 2), nn.MaxPool2d(3, 2, 1), block(), block(), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * left * left, 24), nn.ReLU(), nn.Linear(24, actions), Argmax(),
    ).eval()  # fmt: skip


class Screens:
    """``Observations`` of random screens; implements what the steps ask for."""

    teacher = None

    def __init__(self, side: int = 20) -> None:
        self._shape = (4, side, side)

    def blank(self, count: int) -> Tensor:
        return torch.zeros((count, *self._shape), dtype=torch.uint8)

    def sample(self, count: int) -> NDArray[Any]:
        shape = (count, *self._shape)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def describe(self, count: int) -> dict[str, Any]:
        return {"observations": count}

    def visited(self, student: nn.Module, count: int, number: int) -> NDArray[Any]:  # noqa: ARG002
        shape = (count, *self._shape)
        return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
