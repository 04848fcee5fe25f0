"""A retention gate on returns that need no environment."""

import json
from collections.abc import Iterator

import numpy as np

from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.evaluation.reference import Reference
from pytest_drlcompress.evaluation.retention import (
    Progress,
    RetentionSettings,
    episode_seeds,
    judge,
)

SHA, OTHER_SHA = "0" * 64, "f" * 64
ENV = "Hopper-v5"
DEFAULT = RetentionSettings()


def make_reference(returns, random=(-310.0, -290.0, -300.0), zero=(0.0, 1.0, -1.0)) -> Reference:
    return Reference(
        tuple(map(float, returns)), tuple(range(len(returns))), tuple(random), tuple(zero)
    )


def tight_pool(size: int = 200) -> list[float]:
    return np.random.default_rng(0).normal(9000, 100, size).tolist()


REFERENCE = make_reference(tight_pool())


class Candidate:
    """A deterministic policy stand-in whose return is a function of the episode's seed."""

    def __init__(self, mean: float, sd: float = 100.0, odd: dict[int, float] | None = None) -> None:
        self.mean, self.sd, self.odd = mean, sd, odd or {}
        self.played: list[int] = []

    def returns(self, seeds: list[int]) -> Iterator[float]:
        for position, seed in enumerate(seeds):
            self.played.append(seed)
            own = float(np.random.default_rng(seed).normal(self.mean, self.sd))
            yield self.odd.get(position, own)


def gate(
    candidate: Candidate,
    reference: Reference = REFERENCE,
    settings: RetentionSettings = DEFAULT,
    sha: str = SHA,
    *,
    progress: list[Progress] | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
) -> Verdict:
    seeds = episode_seeds(sha, ENV, settings, settings.max_episodes)
    return judge(
        candidate.returns(seeds),
        reference,
        settings,
        policy="sac-hopper",
        variant="l2@30",
        bounds=bounds,
        on_progress=progress.append if progress is not None else lambda _: None,
    )


NEAR = Candidate(-300 + 0.9 * 9300, sd=300.0)
"""At the limit itself, so that no number of episodes should decide."""


def reread(verdict: Verdict) -> None:
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict
    only_builtins(verdict.to_json())


def only_builtins(value: object) -> None:
    if type(value) is dict:
        value = list(value.values())
    if type(value) is list:
        for item in value:
            only_builtins(item)
    else:
        assert type(value) in (str, int, float, bool, type(None))
