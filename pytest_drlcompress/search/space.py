"""Which recipes a search tries, and how large each would be before anything is trained."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

WIDTHS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
SPARSITIES = (90, 95, 98, 99)
FULL_STEPS = 60_000
"""Steps of a training that a finalist has had."""

_CODE_BYTES = 700
"""What the code itself takes on a Cortex-M4, the weights left out."""

_LARGEST_TRIED = 6
"""Narrow networks beyond these fit as well, but promise less of what a search is for."""


@dataclass(frozen=True)
class Entry:
    """One recipe of the search.

    ``trained`` is the name of the step that takes long (``""`` for none), to which ``steps=`` can
    be given. ``flash`` is an estimate in bytes.
    """

    step: str
    trained: str
    tail: str
    flash: int

    def recipe(self, steps: int) -> str:
        """Its text with a training of ``steps`` steps, and quantization as thorough as that."""
        options = f":steps={steps},rounds={max(2, round(40 * steps / FULL_STEPS))}"
        start = f"{self.step}{options if self.trained else ''}"
        quick = ":steps=800,samples=6000" if self.trained and steps < FULL_STEPS else ""
        return f"{start}+{self.tail}{quick}" if self.tail else start


def entries(network: nn.Module) -> list[Entry]:
    """Everything that a search may try, the smallest first."""
    sizes = _sizes(network)
    if sizes is None:
        return [Entry("ptsq", "", "", 0), Entry("qat", "", "", 0)]
    hidden = max(sizes[1:-1], default=0)
    found = [
        Entry(
            f"narrow@{width}",
            "narrow",
            "qat",
            dense_bytes([sizes[0], *[width] * (len(sizes) - 2), sizes[-1]]),
        )
        for width in WIDTHS
        if width < hidden
    ]
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    for share in SPARSITIES:
        nonzero = round(weights * (1 - share / 100))
        # a value and an index each, counts and biases of the units that are left
        flash = 2 * nonzero + min(3 * sum(sizes[1:]), 3 * nonzero) + 4 * sizes[0] + _CODE_BYTES
        found.append(Entry(f"sparse@{share}", "sparse", "qat", flash))
    found += [Entry("ptsq", "", "", dense_bytes(sizes)), Entry("qat", "", "", dense_bytes(sizes))]
    return sorted(found, key=lambda entry: entry.flash)


def within(found: Sequence[Entry], flash: float | None) -> list[Entry]:
    """Those of ``found`` that may fit ``flash`` bytes; of the narrow ones the largest six."""
    fitting = [entry for entry in found if flash is None or entry.flash <= flash * 1.05]
    narrow = [entry for entry in fitting if entry.trained == "narrow"][-_LARGEST_TRIED:]
    return [entry for entry in fitting if entry.trained != "narrow" or entry in narrow]


def dense_bytes(sizes: Sequence[int]) -> int:
    """Flash of a dense int8 network with layers of ``sizes`` units, observation included."""
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return weights + 3 * sum(sizes[1:]) + 4 * sizes[0] + _CODE_BYTES


def _sizes(network: nn.Module) -> list[int] | None:
    """Units of a sequence of fully connected layers, inputs first; ``None`` for another network."""
    layers = list(network) if isinstance(network, nn.Sequential) else []
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if len(linear) < 2 or any(isinstance(layer, nn.Conv2d) for layer in layers):
        return None
    return [linear[0].in_features, *(layer.out_features for layer in linear)]
