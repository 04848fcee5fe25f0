"""The return-retention gate: does the compressed policy still earn its share of the return?

``eprocess`` holds the test; here are the recorded reference it is held against, the
choice of episodes, and the verdict.
"""

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.evaluation.eprocess import (
    ReturnRange,
    log_e_values,
    more_episodes,
    retention_interval,
)
from pytest_drlcompress.evaluation.reference import RECORDED_SEEDS, Reference


@dataclass(frozen=True)
class RetentionSettings:
    """What is asked: a retention of ``min_retention``, each error at most ``alpha``."""

    min_retention: float = 0.90
    alpha: float = 0.05
    max_episodes: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        assert self.min_retention > 0
        assert 0 < self.alpha < 1
        assert self.max_episodes >= 1


@dataclass(frozen=True)
class Progress:
    """Where a running gate stands; ``e_pass`` and ``e_fail`` decide at ``1 / alpha``."""

    episodes: int
    estimate: float | None
    e_pass: float
    e_fail: float


def episode_seeds(
    artifact_sha256: str, environment: str, settings: RetentionSettings, count: int
) -> list[int]:
    """``count`` different seeds in ``[RECORDED_SEEDS, 2**31)`` for the candidate's episodes.

    They follow from the artifact, the environment's text and the settings alone: the same
    artifact always gets the same verdict, and running the gate again cannot fish for a
    better one. ``max_episodes`` is left out on purpose: a gate with a higher cap goes on where
    the last one gave up, which the test allows, instead of drawing a second lot.
    """
    key = _key(artifact_sha256, environment, settings)
    seeds: dict[int, None] = {}
    counter = 0
    while len(seeds) < count:
        number = int.from_bytes(_digest(f"{key} episode {counter}")[:8], "big")
        seeds[RECORDED_SEEDS + number % (2**31 - RECORDED_SEEDS)] = None
        counter += 1
    return list(seeds)


def pool_order(
    artifact_sha256: str, environment: str, settings: RetentionSettings, pool_size: int
) -> NDArray[np.int64]:
    """Which of the pool's episodes to use, in order, each once; ``min(pool, max_episodes)``.

    Derived like ``episode_seeds``: the pool sorted by the SHA-256 of each index.
    """
    key = _key(artifact_sha256, environment, settings)
    ranked = sorted(range(pool_size), key=lambda index: _digest(f"{key} pool {index}"))
    return np.array(ranked[: settings.max_episodes], np.int64)


