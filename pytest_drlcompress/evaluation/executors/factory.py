"""The only place that names an executor."""

from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.executors.local import WorkerPool, default_workers


def make_executor(name: str = "local", workers: int | None = None) -> Executor:
    """The executor called ``name`` with ``workers`` (default: as many as it finds room for).

    Raises:
        ValueError: there is no such executor.
    """
    if name == "local":
        return WorkerPool(workers or default_workers())
    raise ValueError(f"there is no executor {name!r}; known: local")
