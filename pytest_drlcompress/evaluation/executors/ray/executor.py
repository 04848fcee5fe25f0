"""Rollouts over the nodes of a cluster: workers draw seeds in order, wherever they are.

Episodes come out in the order of the seeds, as from the executor of this machine, so that what
reads them sees the same bits. A worker that is lost gives back what it had begun, and another
begins it again; what it had delivered stays.
"""

import contextlib
import queue
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.core.threads import one_thread
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import SeedShare, Work
from pytest_drlcompress.evaluation.executors.ray.messages import Unusable
from pytest_drlcompress.evaluation.executors.ray.proof import pickled
from pytest_drlcompress.evaluation.executors.ray.supply import Supply, put
from pytest_drlcompress.evaluation.executors.ray.tally import Tally
from pytest_drlcompress.evaluation.executors.ray.worker import RayWorker
from pytest_drlcompress.evaluation.executors.results import THREAD, Results, warn_of_fewer
from pytest_drlcompress.evaluation.executors.thread_worker import ThreadWorker

MOST_DEATHS = 5
"""Workers that may die in one episode before it is taken to be what kills them."""


class RayExecutor:
    """Implements ``Executor`` on the workers of ``supply`` and, with ``thread``, one here.

    Fewer slots a worker than on one machine: with many workers, the episodes that a gate is waiting
    for are on all of them.
    """

    least_slots = 4
    jobs = None

    def __init__(self, supply: Supply, *, thread: bool) -> None:
        self._supply, self._thread = supply, thread
        self.tally = Tally()

    @property
    def workers(self) -> int:
        """How many there are to be."""
        return self._supply.size + self._thread

    def close(self) -> None:
        """Leave the workers to others."""
        self._supply.close()

    def notes(self) -> list[str]:
        """What became of the episodes."""
        return [self.tally.text()]

    def run(
        self,
        work: Work,
        seeds: Sequence[int],
        *,
        stall_s: float | None = None,
        on_steps: Callable[[int], None] = lambda steps: None,
    ) -> Generator[Episode, None, None]:
        """See ``Executor.run``.

        Raises:
            ExecutorError: there is no worker left, or ``work`` cannot be sent to them.
        """

        def count(steps: int) -> None:
            self.tally += Tally(steps=steps)
            on_steps(steps)

        results = Results(seeds, count, stall_s)
        team = _Team(self._supply, work, results)
        with contextlib.ExitStack() as stack:
            stack.enter_context(one_thread())
            stack.callback(lambda: self._settle(team, results))
            if self._thread:
                thread = ThreadWorker(work, results.share(THREAD))
                stack.callback(thread.stop)
                thread.start()
            for position in range(len(seeds)):
                episode = results.wait(position, lambda: team.tend(alone=not self._thread))
                self.tally += Tally(episodes=1)
                yield episode

    def _settle(self, team: "_Team", results: Results) -> None:
        team.close()
        cancelled = results.queue.drawn - results.read
        self.tally += Tally(cancelled=cancelled, again=team.again, lost=team.lost)


class _Team:
    """The workers that are in on one rollout."""

    def __init__(self, supply: Supply, work: Work, results: Results) -> None:
        self._supply, self._work, self._results = supply, work, results
        self._order: Any = None
        self._ended: queue.SimpleQueue[tuple[RayWorker, SeedShare, Exception | None]]
        self._ended = queue.SimpleQueue()
        self._idle: list[RayWorker] = []
        self._unusable: dict[RayWorker, Exception] = {}
        self._busy: list[RayWorker] = []
        self._members = 0
        self._deaths: Counter[int] = Counter()
        self._closed = False
        self.again = self.lost = 0

    def tend(self, *, alone: bool) -> None:
        """Take in who is free, see to who has ended; called again and again by who waits.

        Raises:
            ExecutorError: nobody is left, where the workers are ``alone`` with the work.
            DrlcError: what keeps every worker from it.
        """
        self._see_to_ended()
        if not self._results.queue.left:
            return
        self._supply.check()
        room = self._supply.size - len(self._idle) - len(self._busy) - len(self._unusable)
        self._idle += self._supply.take(room)
        while self._idle and self._results.queue.left:
            self._begin(self._idle[-1])
        if alone and self._unusable and not self._busy:
            raise next(iter(self._unusable.values()))

    def close(self) -> None:
        """Call off what is going on."""
        self._closed = True
        self._order = None  # whoever keeps a traceback would keep it
        self._see_to_ended()
        for worker in self._busy:
            worker.release()
        for worker in (*self._idle, *self._unusable):
            self._supply.give(worker)

    def _begin(self, worker: RayWorker) -> None:
        if self._order is None:
            self._order = put(self._supply, pickled(self._work))
        self._members += 1
        self._busy.append(self._idle.pop())
        share = self._results.share(THREAD + self._members)
        worker.begin(self._order, self._work.slots, share, self._on_end)

    def _on_end(self, worker: RayWorker, share: SeedShare, error: Exception | None) -> None:
        """In the worker's thread."""
        if not self._closed:
            self._ended.put((worker, share, error))
        elif error is None or isinstance(error, Unusable):
            self._supply.give(worker)
        else:
            self._supply.lost(worker)

    def _see_to_ended(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                worker, share, error = self._ended.get_nowait()
                self._busy.remove(worker)
                positions = share.give_up()
                if error is None:
                    self._idle.append(worker)
                elif isinstance(error, Unusable):
                    self._unusable[worker] = error.error
                    warn_of_fewer(str(error.error))
                else:
                    self.lost += 1
                    self.again += len(positions)
                    self._supply.lost(worker)
                    positions = self._survivors(positions)
                self._results.queue.give_back(positions)

    def _survivors(self, positions: Sequence[int]) -> list[int]:
        """Those of ``positions`` that have not been open in too many deaths."""
        self._deaths.update(positions)
        for position in positions:
            if self._deaths[position] >= MOST_DEATHS:
                self._results.deliver(position, EpisodeError(
                    f"{MOST_DEATHS} workers died in this episode, one after the other: the"
                    " environment kills its process, or the nodes lack memory"
                ))  # fmt: skip
        return [position for position in positions if self._deaths[position] < MOST_DEATHS]
