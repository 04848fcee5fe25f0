"""What runs on a node: an actor for each core that is used there.

It takes one order at a time: a rollout, for which it is fed seeds, or a job. Both send what comes
of them in batches, as a stream.
"""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.core.threads import limit_openmp_here, one_thread
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import (
    REPORT_S,
    Message,
    Node,
    Stopped,
    portable,
    report,
)
from pytest_drlcompress.evaluation.executors.ray.messages import Batch, Signal, Unusable
from pytest_drlcompress.evaluation.executors.ray.proof import Description, describe, episodes_of
from pytest_drlcompress.evaluation.executors.ray.tally import Tally

_GATHER_S = 0.01
"""How long a batch waits for what else is about to come: a message costs a millisecond."""

_JOB_REPORT_S = 1.0


class NodeWorker:
    """The actor. ``paths`` is the ``sys.path`` of who made it."""

    def __init__(self, paths: Sequence[str]) -> None:
        sys.path += [path for path in paths if path not in sys.path and Path(path).exists()]
        self._cancelled = ""
        self._feeds: dict[str, queue.SimpleQueue[int | None]] = {}
        self._kept: dict[str, Any] = {}
        self._one_thread = one_thread()

    def describe(self) -> tuple[str, Description]:
        """The node's id, and what it is."""
        return ray.get_runtime_context().get_node_id(), describe()

    def prove(self, order: bytes, seeds: Sequence[int]) -> tuple[Episode, ...]:
        """The episodes of ``order`` on ``seeds``."""
        with self._one_thread:
            return episodes_of(cloudpickle.loads(order), seeds)

    def rollout(self, number: str, order: bytes, seeds: Sequence[int | None]) -> Iterator[Batch]:
        """Batches of messages of ``order``, which begins with ``seeds`` (``None``: no more)."""
        inbox: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        outbox: queue.SimpleQueue[Message | Signal | None] = queue.SimpleQueue()
        for seed in seeds:
            inbox.put(seed)
        self._feeds[number] = inbox
        thread = threading.Thread(target=self._work, args=(number, order, inbox, outbox))
        thread.daemon = True
        thread.start()
        yield from _batches(outbox)
        del self._feeds[number]

    @ray.method(concurrency_group="control")
    def feed(self, number: str, seeds: Sequence[int | None]) -> None:
        """More seeds for the rollout ``number``."""
        if number in self._feeds:
            for seed in seeds:
                self._feeds[number].put(seed)

    @ray.method(concurrency_group="control")
    def cancel(self, number: str) -> None:
        """Call the rollout off; it stops after the step in progress."""
        self._cancelled = number
        if number in self._feeds:
            self._feeds[number].put(None)  # whoever waits for a seed wakes up

    def call(
        self, function: Callable[..., Any], helpers: Sequence[Any],
        *arguments: Any,
    ) -> Iterator[Tally | tuple[Any, Exception | None]]:  # fmt: skip
        """A job: what its rollouts have done meanwhile, and in the end its result or its error."""
        from pytest_drlcompress.evaluation.executors.ray.executor import RayExecutor
        from pytest_drlcompress.evaluation.executors.ray.supply import Helpers

        executor = RayExecutor(Helpers(helpers), thread=True)
        ended: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

        def job() -> None:
            try:
                with self._one_thread:
                    limit_openmp_here()
                    ended.put((function(Node(executor, self._kept), *arguments), None))
            except BaseException as error:  # sys.exit too: somebody waits for the result
                ended.put((None, portable(error if isinstance(error, Exception) else
                                          RuntimeError(repr(error)))))  # fmt: skip

        threading.Thread(target=job, daemon=True).start()
        told = Tally()
        while True:
            result = None
            with contextlib.suppress(queue.Empty):
                result = ended.get(timeout=_JOB_REPORT_S)
            now = executor.tally
            yield now - told
            told = now
            if result is not None:
                executor.close()
                yield result
                return

    def _work(
        self,
        number: str,
        order: bytes,
        inbox: "queue.SimpleQueue[int | None]",
        outbox: "queue.SimpleQueue[Message | Signal | None]",
    ) -> None:
        began = False

        def check() -> None:
            if self._cancelled == number:
                raise Stopped

        def emit(message: Message) -> None:
            nonlocal began
            check()
            if isinstance(message, Exception):
                message = portable(message) if began else Unusable(portable(message))
            began = True
            outbox.put(message)

        def seeds() -> Iterator[int]:
            while (seed := inbox.get()) is not None:
                check()
                outbox.put(Signal.MORE)
                yield seed

        limit_openmp_here()
        try:
            with contextlib.suppress(Stopped), self._one_thread:
                check()
                try:
                    work = cloudpickle.loads(order)
                except Exception as error:  # a module that is not installed here, for example
                    emit(ArtifactError(f"it cannot be read there: {error!r}"))
                else:
                    report(work, seeds(), emit, check)
        finally:
            outbox.put(None)


def _batches(outbox: "queue.SimpleQueue[Any]") -> Iterator[Batch]:
    """What arrives in ``outbox`` until ``None`` does."""
    ended = False
    while not ended:
        batch: Batch = []
        with contextlib.suppress(queue.Empty):
            message = outbox.get(timeout=REPORT_S)
            time.sleep(_GATHER_S)
            while message is not None:
                batch.append(message)
                message = outbox.get_nowait()
            ended = True
        if batch:
            yield batch
