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
    POOL_SHARE,
    ReturnRange,
    log_e_values,
    log_threshold,
    more_episodes,
    retention_interval,
)
from pytest_drlcompress.evaluation.reference import RECORDED_SEEDS, Reference


@dataclass(frozen=True)
class RetentionSettings:
    """What is asked: a retention of ``min_retention``, each error at most ``alpha``.

    With a ``precision`` the gate goes on after its decision until the interval is that narrow.
    """

    min_retention: float = 0.90
    alpha: float = 0.05
    max_episodes: int = 1000
    seed: int = 0
    precision: float | None = None

    def __post_init__(self) -> None:
        assert self.min_retention > 0
        assert 0 < self.alpha < 1
        assert self.max_episodes >= 1
        assert self.precision is None or self.precision > 0


@dataclass(frozen=True)
class Progress:
    """Where a running gate stands; ``e_pass`` and ``e_fail`` decide at ``threshold``."""

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


def judge(
    returns: Iterable[float],
    reference: Reference,
    settings: RetentionSettings,
    *,
    policy: str,
    variant: str,
    bounds: tuple[float | None, float | None] = (None, None),
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Verdict:
    """Draw the candidate's ``returns`` one by one until they decide, and say what they decided.

    ``bounds`` are those that the task itself sets to a return. The gate ends at
    ``max_episodes``, when ``returns`` run out, or when neither side can decide any more; no
    return is drawn beyond the deciding one (or the one that makes the interval as narrow as
    ``precision``), and none at all for an incompetent baseline. ``on_progress`` is told after
    each episode. Whatever ``returns`` raises passes through.

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
    game = _Game(reference, settings, bounds)
    for index, total in zip(range(settings.max_episodes), returns, strict=False):
        if not math.isfinite(total):
            raise EpisodeError(f"candidate episode {index + 1} returned {total}")
        game.take(float(total))
        on_progress(game.progress())
        if game.over():
            break
    assert game.episodes, "the candidate has no returns"
    return game.verdict(verdict)


_LOOK_EVERY = 10
"""Episodes between two looks at how narrow the interval is."""


class _Game:
    """The two bettors, from episode to episode."""

    def __init__(
        self,
        reference: Reference,
        settings: RetentionSettings,
        bounds: tuple[float | None, float | None],
    ) -> None:
        self._reference, self._settings = reference, settings
        low, high = reference.low, reference.high
        # a bound of the task's own that is the narrower one leaves nothing to assume
        task_low, task_high = bounds
        self._sure = (
            task_low is not None and task_low >= low,
            task_high is not None and task_high <= high,
        )
        if task_low is not None:
            # where acting at random earns the least there is, some room is still needed
            low = max(low, min(task_low, reference.random_mean - 0.01 * (high - low)))
        if task_high is not None:
            high = min(high, task_high)
        self.declared = ReturnRange(reference.random_mean, low, high)
        self._mean = reference.mean_bounds(POOL_SHARE * settings.alpha)
        self._threshold = log_threshold(settings.alpha)
        self._returns = np.zeros(settings.max_episodes)
        self.episodes, self._decided_at, self._state = 0, 0, State.INCONCLUSIVE
        self._log_pass = self._log_fail = 0.0

    def take(self, total: float) -> None:
        """One more return of the candidate."""
        self._returns[self.episodes] = total
        self.episodes += 1
        sides = log_e_values(self._used, self._mean, self.declared, self._settings.min_retention)
        self._log_pass, self._log_fail = float(sides[0][-1]), float(sides[1][-1])
        if self._decided_at:
            return
        if self._log_pass >= self._threshold:
            self._state, self._decided_at = State.PASS, self.episodes
        elif self._log_fail >= self._threshold:
            self._state, self._decided_at = State.FAIL, self.episodes

    def over(self) -> bool:
        """Whether no more returns are wanted."""
        if not self._decided_at:
            return self._log_pass == self._log_fail == -math.inf
        if self._settings.precision is None:
            return True
        if (self.episodes - self._decided_at) % _LOOK_EVERY:
            return False
        low, high = self._interval()
        return high - low <= self._settings.precision

    def progress(self) -> Progress:
        """Where the game stands."""
        return Progress(
            self.episodes, self._estimate(), _e_value(self._log_pass), _e_value(self._log_fail)
        )

    def verdict(self, verdict: partial[Verdict]) -> Verdict:
        """What was decided, ``verdict`` completed."""
        settings, n, reference = self._settings, self.episodes, self._reference
        left = _left_range(self._used, self.declared)
        state, more = self._state, None
        if not self._decided_at:
            more = more_episodes(max(self._log_pass, self._log_fail), n, settings.alpha)
            if self._log_pass == self._log_fail == -math.inf:
                state = State.INVALID
        unseen = self._unseen(state, left)
        interval = self._interval()
        reason = _reason(state, self._decided_at or n, settings, left=left, more=more)
        if state is State.INCONCLUSIVE:
            reason += self._about_the_pool()
        if self._decided_at and settings.precision is not None:
            reason += f" {n} show it to {interval[1] - interval[0]:.2g}."
            if interval[1] - interval[0] > settings.precision:
                reason += self._about_the_pool()
        if unseen is not None:
            side = "below" if state is State.PASS else "above"
            reason += f" Returns {side} the declared range are rarer than {unseen:.2g}."
        return verdict(
            state=state,
            reason=reason,
            estimate=self._estimate(),
            interval=interval,
            sample_size=n,
            e_value=_e_value(max(self._log_pass, self._log_fail)),
            details={
                "e_pass": _e_value(self._log_pass),
                "e_fail": _e_value(self._log_fail),
                "threshold": math.exp(self._threshold),
                "decided_at": self._decided_at or None,
                "candidate_mean": float(self._used.mean()),
                "baseline_mean": reference.mean,
                "baseline_bounds": list(self._mean),
                "random_mean": self.declared.random_mean,
                "range": [self.declared.low, self.declared.high],
                "left_range": left,
                "unseen": unseen,
                "pool_size": len(reference.returns),
                "more_episodes": more,
            },
        )

    @property
    def _used(self) -> NDArray[np.float64]:
        return self._returns[: self.episodes]

    def _estimate(self) -> float:
        """The ratio of mean gains. At an early stop it leans to the side that has won."""
        gain = float(self._used.mean()) - self.declared.random_mean
        return gain / (self._reference.mean - self.declared.random_mean)

    def _interval(self) -> tuple[float, float]:
        return retention_interval(
            self._used,
            self._mean,
            self.declared,
            rho=self._settings.min_retention,
            alpha=self._settings.alpha,
            span=_span(self._estimate()),
        )

    def _unseen(self, state: State, left: list[str]) -> float | None:
        """How often returns that the decision assumes away may still happen, at ``alpha``.

        The rule of three: what was not seen in ``n`` episodes is rarer than about ``3 / n``.
        """
        side = {State.PASS: 0, State.FAIL: 1}.get(state)
        if side is None or self._sure[side] or left:
            return None
        return float(1 - self._settings.alpha ** (1 / self.episodes))

    def _about_the_pool(self) -> str:
        """Whether the pool's own error is what leaves it open."""
        low, high = self._mean
        share = (high - low) / 2 / (self._reference.mean - self.declared.random_mean)
        if share < _POOL_MATTERS:
            return ""
        return (
            f" The {len(self._reference.returns)} recorded episodes leave the baseline's own mean"
            f" uncertain by {share:.1%}: python -m pytest_drlcompress baselines --measure"
            " --episodes=N records more."
        )


_POOL_MATTERS = 0.01
"""From which uncertainty of the baseline's gain on a larger pool helps."""


def _reason(
    state: State, n: int, settings: RetentionSettings, *, left: list[str], more: int | None
) -> str:
    rho = f"{settings.min_retention:g}"
    if state is State.PASS:
        return f"{n} episodes show a retention of at least {rho}."
    if state is State.FAIL:
        return f"{n} episodes show a retention below {rho}."
    if state is State.INVALID:
        return f"{'. '.join(left)}: so far that neither a PASS nor a FAIL can be shown any more."
    text = f"{n} episodes neither show a retention of at least {rho} nor one below it."
    if left:
        text = f"{text} {'. '.join(left)}, which more episodes must outweigh."
    if more is None:
        return (
            f"{text} The evidence is not growing: the retention is too close to {rho}, or the"
            " returns vary too much, for more episodes to help (--drlc-max-episodes)."
        )
    return f"{text} About {more} more would decide: set --drlc-max-episodes={n + more}."


def _left_range(candidate: NDArray[np.float64], declared: ReturnRange) -> list[str]:
    """The first return below and the first above the range."""
    found = []
    for outside, where in (
        (candidate < declared.low, "below"),
        (candidate > declared.high, "above"),
    ):
        if outside.any():
            index = int(np.argmax(outside))
            found.append(
                f"Episode {index + 1} returned {candidate[index]:.6g}, {where} the declared range"
                f" [{declared.low:.6g}, {declared.high:.6g}]"
            )
    return found


def _span(estimate: float) -> tuple[float, float]:
    """Where to look for the interval's ends: room around the estimate, wherever it is."""
    return min(-1.0, math.floor(estimate) - 1.0), max(2.0, math.ceil(estimate) + 1.0)


def _e_value(log_e: float) -> float:
    # a single return far below the range can win more than a float holds
    return math.exp(min(log_e, 700.0))


def _key(artifact_sha256: str, environment: str, settings: RetentionSettings) -> str:
    figures = f"{float(settings.min_retention)!r} {float(settings.alpha)!r} {settings.seed}"
    return f"retention\n{artifact_sha256}\n{environment}\n{figures}\n"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
