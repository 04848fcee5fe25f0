"""Does the policy fit the microcontroller, and act there as it does here?"""

from dataclasses import asdict
from typing import Any

from pytest_drlcompress.codegen.targets import TARGETS, ChipFigures, missing_tools
from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.core.quantities import format_bytes
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets, limits_of
from pytest_drlcompress.gates.findings import Finding, bound, together
from pytest_drlcompress.gates.kinds import CHIP
from pytest_drlcompress.measurement.chip import measure_chip
from pytest_drlcompress.workbench.candidate import Candidate


def judge_chip(candidate: Candidate, budgets: Budgets) -> Verdict:
    """The generated C, compiled for ``--drlc-target`` and run in QEMU's emulation of it.

    Actions must have ONNX Runtime's bits (a policy in floats: lie within the bound on its
    rounding errors); ``max_flash``, ``max_ram`` and ``max_instructions`` are held against what
    was measured.
    """
    limits = limits_of(candidate, budgets)
    limit, target = limits("max_flash"), candidate.settings.target
    verdict = candidate.verdict(CHIP.name, limit)
    if not target:
        return verdict(
            state=State.NOT_MEASURED,
            reason="No microcontroller was named: --drlc-target=cortex-m4, for example.",
        )
    if reason := missing_tools(TARGETS[target]):
        return verdict(state=State.NOT_MEASURED, reason=f"{reason}.")
    try:
        with candidate.analysis():
            figures = measure_chip(
                candidate.artifact.model, target, candidate.loaded.probe_observations
            )
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    findings = [_equality(figures)]
    if limit is not None:
        what = f"Code and constants take {format_bytes(figures.flash)} of flash"
        findings.append(bound(figures.flash, limit, what))
    if (room := limits("max_ram")) is not None:
        what = f"An action takes {format_bytes(figures.ram)} of RAM"
        findings.append(bound(figures.ram, room, what))
    if (count := limits("max_instructions")) is not None:
        findings.append(_instructions(figures, count))
    details: dict[str, Any] = asdict(figures)
    return verdict(
        **together(findings), estimate=float(figures.flash), unit="bytes", details=details
    )


def _equality(figures: ChipFigures) -> Finding:
    how = f"within {figures.tolerance:.2g} of" if figures.tolerance else "bit-equal to"
    agree = figures.equal == figures.vectors
    return Finding(
        State.PASS if agree else State.FAIL,
        f"On {figures.target}, {figures.equal} of {figures.vectors} actions are {how} ONNX"
        f" Runtime's, {figures.instructions:,.0f} instructions each.",
    )


def _instructions(figures: ChipFigures, limit: float) -> Finding:
    within = figures.largest <= limit
    return Finding(
        State.PASS if within else State.FAIL,
        f"The longest action takes {figures.largest:,.0f} instructions,"
        f" {'within' if within else 'more than'} {limit:,.0f}.",
    )
