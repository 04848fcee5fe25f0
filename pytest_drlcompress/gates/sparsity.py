"""Is an artifact as sparse as it was asked to be? Knows nothing of pytest."""

from collections.abc import Sequence

from pytest_drlcompress.compression.pruning.distribution import kept_in_total, layer_counts
from pytest_drlcompress.compression.pruning.schedule import CubicSchedule
from pytest_drlcompress.compression.step import SparsityTarget
from pytest_drlcompress.core.errors import ArtifactError, RecipeError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.kinds import SPARSITY
from pytest_drlcompress.measurement.sparsity import off_schedule, short_name, sparsity_of
from pytest_drlcompress.onnx_graph.weights import layer_weights
from pytest_drlcompress.workbench.candidate import Candidate

_ROUNDING = 1e-6


def judge_sparsity(candidate: Candidate, budgets: Budgets) -> Verdict:
    """Hold the zeros in the artifact's initializers to what was asked for.

    That is the marker's ``target_sparsity``; else what the recipe's own steps aim at, their
    distribution over the layers included. More zeros than asked for are welcome (rounding to
    integers makes some). Without either, the sparsity is measured and held to nothing. Where the
    artifact says how it was pruned, every pruning is held to the cubic schedule.
    """
    aim = _target(candidate)
    target = budgets.target_sparsity
    if target is None and aim is not None:
        target = aim.share
    verdict = candidate.verdict(SPARSITY.name, target)
    try:
        with candidate.analysis():
            layers = layer_weights(candidate.artifact.model)
            found = sparsity_of(layers)
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    if not found.weights:
        return verdict(
            state=State.NOT_MEASURED, reason="The artifact has no linear layer with weights."
        )
    named = ", ".join(f"{name} {share:.2%}" for name, share in found.by_layer.items())
    state, reason = State.PASS, f"Zero weights by layer: {named}."
    shapes = [layer.stored.shape for layer in layers]
    if target is not None:
        allowed = kept_in_total(shapes, target)
        if found.nonzero > allowed:
            state = State.FAIL
            reason = f"{found.nonzero - allowed} weights too many are not zero. {reason}"
    distribution = "global" if aim is None else aim.distribution
    if budgets.target_sparsity is None and target is not None and distribution != "global":
        counts = layer_counts(shapes, target, distribution)
        over = [
            f"{short_name(layer)} has {layer.nnz} nonzero weights, {distribution} allows {count}"
            for layer, count in zip(layers, counts, strict=True)
            if layer.nnz > count + 1  # whole numbers may be shared out in more than one way
        ]
        if over:
            state, reason = State.FAIL, f"{'; '.join(over)}. {reason}"
    if missed := _off_schedule(candidate, found.weights):
        state, reason = State.FAIL, f"{missed[0].upper()}{missed[1:]}. {reason}"
    if target is None:
        reason = f"No sparsity was asked for. {reason}"
    return verdict(
        state=state,
        reason=reason,
        estimate=found.total,
        sample_size=found.weights,
        unit="weights",
        details={
            "total": found.total,
            "by_layer": dict(found.by_layer),
            "nonzero": found.nonzero,
        },
    )


def _off_schedule(candidate: Candidate, weights: int) -> str:
    """Which pruning was not on the schedule, by its formula or by the code as it is now."""
    made = candidate.artifact.provenance.get("sparse", {})
    schedule, prunings = made.get("schedule"), made.get("prunings")
    if not schedule or not prunings:
        return ""
    try:
        now = CubicSchedule(**schedule)
        again = [(step, scheduled, now.at(step)) for step, scheduled, _ in prunings]
        return off_schedule(schedule, prunings, weights) or _changed(again)
    except (TypeError, ValueError, KeyError, RecipeError) as error:
        return f"the record of its prunings cannot be read ({error})"


def _changed(prunings: Sequence[tuple[float, float, float]]) -> str:
    for step, scheduled, now in prunings:
        if abs(scheduled - now) > _ROUNDING:
            return (
                f"the schedule is not the one it was pruned on: at step {step:,.0f}"
                f" {scheduled:.2%} then, {now:.2%} now"
            )
    return ""


def _target(candidate: Candidate) -> SparsityTarget | None:
    """What the recipe aims at; the last step that aims at anything decides."""
    targets = [
        kind.sparsity(step)
        for step, kind in zip(candidate.steps, candidate.kinds.values(), strict=True)
        if kind.sparsity is not None
    ]
    return targets[-1] if targets else None
