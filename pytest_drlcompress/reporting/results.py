"""What a run concluded, gathered from test reports: the one source of every kind of report."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.reporting.properties import (
    ARTIFACT_PROPERTY,
    AS_RECORDED_PROPERTY,
    FILM_PROPERTY,
    IMPROVED_PROPERTY,
    NOTE_PROPERTY,
    VERDICT_PROPERTY,
)

_OURS = (ARTIFACT_PROPERTY, AS_RECORDED_PROPERTY, FILM_PROPERTY, NOTE_PROPERTY)
"""Properties that no other system could read."""

_DIGITS = re.compile(r"(\d+)")

OUTCOMES = ("passed", "failed", "xfailed", "skipped", "improved")
"""What a gate's test came to. ``xfailed``: as bad as recorded. ``improved``: better than that."""


@dataclass(frozen=True)
class Judged:
    """A verdict and what its test made of it.

    ``message`` says why it did not simply pass. ``as_recorded``: it is no PASS, and the baseline's
    record expects that.
    """

    verdict: Verdict
    test: str
    outcome: str
    message: str
    as_recorded: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Policy, variant and gate."""
        return self.verdict.policy, self.verdict.variant, self.verdict.gate


@dataclass(frozen=True)
class Failure:
    """A failed gate: its test and everything it said."""

    test: str
    message: str


@dataclass(eq=False)
class Results:
    """What has come in so far, by test: a test that is run again replaces its first result."""

    judged: dict[str, list[Judged]] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    films: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> list[Judged]:
        """Take everything out of a test's report; the judgements that it brought."""
        if report.failed:
            self.failed[report.nodeid] = Failure(report.nodeid, report.longreprtext)
        elif report.when == "call":
            self.failed.pop(report.nodeid, None)
        if report.when != "call":
            return []
        properties = report.user_properties
        improved = "\n".join(str(v) for name, v in properties if name == IMPROVED_PROPERTY)
        outcome, message = _outcome(report, improved)
        as_recorded = any(name == AS_RECORDED_PROPERTY for name, _ in properties)
        judged: list[Judged] = []
        for name, value in properties:
            if name == VERDICT_PROPERTY and isinstance(value, dict):
                verdict = Verdict.from_json(value)
                judged.append(Judged(verdict, report.nodeid, outcome, message, as_recorded))
            elif name == ARTIFACT_PROPERTY and isinstance(value, dict):
                self.artifacts[value["policy"], value["variant"]] = value
            elif name == FILM_PROPERTY and isinstance(value, dict):
                self.films[value["policy"], value["variant"]] = value
            elif name == NOTE_PROPERTY:
                self.notes[str(value)] = None
        if judged:
            self.judged[report.nodeid] = judged
        return judged

    def __iter__(self) -> Iterator[Judged]:
        """Every judgement, by policy, variant (fp32 first) and gate."""
        every = [judged for tests in self.judged.values() for judged in tests]
        return iter(sorted(every, key=_order))

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts alone, in the order in which they came in."""
        return [judged.verdict for tests in self.judged.values() for judged in tests]

    @property
    def improved(self) -> list[str]:
        """What is better than recorded."""
        return [
            judged.message
            for tests in self.judged.values()
            for judged in tests[-1:]
            if judged.outcome == "improved"
        ]


def flattened(properties: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """``user_properties`` as other systems can read them, in JUnit XML above all.

    A verdict becomes ``drlcompress.<gate>.state``, ``.estimate`` and so on; a second one of the
    same gate in one test (a sweep's) has its variant in the name, too. Everything else that is
    ours is left out.
    """
    flat: list[tuple[str, Any]] = []
    seen: set[str] = set()
    for name, value in properties:
        if name == VERDICT_PROPERTY and isinstance(value, dict):
            prefix = f"drlcompress.{value['gate'].replace(' ', '_')}"
            if prefix in seen:
                prefix += f".{value['variant']}"
            seen.add(prefix)
            flat += [(f"{prefix}.{field}", figure) for field, figure in _figures(value)]
        elif name == IMPROVED_PROPERTY:
            flat.append(("drlcompress.improved", value))
        elif name not in _OURS:
            flat.append((name, value))
    return flat


def _figures(verdict: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for field_name in ("policy", "variant", "state", "estimate", "limit", "sample_size", "unit"):
        if verdict[field_name] not in (None, ""):
            yield field_name, verdict[field_name]
    if verdict["interval"] is not None:
        yield "low", verdict["interval"][0]
        yield "high", verdict["interval"][1]
    yield "reason", verdict["reason"]


def _outcome(report: pytest.TestReport, improved: str) -> tuple[str, str]:
    if improved:
        return "improved", improved
    if hasattr(report, "wasxfail"):
        return ("xfailed" if report.skipped else report.outcome), str(report.wasxfail)
    if report.skipped:
        where = report.longrepr
        return "skipped", str(where[2]) if isinstance(where, tuple) else str(where)
    return report.outcome, report.longreprtext if report.failed else ""


def _order(judged: Judged) -> tuple[Any, ...]:
    policy, variant, gate = judged.key
    # l2@5 before l2@10
    natural = [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(variant)]
    return policy, variant != "fp32", natural, gate


def worst(judged: Sequence[Judged]) -> Judged:
    """Of several judgements of one cell of a table, the one to show."""
    order = {"failed": 0, "skipped": 1, "xfailed": 2, "improved": 3, "passed": 4}
    return min(judged, key=lambda j: (order[j.outcome], j.verdict.state is State.PASS))
