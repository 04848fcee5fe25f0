"""What the budgets of one gate came to, one by one and together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_drlcompress.core.quantities import format_bytes
from pytest_drlcompress.core.verdict import State

_WORST_FIRST = (State.FAIL, State.INVALID, State.INCONCLUSIVE, State.NOT_MEASURED, State.PASS)


@dataclass(frozen=True)
class Finding:
    """What one budget of a gate came to."""

    state: State
    reason: str


def held(interval: tuple[float, float], limit: float, undecided: str) -> Finding:
    """An interval held against a budget; ``undecided`` is the reason where it is inside."""
    state = decided(interval, limit)
    where = {State.PASS: "within", State.FAIL: "beyond"}.get(state)
    reason = f"The whole interval lies {where} the budget." if where else undecided
    return Finding(state, reason)


def decided(interval: tuple[float, float], limit: float) -> State:
    """PASS or FAIL where the whole interval says so, else INCONCLUSIVE."""
    low, high = interval
    if high <= limit:
        return State.PASS
    return State.FAIL if low > limit else State.INCONCLUSIVE


def bound(value: float, limit: float, what: str) -> Finding:
    """A number of bytes that is known exactly, held against a budget."""
    within = value <= limit
    relation = "within" if within else "more than"
    return Finding(
        State.PASS if within else State.FAIL, f"{what}, {relation} {format_bytes(limit)}."
    )


def together(findings: Sequence[Finding]) -> dict[str, Any]:
    """State and reason of all budgets of a gate: the worst state, every reason."""
    if not findings:
        return {"state": State.PASS, "reason": "No budget was given."}
    worst = min((finding.state for finding in findings), key=_WORST_FIRST.index)
    return {"state": worst, "reason": " ".join(finding.reason for finding in findings)}
