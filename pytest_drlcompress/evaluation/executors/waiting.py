"""Waiting for jobs on other machines, with a live line."""

import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from pytest_drlcompress.core.progress import status_line
from pytest_drlcompress.evaluation.executors.base import Jobs, JobsProgress

_LOOK_S = 0.2


def as_they_end(
    jobs: Jobs,
    futures: Collection["Future[Any]"],
    unit: str,
    *,
    seconds: float | None = None,
    measured: Callable[[JobsProgress], JobsProgress] = lambda progress: progress,
) -> Iterator["Future[Any]"]:
    """Each of ``futures`` when it has ended; meanwhile, the line tells of all ``jobs``.

    ``unit`` is what they are called there; ``measured`` may correct its figures.

    Raises:
        TimeoutError: ``seconds`` are over.
    """
    end = None if seconds is None else time.monotonic() + seconds
    left = set(futures)
    while left:
        with status_line(unit) as show:
            while not (ended := wait(left, _LOOK_S, FIRST_COMPLETED).done):
                if end is not None and time.monotonic() > end:
                    raise TimeoutError
                show(progress_text(measured(jobs.progress()), unit))
        left -= ended
        yield from ended


def progress_text(progress: JobsProgress, unit: str) -> str:
    """One line."""
    left = progress.seconds_left
    until = "" if left is None else f", {int(left) // 60}:{int(left) % 60:02d} left"
    return (
        f"{progress.done} {unit} done, {progress.running} running, {progress.waiting} waiting"
        f"{until}, {progress.steps_per_s:,.0f} steps/s"
    )
