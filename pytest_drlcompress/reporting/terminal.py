"""The terminal summary: a table of policies and variants, and a line for what is worth one."""

from collections.abc import Sequence
from typing import Any

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.reporting.results import Judged, Results
from pytest_drlcompress.reporting.table import cell_text, counted, gates_of, rows_of, tone
from pytest_drlcompress.reporting.text import verdict_line

_FEW = 12
"""Up to so many verdicts have a line each; of more, only those that are not plainly PASS."""

_WIDEST = 28
"""Longer names are folded."""

_WIDE = 400
"""Columns that no table needs."""

_COLORS = {State.PASS: "green", State.FAIL: "red"}
_STYLES = {"passed": "green", "failed": "bold red", "improved": "cyan"}


def write_summary(reporter: Any, results: Results, notes: Sequence[str]) -> None:
    """Write the table, the verdicts worth a line, counts, improvements and notes."""
    judged, verdicts = list(results), results.verdicts
    reporter.section("drlcompress")
    every = len(judged) <= _FEW or reporter.config.get_verbosity() > 0
    shown = [j.verdict for j in judged if every or not _plain(j)]
    unmeasured: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in sorted(shown, key=lambda v: v.gate):
        if verdict.state is State.NOT_MEASURED and verdict.estimate is None:
            unmeasured.setdefault((verdict.gate, verdict.reason), []).append(verdict)
            continue
        reporter.write_line(verdict_line(verdict), **{_COLORS.get(verdict.state, "yellow"): True})
    for (gate, reason), alike in unmeasured.items():
        one = f"{alike[0].policy} / {alike[0].variant}"
        whose = one if len(alike) == 1 else f"of {len(alike)} variants"
        reporter.write_line(f"{gate} {whose}: NOT_MEASURED  {reason}", yellow=True)
    if len(rows_of(judged)) > 1:
        _write_table(reporter, judged)
    if verdicts:
        reporter.write_line(counted(verdicts))
    for remark in (_slow_rollouts, _not_cached, _not_recorded):
        for line in sorted(set(map(remark, verdicts)) - {""}):
            reporter.write_line(line)
    for text in results.improved:
        reporter.write_line(f"IMPROVED {text}", cyan=True)
    for note in notes:
        reporter.write_line(note)


def _plain(judged: Judged) -> bool:
    return judged.outcome == "passed" and judged.verdict.state is State.PASS


def _write_table(reporter: Any, judged: Sequence[Judged]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    gates = gates_of(judged)
    rows = rows_of(judged)
    table = Table(box=SIMPLE, pad_edge=False)
    for name, widest in (
        ("policy", max(len(row.policy) for row in rows)),
        ("variant", max(len(row.variant) for row in rows)),
    ):
        table.add_column(name, min_width=min(max(widest, len(name)), _WIDEST), overflow="fold")
    for gate in gates:
        texts = [gate, *(cell_text(row.cells[gate]) for row in rows if gate in row.cells)]
        table.add_column(gate, min_width=max(len(w) for text in texts for w in text.split()))
    previous = None
    for row in rows:
        cells = []
        for gate in gates:
            one = row.cells.get(gate)
            style = "" if one is None else _STYLES.get(tone(one), "yellow")
            cells.append(Text("-" if one is None else cell_text(one), style=style))
        table.add_row(Text("" if row.policy == previous else row.policy), Text(row.variant), *cells)
        previous = row.policy
    colored = bool(getattr(reporter, "hasmarkup", False))
    console = Console(
        force_terminal=colored,
        color_system="standard" if colored else None,
        width=_WIDE,
    )
    width = reporter._tw.fullwidth  # noqa: SLF001 (pytest has no public width)
    needed = Measurement.get(console, console.options, table).maximum
    if reporter.isatty and needed > width:
        # a log can be scrolled; in a terminal cells are folded at spaces, but nothing is cut off
        for column in table.columns:
            column.max_width = column.min_width
        needed = Measurement.get(console, console.options, table).maximum
    console.width = max(width, needed)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        if line.strip():
            reporter.write_line(line.rstrip())


def _not_recorded(verdict: Verdict) -> str:
    """Says so where microseconds were judged and not recorded with pytest-benchmark."""
    why = verdict.details.get("not_benchmarked")
    return f"latencies: not recorded: {why}" if why else ""


def _slow_rollouts(verdict: Verdict) -> str:
    """Says so where another engine than the fast one stepped the environment."""
    engine, slow = verdict.details.get("engine"), verdict.details.get("watched")
    return f"the rollouts of {verdict.policy} were stepped by {engine}" if slow else ""


def _not_cached(verdict: Verdict) -> str:
    """Says so where episodes are measured in every run anew."""
    why = verdict.details.get("not_cached")
    return f"the episodes of {verdict.policy} are not cached: {why}" if why else ""
