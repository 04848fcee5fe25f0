"""Masks over weights: pruned weights are zero and stay zero, and so do the optimizer's moments.

The weights with the smallest magnitude go (Han et al. 2015; Zhu and Gupta 2017), or those of the
least saliency by another criterion. A weight that has gone never comes back: only living weights
are compared.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pytest_drlcompress.compression.pruning.distribution import (
    DISTRIBUTIONS,
    kept_in_total,
    layer_counts,
)
from pytest_drlcompress.core.errors import RecipeError


class MaskedWeights:
    """The prunable weights of a network, and which of them live.

    ``weights`` by layer name, each ``(n_out, n_in)`` or ``(n_out, n_in, h, w)``; ``masks`` have
    the same shapes and types and are 1 where a weight lives, else 0 (floats: multiplying by
    them costs a tenth of what booleans do).

    Raises:
        RecipeError: an unknown distribution, or no weights.
    """

    def __init__(self, weights: Mapping[str, Tensor], distribution: str) -> None:
        if distribution not in DISTRIBUTIONS:
            raise RecipeError(
                f"unknown distribution {distribution!r}; known: {', '.join(DISTRIBUTIONS)}"
            )
        if not weights:
            raise RecipeError("this network has no linear layer whose weights could be pruned")
        self.weights = dict(weights)
        self.distribution = distribution
        self.masks: dict[str, Tensor] = {
            name: torch.ones_like(weight, requires_grad=False) for name, weight in weights.items()
        }

    @property
    def sparsity(self) -> float:
        """Share of the weights, of all layers together, that are pruned."""
        alive = sum(int(mask.sum()) for mask in self.masks.values())
        return 1 - alive / sum(mask.numel() for mask in self.masks.values())

    @torch.no_grad()
    def prune(self, sparsity: float, saliency: Mapping[str, Tensor] | None = None) -> None:
        """Prune to ``sparsity``, a share of all weights; nothing changes if that is reached.

        ``saliency`` says by layer how much each weight matters, in the shape of the weights; it
        is their magnitude where none is given.
        """
        shapes = [tuple(weight.shape) for weight in self.weights.values()]
        alive = [int(mask.sum()) for mask in self.masks.values()]
        if kept_in_total(shapes, sparsity) >= sum(alive):
            return
        ranked = self._ranked(saliency or {n: w.abs() for n, w in self.weights.items()})
        if self.distribution == "global":
            scores = torch.cat([ranked[name].flatten() for name in self.masks])
            chosen = _largest(scores, kept_in_total(shapes, sparsity))
            sizes = [mask.numel() for mask in self.masks.values()]
            for name, part in zip(self.masks, torch.split(chosen, sizes), strict=True):
                self.masks[name] = part.reshape(self.masks[name].shape).to(self.masks[name])
        else:
            counts = layer_counts(shapes, sparsity, self.distribution, at_most=alive)
            for name, count in zip(self.masks, counts, strict=True):
                chosen = _largest(ranked[name].flatten(), count)
                self.masks[name] = chosen.reshape(self.masks[name].shape).to(self.masks[name])
        self.apply()

    @torch.no_grad()
    def apply(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Set the pruned weights to zero, and what ``optimizer`` remembers of them.

        Momentum would move a pruned weight away from zero at the next step, and second moments
        or running maxima would go on scaling it.
        """
        for name, weight in self.weights.items():
            mask = self.masks[name]
            weight.data.mul_(mask)
            if weight.grad is not None:
                weight.grad.mul_(mask)
            state = optimizer.state.get(weight, {}) if optimizer is not None else {}
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.mul_(mask)

    def adopt_zeros(self) -> None:
        """Take what is zero in the weights for pruned: where a training is resumed."""
        for name, weight in self.weights.items():
            self.masks[name] = (weight.detach() != 0).to(weight.dtype)

    def _ranked(self, saliency: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # the dead rank below every living weight, even one that happens to be zero
        return {
            name: torch.where(mask != 0, saliency[name], -torch.inf)
            for name, mask in self.masks.items()
        }


def linear_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights of the linear and convolutional layers of ``network`` by layer name."""
    return {
        name: module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def _largest(scores: Tensor, count: int) -> Tensor:
    """A mask of the ``count`` largest of ``scores`` ``(n,)``; of equal ones the first."""
    order = torch.argsort(scores, descending=True, stable=True)
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[order[:count]] = True
    return mask
