"""Budgets: what the marker of a test, the settings and the defaults ask of one gate."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.options import Settings

if TYPE_CHECKING:
    import pytest

MARKER = "drlcompress"
MARKER_HELP = (
    f"{MARKER}(*, min_retention, max_action_error, max_latency_ratio, min_pruning, perturb):"
    " budgets of the gates of a compressed policy"
)


@dataclass(frozen=True)
class Budgets:
    """Limits given by ``@pytest.mark.drlcompress(...)``; ``None`` where it says nothing.

    ``min_retention`` is a share of the baseline's return, ``max_action_error`` a share of the
    action range, ``max_latency_ratio`` is against the baseline's own artifact, ``min_pruning``
    a share of the channels. ``perturb`` (``"mass=1.2,friction=0.8"``) is no limit but the
    disturbance under which the retention is judged.
    """

    min_retention: float | None = None
    max_action_error: float | None = None
    max_latency_ratio: float | None = None
    min_pruning: float | None = None
    perturb: str | None = None

    def retention(self, settings: Settings) -> float:
        """Command line, then marker, then ini or default."""
        if self.min_retention is None or "min_retention" in settings.from_cli:
            return settings.min_retention
        return self.min_retention

    def perturbation(self, settings: Settings) -> str:
        """Command line, then marker, then ini; empty for none."""
        if self.perturb is None or "perturb" in settings.from_cli:
            return settings.perturb
        return self.perturb

    def action_error(self, settings: Settings) -> float:
        """Command line, then marker, then ini or default."""
        if self.max_action_error is None or "max_action_error" in settings.from_cli:
            return settings.max_action_error
        return self.max_action_error


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
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value <= 0:
                raise ValueError(
                    f"{MARKER} marker: {name} must be a positive number, not {value!r}"
                )
            values[name] = float(value)
    return Budgets(**values)
