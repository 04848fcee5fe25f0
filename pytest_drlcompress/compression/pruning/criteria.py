"""Which weights go first: how much a weight is thought to matter, its saliency.

``magnitude``: ``|w|`` (Han et al. 2015), the criterion of Ivanov et al. ``fisher``: ``w^2 E[g^2]``,
what removing the weight is thought to add to the loss if the Hessian were the diagonal of the
Fisher information (Theis et al. 2018, after LeCun et al. 1990). ``movement``:
``-w E[g]``, positive where training moves the weight away from zero (Sanh et al. 2020). ``g`` is
the gradient of a batch's loss.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from pytest_drlcompress.core.errors import RecipeError

Criterion = Literal["magnitude", "fisher", "movement"]
CRITERIA: tuple[str, ...] = get_args(Criterion)

_MEMORY = 0.998
"""Weight of the past in the running mean over gradients: some 500 batches."""


class Saliency:
    """The saliency of weights by ``criterion``, from the gradients that training passes by.

    Raises:
        RecipeError: an unknown criterion.
    """

    def __init__(self, weights: Mapping[str, Tensor], criterion: str) -> None:
        if criterion not in CRITERIA:
            raise RecipeError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
        self._weights, self._criterion = dict(weights), criterion
        self._means = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    @torch.no_grad()
    def observe(self) -> None:
        """Take in the gradients of one batch: call it after ``backward``."""
        if self._criterion == "magnitude":
            return
        for name, weight in self._weights.items():
            assert weight.grad is not None
            factor = weight.grad if self._criterion == "fisher" else weight.neg()
            self._means[name].mul_(_MEMORY).addcmul_(factor, weight.grad, value=1 - _MEMORY)

    @torch.no_grad()
    def scores(self) -> dict[str, Tensor]:
        """By layer, in the shape of its weights; the smallest go first."""
        if self._criterion == "magnitude":
            return {name: weight.abs() for name, weight in self._weights.items()}
        if self._criterion == "movement":
            return self._means
        return {name: weight**2 * self._means[name] for name, weight in self._weights.items()}
