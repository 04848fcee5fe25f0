"""Are the variant's actions close to the original's? Knows nothing of pytest."""

import math

from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets, limits_of
from pytest_drlcompress.gates.diagnosis import broken_layers, contributions, describe_broken
from pytest_drlcompress.gates.kinds import ACTION_ERROR
from pytest_drlcompress.measurement.action_error import ActionError
from pytest_drlcompress.workbench.candidate import Candidate

_NAMED_CONTRIBUTIONS = 3
"""How many quantizers an action error's reason names."""


def judge_action_error(candidate: Candidate, budgets: Budgets) -> Verdict:
    """Are the variant's actions close to the fp32 artifact's on the policy's own observations?

    A quantized variant that executes a linear layer in fp32 FAILs whatever its error.
    """
    limit = limits_of(candidate, budgets)(ACTION_ERROR.limit)
    assert limit is not None  # it has a default
    action = candidate.loaded.policy.env.action
    verdict = candidate.verdict(ACTION_ERROR.name, limit)
    try:
        with candidate.analysis():
            error = candidate.action_error
            broken = broken_layers(candidate)
    except ArtifactError as failure:
        return verdict(state=State.FAIL, reason=f"{failure}.")
    passed = error.mean <= limit and not broken  # NaN fails
    reason = _describe_error(error, discrete=action.discrete)
    if broken:
        reason = f"{describe_broken(broken)} {reason}"
    found = contributions(candidate)
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
