"""Layers that take packed observations (``environments.parts``) apart."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pytest_drlcompress.environments.parts import Part


class Parts(nn.Module):
    """Each part of a flat observation through its own branch; their results side by side."""

    def __init__(self, widths: Sequence[int], branches: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, features)`` from ``(batch, sum(widths))``."""
        parts = torch.split(x, list(self.widths), dim=1)
        made = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        return torch.cat(made, dim=1)


class OneHot(nn.Module):
    """Zeros and ones ``(batch, sum(sizes))`` from integers ``(batch, len(sizes))`` as floats."""

    choices: Tensor
    owner: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        choices = torch.cat([torch.arange(size) for size in self.sizes]).to(torch.float32)
        owner = torch.repeat_interleave(
            torch.arange(len(self.sizes)), torch.tensor(self.sizes, dtype=torch.int64)
        )
        self.register_buffer("choices", choices, persistent=False)
        self.register_buffer("owner", owner, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """One at the place of each integer."""
        return (x[:, self.owner] == self.choices).to(torch.float32)


class Floats(nn.Module):
    """Numbers of any type as float32, as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """Convert ``x`` of any shape."""
        return x.to(torch.float32)


class FromParts(nn.Module):
    """A network of the user's that takes a dictionary (or tuple) of tensors.

    Each part comes in its own shape ``(batch, *shape)`` and type, integers as int64.
    """

    def __init__(self, network: nn.Module, parts: Sequence[Part]) -> None:
        super().__init__()
        self.network, self.parts = network, tuple(parts)

    def forward(self, x: Tensor) -> Any:
        """What the network gives for flat observations ``(batch, size)``."""
        flat = torch.split(x, [part.width for part in self.parts], dim=1)
        made = [
            part.reshape(-1, *told.shape).to(torch_type(told))
            for told, part in zip(self.parts, flat, strict=True)
        ]
        if len(self.parts) == 1 and not self.parts[0].name:
            return self.network(made[0])
        if all(isinstance(part.path[0], int) for part in self.parts):
            return self.network(tuple(made))
        return self.network({told.name: part for told, part in zip(self.parts, made, strict=True)})


def torch_type(part: Part) -> torch.dtype:
    """The type in which the user's own networks get ``part``."""
    if part.sizes:
        return torch.int64
    return torch.uint8 if part.dtype == "uint8" else torch.float32
