"""Observations of unit variance while a network is trained: the scale goes in and comes out."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from pytest_drlcompress.policies.network import Scale


def standardize(network: nn.Module, observations: NDArray[Any]) -> nn.Module:
    """``network`` with unit-variance observations, the same function otherwise.

    Magnitudes of weights are comparable only where their inputs are: a dimension that spans 25
    needs smaller weights than one that spans 0.3. Networks that normalise themselves, or do not
    begin with a fully connected layer, are returned as they are. Shares its layers with
    ``network``, whose first one changes.
    """
    if not isinstance(network, nn.Sequential) or not isinstance(network[0], nn.Linear):
        return network
    first = network[0]
    spread = torch.from_numpy(observations.std(0).clip(1e-3)).to(first.weight.dtype)
    scaling = Scale(spread.numel())
    with torch.no_grad():
        scaling.factor.copy_(1 / spread)
        first.weight.mul_(spread)
    return nn.Sequential(scaling, *network).eval()


def unstandardize(network: nn.Module) -> nn.Module:
    """Fold the scale that ``standardize`` put first back into the weights; zeros stay zero."""
    if not isinstance(network, nn.Sequential) or not isinstance(network[0], Scale):
        return network
    scaling, first = network[0], network[1]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight.mul_(scaling.factor)
    return nn.Sequential(*list(network)[1:]).eval()
