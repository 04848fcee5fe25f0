"""Results of workers: they arrive in any order and are asked for in the order of the seeds."""

import contextlib
import queue
import time
import warnings
from collections.abc import Callable, Sequence

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import (
    REPORT_S,
    Message,
    SeedQueue,
    SeedShare,
)

THREAD = 0
"""The number of the worker that is a thread of this process; others count from 1."""


class Results:
    """Where results arrive, in any order, and are asked for in the order of the seeds."""

    def __init__(
        self, seeds: Sequence[int], on_steps: Callable[[int], None], stall_s: float | None
    ) -> None:
        self._seeds, self._on_steps, self._stall_s = seeds, on_steps, stall_s
        self.queue = SeedQueue(seeds)
        self._inbox: queue.SimpleQueue[tuple[int, int | None, Message]] = queue.SimpleQueue()
        self._results: dict[int, Episode | Exception] = {}
        self._started = time.monotonic()
        self.read = 0
        self._last_report: dict[int, float] = {}

    def share(self, worker: int) -> SeedShare:
        """The share of ``worker``, delivered here."""
        return SeedShare(self.queue, worker, lambda *message: self._inbox.put(message))

    def deliver(self, position: int, error: Exception) -> None:
        """Let the turn of ``position`` end the rollout by ``error``."""
        self._results[position] = error

    def wait(self, position: int, tend: Callable[[], None] = lambda: None) -> Episode:
        """The episode of ``position``; ``tend`` is called again and again meanwhile."""
        while position not in self._results:
            tend()
            self._listen()
            if position not in self._results:
                self._check_stall(position)
        result = self._results.pop(position)
        if isinstance(result, Exception):
            raise result
        self.read += 1
        return result

    def _listen(self) -> None:
        """Take what has arrived, waiting for the first for a moment."""
        timeout = REPORT_S
        with contextlib.suppress(queue.Empty):
            while True:
                worker, position, message = self._inbox.get(timeout=timeout)
                timeout = 0.0
                self._last_report[worker] = time.monotonic()
                if isinstance(message, int):
                    self._on_steps(message)
                elif position is not None:
                    self._results[position] = message
                elif worker == THREAD and isinstance(message, Exception):
                    raise message
                else:
                    warn_of_fewer(str(message))

    def _check_stall(self, position: int) -> None:
        if self._stall_s is None:
            return
        owner = self.queue.owners.get(position)
        making = owner is None
        last = max(self._last_report.values(), default=self._started)
        since = last if owner is None else self._last_report.get(owner, self._started)
        limit = self._stall_s * (10 if making else 1)
        if time.monotonic() - since > limit:
            raise EpisodeError(
                f"the environments could not be made within {limit:g} s"
                if making
                else f"no step was finished within {limit:g} s while the episode with seed"
                f" {self._seeds[position]} was awaited: the environment hangs, or needs a higher"
                " limit"
            )


def warn_of_fewer(problem: str) -> None:
    """Say that a worker cannot help."""
    warnings.warn(f"fewer cores are used than asked for: {problem}", RuntimeWarning, stacklevel=2)
