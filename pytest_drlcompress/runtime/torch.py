"""A torch network in training as a controller: no export, so it may act between two steps."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pytest_drlcompress.environments.spec import network_dtype


class TorchActor:
    """Acts as ``network`` does at the moment; implements ``evaluation.episodes.Actor``."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @torch.no_grad()
    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions ``(batch, *action_shape)``."""
        rows = torch.from_numpy(
            np.ascontiguousarray(observations, network_dtype(observations.dtype))
        )
        actions: NDArray[Any] = self.network(rows).numpy()
        return actions
