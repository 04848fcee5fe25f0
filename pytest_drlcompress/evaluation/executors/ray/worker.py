"""A worker on a node, as the process that gives it orders sees it."""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import ray
from ray.exceptions import RayError

from pytest_drlcompress.evaluation.executors.base import PATIENCE_S, SeedShare
from pytest_drlcompress.evaluation.executors.ray.messages import Signal, Unusable
from pytest_drlcompress.evaluation.executors.ray.tally import Tally

OnEnd: TypeAlias = Callable[["RayWorker", SeedShare, Exception | None], None]

_IN_STOCK = 2
"""Seeds a worker holds beyond those in flight, so that it never waits for the next."""

_THREAD = "drlcompress-ray"

_LOOK_S = 0.5
"""How often a thread that waits for a worker looks whether the cluster is still there."""

_STOPPING_S = 5 * PATIENCE_S
"""How long it may take to stop after a step: messages travel, and others use the node."""


class RayWorker:
    """One worker. ``begin`` gives it seeds of a rollout, ``release`` calls that off.

    ``gone`` is set when the cluster is.
    """

    def __init__(self, actor: Any, node: str = "", gone: threading.Event | None = None) -> None:
        # Ray's handle of a NodeWorker: its methods are made at run time
        self.actor: Any = actor
        self.node = node
        self._gone = gone or threading.Event()
        self._number = ""
        self._lock = threading.Lock()
        self._deadline: threading.Timer | None = None

    def begin(
        self,
        order: Any,
        slots: int,
        share: SeedShare,
        on_end: OnEnd,
    ) -> None:
        """Work on ``order`` (in Ray's object store) with seeds of ``share``.

        ``on_end`` is called once, in another thread: with an ``Unusable`` if it could not begin,
        with a ``RayError`` if it was lost.
        """
        self._number = uuid.uuid4().hex
        first = self._draw(share, slots + _IN_STOCK)
        in_thread(self._relay, self._number, order, first, share, on_end)

    def release(self) -> None:
        """Call the rollout off; the worker is killed if that takes too long."""
        with self._lock:
            number, self._number = self._number, ""
            if not number:
                return  # it has just ended
            self._deadline = threading.Timer(_STOPPING_S, self.kill)
            self._deadline.daemon = True
            self._deadline.start()
        with contextlib.suppress(RayError):
            self.actor.cancel.remote(number)

    def call(
        self,
        function: Callable[..., Any],
        helpers: Sequence["RayWorker"],
        arguments: Sequence[Any],
        on_tally: Callable[[Tally], None],
    ) -> tuple[Any, Exception | None]:
        """Run a job there and wait for its result, or what it raised.

        Raises:
            RayError: the worker was lost.
        """
        actors = [helper.actor for helper in helpers]
        stream = self.actor.call.options(num_returns="streaming").remote(
            function, actors, *arguments
        )
        with lost_if_shut_down():
            for message in self._messages(stream):
                if not isinstance(message, Tally):
                    result: tuple[Any, Exception | None] = message
                    return result
                on_tally(message)
        raise AssertionError("a job ended without a result")

    def kill(self) -> None:
        """End its process."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(self.actor)

    def _relay(
        self,
        number: str,
        order: Any,
        first: list[int | None],
        share: SeedShare,
        on_end: OnEnd,
    ) -> None:
        problem: Exception | None = None
        # what comes back to the queue after that is for another order
        exhausted = first[-1] is None
        try:
            with lost_if_shut_down():
                stream = self.actor.rollout.options(num_returns="streaming").remote(
                    number, order, first
                )
                for batch in self._messages(stream):
                    wanted = 0
                    for message in batch:
                        if message is Signal.MORE:
                            wanted += 1
                        elif isinstance(message, Unusable):
                            problem = message
                        elif self._number == number:
                            share.emit(message)
                    if wanted and not exhausted and self._number == number:
                        seeds = self._draw(share, wanted)
                        exhausted = seeds[-1] is None
                        self.actor.feed.remote(number, seeds)
        except Exception as error:  # Ray's own, or what cannot be read of what it brought
            problem = error
        with self._lock:
            self._number = ""
            if self._deadline is not None:
                self._deadline.cancel()
        on_end(self, share, problem)

    def _messages(self, stream: Any) -> Iterator[Any]:
        """What comes of ``stream``.

        Raises:
            RayError: the worker was lost, or the cluster: nobody waits in Ray while it is left.
        """
        while not self._gone.is_set():
            ready, _ = ray.wait([stream], timeout=_LOOK_S, fetch_local=False)
            if ready:
                try:
                    reference = next(stream)
                except StopIteration:
                    return
                yield ray.get(reference)
        raise RayError("the cluster was lost")

    @staticmethod
    def _draw(share: SeedShare, count: int) -> list[int | None]:
        """``count`` seeds, or fewer and a ``None``."""
        seeds: list[int | None] = []
        while len(seeds) < count:
            seeds.append(share.take())
            if seeds[-1] is None:
                break
        return seeds


@contextlib.contextmanager
def lost_if_shut_down() -> Iterator[None]:
    """Ray ends threads that wait for an answer while it is shut down: make that a ``RayError``."""
    try:
        yield
    except SystemExit:
        raise RayError("Ray was shut down") from None


def in_thread(target: Callable[..., None], *arguments: Any) -> None:
    """Call it in a thread of its own, which ``join_threads`` waits for."""
    threading.Thread(target=target, args=arguments, daemon=True, name=_THREAD).start()


def join_threads(seconds: float) -> None:
    """Wait for at most so many seconds until nobody is in Ray, or holds anything of it.

    Ray ends this process where a thread does after its shutdown.
    """
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name == _THREAD:
            thread.join(max(0.0, end - time.monotonic()))
