"""Verdicts: pure data, made of JSON builtins so that they cross process borders unharmed."""

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any


class State(enum.StrEnum):
    """What a gate concluded."""

    PASS = "PASS"  # noqa: S105 (not a password)
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"
    NOT_MEASURED = "NOT_MEASURED"


RANK: Mapping[State, int] = MappingProxyType(
    {
        State.PASS: 3,
        State.INCONCLUSIVE: 2,
        State.FAIL: 1,
        State.INVALID: 0,
        State.NOT_MEASURED: 0,
    }
)
"""From the worst to the best: what counts as worse than before."""


@dataclass(frozen=True)
class Verdict:
    """One judgement of one variant.

    ``gate`` is what was judged (``"retention"``, ``"action_error"``, ``"latency"``, ...),
    ``limit`` the budget it was held against (``None``: measured, no budget given),
    ``sample_size`` the number of ``unit``s behind the estimate, ``interval`` its
    confidence interval, ``e_value`` the evidence of a sequential test, ``details``
    further figures. All numbers are Python's own.
    """

    gate: str
    policy: str
    variant: str
    state: State
    reason: str
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None
    sample_size: int = 0
    unit: str = ""
    e_value: float | None = None
    alpha: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON builtins (``from_json`` reads it back)."""
        data = asdict(self)
        data["state"] = self.state.value
        data["interval"] = None if self.interval is None else list(self.interval)
        data["details"] = dict(self.details)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Verdict":
        """Read what ``to_json`` wrote."""
        fields = dict(data)
        fields["state"] = State(fields["state"])
        if fields["interval"] is not None:
            low, high = fields["interval"]
            fields["interval"] = (float(low), float(high))
        return cls(**fields)
