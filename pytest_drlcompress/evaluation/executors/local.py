"""More than one core: workers draw seeds in order, episodes come out in the order of the seeds.

One worker is a thread of this process and starts at once; the others are worker processes,
which join when they are ready. (Two threads are slower than two processes by a fifth: they
wait for each other's turn with the interpreter.) A worker that dies after it has drawn a seed, or
makes no step for too long, gives an ``EpisodeError`` when the turn of its episode has come. A
process that never got so far is reported by a warning, and the others do its share. Closing
the iterator stops everything after the step in progress.
"""

import contextlib
import ctypes
import os
import pickle
import queue
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Self

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.core.threads import limit_openmp_here, one_thread
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import (
    PATIENCE_S,
    REPORT_S,
    Message,
    SeedQueue,
    SeedShare,
    Stopped,
    Work,
    report,
)
from pytest_drlcompress.evaluation.executors.worker_process import WorkerProcess

_LOCAL = 0
"""The number of the worker that is a thread; processes count from 1."""


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
        results = _Results(seeds, on_steps, stall_s)
        thread = _ThreadWorker(work, results.share(_LOCAL))
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._one_thread)
            stack.callback(thread.stop)
            thread.start()
            processes = [process for process in self._processes if process.free]
            processes = processes[: len(seeds) - 1]
            order = self._pickled(work) if processes else None
            if order is not None:
                for worker, process in enumerate(processes, start=_LOCAL + 1):
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
                _warn(
                    "the environment cannot be sent to other processes and runs in this one"
                    f" ({error!r}); an entry point at the top of a module can be"
                )
            self._told = True
            return None


class _Results:
    """Where results arrive, in any order, and are asked for in the order of the seeds."""

    def __init__(
        self, seeds: Sequence[int], on_steps: Callable[[int], None], stall_s: float | None
    ) -> None:
        self._seeds, self._on_steps, self._stall_s = seeds, on_steps, stall_s
        self._queue = SeedQueue(seeds)
        self._inbox: queue.SimpleQueue[tuple[int, int | None, Message]] = queue.SimpleQueue()
        self._results: dict[int, Episode | Exception] = {}
        self._started = time.monotonic()
        self._last_report: dict[int, float] = {}

    def share(self, worker: int) -> SeedShare:
        """The share of ``worker``, delivered here."""
        return SeedShare(self._queue, worker, lambda *message: self._inbox.put(message))

    def wait(self, position: int) -> Episode:
        """The episode of ``position``."""
        while position not in self._results:
            self._listen()
            if position not in self._results:
                self._check_stall(position)
        result = self._results.pop(position)
        if isinstance(result, Exception):
            raise result
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
                elif worker == _LOCAL and isinstance(message, Exception):
                    raise message
                else:
                    _warn(str(message))

    def _check_stall(self, position: int) -> None:
        if self._stall_s is None:
            return
        owners = self._queue.owners
        owner = owners[position] if position < len(owners) else None
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


class _ThreadWorker:
    """Work in a thread of this process."""

    def __init__(self, work: Work, share: SeedShare) -> None:
        self._work, self._share = work, share
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="drlcompress", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the step in progress.

        A thread that hangs in Python code is interrupted; one that hangs elsewhere is left
        behind: nothing can end it.
        """
        self._stop.set()
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(Stopped)
            )
            self._thread.join(PATIENCE_S)

    def _main(self) -> None:
        limit_openmp_here()
        with contextlib.suppress(Stopped):
            report(self._work, iter(self._share.take, None), self._share.emit, self._check)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped


def _warn(problem: str) -> None:
    warnings.warn(f"fewer cores are used than asked for: {problem}", RuntimeWarning, stacklevel=2)
