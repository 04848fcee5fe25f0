"""Writes a report in the form that its file's suffix names."""

from collections.abc import Sequence
from pathlib import Path

from pytest_drlcompress.core.files import write_atomic, write_json
from pytest_drlcompress.reporting.report import Report


def write_reports(report: Report, paths: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Write ``report`` to each of ``paths``: what was written and what could not be, in words."""
    written, errors = [], []
    for path in paths:
        try:
            _write(report, path)
        except OSError as error:
            errors.append(f"report {path} could not be written: {error}")
        else:
            written.append(f"report: {path}")
    return written, errors


def _write(report: Report, path: Path) -> None:
    if path.suffix == ".json":
        write_json(path, report.to_json())
    elif path.suffix == ".md":
        from pytest_drlcompress.reporting.markdown import markdown

        write_atomic(path, markdown(report).encode())
    else:
        from pytest_drlcompress.reporting.html import html

        write_atomic(path, html(report).encode())
