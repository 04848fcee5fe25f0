"""Executors, and what one worker of theirs draws and delivers, be it a thread or a process."""

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_drlcompress.core.errors import DrlcError, EpisodeError
from pytest_drlcompress.evaluation.episodes import Episode

PATIENCE_S = 2.0
"""How long a worker that was told to stop may take before it is made to."""

REPORT_S = 0.1
"""How often a worker tells how many steps it has made."""

LEAST_SLOTS = 16
"""Environments of a worker below which much of each step's time is left to the interpreter.

Also the batch that a controller is run on, whatever the number of slots: an ONNX Runtime kernel
whose result depends on the batch shape cannot make an episode depend on the number of workers.
"""

Message = int | Episode | Exception
"""From a worker: steps made (0: ready to begin), an episode, or why there will be no more."""


class Work(Protocol):
    """What a worker does; it pickles, for worker processes."""

    @property
    def slots(self) -> int:
        """How many seeds it works on at once."""
        ...

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

    @property
    def least_slots(self) -> int:
        """Environments of each worker that are not worth sharing among more workers."""
        ...

    @property
    def jobs(self) -> "Jobs | None":
        """Where whole jobs run; ``None`` where there is only this machine."""
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

    def notes(self) -> list[str]:
        """What a run says of its workers in the end."""
        ...


@dataclass(frozen=True)
class Node:
    """Where a job runs: the ``executor`` of its rollouts, and what earlier jobs there kept."""

    executor: Executor
    kept: dict[str, Any]


@dataclass(frozen=True)
class JobsProgress:
    """How far the jobs of a run are; ``seconds_left`` is ``None`` until one is done."""

    done: int
    running: int
    waiting: int
    steps_per_s: float
    seconds_left: float | None


class Jobs(Protocol):
    """Whole jobs on other machines: a cell of a grid, a training.

    None begins before a rollout has shown what the nodes must give as well.
    """

    def share(self, value: object) -> Any:
        """A handle of ``value`` for ``submit``; it goes to each machine once."""
        ...

    def submit(self, function: Callable[..., Any], *arguments: Any, group: str = "") -> Future[Any]:
        """Call ``function(node, *arguments)`` on one of them; jobs of a ``group`` share a node.

        The future raises what ``function`` raises, and an ``ExecutorError`` if there is no node
        left. A job whose node is lost begins again on another, one that is cancelled is ended.
        """
        ...

    def progress(self) -> JobsProgress:
        """How far all jobs are that were submitted so far."""
        ...


class SeedQueue:
    """The seeds of a rollout, drawn in order by several workers.

    ``owners`` says whose each drawn position is.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds, self._lock = seeds, threading.Lock()
        self._returned: list[int] = []
        self.drawn = 0
        self.owners: dict[int, int] = {}

    def draw(self, worker: int) -> tuple[int, int] | None:
        """The next position and its seed, now ``worker``'s; ``None`` if none is left."""
        with self._lock:
            if self._returned:
                position = heapq.heappop(self._returned)
            elif self.drawn < len(self._seeds):
                position = self.drawn
                self.drawn += 1
            else:
                return None
            self.owners[position] = worker
            return position, self._seeds[position]

    def give_back(self, positions: Iterable[int]) -> None:
        """Let others draw ``positions``, before those that nobody has drawn."""
        with self._lock:
            for position in positions:
                del self.owners[position]
                heapq.heappush(self._returned, position)

    @property
    def left(self) -> bool:
        """Whether there is a seed to draw."""
        return bool(self._returned) or self.drawn < len(self._seeds)


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

    def give_up(self) -> list[int]:
        """The positions still open, which are no longer this worker's."""
        positions = [*self._open]
        self._open.clear()
        return positions


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


def portable(error: Exception) -> DrlcError:
    """``error`` as something that pickles: foreign exceptions may not."""
    if isinstance(error, DrlcError):
        return error
    return EpisodeError(f"a worker process failed: {error!r}")