def judge(
    returns: Iterable[float],
    reference: Reference,
    order: NDArray[np.int64],
    settings: RetentionSettings,
    *,
    policy: str,
    variant: str,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Verdict:
    """Draw the candidate's ``returns`` one by one until they decide, and say what they decided.

    ``order`` indexes the pool (``pool_order``). The gate ends at ``max_episodes``, at
    the end of ``order``, when ``returns`` run out, or when neither side can decide any more;
    no return is drawn beyond the deciding one, and none at all for an incompetent baseline.
    ``on_progress`` is told after each episode. Whatever ``returns`` raises passes through.

    Raises:
        EpisodeError: a return that is not finite.
    """
    verdict = partial(
        Verdict,
        gate="retention",
        policy=policy,
        variant=variant,
        limit=settings.min_retention,
        unit="episodes",
        alpha=settings.alpha,
    )
    incompetent = reference.competence(settings.alpha)
    if incompetent:
        return verdict(
            state=State.INVALID, reason=incompetent, details={"pool_size": len(reference.returns)}
        )
    declared = ReturnRange(reference.random_mean, reference.low, reference.high)
    rho, threshold = settings.min_retention, math.log(1 / settings.alpha)
    indices: list[int] = order[: settings.max_episodes].tolist()
    assert len(set(indices)) == len(indices), "a pool episode may be used only once"
    candidate, baseline = np.zeros(len(indices)), np.array(reference.returns)[indices]
    state, log_pass, log_fail, n = None, 0.0, 0.0, 0
    # the indices come first: a zip that ends with them draws no further return
    for index, total in zip(range(len(indices)), returns, strict=False):
        if not math.isfinite(total):
            raise EpisodeError(f"candidate episode {index + 1} returned {total}")
        n = index + 1
        candidate[index] = total
        sides = log_e_values(candidate[:n], baseline[:n], declared, rho)
        log_pass, log_fail = float(sides[0][-1]), float(sides[1][-1])
        estimate = _estimate(candidate[:n], baseline[:n], declared)
        on_progress(Progress(n, estimate, _e_value(log_pass), _e_value(log_fail)))
        if log_pass >= threshold:
            state = State.PASS
        elif log_fail >= threshold:
            state = State.FAIL
        if state or log_pass == log_fail == -math.inf:
            break
    assert n, "the candidate has no returns"
    used, paired = candidate[:n], baseline[:n]
    estimate = _estimate(used, paired, declared)
    left = _left_range(used, declared)
    more = None if state else more_episodes(max(log_pass, log_fail), n, settings.alpha)
    if state is None:
        state = State.INVALID if left else State.INCONCLUSIVE
    return verdict(
        state=state,
        reason=_reason(state, n, settings, left=left, more=more, pool_size=len(reference.returns)),
        estimate=estimate,
        interval=retention_interval(
            used, paired, declared, rho=rho, alpha=settings.alpha, span=_span(estimate)
        ),
        sample_size=n,
        e_value=_e_value(max(log_pass, log_fail)),
        details={
            "e_pass": _e_value(log_pass),
            "e_fail": _e_value(log_fail),
            "candidate_mean": float(used.mean()),
            "baseline_mean": float(paired.mean()),
            "random_mean": declared.random_mean,
            "range": [declared.low, declared.high],
            "left_range": left,
            "pool_size": len(reference.returns),
            "more_episodes": more,
        },
    )


def _reason(
    state: State,
    n: int,
    settings: RetentionSettings,
    *,
    left: list[str],
    more: int | None,
    pool_size: int,
) -> str:
    rho = f"{settings.min_retention:g}"
    if state is State.PASS:
        return f"{n} episodes show a retention of at least {rho}."
    if state is State.FAIL:
        return f"{n} episodes show a retention below {rho}."
    if state is State.INVALID:
        return (
            f"{'; '.join(left)}, and the {n} episodes do not decide the other way. Record a larger"
            " pool of baseline episodes if such returns are usual."
        )
    text = f"{n} episodes neither show a retention of at least {rho} nor one below it."
    if more is None:
        return (
            f"{text} The evidence is not growing: the retention is too close to {rho}, or the"
            " returns vary too much, for more episodes to help (--drlc-max-episodes)."
        )
    text = f"{text} About {more} more would decide: set --drlc-max-episodes={n + more}"
    if n + more > pool_size:
        return f"{text} and record as many baseline episodes (now {pool_size})."
    return f"{text}."


def _left_range(candidate: NDArray[np.float64], declared: ReturnRange) -> list[str]:
    """What ruled out a PASS or a FAIL: the first return below and the first above the range.

    Baseline returns are not looked at: their own range encloses them.
    """
    found = []
    for outside, where, ruled_out in (
        (candidate < declared.low, "below", "PASS"),
        (candidate > declared.high, "above", "FAIL"),
    ):
        if outside.any():
            index = int(np.argmax(outside))
            found.append(
                f"Episode {index + 1} returned {candidate[index]:.6g}, {where} the declared range"
                f" [{declared.low:.6g}, {declared.high:.6g}], which rules out a {ruled_out}"
            )
    return found


def _estimate(
    candidate: NDArray[np.float64], baseline: NDArray[np.float64], declared: ReturnRange
) -> float | None:
    """The ratio of mean gains; ``None`` while the baseline's episodes show none."""
    gain = float(baseline.mean()) - declared.random_mean
    return (float(candidate.mean()) - declared.random_mean) / gain if gain > 0 else None


def _span(estimate: float | None) -> tuple[float, float]:
    """Where to look for the interval's ends: room around the estimate, wherever it is."""
    middle = 0.5 if estimate is None else estimate
    return min(-1.0, math.floor(middle) - 1.0), max(2.0, math.ceil(middle) + 1.0)


def _e_value(log_e: float) -> float:
    # a single return far below the range can win more than a float holds
    return math.exp(min(log_e, 700.0))


def _key(artifact_sha256: str, environment: str, settings: RetentionSettings) -> str:
    figures = f"{float(settings.min_retention)!r} {float(settings.alpha)!r} {settings.seed}"
    return f"retention\n{artifact_sha256}\n{environment}\n{figures}\n"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
