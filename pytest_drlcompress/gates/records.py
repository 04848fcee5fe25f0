"""Which verdicts a baseline's record is for: what is written, and what is expected."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_drlcompress.baselines.verdicts import Expectation, expectation
from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.gates.kinds import ACTION_ERROR, GATE_KINDS, GateKind


def recordable(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those that are written into a record: judged as they stand, and not of the machine."""
    names = {kind.name for kind in GATE_KINDS if kind.recorded}
    return [verdict for verdict in verdicts if verdict.gate in names]


def expected_of(
    kind: GateKind, verdicts: Mapping[str, Any], policy: str, variant: str
) -> Expectation | None:
    """What ``verdicts`` (of a ``baseline.json``) expects; ``None`` for a gate never expected."""
    if kind.recorded != "expectation":
        return None
    return expectation(verdicts, policy, variant, kind.name, ACTION_ERROR.name)
