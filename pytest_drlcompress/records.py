"""Recorded verdicts of a baseline's variants: what is expected, and how it is recorded.

A variant recorded PASS must PASS. One recorded otherwise is expected to stay so, and its
passing is news. One that is not recorded fails, with the command that records it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_drlcompress.files import write_json
from pytest_drlcompress.policies.store import RECORD, read_record
from pytest_drlcompress.verdict import State, Verdict

RECORDED_GATES = ("retention", "action error")
"""What does not depend on the machine. Latency does, and is not recorded here."""


@dataclass(frozen=True)
class Expectation:
    """What the record says of one gate of one variant; ``recorded`` is ``None`` if nothing."""

    recorded: Mapping[str, Any] | None
    command: str

    def outcome(self, verdict: Verdict) -> tuple[str, str]:
        """``("pass" | "fail" | "xfail" | "news", why)`` for a verdict under this expectation."""
        if self.recorded is None:
            return "fail", f"No verdict of this variant is recorded. Record it: {self.command}"
        state, figure = self.recorded["state"], _figure(self.recorded)
        passed = verdict.state is State.PASS
        if state == State.PASS:
            return ("pass", "") if passed else ("fail", f"It is recorded as PASS{figure}.")
        if passed:
            return "news", f"It is recorded as {state}{figure}. Record the news: {self.command}"
        return "xfail", f"As recorded: {state}{figure}."


def expectation(
    verdicts: Mapping[str, Any], policy: str, variant: str, gate: str
) -> Expectation | None:
    """What ``verdicts`` (of a ``baseline.json``) expects; ``None`` for a gate never recorded."""
    if gate not in RECORDED_GATES:
        return None
    recorded = verdicts.get(variant, {}).get(gate)
    how = "all" if recorded else "new"
    command = f"pytest suites/ --drlc-policy={policy} --drlc-record={how}"
    return Expectation(recorded, command)


def record_verdicts(folder: Path, verdicts: Sequence[Verdict], *, only_new: bool) -> list[str]:
    """Write ``verdicts`` into the record in ``folder``; what is not among them stays.

    Returns a line for each that was written: new, or old and new state.
    """
    lines = []
    with FileLock(folder / f".{RECORD}.lock"):
        record = read_record(folder)
        stored: dict[str, Any] = record.setdefault("verdicts", {})
        for verdict in verdicts:
            if verdict.gate not in RECORDED_GATES:
                continue
            gates = stored.setdefault(verdict.variant, {})
            old, new = gates.get(verdict.gate), _entry(verdict)
            if old == new or (old is not None and only_new):
                continue
            gates[verdict.gate] = new
            before = "new" if old is None else f"{old['state']}{_figure(old)}"
            where = f"{verdict.policy} / {verdict.variant} {verdict.gate}"
            lines.append(f"{where}: {before} -> {new['state']}{_figure(new)}")
        if lines:
            write_json(folder / RECORD, record)
    return lines


def _entry(verdict: Verdict) -> dict[str, Any]:
    entry: dict[str, Any] = {"state": verdict.state.value, "sample_size": verdict.sample_size}
    if verdict.estimate is not None:
        entry["estimate"] = round(verdict.estimate, 4)
    if verdict.interval is not None:
        entry["interval"] = [round(value, 4) for value in verdict.interval]
    if verdict.limit is not None:
        entry["limit"] = verdict.limit
    json.dumps(entry, allow_nan=False)  # a figure that is no number must not reach the file
    return entry


def _figure(entry: Mapping[str, Any]) -> str:
    return f" {entry['estimate']:.3f}" if entry.get("estimate") is not None else ""
