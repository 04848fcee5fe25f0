"""How many bytes does the artifact take? Knows nothing of pytest."""

from typing import Any

from pytest_drlcompress.codegen.targets import TARGETS, missing_tools
from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.core.quantities import format_bytes
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets, limits_of
from pytest_drlcompress.gates.findings import Finding, bound, together
from pytest_drlcompress.gates.kinds import MEMORY
from pytest_drlcompress.measurement.activations import peak_activation_bytes
from pytest_drlcompress.measurement.chip import measure_chip
from pytest_drlcompress.measurement.resident import resident_memory
from pytest_drlcompress.measurement.size import measure_size
from pytest_drlcompress.workbench.candidate import Candidate


def judge_memory(candidate: Candidate, budgets: Budgets) -> Verdict:
    """How many bytes does the artifact take on disk, and to run?

    ``max_bytes`` is held against the file, ``fits`` against its initializers and peak
    activations. What a fresh process takes is reported and held against nothing: it is
    the runtime's own size above all.
    """
    limits = limits_of(candidate, budgets)
    limit, room = limits("max_bytes"), limits("fits")
    verdict = candidate.verdict(MEMORY.name, limit)
    try:
        model = candidate.artifact.model
        with candidate.analysis():
            figures = memory_figures(model)
        resident, reason = resident_memory(model)
        findings = _findings(candidate, figures, limit, room)
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    details: dict[str, Any] = {**figures, "fits_bytes": room, **resident}
    if reason:
        details["resident_reason"] = reason
    return verdict(
        **together(findings),
        estimate=float(figures["bytes_on_disk"]),
        unit="bytes",
        details=details,
    )


def _findings(
    candidate: Candidate, figures: dict[str, Any], limit: float | None, room: float | None
) -> list[Finding]:
    findings = []
    if limit is not None:
        size = figures["bytes_on_disk"]
        findings.append(bound(size, limit, f"The file has {format_bytes(size)}"))
    target = candidate.settings.target
    if room is not None and target:
        findings.append(_on_target(candidate, target, room))
    elif room is not None:
        needed = figures["on_chip_bytes"]
        findings.append(bound(needed, room, f"Weights and activations take {format_bytes(needed)}"))
    return findings


def _on_target(candidate: Candidate, target: str, room: float) -> Finding:
    """``fits`` on the microcontroller that was named: all that the policy takes there."""
    if reason := missing_tools(TARGETS[target]):
        return Finding(State.NOT_MEASURED, f"fits: {reason}.")
    figures = measure_chip(candidate.artifact.model, target, candidate.loaded.probe_observations)
    needed = figures.flash + figures.ram
    return bound(needed, room, f"Flash and RAM on {figures.target} take {format_bytes(needed)}")


def memory_figures(model: bytes) -> dict[str, Any]:
    """The sizes of an artifact under the names that reports use.

    Raises:
        ArtifactError: ONNX Runtime cannot load or run the model.
    """
    size, peak = measure_size(model), peak_activation_bytes(model)
    return {
        "bytes_on_disk": size.artifact,
        "initializer_bytes": size.initializers,
        "peak_activation_bytes": peak,
        "on_chip_bytes": size.initializers + peak,
        "stripped_zstd_bytes": size.stripped_zstd,
        "nnz_claim_bytes": size.nnz_claim,
        "entropy_bound_bytes": size.entropy_bound,
        "sparse_encoding_bytes": size.encodings[size.smallest_encoding],
        "sparse_encoding": size.smallest_encoding,
        "encodings": dict(size.encodings),
        "weights": size.weights,
        "nonzero_weights": size.nonzero,
    }
