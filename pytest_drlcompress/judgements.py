"""From a policy, a variant and its budgets to verdicts. Knows nothing of pytest."""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial

from pytest_drlcompress.budgets import Budgets
from pytest_drlcompress.compression.recipe import variant_id
from pytest_drlcompress.errors import ArtifactError, EpisodeError
from pytest_drlcompress.evaluation.retention import (
    Progress,
    RetentionSettings,
    episode_seeds,
    judge,
    pool_order,
)
from pytest_drlcompress.measurement.action_error import ActionError, measure_action_error
from pytest_drlcompress.measurement.latency import measure_latency_ratio
from pytest_drlcompress.verdict import State, Verdict
from pytest_drlcompress.workbench import Workbench


def judge_retention(
    bench: Workbench,
    policy: str,
    variant: str,
    budgets: Budgets,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Verdict:
    """Does the variant keep its share of the baseline's return?

    A variant that leaves the action space, or whose episodes cannot be completed, FAILs.
    """
    settings = bench.settings
    asked = RetentionSettings(
        budgets.retention(settings), settings.alpha, settings.max_episodes, settings.seed
    )
    loaded = bench.load(policy)
    env = loaded.policy.env
    started = time.monotonic()
    try:
        artifact = bench.artifact(policy, variant)
        bench.controller(policy, variant)  # shapes first: a misfit is no matter of episodes
        reference = bench.reference(policy)
        seeds = episode_seeds(artifact.sha256, str(env), asked, asked.max_episodes)
        order = pool_order(artifact.sha256, str(env), asked, len(reference.returns))
        episodes = bench.episodes(artifact, env, seeds)
        verdict = judge(
            (episode.total for episode in episodes),
            reference,
            order,
            asked,
            policy=loaded.policy.id,
            variant=variant_id(variant),
            on_progress=on_progress,
        )
        episodes.close()  # type: ignore[attr-defined]  # a generator; drops those in flight
    except (EpisodeError, ArtifactError) as error:
        refused = _verdict("retention", loaded.policy.id, variant, asked.min_retention)
        return refused(state=State.FAIL, reason=f"{error}.", unit="episodes", alpha=asked.alpha)
    details = {**verdict.details, "seconds": round(time.monotonic() - started, 2)}
    return dataclasses.replace(verdict, details=details)


def judge_action_error(bench: Workbench, policy: str, variant: str, budgets: Budgets) -> Verdict:
    """Are the variant's actions close to the fp32 artifact's on the policy's own observations?"""
    loaded = bench.load(policy)
    limit = budgets.action_error(bench.settings)
    action = loaded.policy.env.action
    verdict = _verdict("action error", loaded.policy.id, variant, limit)
    try:
        candidate = bench.controller(policy, variant)
        error = measure_action_error(
            bench.controller(policy, ""), candidate, bench.probe_observations(policy), action
        )
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    passed = error.mean <= limit  # NaN fails
    return verdict(
        state=State.PASS if passed else State.FAIL,
        reason=_describe_error(error, discrete=action.discrete),
        estimate=error.mean,
        sample_size=error.count,
        unit="observations",
        details={
            "max": error.maximum,
            "sqnr_db": error.sqnr_db if math.isfinite(error.sqnr_db) else None,
            "by_dimension": list(error.by_dimension),
        },
    )


def judge_latency(bench: Workbench, policy: str, variant: str, budgets: Budgets) -> Verdict:
    """How long does one action take, against the baseline's own artifact?

    Without a ``max_latency_ratio`` the ratio is measured and reported, and held to nothing.
    """
    loaded = bench.load(policy)
    limit = budgets.max_latency_ratio
    verdict = _verdict("latency", loaded.policy.id, variant, limit)
    try:
        measured = measure_latency_ratio(
            bench.controller(policy, ""),
            bench.controller(policy, variant),
            bench.probe_observations(policy)[0],
            alpha=bench.settings.alpha,
        )
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    low, high = measured.interval
    state = State.PASS
    reason = "No budget was given."
    if limit is not None:
        within, beyond = high <= limit, low > limit
        state = State.PASS if within else State.FAIL if beyond else State.INCONCLUSIVE
        reason = (
            "The whole interval lies within the budget."
            if within
            else "The whole interval lies beyond the budget."
            if beyond
            else "The budget lies inside the interval: the machine is too noisy to tell."
        )
    return verdict(
        state=state,
        reason=reason,
        estimate=measured.ratio,
        interval=measured.interval,
        sample_size=measured.blocks,
        unit="blocks",
        alpha=bench.settings.alpha,
        details={"baseline_us": measured.baseline_us, "candidate_us": measured.candidate_us},
    )


def _verdict(gate: str, policy: str, variant: str, limit: float | None) -> partial[Verdict]:
    return partial(Verdict, gate=gate, policy=policy, variant=variant_id(variant), limit=limit)


def _describe_error(error: ActionError, *, discrete: bool) -> str:
    if discrete:
        return f"{error.mean:.2%} of the greedy actions change."
    worst = error.by_dimension[error.worst_dimension]
    return (
        f"Mean {error.mean:.2%} and at most {error.maximum:.2%} of the action range, SQNR"
        f" {error.sqnr_db:.1f} dB; the worst is action dimension {error.worst_dimension}"
        f" ({worst:.2%})."
    )
