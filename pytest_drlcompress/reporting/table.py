"""The table that the terminal, Markdown and HTML show: a row for each policy and variant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.kinds import GATE_KINDS, kind_of
from pytest_drlcompress.reporting.results import Judged, worst

_FIRST = tuple(kind.name for kind in GATE_KINDS)


@dataclass(frozen=True)
class Row:
    """One variant of one policy, with what was judged of it by gate."""

    policy: str
    variant: str
    cells: Mapping[str, Judged]


def gates_of(judged: Iterable[Judged]) -> list[str]:
    """The columns: the known gates in their order, then any others."""
    found = {j.verdict.gate for j in judged}
    return [g for g in _FIRST if g in found] + sorted(found.difference(_FIRST))


def rows_of(judged: Iterable[Judged]) -> list[Row]:
    """The rows, in the order of ``judged``; of several judgements of one cell the worst."""
    cells: dict[tuple[str, str], dict[str, list[Judged]]] = {}
    for one in judged:
        policy, variant, gate = one.key
        cells.setdefault((policy, variant), {}).setdefault(gate, []).append(one)
    return [
        Row(policy, variant, {gate: worst(several) for gate, several in found.items()})
        for (policy, variant), found in cells.items()
    ]


def figure_text(verdict: Verdict) -> str:
    """The estimate as a cell shows it; empty without one."""
    value = verdict.estimate
    if value is None:
        return ""
    kind = kind_of(verdict.gate)
    return f"{value:.3g}" if kind is None else kind.in_cell(value)


def state_text(judged: Judged) -> str:
    """The verdict's state, and what the test made of it where that is not the same."""
    state = judged.verdict.state.value.replace("_", " ")
    passed = judged.verdict.state is State.PASS
    if judged.outcome == "failed" and passed:
        return f"{state}, test failed"
    if judged.outcome == "xfailed":
        return f"{state}, as recorded" if judged.as_recorded else f"{state}, expected"
    return f"{state}, improved" if judged.outcome == "improved" else state


def tone(judged: Judged) -> str:
    """The outcome that a cell is marked by.

    A sweep's test passes although its last ratio did not: that one is no success to look at.
    """
    measured = judged.outcome == "passed" and judged.verdict.state is not State.PASS
    return "xfailed" if measured else judged.outcome


def cell_text(judged: Judged) -> str:
    """State and figure."""
    return f"{state_text(judged)} {figure_text(judged.verdict)}".strip()


def counted(verdicts: Sequence[Verdict]) -> str:
    """``"46 PASS, 2 FAIL"``."""
    counts = {state: sum(v.state is state for v in verdicts) for state in State}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)
