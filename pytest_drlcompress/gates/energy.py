"""How many joules does one action take? Knows nothing of pytest."""

from dataclasses import asdict
from functools import partial
from typing import Any

from pytest_drlcompress.core.errors import ArtifactError, CounterError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets, limits_of
from pytest_drlcompress.gates.findings import Finding, held, together
from pytest_drlcompress.gates.kinds import ENERGY
from pytest_drlcompress.measurement.energy import Energy, energy_per_inference, measure_windows
from pytest_drlcompress.measurement.energy_counters import find_counter
from pytest_drlcompress.measurement.model_energy import estimate_energy
from pytest_drlcompress.workbench.candidate import Candidate


def judge_energy(candidate: Candidate, budgets: Budgets) -> Verdict:
    """How many joules does one inference take, by a counter that sees the processor?

    Without a readable counter the gate is NOT_MEASURED. The model-based estimate stands in
    the details under its own name and satisfies no budget.
    """
    limits = limits_of(candidate, budgets)
    limit_uj = limits("max_energy_uj")
    limit = None if limit_uj is None else limit_uj * 1e-6
    verdict = candidate.verdict(ENERGY.name, limit)
    try:
        baseline, compressed = candidate.loaded.controller, candidate.controller
        with candidate.analysis():
            estimate = estimate_energy(candidate.artifact.model)
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    details: dict[str, Any] = {
        "counter": None,
        "estimate_horowitz_uj": estimate.on_chip_uj,
        "estimate_horowitz_dram_uj": estimate.dram_uj,
        "macs": estimate.fp32_macs + estimate.int8_macs,
    }
    counter, reason = find_counter(compressed.device)
    if counter is None:
        return verdict(state=State.NOT_MEASURED, reason=f"{_sentence(reason)}.", details=details)
    details["counter"] = counter.name
    observation = candidate.loaded.probe_observation
    first, second = (partial(c.act_one, observation) for c in (baseline, compressed))
    try:
        windows = measure_windows(counter, first, second)
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.", details=details)
    except CounterError as error:
        return verdict(state=State.NOT_MEASURED, reason=f"{error}.", details=details)
    measured = energy_per_inference(windows, alpha=candidate.settings.alpha)
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
        alpha=candidate.settings.alpha,
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
