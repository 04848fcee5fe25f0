"""Budgets: what the marker of a test, the settings and the defaults ask of one gate."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.quantities import parse_bytes
from pytest_drlcompress.core.settings import Settings

if TYPE_CHECKING:
    import pytest

    # imports torch, which reading a marker must not pay for
    from pytest_drlcompress.workbench.candidate import Candidate

MARKER = "drlcompress"
MARKER_HELP = (
    f"{MARKER}(*, min_retention, max_action_error, max_latency_ratio, max_latency_us,"
    " deadline_hz, max_bytes, fits, max_energy_uj, max_flash, max_ram, max_instructions,"
    " min_pruning, target_sparsity, perturb): budgets of the gates of a compressed policy"
)


COSTS = (
    "max_latency_ratio",
    "max_latency_us",
    "deadline_hz",
    "max_bytes",
    "fits",
    "max_energy_uj",
    "max_flash",
    "max_ram",
    "max_instructions",
)
"""Budgets on what an action costs. A baseline may give them for each of its variants."""

RECORDABLE = (*COSTS, "max_action_error")
"""All budgets that a baseline may give."""

NO_LIMITS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Budgets:
    """Limits given by ``@pytest.mark.drlcompress(...)``; ``None`` where it says nothing.

    ``min_retention`` is a share of the baseline's return, ``max_action_error`` a share of the
    action range, ``max_latency_ratio`` is against the baseline's own artifact, ``min_pruning`` a
    share of the channels, ``target_sparsity`` one of the weights. ``perturb``
    (``"mass=1.2,friction=0.8"``) is no limit but the disturbance under which the retention is
    judged. ``max_latency_us`` and ``max_energy_uj`` are for one action, ``deadline_hz`` is a
    control rate; ``max_bytes`` is for the file, ``fits`` for weights and activations together,
    both in bytes or as ``"256KiB"``, as are ``max_flash`` and ``max_ram``. These and
    ``max_instructions`` of one action are for the policy on the microcontroller of
    ``--drlc-target``.
    """

    min_retention: float | None = None
    max_action_error: float | None = None
    max_latency_ratio: float | None = None
    min_pruning: float | None = None
    target_sparsity: float | None = None
    perturb: str | None = None
    max_latency_us: float | None = None
    deadline_hz: float | None = None
    max_bytes: float | None = None
    fits: float | None = None
    max_energy_uj: float | None = None
    max_flash: float | None = None
    max_ram: float | None = None
    max_instructions: float | None = None

    def limit(
        self, name: str, settings: Settings, recorded: Mapping[str, float] = NO_LIMITS
    ) -> float | None:
        """The budget ``name``: command line, marker, ``recorded`` by the baseline, ini or default.

        ``None`` where nobody gave one.
        """
        asked: float | None = getattr(settings, name)
        own: float | None = getattr(self, name)
        if asked is not None and name in settings.from_cli:
            return asked
        return own if own is not None else recorded.get(name, asked)

    def perturbation(self, settings: Settings) -> str:
        """Command line, then marker, then ini; empty for none."""
        if self.perturb is None or "perturb" in settings.from_cli:
            return settings.perturb
        return self.perturb


def check_marker(item: "pytest.Item") -> None:
    """Fail ``item`` if its marker asks for something that does not exist."""
    if item.get_closest_marker(MARKER) is not None:
        try:
            read_budgets(item)
        except ValueError as error:
            import pytest

            pytest.fail(str(error), pytrace=False)


def read_budgets(item: "pytest.Item") -> Budgets:
    """The budgets of ``item``; of several markers the closest to the test wins.

    Raises:
        ValueError: an unknown budget, a positional argument, a limit that is no positive number.
    """
    known = [field.name for field in dataclasses.fields(Budgets)]
    values: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers(MARKER))):
        if marker.args:
            raise ValueError(
                f"the {MARKER} marker takes keyword arguments only: {', '.join(known)}"
            )
        for name, value in marker.kwargs.items():
            if name not in known:
                raise ValueError(
                    f"the {MARKER} marker has no budget {name!r}; known: {', '.join(known)}"
                )
            if name == "perturb":
                if not isinstance(value, str):
                    raise ValueError(f"{MARKER} marker: perturb must be text, not {value!r}")
                values[name] = value
                continue
            values[name] = _limit(f"{MARKER} marker: {name}", name, value)
    return Budgets(**values)


def recorded_budgets(stored: Any, variant: str) -> Mapping[str, float]:
    """The budgets of ``variant`` in the ``budgets`` table of a ``baseline.json``.

    ``stored`` maps variants, or ``"*"`` for all others, to ``{"max_bytes": "80kB", ...}``.

    Raises:
        ValueError: an unknown budget, or a limit that is no positive number.
    """
    entry = stored.get(variant, stored.get("*", {}))
    unknown = sorted(set(entry) - set(RECORDABLE))
    if unknown:
        raise ValueError(
            f"budgets of {variant!r}: no budget {unknown[0]!r}; known: {', '.join(RECORDABLE)}"
        )
    return {name: _limit(f"budgets: {name}", name, value) for name, value in entry.items()}


def limits_of(candidate: "Candidate", budgets: Budgets) -> "partial[float | None]":
    """``limits("max_bytes")``: that budget of ``candidate``, by ``Budgets.limit``.

    Raises:
        BaselineError: the baseline's record has a budget that cannot be read.
    """
    record = candidate.loaded.record
    try:
        recorded = NO_LIMITS if record is None else recorded_budgets(record.budgets, candidate.id)
    except ValueError as error:
        raise BaselineError(f"the record of {candidate.policy}: {error}") from None
    return partial(budgets.limit, settings=candidate.settings, recorded=recorded)


def _limit(where: str, name: str, value: Any) -> float:
    if name in ("max_bytes", "fits", "max_flash", "max_ram") and isinstance(value, str):
        try:
            return parse_bytes(value)
        except ValueError as error:
            raise ValueError(f"{where} {error}, not {value!r}") from None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{where} must be a positive number, not {value!r}")
    if name == "target_sparsity" and value >= 1:
        raise ValueError(f"{where} is a share below 1 (0.95 for 95 % zeros), not {value!r}")
    return float(value)
