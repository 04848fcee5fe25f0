"""The workers on a cluster's nodes: started, proven, replaced when they are lost."""

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from pytest_drlcompress.core.errors import ExecutorError
from pytest_drlcompress.core.threads import ONE_THREAD
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import Work
from pytest_drlcompress.evaluation.executors.ray.actor import NodeWorker
from pytest_drlcompress.evaluation.executors.ray.cluster import Cluster
from pytest_drlcompress.evaluation.executors.ray.proof import (
    Description,
    Proof,
    describe,
    differing_episodes,
    differing_versions,
    pickled,
)
from pytest_drlcompress.evaluation.executors.ray.worker import (
    RayWorker,
    in_thread,
    join_threads,
    lost_if_shut_down,
)

_THREADS = {"control": 1}
"""In a group of one thread, so that what is sent in order is done in order."""

_AGAIN_S = 1.0


class NodePool:
    """Implements ``Supply``: ``size`` workers, one core each, on ``cluster``.

    They start when the pool is made, and are handed out once they are proven.
    """

    def __init__(self, cluster: Cluster, size: int) -> None:
        self.size = size
        self._cluster = cluster
        self._here = describe()
        self._changed = threading.Condition()
        self._free: list[RayWorker] = []
        self._actors: set[Any] = set()
        self._proof: Proof | None = None
        self._closed = threading.Event()
        self._out = 0
        self.nodes: dict[str, Description] = {}
        self.refused: dict[str, str] = {}
        for _ in range(size):
            self._recruit()

    @property
    def proven(self) -> bool:
        """Whether the nodes know what to prove themselves by."""
        return self._proof is not None

    def prove(self, work: Work, episodes: Sequence[Episode]) -> None:
        """Let the nodes show that ``work`` gives the ``episodes`` there that it gave here.

        The first call counts.

        Raises:
            ExecutorError: ``work`` cannot be sent to a node.
        """
        if self._proof is None:
            order = pickled(work)
            with self._changed:
                self._proof = Proof(order, tuple(episodes))
                self._changed.notify_all()

    def take(self, most: int) -> list[RayWorker]:
        """At most so many that are free now."""
        with self._changed:
            taken, self._free = self._free[:most], self._free[most:]
        return taken

    def give(self, worker: RayWorker) -> None:
        """It is free again."""
        with self._changed:
            self._free.append(worker)
            self._changed.notify_all()

    def lost(self, worker: RayWorker) -> None:
        """It has died: another takes its place as soon as there is room for one."""
        worker.kill()
        with self._changed:
            self._actors.discard(worker.actor)
        self._recruit()

    def wait(self, seconds: float) -> None:
        """Until a worker is free, or ``seconds`` are over."""
        with self._changed:
            if not self._free:
                self._changed.wait(seconds)

    def check(self) -> None:
        """Whether there can still be workers.

        Raises:
            ExecutorError: no node is left, or every one was refused.
        """
        if reason := self._cluster.lost:
            raise ExecutorError(reason)
        with self._changed:
            if self._out == self.size:
                reasons = "; ".join(self.refused.values())
                raise ExecutorError(f"no node may take part: {reasons}")

    def close(self) -> None:
        """Kill the workers."""
        with self._changed:
            self._closed.set()
            actors = list(self._actors)
            self._changed.notify_all()
        if not self._cluster.lost:
            for actor in actors:
                with contextlib.suppress(Exception):  # the cluster may be going
                    ray.kill(actor)
        join_threads(5 * _AGAIN_S)

    def _has_ended(self) -> bool:
        return self._closed.is_set() or bool(self._cluster.lost)

    def _recruit(self) -> None:
        in_thread(self._start)

    def _start(self) -> None:
        while not self._has_ended():
            try:
                worker, node, description = self._worker()
                reason = self._refusal(worker, description)
            except RayError:  # it died before it was ready, or the cluster is gone
                time.sleep(_AGAIN_S)
                continue
            except Exception:
                if self._has_ended():  # Ray is shut down under it
                    return
                raise
            with self._changed:
                if reason:
                    # it stays, idle: Ray would put the next one on the core that it leaves
                    self.refused[node] = f"{description.host}: {reason}"
                    self._out += 1
                else:
                    self.nodes[node] = description
                    self._free.append(worker)
                self._changed.notify_all()
            return

    def _worker(self) -> tuple[RayWorker, str, Description]:
        """A new one, as soon as a node has a core for it."""
        environment = {**self._cluster.runtime_env}
        environment["env_vars"] = {**ONE_THREAD, **environment.get("env_vars", {})}
        remote: Any = ray.remote
        make = remote(
            num_cpus=1, max_restarts=0, max_concurrency=4, concurrency_groups=_THREADS,
            runtime_env=environment,
        )(NodeWorker)  # fmt: skip
        actor = make.remote(list(sys.path))
        with self._changed:
            self._actors.add(actor)
        node, description = self._answer(actor.describe.remote())
        return RayWorker(actor, node, self._cluster.gone), node, description

    def _answer(self, reference: Any) -> Any:
        """What ``reference`` stands for; a worker may wait for room for long.

        Raises:
            RayError: it was lost, or the pool was closed.
        """
        while True:
            try:
                with lost_if_shut_down():
                    return ray.get(reference, timeout=_AGAIN_S)
            except GetTimeoutError:
                if self._has_ended():
                    raise

    def _refusal(self, worker: RayWorker, description: Description) -> str:
        """Why it may not take part; empty if it may."""
        if differing := differing_versions(description, self._here):
            return f"it has {differing}"
        with self._changed:
            while self._proof is None and not self._has_ended():
                self._changed.wait(_AGAIN_S)
            proof = self._proof
        if proof is None:
            return ""
        episodes = self._answer(
            worker.actor.prove.remote(proof.order, [episode.seed for episode in proof.episodes])
        )
        return differing_episodes(episodes, proof.episodes)

    def notes(self) -> list[str]:
        """Who took part and who did not."""
        with self._changed:
            others = sorted(
                {d.host for d in self.nodes.values() if d.processor != self._here.processor}
            )
            lines = [f"refused {reason}" for reason in self.refused.values()]
        if others:
            lines.append(
                f"another processor than here, with the same returns to the last bit:"
                f" {', '.join(others)}"
            )
        return lines
