"""How long does one action take? Knows nothing of pytest.

A budget that could not be held against anything is never passed.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets, limits_of
from pytest_drlcompress.gates.findings import Finding, decided, held, together
from pytest_drlcompress.gates.kinds import LATENCY
from pytest_drlcompress.measurement.latency import (
    MAX_MISS_PROBABILITY,
    LatencyRatio,
    compare_calls,
    measure_deadline,
    measure_latency_ratio,
    seconds_inside,
)
from pytest_drlcompress.measurement.machine import untuned_reasons
from pytest_drlcompress.workbench.candidate import Candidate

NETWORK_BLOCKS = 20


def judge_latency(candidate: Candidate, budgets: Budgets) -> Verdict:
    """How long does one action take, against the baseline's own artifact?

    Without a budget everything is measured and reported, and held to nothing.
    """
    limits = limits_of(candidate, budgets)
    ratio_limit = limits("max_latency_ratio")
    verdict = candidate.verdict(LATENCY.name, ratio_limit)
    alpha = candidate.settings.alpha
    try:
        baseline, compressed = candidate.loaded.controller, candidate.controller
        observation = candidate.loaded.probe_observation
        with candidate.analysis():
            measured = measure_latency_ratio(
                baseline, compressed, observation, alpha=alpha, limit=ratio_limit
            )
            network = compare_calls(
                baseline.run_network, compressed.run_network, blocks=NETWORK_BLOCKS
            )
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    details: dict[str, Any] = {
        "baseline_us": measured.baseline_us,
        "candidate_us": measured.candidate_us,
        "network_ratio": network.ratio,
        "network_baseline_us": network.baseline_us,
        "network_candidate_us": network.candidate_us,
    }
    if (inside := seconds_inside(compressed)) is not None:
        details["in_c_us"] = inside * 1e6
    findings = []
    if ratio_limit is not None:
        findings.append(_ratio_finding(measured, ratio_limit))
    absolute = {name: limits(name) for name in ("max_latency_us", "deadline_hz")}
    asked = {name: limit for name, limit in absolute.items() if limit is not None}
    if asked:
        act = partial(compressed.act_one, observation)
        findings += _absolute(candidate, act, measured.candidate_us, asked, details)
    return verdict(
        **together(findings),
        estimate=measured.ratio,
        interval=measured.interval,
        sample_size=measured.blocks,
        unit="blocks",
        alpha=alpha,
        details=details,
    )


def _ratio_finding(measured: LatencyRatio, limit: float) -> Finding:
    return held(
        measured.interval,
        limit,
        f"The budget lies inside the interval, after {measured.blocks} blocks: the two are too"
        " close for this machine to tell.",
    )


def _absolute(
    candidate: Candidate,
    act: partial[Any],
    microseconds: float,
    asked: Mapping[str, float],
    details: dict[str, Any],
) -> list[Finding]:
    """``max_latency_us`` and ``deadline_hz``, where this machine's clock may be trusted."""
    names = " and ".join(asked)
    if not candidate.settings.hard_deadline:
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
        deadline = measure_deadline(act, 1 / rate, alpha=candidate.settings.alpha)
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
