"""Joules per inference: idle, baseline and candidate take turns in windows of seconds.

The counters see the whole package, so what the machine takes when idle is subtracted, measured in
the same round: per inference, (joules - idle watts x seconds) / inferences. Never per episode:
a policy that falls early would look thrifty.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pytest_drlcompress.measurement.energy_counters import EnergyCounter
from pytest_drlcompress.measurement.latency import median_interval

ROUNDS = 5
"""The fewest whose extremes enclose the median with 95 % confidence on each side."""

WINDOW_SECONDS = 2.0
"""2,000 updates of RAPL; some 300,000 inferences of a small policy."""

FEWEST_INFERENCES = 100_000
LONGEST_WINDOW_SECONDS = 10.0
_BATCH = 100

Kind = Literal["idle", "baseline", "candidate"]


@dataclass(frozen=True)
class Window:
    """What the counter said of one stretch of time; ``inferences`` is 0 for ``"idle"``."""

    kind: Kind
    seconds: float
    joules: float
    inferences: int = 0


@dataclass(frozen=True)
class Energy:
    """Joules per inference, idle-subtracted: medians over the rounds.

    ``interval`` encloses the candidate's; each end alone has confidence ``1 - alpha``.
    ``ratio`` is the median of the rounds' ratios of candidate to baseline.
    """

    candidate: float
    baseline: float
    interval: tuple[float, float]
    ratio: float
    idle_watts: float
    rounds: int


def measure_windows(
    counter: EnergyCounter,
    baseline: Callable[[], Any],
    candidate: Callable[[], Any],
    *,
    rounds: int = ROUNDS,
    seconds: float = WINDOW_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Window]:
    """``rounds`` times idle, then baseline and candidate in alternating order.

    Raises:
        CounterError: the counter cannot be read any more.
    """
    windows: list[Window] = []
    for number in range(rounds):
        start, before = clock(), counter.joules()
        sleep(seconds)
        windows.append(Window("idle", clock() - start, counter.joules() - before))
        turns: list[tuple[Kind, Callable[[], Any]]] = [
            ("baseline", baseline),
            ("candidate", candidate),
        ]
        for kind, act in turns if number % 2 == 0 else turns[::-1]:
            start, before, count = clock(), counter.joules(), 0
            while True:
                for _ in range(_BATCH):
                    act()
                count += _BATCH
                passed = clock() - start
                enough = passed >= seconds and count >= FEWEST_INFERENCES
                if enough or passed >= max(LONGEST_WINDOW_SECONDS, seconds):
                    break
            joules = counter.joules() - before
            windows.append(Window(kind, clock() - start, joules, count))
    return windows


def energy_per_inference(windows: Sequence[Window], *, alpha: float = 0.05) -> Energy:
    """Idle-subtracted joules per inference from whole rounds of ``measure_windows``."""
    by_kind = {
        kind: [window for window in windows if window.kind == kind]
        for kind in ("idle", "baseline", "candidate")
    }
    idle = np.array([window.joules / window.seconds for window in by_kind["idle"]])
    used = {
        kind: np.array(
            [
                (window.joules - watts * window.seconds) / window.inferences
                for window, watts in zip(by_kind[kind], idle, strict=True)
            ]
        )
        for kind in ("baseline", "candidate")
    }
    candidate, baseline = used["candidate"], used["baseline"]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.median(candidate / baseline))
    return Energy(
        candidate=float(np.median(candidate)),
        baseline=float(np.median(baseline)),
        interval=median_interval(np.sort(candidate), alpha),
        ratio=ratio,
        idle_watts=float(np.median(idle)),
        rounds=len(idle),
    )
