"""Which verdicts of a run are filmed for its HTML report, and by what."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.kinds import RETENTION

if TYPE_CHECKING:
    from pytest_drlcompress.workbench.candidate import Candidate


def filmed(verdict: Verdict, candidate: "Candidate") -> Mapping[str, Any] | None:
    """Pictures of the gate's episode with the median return; ``None`` where none are asked for.

    The retention alone is about episodes. One that could not be completed, or was played under
    disturbances, is not shown: what was judged would not be what is seen.
    """
    settings, seed = candidate.settings, verdict.details.get("median_seed")
    page = any(path.suffix == ".html" for path in settings.report)
    wanted = settings.film == "all" or (settings.film == "failures" and verdict.state is State.FAIL)
    if not (page and wanted) or verdict.gate != RETENTION.name or seed is None:
        return None
    from pytest_drlcompress.playback.film import film

    try:
        models = candidate.loaded.exported.model, candidate.artifact.model
    except DrlcError:  # the verdict says so
        return None
    pictures = film(*models, str(candidate.loaded.policy.env), int(seed))
    return {"policy": verdict.policy, "variant": verdict.variant, **pictures}
