"""From a policy, a variant and its budgets to verdicts on what one action costs.

Knows nothing of pytest. A budget that could not be held against anything is never passed.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from pytest_drlcompress.core.errors import ArtifactError, CounterError
from pytest_drlcompress.core.quantities import format_bytes
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.findings import Finding, bound, decided, held, together
from pytest_drlcompress.measurement.activations import peak_activation_bytes
from pytest_drlcompress.measurement.energy import Energy, energy_per_inference, measure_windows
from pytest_drlcompress.measurement.energy_counters import find_counter
from pytest_drlcompress.measurement.latency import (
    MAX_MISS_PROBABILITY,
    LatencyRatio,
    compare_calls,
    measure_deadline,
    measure_latency_ratio,
)
from pytest_drlcompress.measurement.machine import untuned_reasons
from pytest_drlcompress.measurement.model_energy import estimate_energy
from pytest_drlcompress.measurement.resident import resident_memory
from pytest_drlcompress.measurement.size import measure_size
from pytest_drlcompress.workbench.workbench import Workbench

NETWORK_BLOCKS = 20


def judge_latency(bench: Workbench, policy: str, variant: str, budgets: Budgets) -> Verdict:
    """How long does one action take, against the baseline's own artifact?

    Without a budget everything is measured and reported, and held to nothing.
    """
    limits = _limits(bench, policy, variant, budgets)
    ratio_limit = limits("max_latency_ratio")
    verdict = bench.verdict("latency", policy, variant, ratio_limit)
    alpha = bench.settings.alpha
    try:
        baseline, candidate = (bench.controller(policy, which) for which in ("", variant))
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    observation = bench.probe_observations(policy)[0]
    measured = measure_latency_ratio(
        baseline, candidate, observation, alpha=alpha, limit=ratio_limit
    )
    network = compare_calls(baseline.run_network, candidate.run_network, blocks=NETWORK_BLOCKS)
    details: dict[str, Any] = {
        "baseline_us": measured.baseline_us,
        "candidate_us": measured.candidate_us,
        "network_ratio": network.ratio,
        "network_baseline_us": network.baseline_us,
        "network_candidate_us": network.candidate_us,
    }
    findings = []
    if ratio_limit is not None:
        findings.append(_ratio_finding(measured, ratio_limit))
    absolute = {name: limits(name) for name in ("max_latency_us", "deadline_hz")}
    asked = {name: limit for name, limit in absolute.items() if limit is not None}
    if asked:
        act = partial(candidate.act_one, observation)
        findings += _absolute(bench, act, measured.candidate_us, asked, details)
    return verdict(
        **together(findings),
        estimate=measured.ratio,
        interval=measured.interval,
        sample_size=measured.blocks,
        unit="blocks",
        alpha=alpha,
        details=details,
    )


def judge_memory(bench: Workbench, policy: str, variant: str, budgets: Budgets) -> Verdict:
    """How many bytes does the artifact take on disk, and to run?

    ``max_bytes`` is held against the file, ``fits`` against its initializers and peak
    activations. What a fresh process takes is reported and held against nothing: it is
    the runtime's own size above all.
    """
    limits = _limits(bench, policy, variant, budgets)
    limit, room = limits("max_bytes"), limits("fits")
    verdict = bench.verdict("memory", policy, variant, limit)
    try:
        artifact = bench.artifact(policy, variant)
        figures = memory_figures(artifact.model)
        resident, reason = resident_memory(artifact.model)
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    findings = []
    if limit is not None:
        size = figures["bytes_on_disk"]
        findings.append(bound(size, limit, f"The file has {format_bytes(size)}"))
    if room is not None:
        needed = figures["on_chip_bytes"]
        findings.append(bound(needed, room, f"Weights and activations take {format_bytes(needed)}"))
    details: dict[str, Any] = {**figures, "fits_bytes": room, **resident}
    if reason:
        details["resident_reason"] = reason
    return verdict(
        **together(findings),
        estimate=float(figures["bytes_on_disk"]),
        unit="bytes",
        details=details,
    )


def judge_energy(bench: Workbench, policy: str, variant: str, budgets: Budgets) -> Verdict:
    """How many joules does one inference take, by a counter that sees the processor?

    Without a readable counter the gate is NOT_MEASURED. The model-based estimate stands in
    the details under its own name and satisfies no budget.
    """
    limits = _limits(bench, policy, variant, budgets)
    limit_uj = limits("max_energy_uj")
    limit = None if limit_uj is None else limit_uj * 1e-6
    verdict = bench.verdict("energy", policy, variant, limit)
    try:
        baseline, candidate = (bench.controller(policy, which) for which in ("", variant))
        estimate = estimate_energy(bench.artifact(policy, variant).model)
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    details: dict[str, Any] = {
        "counter": None,
        "estimate_horowitz_uj": estimate.on_chip_uj,
        "estimate_horowitz_dram_uj": estimate.dram_uj,
        "macs": estimate.fp32_macs + estimate.int8_macs,
    }
    counter, reason = find_counter(candidate.device)
    if counter is None:
        return verdict(state=State.NOT_MEASURED, reason=f"{_sentence(reason)}.", details=details)
    details["counter"] = counter.name
    observation = bench.probe_observations(policy)[0]
    first, second = (partial(c.act_one, observation) for c in (baseline, candidate))
    try:
        windows = measure_windows(counter, first, second)
    except CounterError as error:
        return verdict(state=State.NOT_MEASURED, reason=f"{error}.", details=details)
    measured = energy_per_inference(windows, alpha=bench.settings.alpha)
    details.update(
        baseline_joules=measured.baseline,
        ratio=measured.ratio,
        idle_watts=measured.idle_watts,
        windows=[asdict(window) for window in windows],
    )
    return verdict(
        **together([_energy_finding(measured, limit)]),
        estimate=measured.candidate,
        interval=measured.interval,
        sample_size=measured.rounds,
        unit="rounds",
        alpha=bench.settings.alpha,
        details=details,
    )


def _energy_finding(measured: Energy, limit: float | None) -> Finding:
    if measured.interval[0] <= 0:
        return Finding(
            State.NOT_MEASURED,
            "The counter does not rise reliably above its idle rate: the machine was busy with"
            " other work while idle was measured.",
        )
    if limit is None:
        return Finding(State.PASS, "No budget was given.")
    return held(measured.interval, limit, "The budget lies inside the interval.")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


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


def _ratio_finding(measured: LatencyRatio, limit: float) -> Finding:
    return held(
        measured.interval,
        limit,
        f"The budget lies inside the interval, after {measured.blocks} blocks: the two are too"
        " close for this machine to tell.",
    )


def _absolute(
    bench: Workbench,
    act: partial[Any],
    microseconds: float,
    asked: Mapping[str, float],
    details: dict[str, Any],
) -> list[Finding]:
    """``max_latency_us`` and ``deadline_hz``, where this machine's clock may be trusted."""
    names = " and ".join(asked)
    if not bench.settings.hard_deadline:
        return [
            Finding(
                State.NOT_MEASURED,
                f"{names}: absolute times are held against a tuned machine only; say"
                " --drlc-hard-deadline there.",
            )
        ]
    untuned = untuned_reasons()
    if untuned:
        details["untuned"] = untuned
        return [
            Finding(
                State.INVALID,
                f"{names}: --drlc-hard-deadline needs a tuned machine (pyperf system tune), and"
                f" this one is not: {'; '.join(untuned)}.",
            )
        ]
    findings = []
    if (limit := asked.get("max_latency_us")) is not None:
        within = microseconds <= limit
        findings.append(
            Finding(
                State.PASS if within else State.FAIL,
                f"Median {microseconds:.2f} us, {'within' if within else 'beyond'} {limit:g} us.",
            )
        )
    if (rate := asked.get("deadline_hz")) is not None:
        deadline = measure_deadline(act, 1 / rate, alpha=bench.settings.alpha)
        details["deadline"] = {**asdict(deadline), "interval": list(deadline.interval)}
        low, high = deadline.interval
        findings.append(
            Finding(
                decided(deadline.interval, MAX_MISS_PROBABILITY),
                f"{deadline.misses} of {deadline.calls} actions took longer than"
                f" {1e6 / rate:g} us: a miss has probability [{low:.2g}, {high:.2g}], to be at"
                f" most {MAX_MISS_PROBABILITY:g}.",
            )
        )
    return findings


def _limits(
    bench: Workbench, policy: str, variant: str, budgets: Budgets
) -> "partial[float | None]":
    recorded = bench.recorded_budgets(policy, variant)
    return partial(budgets.cost, settings=bench.settings, recorded=recorded)
