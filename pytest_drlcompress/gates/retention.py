"""From a policy, a variant and its budgets to verdicts. Knows nothing of pytest."""

import dataclasses
import math
import time
from contextlib import closing

from pytest_drlcompress.compression.recipe import variant_id
from pytest_drlcompress.core.errors import ArtifactError, EpisodeError
from pytest_drlcompress.core.progress import gate_line
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.environments.bounds import return_bounds
from pytest_drlcompress.evaluation.retention import (
    RetentionSettings,
    episode_seeds,
    judge,
)
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.diagnosis import broken_layers, contributions, describe_broken, hint
from pytest_drlcompress.measurement.action_error import ActionError, measure_action_error
from pytest_drlcompress.workbench.workbench import Workbench

_NAMED_CONTRIBUTIONS = 3
"""How many quantizers an action error's reason names."""


def judge_retention(
    bench: Workbench,
    policy: str,
    variant: str,
    budgets: Budgets,
) -> Verdict:
    """Does the variant keep its share of the baseline's return?

    A variant that leaves the action space, or whose episodes cannot be completed, FAILs.
    """
    settings = bench.settings
    asked = RetentionSettings(
        budgets.retention(settings),
        settings.alpha,
        settings.max_episodes,
        settings.seed,
        settings.precision,
    )
    loaded = bench.load(policy)
    perturb = budgets.perturbation(settings)
    gate = f"retention under {perturb}" if perturb else "retention"
    conditions = f"{loaded.policy.env} {perturb}".strip()
    started = time.monotonic()
    try:
        artifact = bench.artifact(policy, variant)
        bench.controller(policy, variant)  # shapes first: a misfit is no matter of episodes
        reference = bench.reference(policy, perturb)
        seeds = episode_seeds(artifact.sha256, conditions, asked, asked.max_episodes)
        with gate_line(f"{loaded.policy.id} {variant_id(variant)}") as line:
            episodes = bench.episodes(policy, artifact, seeds, perturb, line.on_steps)
            with closing(episodes):  # drops the episodes in flight
                verdict = judge(
                    (episode.total for episode in episodes),
                    reference,
                    asked,
                    policy=loaded.policy.id,
                    variant=variant_id(variant),
                    bounds=(None, None) if perturb else return_bounds(loaded.policy.env),
                    on_progress=line.on_progress,
                )
    except (EpisodeError, ArtifactError) as error:
        refused = bench.verdict(gate, policy, variant, asked.min_retention)
        return refused(state=State.FAIL, reason=f"{error}.", unit="episodes", alpha=asked.alpha)
    details = {
        **verdict.details,
        "engine": bench.engine(loaded.policy.env),
        "seconds": round(time.monotonic() - started, 2),
    }
    reason = verdict.reason
    if verdict.state is State.FAIL and (advice := hint(bench, policy, variant)):
        reason += f"\n    {advice}"
    return dataclasses.replace(verdict, gate=gate, reason=reason, details=details)


def judge_action_error(bench: Workbench, policy: str, variant: str, budgets: Budgets) -> Verdict:
    """Are the variant's actions close to the fp32 artifact's on the policy's own observations?

    A quantized variant that executes a linear layer in fp32 FAILs whatever its error.
    """
    loaded = bench.load(policy)
    limit = budgets.action_error(bench.settings, bench.recorded_budgets(policy, variant))
    action = loaded.policy.env.action
    verdict = bench.verdict("action error", policy, variant, limit)
    try:
        candidate = bench.controller(policy, variant)
        error = measure_action_error(
            bench.controller(policy, ""), candidate, bench.probe_observations(policy), action
        )
        broken = broken_layers(bench, policy, variant)
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    passed = error.mean <= limit and not broken  # NaN fails
    reason = _describe_error(error, discrete=action.discrete)
    if broken:
        reason = f"{describe_broken(broken)} {reason}"
    found = contributions(bench, policy, variant)
    if found:
        top = ", ".join(f"{c} {c.error:.2%}" for c in found[:_NAMED_CONTRIBUTIONS])
        reason += f"\n    alone, the quantizers of: {top}"
    return verdict(
        state=State.PASS if passed else State.FAIL,
        reason=reason,
        estimate=error.mean,
        sample_size=error.count,
        unit="observations",
        details={
            "max": error.maximum,
            "sqnr_db": error.sqnr_db if math.isfinite(error.sqnr_db) else None,
            "by_dimension": list(error.by_dimension),
            "attribution": [contribution.to_json() for contribution in found],
            "fp32_layers": {layer.node: layer.reason for layer in broken},
        },
    )


def _describe_error(error: ActionError, *, discrete: bool) -> str:
    if discrete:
        return f"{error.mean:.2%} of the greedy actions change."
    worst = error.by_dimension[error.worst_dimension]
    return (
        f"Mean {error.mean:.2%} and at most {error.maximum:.2%} of the action range, SQNR"
        f" {error.sqnr_db:.1f} dB; the worst is action dimension {error.worst_dimension}"
        f" ({worst:.2%})."
    )
