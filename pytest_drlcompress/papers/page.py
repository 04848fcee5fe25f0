"""The page of results as Markdown: the claims at the top, a section for each table and figure."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from pytest_drlcompress.core.errors import ReportError
from pytest_drlcompress.papers.claim import VERDICTS, Claim
from pytest_drlcompress.papers.ivanov_claims import ivanov_claims
from pytest_drlcompress.papers.ivanov_tables import sparsity_table
from pytest_drlcompress.papers.lu_claims import lu_claims
from pytest_drlcompress.papers.lu_tables import TABLES
from pytest_drlcompress.papers.measured import EARLIER, Measured, table
from pytest_drlcompress.papers.targets import TARGETS, Target

FIGURES = ("lu-figures", "ivanov-figure4", "ivanov-figure5", "ivanov-figure6")
"""Targets that are drawn, too."""

BEGIN = (
    "<!-- results: begin"
    " (written by: python -m pytest_drlcompress reproduce --show --page docs/results.md) -->"
)
END = "<!-- results: end -->"
_MARKS = re.compile(r"<!-- results: begin[^>]*-->\n.*<!-- results: end -->", re.DOTALL)

_NOTES: Mapping[str, str] = {
    "lu-table1": "The papers' policies and ours are different ones: what can be compared is what"
    " compression does to them.",
    "lu-table2": "The most of 5, 10, ..., 70 % of the channels that is shown to keep 90 % of the"
    " return, one-shot, without training; a sweep ends at the first ratio that is not PASS.",
    "lu-figures": "Batch 1, one thread, ONNX Runtime; every ratio is to the policy's own fp32 file,"
    " measured interleaved. The estimate of energy is one (Horowitz, 45 nm).",
    "ivanov-figure4": "Trained after the fact, by on-policy distillation, not in a million steps of"
    " reinforcement learning. Bytes: nonzero weights alone (their count), entropy bound,"
    " stripped file compressed by zstd, the file, in memory.",
}

_INTERVALS = (
    f"Shares have exact 95 % intervals (Clopper-Pearson). {EARLIER}: held to an earlier reference"
    " of 200 episodes, or by an earlier gate; the command measures it anew."
)
_COMMAND = (
    "`python -m pytest_drlcompress reproduce NAME` measures what is missing of the table or figure"
    " in the last column, `reproduce --all` everything; either goes on where it was interrupted."
)


def claims(measured: Measured) -> list[Claim]:
    """Both papers' claims."""
    return [*lu_claims(measured), *ivanov_claims(measured)]


def section(measured: Measured, target: Target) -> list[str]:
    """The lines of one table or figure: command, what is missing, the table."""
    lines = [f"## {target.title}", "", "```", target.command, "```", ""]
    if note := _NOTES.get(target.name):
        lines += [note, ""]
    missing = measured.missing(target.cells)
    if missing:
        cells = f"{missing} of {len(target.cells)} cells"
        lines += [f"Not measured yet: {cells}. The command above measures them.", ""]
    body = _tables()[target.name](measured)
    if not body:
        return lines
    if target.name in FIGURES:
        lines += [f"![{target.title}](figures/{target.name}.svg)", ""]
    return [*lines, *body, ""]


def page(measured: Measured) -> str:
    """Everything between the marks, the marks included."""
    rows = [(c.text, c.theirs, c.ours, c.verdict, f"`{c.target}`") for c in claims(measured)]
    meanings = "; ".join(f"**{word}**: {meaning}" for word, meaning in VERDICTS.items())
    lines = [
        BEGIN,
        "## The papers' claims",
        "",
        *table(("claim", "theirs", "ours", "verdict", "measured by"), rows),
        "",
        f"{meanings}. {_INTERVALS}",
        "",
        _COMMAND,
        "",
    ]
    for target in TARGETS.values():
        lines += section(measured, target)
    return "\n".join([*lines, END])


def between_marks(content: str, measured: Measured) -> str:
    """``content`` with the page between its marks; the page alone where there is no content.

    Raises:
        ReportError: the marks are missing, or there is more than one pair.
    """
    if not content:
        return f"# Results\n\n{page(measured)}\n"
    written, count = _MARKS.subn(lambda found: page(measured), content)
    if count != 1:
        raise ReportError(
            "the page must hold one '<!-- results: begin -->' and one '<!-- results: end -->' for"
            " the tables to go between"
        )
    return written


def _tables() -> Mapping[str, Callable[[Measured], list[str]]]:
    drawn = {
        name: partial(sparsity_table, target=name) for name in TARGETS if name.startswith("ivanov-")
    }
    return {**TABLES, **drawn}


def missing_lines(measured: Measured) -> Iterator[str]:
    """How much of each target is measured."""
    for target in TARGETS.values():
        missing = measured.missing(target.cells)
        yield f"{target.name}: {len(target.cells) - missing} of {len(target.cells)} cells measured"
