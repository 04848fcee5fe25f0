"""Recorded verdicts of a baseline's variants: what is expected, and how it is recorded.

A variant recorded PASS must PASS. One recorded otherwise is expected to stay so, and its
passing is news. One that is not recorded fails, with the command that records it. Beside the
verdicts stands what artifact they were made on: one that has changed must be better, or be
looked at.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_drlcompress.baselines.changes import Change, artifact_section
from pytest_drlcompress.core.artifact import SHORT
from pytest_drlcompress.core.files import write_json
from pytest_drlcompress.core.verdict import RANK, State, Verdict
from pytest_drlcompress.policies.record_file import RECORD, locked_record, read_record
from pytest_drlcompress.reading.baseline_file import ARTIFACT


@dataclass(frozen=True)
class Expectation:
    """What the record says of one gate of one variant; ``recorded`` is ``None`` if nothing.

    ``artifact`` describes the recorded artifact and ``action_error`` is its recorded error,
    where there are such. ``command`` records the verdict, or records it again.
    """

    recorded: Mapping[str, Any] | None
    command: str
    artifact: Mapping[str, Any] | None = None
    action_error: float | None = None

    def outcome(self, verdict: Verdict, change: Change | None = None) -> tuple[str, str]:
        """``("pass" | "fail" | "xfail" | "improved", why)`` for a verdict under this expectation.

        ``change`` says how the artifact differs from the recorded one.
        """
        if self.recorded is None:
            return "fail", f"No verdict of this variant is recorded. Record it: {self.command}"
        state = State(self.recorded["state"])
        was = f"recorded as {state}{_figure(self.recorded)}"
        how = f"\n    {change.text}" if change is not None else ""
        again = f"\n    If this is meant, record it: {self.command}"
        if RANK[verdict.state] < RANK[state]:
            return "fail", f"It is {was}.{how}" + (again if change is not None else "")
        if verdict.state is State.PASS and state is not State.PASS:
            return "improved", f"It is {was}.{how}\n    Record the improvement: {self.command}"
        kind = "same" if change is None else change.kind
        if kind == "worse":
            return "fail", f"It is {was}.{how}{again}"
        if verdict.state is not State.PASS:
            return "xfail", f"As {was}.{how}"
        improved = f"It is better than recorded.{how}\n    Record the improvement: {self.command}"
        return ("improved", improved) if kind == "better" else ("pass", "")


def expectation(
    verdicts: Mapping[str, Any], policy: str, variant: str, gate: str, error_gate: str
) -> Expectation:
    """What ``verdicts`` (of a ``baseline.json``) expects of ``gate``.

    ``error_gate`` is the gate whose estimate is the recorded action error.
    """
    gates = verdicts.get(variant, {})
    recorded = gates.get(gate)
    how = "--drlc-record" if recorded else "--drlc-record-new"
    return Expectation(
        recorded,
        f"pytest suites/ --drlc-policy={policy} {how}",
        gates.get(ARTIFACT),
        gates.get(error_gate, {}).get("estimate"),
    )


def record_verdicts(
    folder: Path,
    verdicts: Sequence[Verdict],
    artifacts: Mapping[str, Mapping[str, Any]],
    *,
    only_new: bool,
) -> list[str]:
    """Write ``verdicts`` into the record in ``folder``; what is not among them stays.

    ``artifacts`` maps variants to fingerprints. With ``only_new`` entries that are there stay
    as they are, and the artifact is added to those that lack it and are measured as recorded.
    Any number of processes may record at once. Returns a line for each entry that was written:
    new, or old and new state.
    """
    lines = []
    with locked_record(folder):
        record = read_record(folder)
        before = json.dumps(record, sort_keys=True)
        stored: dict[str, Any] = record.setdefault("verdicts", {})
        for verdict in verdicts:
            gates = stored.setdefault(verdict.variant, {})
            facts = artifacts.get(verdict.variant)
            old, new = gates.get(verdict.gate), _entry(verdict, facts)
            if only_new and old is not None and old != _without_artifact(new):
                continue
            gates[verdict.gate] = new
            described = gates.get(ARTIFACT)
            if facts is not None:
                gates[ARTIFACT] = artifact_section(facts)
            where = f"{verdict.policy} / {verdict.variant} {verdict.gate}"
            if old == _without_artifact(new) != new:
                lines.append(f"{where}: unchanged; its artifact {new[ARTIFACT]} is described now")
            elif old != new:
                lines.append(f"{where}: {_described(old)} -> {_described(new)}")
            elif described != gates.get(ARTIFACT):
                lines.append(f"{where}: unchanged; the description of its artifact is renewed")
        if json.dumps(record, sort_keys=True) != before:
            write_json(folder / RECORD, record)
    return lines


def _entry(verdict: Verdict, facts: Mapping[str, Any] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"state": verdict.state.value, "sample_size": verdict.sample_size}
    if facts is not None:
        entry[ARTIFACT] = facts["sha256"][:SHORT]
    if verdict.estimate is not None:
        entry["estimate"] = round(verdict.estimate, 4)
    if verdict.interval is not None:
        entry["interval"] = [round(value, 4) for value in verdict.interval]
    if verdict.limit is not None:
        entry["limit"] = verdict.limit
    json.dumps(entry, allow_nan=False)  # a figure that is no number must not reach the file
    return entry


def _without_artifact(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != ARTIFACT}


def _described(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "new"
    artifact = f" (artifact {entry[ARTIFACT]})" if ARTIFACT in entry else ""
    return f"{entry['state']}{_figure(entry)}{artifact}"


def _figure(entry: Mapping[str, Any]) -> str:
    return f" {entry['estimate']:.3f}" if entry.get("estimate") is not None else ""
