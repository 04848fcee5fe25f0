"""Is an artifact as sparse as it was asked to be? Knows nothing of pytest."""

from pytest_drlcompress.compression.pruning.distribution import kept_in_total, layer_counts
from pytest_drlcompress.compression.step import SparsityTarget
from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.kinds import SPARSITY
from pytest_drlcompress.measurement.sparsity import short_name, sparsity_of
from pytest_drlcompress.onnx_graph.weights import layer_weights
from pytest_drlcompress.workbench.candidate import Candidate


def judge_sparsity(candidate: Candidate, budgets: Budgets) -> Verdict:
    """Hold the zeros in the artifact's initializers to what was asked for.

    That is the marker's ``target_sparsity``; else what the recipe's own steps aim at, their
    distribution over the layers included. More zeros than asked for are welcome (rounding to
    integers makes some). Without either, the sparsity is measured and held to nothing.
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


def _target(candidate: Candidate) -> SparsityTarget | None:
    """What the recipe aims at; the last step that aims at anything decides."""
    targets = [
        kind.sparsity(step)
        for step, kind in zip(candidate.steps, candidate.kinds.values(), strict=True)
        if kind.sparsity is not None
    ]
    return targets[-1] if targets else None
