"""The plugin's own masks under Adam, as a training that ``check_pruning`` can drive."""

import numpy as np
import torch
from torch import nn

from pytest_drlcompress.compression.pruning.masks import MaskedWeights
from pytest_drlcompress.testing.sparsity import Arrays


class MaskedAdam:
    """One parameter for each weight and bias, pruned by ``MaskedWeights``, moved by Adam."""

    def __init__(self, weights: Arrays, biases: Arrays, distribution: str) -> None:
        self._weights = {n: nn.Parameter(torch.tensor(a)) for n, a in weights.items()}
        self._biases = {n: nn.Parameter(torch.tensor(a)) for n, a in biases.items()}
        self._masked = MaskedWeights(self._weights, distribution)
        # small steps: the checks must not meet a weight that passes zero by itself
        self._optimizer = torch.optim.Adam([*self._weights.values(), *self._biases.values()], 1e-4)

    def weights(self) -> Arrays:
        """The weights by layer."""
        return {n: p.detach().numpy().copy() for n, p in self._weights.items()}

    def biases(self) -> Arrays:
        """The biases by layer."""
        return {n: p.detach().numpy().copy() for n, p in self._biases.items()}

    def prune(self, sparsity: float) -> None:
        """Prune to ``sparsity``, moments included."""
        self._masked.prune(sparsity)
        self._masked.apply(self._optimizer)

    def step(self, gradients: Arrays) -> None:
        """One step of Adam, masked."""
        for name, parameter in self._weights.items():
            parameter.grad = torch.from_numpy(np.array(gradients[name]))
        self._optimizer.step()
        self._masked.apply(self._optimizer)


def masked_adam(weights: Arrays, biases: Arrays, distribution: str) -> MaskedAdam:
    """Start a training from these values."""
    return MaskedAdam(weights, biases, distribution)
