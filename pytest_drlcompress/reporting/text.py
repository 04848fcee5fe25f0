"""One verdict as the lines a person reads."""

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.kinds import kind_of


def verdict_line(verdict: Verdict) -> str:
    """``retention sac-hopper / ptdq: PASS  [0.941, 1.021] >= 0.90, 0.985 at the stop  (46 ...)``.

    A sequential test has its interval first: where it stops early, its estimate leans to the side
    that has won.
    """
    figures, sequential = [], verdict.e_value is not None and verdict.interval is not None
    if verdict.estimate is not None and not sequential:
        figures.append(_quantity(verdict, verdict.estimate, ".3f"))
    if verdict.interval is not None:
        ends = [_quantity(verdict, end, ".3f") for end in verdict.interval]
        figures.append(f"[{', '.join(ends)}]")
    if verdict.limit is not None and verdict.estimate is not None:
        # 0.90, but a limit of 0.005 as it was given
        digits = ".2f" if round(verdict.limit, 2) == verdict.limit else "g"
        figures.append(f"{_relation(verdict)} {_quantity(verdict, verdict.limit, digits)}")
    if sequential and verdict.estimate is not None:
        figures[-1] += f", {_quantity(verdict, verdict.estimate, '.3f')} at the stop"
    notes = []
    if verdict.sample_size:
        notes.append(f"{verdict.sample_size} {verdict.unit}")
    if verdict.e_value is not None:
        notes.append(f"e = {verdict.e_value:.3g}")
    if verdict.alpha is not None and verdict.e_value is not None:
        notes.append(f"alpha = {verdict.alpha:g}")
    text = f"{verdict.gate} {verdict.policy} / {verdict.variant}: {verdict.state.value}"
    if figures:
        text += "  " + " ".join(figures)
    if notes:
        text += f"  ({', '.join(notes)})"
    return text


def verdict_text(verdict: Verdict, rerun: str) -> str:
    """The line, the reason, and the command that runs this gate alone, if there is one."""
    return f"{verdict_line(verdict)}\n    {verdict.reason}\n    {rerun}".rstrip()


def _quantity(verdict: Verdict, value: float, ratio_format: str) -> str:
    """Bytes and joules in their units, ratios without."""
    kind = kind_of(verdict.gate)
    return format(value, ratio_format) if kind is None else kind.in_line(value, ratio_format)


def _relation(verdict: Verdict) -> str:
    kind = kind_of(verdict.gate)
    better = ">=" if kind is not None and kind.better == "higher" else "<="
    worse = "<" if better == ">=" else ">"
    relations = {State.PASS: better, State.FAIL: worse}
    return relations.get(verdict.state, "against")
