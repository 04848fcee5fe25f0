"""More than one core: workers draw seeds in order, episodes come out in the order of the seeds.

One worker is a thread of this process and starts at once; the others are worker processes,
which join when they are ready. (Two threads are slower than two processes by a fifth: they
wait for each other's turn with the interpreter.) A worker that dies after it has drawn a seed, or
makes no step for too long, gives an ``EpisodeError`` when the turn of its episode has come. A
process that never got so far is reported by a warning, and the others do its share. Closing
the iterator stops everything after the step in progress.
"""

import contextlib
import os
import pickle
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Self

from pytest_drlcompress.core.threads import one_thread
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import LEAST_SLOTS, Work
from pytest_drlcompress.evaluation.executors.results import THREAD, Results, warn_of_fewer
from pytest_drlcompress.evaluation.executors.thread_worker import ThreadWorker
from pytest_drlcompress.evaluation.executors.worker_process import WorkerProcess


def default_workers() -> int:
    """Cores for one process's rollouts; the workers of xdist have one each."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


class WorkerPool:
    """Implements ``Executor``: a thread of this process and other processes.

    ``workers - 1`` worker processes, started when first needed and kept for later rollouts.

    A context manager: leaving it kills them. They also end when this process does.
    """

    least_slots = LEAST_SLOTS
    jobs = None

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._processes = [WorkerProcess() for _ in range(workers - 1)]
        self._one_thread = one_thread()
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the processes."""
        for process in self._processes:
            process.close()

    def notes(self) -> list[str]:
        """Nothing: these are this machine's own."""
        return []

    def run(
        self,
        work: Work,
        seeds: Sequence[int],
        *,
        stall_s: float | None = None,
        on_steps: Callable[[int], None] = lambda steps: None,
    ) -> Generator[Episode, None, None]:
        """``work`` on ``seeds`` by a thread and the free processes.

        With one worker and no limit the calling thread does it. See ``Executor.run``.
        """
        if self.workers == 1 and stall_s is None:
            with self._one_thread:
                yield from work.run(seeds, on_steps)
            return
        results = Results(seeds, on_steps, stall_s)
        thread = ThreadWorker(work, results.share(THREAD))
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._one_thread)
            stack.callback(thread.stop)
            thread.start()
            processes = [process for process in self._processes if process.free]
            processes = processes[: len(seeds) - 1]
            order = self._pickled(work) if processes else None
            if order is not None:
                for worker, process in enumerate(processes, start=THREAD + 1):
                    stack.callback(process.release)
                    process.begin(order, results.share(worker))
            for position in range(len(seeds)):
                yield results.wait(position)

    def _pickled(self, work: Work) -> bytes | None:
        """``work`` for other processes; ``None``, with one warning, where that cannot be."""
        try:
            return pickle.dumps(work)
        except Exception as error:  # pickling calls the code of what is pickled
            if not self._told:
                warn_of_fewer(
                    "the environment cannot be sent to other processes and runs in this one"
                    f" ({error!r}); an entry point at the top of a module can be"
                )
            self._told = True
            return None
