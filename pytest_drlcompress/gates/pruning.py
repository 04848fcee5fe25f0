"""Pruning sweeps: from the least to the most pruned, the most that keeps the policy's return.

Lu et al., Tables 2 and 3. Each ratio is tested at full ``alpha``, and the first that is not
PASS ends the sweep: a wrong PASS anywhere in it then has at most that probability, because only
the first truly insufficient ratio that is reached can give one (fixed-sequence testing).
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_drlcompress.compression.recipe import Recipe, parse_recipe
from pytest_drlcompress.compression.variant import Variant
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.kinds import PRUNING
from pytest_drlcompress.gates.latency import judge_latency
from pytest_drlcompress.gates.retention import judge_retention
from pytest_drlcompress.workbench.candidate import Candidate
from pytest_drlcompress.workbench.loaded import LoadedPolicy

RATIOS = tuple(range(5, 75, 5))
"""Per cent of the channels: those of the papers' figures."""

AfterStop = Literal["end", "cost", "all"]


@dataclass(frozen=True)
class Point:
    """One ratio of a sweep, in per cent.

    ``size`` is the artifact's bytes, ``parameters`` the share of the network's parameters that
    is left (``None`` where the recipe does not tell), ``latency`` the ratio to the baseline.
    ``in_sequence`` is false for a retention measured after the first that was not PASS: the
    sweep's error bound does not cover it.
    """

    recipe: str
    ratio: float
    size: int
    parameters: float | None
    latency: Verdict
    retention: Verdict | None
    in_sequence: bool

    def figures(self) -> dict[str, Any]:
        """The figures as JSON builtins: what tables, CSV files and plots show."""
        kept = self.retention
        low, high = (kept and kept.interval) or (None, None)
        return {
            "recipe": self.recipe,
            "ratio": self.ratio,
            "parameters": self.parameters,
            "bytes": self.size,
            "latency": self.latency.estimate,
            "state": kept.state.value if kept else None,
            "retention": kept.estimate if kept else None,
            "low": low,
            "high": high,
            "episodes": kept.sample_size if kept else 0,
            "in_sequence": self.in_sequence,
        }


@dataclass(frozen=True)
class Sweep:
    """What a sweep measured, and the verdict: the most pruning that keeps the return."""

    points: tuple[Point, ...]
    verdict: Verdict


def recipe_at(family: str, ratio: float) -> str:
    """``recipe_at("l2+ptdq", 30)`` is ``"l2@30+ptdq"``.

    Raises:
        RecipeError: ``family`` cannot be read, or has an amount already.
    """
    first, *rest = parse_recipe(family).steps
    if first.amount is not None:
        raise RecipeError(
            f"sweep of {family!r}: the sweep sets the amount of {first.name!r}; leave it out"
        )
    return str(Recipe((dataclasses.replace(first, amount=float(ratio)), *rest)))


def run_sweep(
    loaded: LoadedPolicy,
    family: str,
    budgets: Budgets,
    ratios: Sequence[float] = RATIOS,
    *,
    after_stop: AfterStop = "end",
    on_point: Callable[[Point], None] = lambda point: None,
) -> Sweep:
    """Find the largest of ``ratios`` (per cent) that keeps the return.

    After the first ratio that is not PASS the sweep ends, or still measures what the others
    ``"cost"`` (bytes, latency), or ``"all"``. The verdict's estimate is a share of the channels;
    it is held against ``budgets.min_pruning``, and without one a sweep that could be measured
    is a PASS.

    Raises:
        RecipeError: the smallest ratio cannot be made.
    """
    points: list[Point] = []
    stopped, in_sequence = "", True
    for ratio in sorted(ratios):
        try:
            point = _measure(
                Candidate(loaded, Variant(recipe_at(family, ratio))), ratio, budgets,
                judge=in_sequence or after_stop == "all", in_sequence=in_sequence,
            )  # fmt: skip
        except RecipeError as error:
            if not points:
                raise
            stopped = str(error)
            break
        points.append(point)
        on_point(point)
        if point.retention is None or point.retention.state is not State.PASS:
            in_sequence = False
            if after_stop == "end":
                break
    verdict = conclude(loaded.policy.id, family, points, budgets, stopped)
    return Sweep(tuple(points), verdict)


def conclude(
    policy: str, family: str, points: Sequence[Point], budgets: Budgets, stopped: str = ""
) -> Verdict:
    """The verdict of a sweep from its points, in order; the first non-PASS ends it.

    ``stopped`` says why there was no further ratio, if not for that.
    """
    tested = [(p.ratio, p.retention) for p in points if p.in_sequence and p.retention]
    passed = [ratio for ratio, verdict in tested if verdict.state is State.PASS]
    most = max(passed, default=0) / 100
    last = next(((r, v) for r, v in tested if v.state is not State.PASS), None)
    limit, state = budgets.min_pruning, State.PASS
    if last is not None and last[1].state is State.INVALID:
        state = State.INVALID
    elif limit is not None and most < limit:
        undecided = last is not None and last[1].state is State.INCONCLUSIVE
        state = State.INCONCLUSIVE if undecided else State.FAIL
    first = tested[0][1]
    return Verdict(
        gate=PRUNING.name,
        policy=policy,
        variant=family,
        state=state,
        reason=_reason(family, most, last, first.limit, stopped),
        estimate=None if state is State.INVALID else most,
        limit=limit,
        sample_size=len(tested),
        unit="ratios",
        alpha=first.alpha,
        details={"points": [point.figures() for point in points]},
    )


def _measure(
    candidate: Candidate, ratio: float, budgets: Budgets, *, judge: bool, in_sequence: bool
) -> Point:
    artifact = candidate.artifact
    left = artifact.provenance[candidate.steps[0].name].get("parameters")
    return Point(
        recipe=candidate.id,
        ratio=float(ratio),
        size=len(artifact.model),
        parameters=None if left is None else left[1] / left[0],
        latency=judge_latency(candidate, Budgets()),
        retention=judge_retention(candidate, budgets) if judge else None,
        in_sequence=in_sequence,
    )


def _reason(
    family: str,
    most: float,
    last: tuple[float, Verdict] | None,
    kept: float | None,
    stopped: str,
) -> str:
    share = f"{kept:.0%}" if kept is not None else "enough"
    if last is not None and last[1].state is State.INVALID:
        return last[1].reason
    text = (
        f"Pruning {most:.0%} still keeps {share} of the return"
        if most
        else f"No ratio is shown to keep {share} of the return"
    )
    if last is not None:
        ratio, verdict = last
        figure = f" ({verdict.estimate:.3f})" if verdict.estimate is not None else ""
        return f"{text}; {recipe_at(family, ratio)} is {verdict.state.value}{figure}."
    return f"{text}; {stopped}." if stopped else f"{text}, the most that was tried."
