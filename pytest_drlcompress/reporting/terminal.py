"""The terminal summary: one line a verdict, states counted."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pytest_drlcompress.reporting.text import verdict_line
from pytest_drlcompress.verdict import State, Verdict

_COLORS = {State.PASS: "green", State.FAIL: "red"}


def write_summary(
    reporter: Any, verdicts: Sequence[Verdict], news: Sequence[str], notes: Sequence[str]
) -> None:
    """Write the verdicts, in the order of gate, policy and variant, then news and notes."""
    if not (verdicts or notes):
        return
    reporter.section("drlcompress")
    for verdict in sorted(verdicts, key=lambda v: (v.gate, v.policy)):
        reporter.write_line(verdict_line(verdict), **{_COLORS.get(verdict.state, "yellow"): True})
    counts = Counter(verdict.state for verdict in verdicts)
    if counts:
        reporter.write_line(
            ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
        )
    for line in sorted(set(map(_slow_rollouts, verdicts)) - {""}):
        reporter.write_line(line)
    for text in news:
        reporter.write_line(f"NEWS {text}", cyan=True)
    for note in notes:
        reporter.write_line(note)


def _slow_rollouts(verdict: Verdict) -> str:
    """Says so where Gymnasium, not the fast engine, stepped the environment."""
    engine = str(verdict.details.get("engine", ""))
    slow = engine.startswith("gymnasium")
    return f"the rollouts of {verdict.policy} were stepped by {engine}" if slow else ""
