"""How many weights each layer keeps at a given total sparsity.

``uniform``: every layer at the same sparsity. ``erdos-renyi``: layer ``l`` keeps a share
``epsilon (n_in + n_out) / (n_in n_out)`` of its weights, convolutions
``epsilon (n_in + n_out + h + w) / (n_in n_out h w)`` (Mocanu et al. 2018; Evci et al. 2020), at
most all of them; ``epsilon`` is such that the total is met. ``global``: the smallest weights go,
wherever they are, so the layers' shares follow from the weights (Ivanov et al., section 2.2;
Graesser et al. 2022, section 3.2). Biases are never pruned and never counted.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import RecipeError

Distribution = Literal["global", "uniform", "erdos-renyi"]
DISTRIBUTIONS: tuple[str, ...] = get_args(Distribution)

Shape = tuple[int, ...]


def kept_in_total(shapes: Sequence[Shape], sparsity: float) -> int:
    """Weights left of all layers together at ``sparsity``: a share in [0, 1], to the nearest."""
    total = sum(map(math.prod, shapes))
    return total - round(sparsity * total)


def layer_densities(
    shapes: Sequence[Shape], sparsity: float, distribution: str
) -> NDArray[np.float64]:
    """The share of its weights that each layer keeps, ``(layers,)``, before whole numbers.

    ``shapes`` are those of the weights as torch has them: ``(n_out, n_in)`` or
    ``(n_out, n_in, h, w)``.

    Raises:
        RecipeError: no layers, or a distribution that does not follow from the shapes.
    """
    if not shapes:
        raise RecipeError("there is no layer whose weights could be pruned")
    density = 1 - sparsity
    if distribution == "uniform":
        return np.full(len(shapes), density)
    if distribution != "erdos-renyi":
        raise RecipeError(
            f"the layers' shares under {distribution!r} do not follow from their shapes; known:"
            f" {', '.join(DISTRIBUTIONS)}"
        )
    sizes = np.array([math.prod(shape) for shape in shapes], np.float64)
    raw = np.array([sum(shape) / math.prod(shape) for shape in shapes])
    budget, full = density * sizes.sum(), np.zeros(len(shapes), bool)
    while True:
        # what the full layers cannot take, the others share
        rest = ~full
        epsilon = (budget - sizes[full].sum()) / (raw * sizes)[rest].sum() if rest.any() else 0.0
        over = rest & (epsilon * raw > 1)
        if not over.any():
            return np.where(full, 1.0, epsilon * raw)
        full |= over


def layer_counts(
    shapes: Sequence[Shape],
    sparsity: float,
    distribution: str,
    at_most: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """How many weights each layer keeps: whole numbers whose sum is exactly the total's.

    Largest remainders, so no layer is off by a whole weight. ``at_most`` limits the counts (to
    what is still alive); what a layer cannot take then goes to the others.

    Raises:
        RecipeError: as ``layer_densities``.
    """
    sizes = np.array([math.prod(shape) for shape in shapes])
    limit = sizes if at_most is None else np.minimum(sizes, np.asarray(at_most))
    wanted = layer_densities(shapes, sparsity, distribution) * sizes
    total = min(kept_in_total(shapes, sparsity), int(limit.sum()))
    counts = np.minimum(np.floor(wanted + 1e-9).astype(int), limit)
    while counts.sum() < total:
        missing = total - counts.sum()
        open_layers = np.flatnonzero(counts < limit)
        order = open_layers[np.argsort(-(wanted - counts)[open_layers], kind="stable")]
        counts[order[:missing]] += 1
    while counts.sum() > total:  # only rounding errors of the floor above
        counts[np.argmin(np.where(counts > 0, wanted - counts, np.inf))] -= 1
    return tuple(int(count) for count in counts)
