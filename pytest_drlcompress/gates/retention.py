"""Does the variant keep its share of the baseline's return? Knows nothing of pytest."""

import dataclasses
import time
from contextlib import closing

from pytest_drlcompress.core.errors import ActionError, ArtifactError, EpisodeError
from pytest_drlcompress.core.progress import gate_line
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.environments.bounds import return_bounds
from pytest_drlcompress.evaluation.distinct import DistinctEpisodes
from pytest_drlcompress.evaluation.retention import (
    RetentionSettings,
    episode_seeds,
    judge,
)
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.diagnosis import hint
from pytest_drlcompress.gates.kinds import RETENTION
from pytest_drlcompress.gates.plan import plan_gate
from pytest_drlcompress.workbench.candidate import Candidate

NO_SIMULATOR = (
    "Recorded observations have no returns, and no environment was named: say --drlc-env where it"
    " can be stepped."
)

_MARGIN = 2
"""More episodes than planned, since another processor's may decide that much later."""


def judge_retention(candidate: Candidate, budgets: Budgets) -> Verdict:
    """Does the variant keep its share of the baseline's return?

    A variant that leaves the action space, or whose episodes cannot be completed, FAILs.
    """
    settings = candidate.settings
    limit = budgets.limit(RETENTION.limit, settings)
    assert limit is not None  # it has a default
    asked = RetentionSettings(
        limit, settings.alpha, settings.max_episodes, settings.seed, settings.precision
    )
    loaded = candidate.loaded
    perturb = budgets.perturbation(settings)
    gate = f"{RETENTION.name} under {perturb}" if perturb else RETENTION.name
    conditions = f"{loaded.policy.env} {perturb}".strip()
    if not loaded.policy.env.simulated:
        unmeasured = candidate.verdict(gate, asked.min_retention)
        return unmeasured(state=State.NOT_MEASURED, reason=NO_SIMULATOR, unit="episodes")
    started = time.monotonic()
    seen = DistinctEpisodes()
    try:
        artifact = candidate.artifact
        _ = candidate.controller  # shapes first: a misfit is no matter of episodes
        reference = loaded.reference(perturb)
        seeds = episode_seeds(artifact.sha256, conditions, asked, asked.max_episodes)
        with gate_line(f"{candidate.policy} {candidate.id}") as line:
            likely = plan_gate(candidate, limit).episodes
            likely += max(_MARGIN, likely // 20)
            episodes = loaded.episodes(artifact, seeds, perturb, line.on_steps, likely=likely)
            with closing(episodes):  # drops the episodes in flight
                verdict = judge(
                    (seen.total(episode) for episode in episodes),
                    reference,
                    asked,
                    policy=candidate.policy,
                    variant=candidate.id,
                    bounds=(None, None) if perturb else return_bounds(loaded.policy.env),
                    on_progress=line.on_progress,
                )
    except (EpisodeError, ArtifactError) as error:
        refused = candidate.verdict(gate, asked.min_retention)
        reason = f"{error}."
        if isinstance(error, ActionError) and error.cause:
            reason += f"\n    {error.cause[0].upper()}{error.cause[1:]}."
        return refused(state=State.FAIL, reason=reason, unit="episodes", alpha=asked.alpha)
    details = {
        **verdict.details,
        "distinct_episodes": seen.count,
        "median_seed": seen.median_seed,
        "engine": f"{loaded.engine.name} ({loaded.engine.reason})",
        "watched": loaded.engine.may_hang,
        "not_cached": loaded.identity.reason,
        "seconds": round(time.monotonic() - started, 2),
    }
    reason = f"{verdict.reason}{seen.warning()}"
    if verdict.state is State.FAIL and (advice := hint(candidate)):
        reason += f"\n    {advice}"
    return dataclasses.replace(verdict, gate=gate, reason=reason, details=details)
