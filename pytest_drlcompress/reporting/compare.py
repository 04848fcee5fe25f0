"""Two JSON reports side by side: what got better, what got worse, what is new, what is missing.

A worse state is worse. With the same state the figures are compared: two with intervals only
where the intervals are disjoint, and all of them only beyond a relative tolerance. What depends
on the machine (latency, energy) is compared by state alone unless both reports come from one
processor.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_drlcompress.baselines.changes import find_change
from pytest_drlcompress.core.errors import ReportError
from pytest_drlcompress.core.verdict import RANK, State, Verdict
from pytest_drlcompress.gates.kinds import GATE_KINDS, kind_of
from pytest_drlcompress.reading.report_file import ReportFile
from pytest_drlcompress.reading.typed import ContentError, check, read_json
from pytest_drlcompress.reporting.table import figure_text

SCHEMA_VERSION = 1
"""The version of the reports that are written and read (docs/report.md). It grows when a reader
of the last version could go wrong; new fields alone do not change it."""

TOLERANCE = 0.05

Kind = Literal["worse", "missing", "better", "new", "changed", "same"]
Key = tuple[str, str, str]

_ROUNDING = 1e-6
_MACHINE_TOLERANCE = 0.15
"""Two runs on one machine measure other latency ratios, whatever their intervals say: what else
the machine was doing differs."""


@dataclass(frozen=True)
class Difference:
    """What became of one gate of one variant; ``key`` is policy, variant, gate."""

    kind: Kind
    key: Key
    text: str


@dataclass(frozen=True)
class Comparison:
    """Every gate of two reports, and how each artifact that changed differs."""

    differences: tuple[Difference, ...]
    artifacts: tuple[str, ...]
    notes: tuple[str, ...]

    def of(self, kind: Kind) -> list[Difference]:
        """The differences of one kind."""
        return [difference for difference in self.differences if difference.kind == kind]


def read_report(path: Path) -> dict[str, Any]:
    """A JSON report.

    Raises:
        ReportError: it cannot be read, or is no report of this version.
    """
    try:
        report = read_json(path)
    except (OSError, ContentError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from None
    version = report.get("schema_version") if isinstance(report, dict) else None
    if version != SCHEMA_VERSION:
        found = f"schema version {version}" if version is not None else "no schema version"
        raise ReportError(
            f"{path} has {found}; this version reads {SCHEMA_VERSION}, as --drlc-report=out.json"
            " writes it"
        )
    try:
        check(report, ReportFile)
    except ContentError as error:
        raise ReportError(f"{path} is damaged: {error}") from None
    return dict(report)


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float = TOLERANCE
) -> Comparison:
    """Compare two reports (``read_report``) gate by gate.

    ``tolerance`` is the relative change of a figure that still counts as the same.
    """
    before, after = _verdicts(old), _verdicts(new)
    processors = {(report.get("run") or {}).get("processor") for report in (old, new)}
    same_machine = len(processors) == 1
    differences = []
    for key in sorted({*before, *after}):
        was, now = before.get(key), after.get(key)
        if was is None or was.state is State.NOT_MEASURED:
            if now is not None and now.state is not State.NOT_MEASURED:
                differences.append(Difference("new", key, _text(now)))
        elif now is None or now.state is State.NOT_MEASURED:
            why = "" if now is None else f" ({now.reason})"
            differences.append(Difference("missing", key, f"was {_text(was)}{why}"))
        else:
            kind = _judge(was, now, tolerance, same_machine=same_machine)
            differences.append(Difference(kind, key, f"{_text(was)} -> {_text(now)}"))
    notes = []
    if not same_machine:
        bound = " and ".join(kind.name for kind in GATE_KINDS if kind.machine_bound)
        notes.append(f"The reports come from two processors: {bound} by state alone.")
    return Comparison(tuple(differences), tuple(_artifacts(old, new)), tuple(notes))


def _judge(was: Verdict, now: Verdict, tolerance: float, *, same_machine: bool) -> Kind:
    if was.state is not now.state:
        return "worse" if RANK[now.state] < RANK[was.state] else "better"
    kind = kind_of(now.gate)
    if kind is not None and kind.machine_bound:
        tolerance = max(tolerance, _MACHINE_TOLERANCE) if same_machine else float("inf")
    if _same_figure(was, now, tolerance):
        return "same"
    if kind is None:
        return "changed"  # of a gate that users made, nobody here knows which way is better
    assert was.estimate is not None
    assert now.estimate is not None
    return "better" if (now.estimate > was.estimate) == (kind.better == "higher") else "worse"


def _same_figure(was: Verdict, now: Verdict, tolerance: float) -> bool:
    if was.estimate is None or now.estimate is None or math.isinf(tolerance):
        return True
    if was.interval is not None and now.interval is not None:
        low, high = max(was.interval[0], now.interval[0]), min(was.interval[1], now.interval[1])
        if low <= high:
            return True
    return abs(now.estimate - was.estimate) <= max(tolerance * abs(was.estimate), _ROUNDING)


def _verdicts(report: Mapping[str, Any]) -> dict[Key, Verdict]:
    """By policy, variant and gate; of several the worst."""
    names = Verdict.__dataclass_fields__
    found: dict[Key, Verdict] = {}
    for data in report["verdicts"]:
        verdict = Verdict.from_json({name: data[name] for name in names})
        key = (verdict.policy, verdict.variant, verdict.gate)
        if key not in found or RANK[verdict.state] < RANK[found[key].state]:
            found[key] = verdict
    return found


def _artifacts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before = {(a["policy"], a["variant"]): a for a in old.get("artifacts", ())}
    lines = []
    for facts in new.get("artifacts", ()):
        was = before.get((facts["policy"], facts["variant"]))
        if was is not None:
            change = find_change({"artifact": was["sha256"]}, was, facts, (None, None))
            if change is not None:
                text = change.text.replace("recorded one", "old one").replace("\n    ", " ")
                lines.append(f"{facts['policy']} / {facts['variant']}: {text}")
    return lines


def _text(verdict: Verdict) -> str:
    interval = "" if verdict.interval is None else " [{:.3g}, {:.3g}]".format(*verdict.interval)
    return f"{verdict.state.value} {figure_text(verdict)}".rstrip() + interval


def summary(comparison: Comparison, kinds: Sequence[Kind]) -> str:
    """``"1 worse, 0 missing, ..."``."""
    return ", ".join(f"{len(comparison.of(kind))} {kind}" for kind in kinds)
