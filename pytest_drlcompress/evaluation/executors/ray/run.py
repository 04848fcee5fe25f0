"""The executor of a run on Ray: it connects when it is first used."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from pathlib import Path

from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import Work
from pytest_drlcompress.evaluation.executors.local import WorkerPool, default_workers
from pytest_drlcompress.evaluation.executors.ray.cluster import Cluster
from pytest_drlcompress.evaluation.executors.ray.executor import RayExecutor
from pytest_drlcompress.evaluation.executors.ray.jobs import RayJobs
from pytest_drlcompress.evaluation.executors.ray.pool import NodePool
from pytest_drlcompress.evaluation.executors.ray.proof import PROOF_EPISODES


class RayRun:
    """Implements ``Executor``.

    ``workers`` is how many there are to be (``None``: one for each core of the cluster).
    """

    least_slots = RayExecutor.least_slots

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        runtime_env: Path | None = None,
    ) -> None:
        self._asked, self._address, self._runtime_env = workers, address, runtime_env
        self._started = False

    @cached_property
    def pool(self) -> NodePool:
        """The workers; the first look at them connects.

        Raises:
            ExecutorError: it cannot.
        """
        cores = self._asked or default_workers()
        self._cluster = Cluster(self._address, cores, self._runtime_env)
        self._started = True
        return NodePool(self._cluster, self._asked or self._cluster.cores or 1)

    @cached_property
    def jobs(self) -> RayJobs:
        """Whole jobs on the same workers."""
        return RayJobs(self.pool)

    @cached_property
    def _rollouts(self) -> RayExecutor:
        return RayExecutor(self.pool, thread=False)

    @property
    def workers(self) -> int:
        """How many there are to be."""
        return self.pool.size

    def run(
        self,
        work: Work,
        seeds: Sequence[int],
        *,
        stall_s: float | None = None,
        on_steps: Callable[[int], None] = lambda steps: None,
    ) -> Generator[Episode, None, None]:
        """See ``Executor.run``; the first two episodes of the first rollout prove the nodes.

        Raises:
            ExecutorError: no node is left, or the rollout cannot be sent to one.
        """
        if not self.pool.proven:
            proof = WorkerPool(1).run(work, seeds[:PROOF_EPISODES], stall_s=stall_s)
            measured: list[Episode] = []
            try:
                measured += proof
            except DrlcError:  # of the episodes themselves: what any executor would say
                yield from measured
                raise
            self.pool.prove(work, measured)
        yield from self._rollouts.run(work, seeds, stall_s=stall_s, on_steps=on_steps)

    def notes(self) -> list[str]:
        """What became of the episodes, and of the nodes."""
        if not self._started:
            return []
        tally = self._rollouts.tally + self.jobs.tally
        nodes, workers = len(self.pool.nodes), self.pool.size
        first = f"{workers} workers on {nodes} nodes: {tally.text()}"
        return [f"ray: {line}" for line in (first, *self.pool.notes())]

    def close(self) -> None:
        """Disconnect; end the cluster if it was started here."""
        if self._started:
            self._started = False
            self.jobs.close()
            self.pool.close()
            with contextlib.suppress(Exception):  # it may be gone
                self._cluster.close()
