"""Whole jobs on the nodes: a cell of a grid, a policy's reference, a training.

A job has a worker to itself, and helpers for its rollouts where there are more workers than jobs.
One whose worker is lost begins again on another.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError

from pytest_drlcompress.core.errors import ExecutorError
from pytest_drlcompress.evaluation.executors.base import JobsProgress
from pytest_drlcompress.evaluation.executors.ray.executor import MOST_DEATHS
from pytest_drlcompress.evaluation.executors.ray.pool import NodePool
from pytest_drlcompress.evaluation.executors.ray.supply import put
from pytest_drlcompress.evaluation.executors.ray.tally import Tally
from pytest_drlcompress.evaluation.executors.ray.worker import RayWorker, in_thread


@dataclass(eq=False)
class _Job:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    group: str
    future: Future[Any]
    deaths: int = 0


class RayJobs:
    """Implements ``Jobs`` on the workers of ``pool``."""

    def __init__(self, pool: NodePool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._waiting: list[_Job] = []
        self._running: set[_Job] = set()
        self._groups: dict[RayWorker, str] = {}
        self._done = 0
        self._started = time.monotonic()
        self._began = False
        self._closed = False
        self.tally = Tally()

    def share(self, value: object) -> Any:
        """See ``Jobs.share``.

        Raises:
            ExecutorError: the cluster was lost.
        """
        return put(self._pool, value)

    def submit(self, function: Callable[..., Any], *arguments: Any, group: str = "") -> Future[Any]:
        """See ``Jobs.submit``."""
        job = _Job(function, arguments, group, Future())
        with self._lock:
            if not self._began:
                self._started = time.monotonic()
                self._began = True
                in_thread(self._hand_out)
            self._waiting.append(job)
        return job.future

    def progress(self) -> JobsProgress:
        """See ``Jobs.progress``."""
        with self._lock:
            seconds = time.monotonic() - self._started
            left = len(self._waiting) + len(self._running)
            return JobsProgress(
                self._done,
                len(self._running),
                len(self._waiting),
                self.tally.steps / max(seconds, 1e-3),
                seconds / self._done * left if self._done else None,
            )

    def close(self) -> None:
        """No more jobs are begun."""
        self._closed = True

    def _hand_out(self) -> None:
        while not self._closed:
            try:
                self._pool.check()
            except ExecutorError as error:
                self._give_up(error)
            self._hand_out_some()

    def _hand_out_some(self) -> None:
        with self._lock:
            self._waiting = [job for job in self._waiting if not job.future.cancelled()]
            wanted = bool(self._waiting)
        workers = self._pool.take(self._pool.size) if wanted else []
        if not workers:
            self._pool.wait(0.1) if wanted else time.sleep(0.1)
            return
        with self._lock:
            jobs = [(self._next(worker), worker) for worker in workers[: len(self._waiting)]]
            self._running.update(job for job, _ in jobs)
        spare = workers[len(jobs) :]
        for place, (job, worker) in enumerate(jobs):
            in_thread(self._run, job, worker, spare[place :: len(jobs)])

    def _next(self, worker: RayWorker) -> _Job:
        """Of the group that ``worker`` did last, else the first."""
        group = self._groups.get(worker)
        job = next((job for job in self._waiting if job.group == group), self._waiting[0])
        self._waiting.remove(job)
        self._groups[worker] = job.group
        return job

    def _run(self, job: _Job, worker: RayWorker, helpers: Sequence[RayWorker]) -> None:
        # nobody waits for it any more: its worker is ended, and another takes its place
        job.future.add_done_callback(lambda f: worker.kill() if f.cancelled() else None)
        try:
            result, error = worker.call(job.function, helpers, job.arguments, self._count)
        except RayError as lost:
            self._pool.lost(worker)
            self._groups.pop(worker, None)
            self._again(job, lost)
        else:
            self._pool.give(worker)
            self._end(job, result, error)
        for helper in helpers:
            self._pool.give(helper)

    def _again(self, job: _Job, lost: Exception) -> None:
        if job.future.cancelled():
            with self._lock:
                self._running.discard(job)
            return
        self._count(Tally(lost=1))
        job.deaths += 1
        if job.deaths >= MOST_DEATHS:
            why = str(lost).strip().splitlines()[0]
            self._end(job, None, ExecutorError(
                f"{MOST_DEATHS} workers died in this job, one after the other ({why}): it kills"
                " its process, or the nodes lack memory"
            ))  # fmt: skip
            return
        with self._lock:
            self._running.discard(job)
            self._waiting.insert(0, job)

    def _end(self, job: _Job, result: Any, error: Exception | None) -> None:
        with self._lock:
            self._running.discard(job)
            self._done += 1
        with contextlib.suppress(InvalidStateError):  # given up, or cancelled
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)

    def _give_up(self, error: ExecutorError) -> None:
        with self._lock:
            jobs = [*self._waiting, *self._running]
            self._waiting, self._running = [], set()
        for job in jobs:
            with contextlib.suppress(InvalidStateError):
                job.future.set_exception(error)

    def _count(self, tally: Tally) -> None:
        with self._lock:
            self.tally += tally
