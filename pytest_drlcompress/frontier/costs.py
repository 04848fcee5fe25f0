"""What an artifact costs, in the figures that a search can be given budgets on."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.core.errors import OptionError
from pytest_drlcompress.core.quantities import format_bytes, parse_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHIP = ("flash", "ram", "instructions")
"""Figures of the generated C on the target."""

SIZES = ("flash", "weights", "file", "ram")
"""Figures in bytes: the first that has a budget is what "smallest" is about."""

KNOWN: Mapping[str, str] = MappingProxyType(
    {
        "flash": "code and constants on the target",
        "ram": "stack and data of one action on the target",
        "instructions": "of one action on the target",
        "latency_us": "median time of one action in the runtime of --runtime, on this machine",
        "weights": "bytes of the ONNX file's initializers",
        "file": "bytes of the ONNX file",
    }
)
"""The figures by name."""

Figures = Mapping[str, float]


def read_budget(text: str) -> tuple[str, float]:
    """``"flash=8KiB"`` as ``("flash", 8192.0)``.

    Raises:
        ValueError: no such figure, or no positive number.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or name not in KNOWN:
        raise ValueError(f"write FIGURE=LIMIT, the figure being one of {', '.join(KNOWN)}")
    if name in SIZES:
        return name, parse_bytes(value)
    try:
        limit = float(value)
    except ValueError:
        limit = 0.0
    if not 0 < limit < math.inf:
        raise ValueError("the limit must be a positive number")
    return name, limit


def read_budgets(given: Mapping[str, str | float]) -> dict[str, float]:
    """Budgets of a call, ``{"flash": "8KiB", "latency_us": 5}``, as numbers.

    Raises:
        OptionError: no such figure, or no positive number.
    """
    try:
        return dict(read_budget(f"{name}={value}") for name, value in given.items())
    except ValueError as error:
        raise OptionError(f"budgets {dict(given)}: {error}") from None


def beyond(figures: Figures, budgets: Mapping[str, float]) -> str:
    """Which budgets ``figures`` exceed, as text; empty if none. A missing figure is beyond."""
    return ", ".join(
        f"{name} {shown(name, figures[name])}" if name in figures else f"{name} unknown"
        for name, limit in budgets.items()
        if not figures.get(name, math.inf) <= limit
    )


def size_name(budgets: Mapping[str, float]) -> str:
    """The figure that "smallest" is about: the first of ``SIZES`` with a budget, else weights."""
    return next((name for name in SIZES if name in budgets), "weights")


def shown(name: str, value: float) -> str:
    """``value`` of the figure ``name`` with its unit."""
    if name in SIZES:
        return format_bytes(value)
    return f"{value:.2f} us" if name == "latency_us" else f"{value:,.0f}"


def measure_costs(
    model: bytes, observations: "NDArray[Any]", target: str, wanted: Sequence[str]
) -> dict[str, float]:
    """The figures of ``model`` but for its latency; those of the chip where its tools are here.

    ``observations`` are what the emulated chip acts on. Where ``wanted`` names none of the
    chip's figures, a model that cannot be written as C has just no such figures.

    Raises:
        ArtifactError: the model cannot be loaded, or written as C where ``wanted`` needs that.
    """
    from pytest_drlcompress.codegen.targets import TARGETS, missing_tools
    from pytest_drlcompress.core.errors import ArtifactError
    from pytest_drlcompress.measurement.chip import measure_chip
    from pytest_drlcompress.measurement.size import measure_size

    size = measure_size(model)
    found = {
        "file": float(size.artifact),
        "weights": float(size.initializers),
        "zstd": float(size.stripped_zstd),
    }
    needed = any(name in CHIP for name in wanted)
    if reason := missing_tools(TARGETS[target]):
        if needed:
            raise ArtifactError(reason)
        return found
    try:
        chip = measure_chip(model, target, observations)
    except ArtifactError:
        if needed:
            raise
        return found
    return {
        **found,
        "flash": float(chip.flash),
        "ram": float(chip.ram),
        "instructions": chip.largest,
        "unequal": float(chip.vectors - chip.equal),
    }
