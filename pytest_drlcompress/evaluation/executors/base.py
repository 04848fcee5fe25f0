"""Executors, and what one worker of theirs draws and delivers, be it a thread or a process."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Protocol

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.evaluation.episodes import Episode

PATIENCE_S = 2.0
"""How long a worker that was told to stop may take before it is made to."""

REPORT_S = 0.1
"""How often a worker tells how many steps it has made."""

Message = int | Episode | Exception
"""From a worker: steps made (0: ready to begin), an episode, or why there will be no more."""


class Work(Protocol):
    """What a worker does; it pickles, for worker processes."""

    def run(
        self, seeds: Iterable[int], on_steps: Callable[[int], None]
    ) -> Generator[Episode, None, None]:
        """Episodes in the order of ``seeds``; ``on_steps(0)`` once the environments are made."""
        ...


class Executor(Protocol):
    """Where rollouts run: it spreads the seeds of one over its workers."""

    @property
    def workers(self) -> int:
        """How many run at once; each steps environments of its own."""
        ...

    def run(
        self,
        work: Work,
        seeds: Sequence[int],
        *,
        stall_s: float | None = None,
        on_steps: Callable[[int], None] = lambda steps: None,
    ) -> Generator[Episode, None, None]:
        """Episodes of ``work`` in the order of ``seeds``, whatever order they finish in.

        ``stall_s`` limits the time without a finished step, and ten times it the time until the
        environments are made. ``on_steps`` is called in the calling thread. Closing the
        generator stops the workers after the step in progress. Several may be open at once.

        Raises:
            EpisodeError: a worker died or stalled.
            DrlcError: what ``work`` raised. The episodes before it are yielded first.
        """
        ...

    def close(self) -> None:
        """End the workers."""
        ...


class SeedQueue:
    """The seeds of a rollout, drawn in order by several workers."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds, self._next, self._lock = seeds, 0, threading.Lock()
        self.owners: list[int] = []

    def draw(self, worker: int) -> tuple[int, int] | None:
        """The next position and its seed, now ``worker``'s; ``None`` if none is left."""
        with self._lock:
            position = len(self.owners)
            if position == len(self._seeds):
                return None
            self.owners.append(worker)
            return position, self._seeds[position]


class SeedShare:
    """One worker's part of a ``SeedQueue``.

    ``deliver(worker, position, message)`` takes the results.
    """

    def __init__(
        self, queue: SeedQueue, worker: int, deliver: Callable[[int, int | None, Message], None]
    ) -> None:
        self._queue, self._worker, self._deliver = queue, worker, deliver
        self._open: deque[int] = deque()

    def take(self) -> int | None:
        """The next seed, if one is left."""
        drawn = self._queue.draw(self._worker)
        if drawn is None:
            return None
        self._open.append(drawn[0])
        return drawn[1]

    def emit(self, message: Message) -> None:
        """Deliver ``message`` with the position it belongs to: the earliest one still open.

        An exception before any seed was taken, or after the last, belongs to none.
        """
        if isinstance(message, int):
            self._deliver(self._worker, None, message)
        elif isinstance(message, Episode):
            self._deliver(self._worker, self._open.popleft(), message)
        else:
            self._deliver(self._worker, self._open[0] if self._open else None, message)


class Stopped(BaseException):
    """Ends a worker's run; no ``except Exception`` of an environment holds it up."""


def report(
    work: Work,
    seeds: Iterable[int],
    emit: Callable[[Message], None],
    check: Callable[[], None],
) -> None:
    """Run ``work`` and emit all that comes of it; ``check`` is called after every step.

    Raises:
        Stopped: ``check`` or ``emit`` did.
    """
    pending, due = 0, 0.0

    def count(steps: int) -> None:
        nonlocal pending, due
        check()
        pending += steps
        now = time.monotonic()
        if now >= due:
            emit(pending)
            pending, due = 0, now + REPORT_S

    try:
        for episode in work.run(seeds, count):
            if pending:
                emit(pending)
                pending = 0
            emit(episode)
    except Stopped:
        raise
    except BaseException as error:  # whatever it is (sys.exit too), somebody waits for results
        emit(error if isinstance(error, Exception) else EpisodeError(f"a worker ended: {error!r}"))
