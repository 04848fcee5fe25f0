"""Where a rollout gets its workers from."""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

from pytest_drlcompress.evaluation.executors.ray.worker import RayWorker


class Supply(Protocol):
    """Workers that rollouts take and give back; every method may be called in any thread."""

    @property
    def size(self) -> int:
        """How many there are to be."""
        ...

    def take(self, most: int) -> list[RayWorker]:
        """At most so many that are free now."""
        ...

    def give(self, worker: RayWorker) -> None:
        """It is free again."""
        ...

    def lost(self, worker: RayWorker) -> None:
        """It has died."""
        ...

    def check(self) -> None:
        """Whether there can still be workers.

        Raises:
            ExecutorError: there cannot.
        """
        ...

    def close(self) -> None:
        """Nobody needs workers any more."""
        ...


def put(supply: Supply, value: object) -> Any:
    """Ray's handle of ``value``, which goes once to each node that asks for it.

    Raises:
        ExecutorError: the cluster was lost.
    """
    try:
        return ray.put(value)
    except RayError:
        supply.check()
        raise


class Helpers:
    """The workers that a job was lent, by their ``actors``; implements ``Supply``."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._free = [RayWorker(actor) for actor in actors]
        self._lock = threading.Lock()
        self.size = len(self._free)

    def take(self, most: int) -> list[RayWorker]:
        """At most so many that are free now."""
        with self._lock:
            taken, self._free = self._free[:most], self._free[most:]
        return taken

    def give(self, worker: RayWorker) -> None:
        """It is free again."""
        with self._lock:
            self._free.append(worker)

    def lost(self, worker: RayWorker) -> None:
        """Who lent it will find out."""

    def check(self) -> None:
        """A job goes on by itself."""

    def close(self) -> None:
        """They are not its own."""
