"""Measures the cells of the papers' tables: by the compression and the gates of every other run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_drlcompress.baselines.record import FAILURE
from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.energy import judge_energy
from pytest_drlcompress.gates.latency import judge_latency
from pytest_drlcompress.gates.memory import memory_figures
from pytest_drlcompress.gates.pruning import Point, run_sweep
from pytest_drlcompress.gates.retention import judge_retention
from pytest_drlcompress.measurement.size import measure_size
from pytest_drlcompress.measurement.sparsity import measure_sparsity
from pytest_drlcompress.papers.store import CONDITIONS, conditions
from pytest_drlcompress.papers.targets import Cell
from pytest_drlcompress.workbench.candidate import Candidate
from pytest_drlcompress.workbench.loaded import LoadedPolicy
from pytest_drlcompress.workbench.workbench import Workbench


def head_of(loaded: LoadedPolicy) -> dict[str, Any]:
    """What the cells of a baseline have in common, as JSON builtins."""
    record, reference = loaded.record, loaded.reference("")
    assert record is not None, "only baselines stand in the tables"
    zero = sum(reference.zero) / len(reference.zero)
    return {
        "policy": loaded.policy.id,
        "policy_sha256": record.sha256,
        "environment": record.environment,
        "quality": record.quality,
        "bytes": len(loaded.exported.model),
        CONDITIONS: conditions(reference, loaded.tools.settings),
        "returns": {
            "baseline": round(reference.mean, 2),
            "random": round(reference.random_mean, 2),
            "zero": round(zero, 2),
            "episodes": len(reference.returns),
        },
    }


def absence(folder: Path, policy: str) -> dict[str, Any]:
    """What stands in the place of the cells of a baseline that does not exist."""
    try:
        reason = str(json.loads((folder / policy / FAILURE).read_text())["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return {"policy": policy, "policy_sha256": "", "absent": "not trained"}
    first, _, _ = reason.partition(". ")
    return {"policy": policy, "policy_sha256": "", "absent": f"did not learn its task: {first}"}


def measure(bench: Workbench, cell: Cell, tell: Callable[[str], None]) -> dict[str, Any]:
    """The figures of ``cell`` as JSON builtins; ``{"error": why}`` where it cannot be made.

    ``tell`` hears of each ratio of a sweep.
    """
    try:
        if cell.section == "sweeps":
            return _sweep(bench.load(cell.policy), cell.recipe, tell)
        candidate = bench.candidate(cell.policy, cell.recipe)
        return _costs(candidate) if cell.section == "costs" else measure_variant(candidate)
    except DrlcError as error:
        return {"error": str(error)}


def measure_variant(candidate: Candidate) -> dict[str, Any]:
    """Verdict on the return, sizes in bytes, zeros, and CPU seconds of compression.

    These are ``None`` where the baseline brings the variant: its making was not measured here.
    """
    artifact = candidate.artifact
    verdict = judge_retention(candidate, Budgets())
    size, sparsity = measure_size(artifact.model), measure_sparsity(artifact.model)
    return {
        "retention": verdict_figures(verdict),
        "sizes": {
            "nnz_claim": size.nnz_claim,
            "entropy_bound": size.entropy_bound,
            "stripped_zstd": size.stripped_zstd,
            "artifact": size.artifact,
            "resident": size.initializers,
        },
        "zeros": round(sparsity.total, 6),
        "zeros_by_layer": {k: round(share, 6) for k, share in sparsity.by_layer.items()},
        "cpu_seconds": None if artifact.cpu_seconds is None else round(artifact.cpu_seconds, 1),
        "sha256": artifact.sha256,
    }


def verdict_figures(verdict: Verdict) -> dict[str, Any]:
    """The figures of a verdict that tables show, as JSON builtins."""
    interval = verdict.interval
    return {
        "state": verdict.state.value,
        "estimate": _rounded(verdict.estimate),
        "interval": None if interval is None else [_rounded(end) for end in interval],
        "sample_size": verdict.sample_size,
        **({} if verdict.state is State.PASS else {"reason": verdict.reason.splitlines()[0]}),
    }


def _sweep(loaded: LoadedPolicy, family: str, tell: Callable[[str], None]) -> dict[str, Any]:
    def on_point(point: Point) -> None:
        kept = point.retention
        if kept is not None and kept.estimate is not None:
            tell(f"{point.recipe}: {kept.state.value} {kept.estimate:.3f}")

    sweep = run_sweep(loaded, family, Budgets(), on_point=on_point)
    points = [
        {
            "ratio": point.ratio,
            "parameters": _rounded(point.parameters),
            "bytes": point.size,
            **verdict_figures(point.retention),
        }
        for point in sweep.points
        if point.retention is not None
    ]
    verdict = sweep.verdict
    return {
        "state": verdict.state.value,
        "most": verdict.estimate,
        "reason": verdict.reason,
        "points": points,
    }


def _costs(candidate: Candidate) -> dict[str, Any]:
    latency, energy = judge_latency(candidate, Budgets()), judge_energy(candidate, Budgets())
    memory = memory_figures(candidate.artifact.model)
    joules = energy.details.get("ratio") if energy.state is State.PASS else None
    return {
        "latency": verdict_figures(latency),
        "microseconds": _significant(latency.details["candidate_us"]),
        "energy": {**verdict_figures(energy), "ratio": _rounded(joules)},
        "estimated_uj": _significant(energy.details["estimate_horowitz_uj"]),
        "bytes": memory["bytes_on_disk"],
        "weights": memory["initializer_bytes"],
        "peak_activations": memory["peak_activation_bytes"],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _significant(value: float) -> float:
    return float(f"{value:.4g}")
