"""The report in GitHub's Markdown: for a pull request or ``$GITHUB_STEP_SUMMARY``."""

import html
import re
from collections.abc import Sequence

from pytest_drlcompress.reporting.report import Report
from pytest_drlcompress.reporting.results import Judged
from pytest_drlcompress.reporting.table import cell_text, counted, gates_of, rows_of, tone

_MARKS = {"passed": "✅", "failed": "❌", "improved": "🆕", "xfailed": "🟡", "skipped": "⚪"}


def markdown(report: Report) -> str:
    """The verdict in a line, a table, and what failed with the command to run."""
    parts = [_headline(report)]
    if report.judged:
        parts.append(_table(report.judged))
    for failure in report.failures:
        text = f"{failure.message.rstrip()}\n\n{report.command(failure.test)}"
        parts.append(
            f"<details open><summary>❌ <code>{html.escape(failure.test)}</code></summary>\n\n"
            f"{_fenced(text)}\n\n</details>"
        )
    improved = list(dict.fromkeys(j.message for j in report.judged if j.outcome == "improved"))
    if improved:
        parts.append("**Better than recorded**\n\n" + _fenced("\n".join(improved)))
    if report.not_run:
        parts.append(f"{len(report.not_run)} gates were collected and not run.")
    if report.notes:
        parts.append("\n".join(f"- {_escaped(note)}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def _headline(report: Report) -> str:
    states = counted([j.verdict for j in report.judged]) or "no verdicts"
    failed = f"{len(report.failures)} failed" if report.failures else "all as it should be"
    mark = _MARKS["failed" if report.failures or report.exit_status else "passed"]
    if report.exit_status and not report.failures:
        failed = f"the run ended with exit status {report.exit_status}"
    return f"### {mark} Compressed policies: {failed}\n\n{states}"


def _table(judged: Sequence[Judged]) -> str:
    gates = gates_of(judged)
    lines = ["| policy | variant | " + " | ".join(gates) + " |", "|---|---|" + "---|" * len(gates)]
    for row in rows_of(judged):
        found = [row.cells.get(gate) for gate in gates]
        cells = ["" if j is None else f"{_MARKS[tone(j)]} {cell_text(j)}" for j in found]
        cells = [_escaped(row.policy), _escaped(row.variant), *map(_escaped, cells)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """``text`` that Markdown and its HTML show as it is, in one line."""
    text = html.escape(text, quote=False)
    return re.sub(r"([\\|*_`~@#\[\]])", r"\\\1", text).replace("\n", " ")


def _fenced(text: str) -> str:
    """A block that nothing in ``text`` can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
