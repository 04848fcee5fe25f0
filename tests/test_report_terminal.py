"""The terminal's table: a row for each policy and variant, and lines only for what needs one."""

import io

import pytest
from _pytest.terminal import TerminalReporter
from reports import VARIANTS, full_report

from pytest_drlcompress.reporting.results import Results
from pytest_drlcompress.reporting.terminal import write_summary


def results(judged):
    found = Results()
    for one in judged:
        found.judged.setdefault(f"{one.test}{one.verdict.gate}{one.key}", []).append(one)
    return found


@pytest.fixture
def summary(pytestconfig, monkeypatch):
    def write(judged, verbosity=0):
        monkeypatch.setattr(pytestconfig.option, "verbose", verbosity)
        file = io.StringIO()
        write_summary(TerminalReporter(pytestconfig, file), results(judged), ["a note"])
        return file.getvalue()

    return write


def test_many_verdicts_are_a_table_and_the_exceptions(summary):
    text = summary(full_report().judged)
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("retention ")]) == 4  # FAIL and news
    assert not [line for line in lines if line.startswith("latency ")]
    assert "energy of 10 variants: NOT_MEASURED  no counter is readable" in lines
    assert "50 PASS, 2 FAIL, 10 NOT_MEASURED" in lines
    assert lines[-1] == "a note"
    rows = [line for line in lines if " PASS " in line and ": " not in line]
    for variant in VARIANTS:  # unfolded, once for each policy
        assert len([row for row in rows if f" {variant} " in row]) == 2
    heading = next(line.split() for line in lines if line.startswith(" policy"))
    assert " ".join(heading[2:]) == "retention action error sparsity latency memory energy pruning"


def test_a_narrow_terminal_folds_cells_and_cuts_nothing(pytestconfig):
    file = io.StringIO()
    reporter = TerminalReporter(pytestconfig, file)
    reporter.isatty, reporter._tw.fullwidth = True, 80
    write_summary(reporter, results(full_report(("sac-hopper",)).judged), [])
    text = file.getvalue()
    assert "…" not in text
    for word in ("288,811", "MEASURED", "pruning", "10.0%"):
        assert word in text


def test_a_narrow_terminal_keeps_its_headings_whole(pytestconfig):
    file = io.StringIO()
    reporter = TerminalReporter(pytestconfig, file)
    reporter.isatty, reporter._tw.fullwidth = True, 80
    short = [j for j in full_report(("dqn",)).judged if j.verdict.variant in {"fp32", "ptdq"}]
    write_summary(reporter, results(short), [])
    assert " policy   variant " in file.getvalue()


def test_verbose_has_a_line_for_each(summary):
    lines = summary(full_report().judged, verbosity=1).splitlines()
    assert len([line for line in lines if line.startswith("latency ")]) == 10


def test_few_verdicts_have_a_line_each(summary):
    few = [j for j in full_report(("sac-hopper",)).judged if j.verdict.gate == "latency"]
    lines = summary(few).splitlines()
    assert len([line for line in lines if line.startswith("latency ")]) == 5


def test_one_row_needs_no_table(summary):
    one = [j for j in full_report(("sac-hopper",)).judged if j.verdict.gate == "latency"][:1]
    assert "policy" not in summary(one)
