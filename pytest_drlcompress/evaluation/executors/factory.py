"""The only place that names an executor."""

import importlib.util

from pytest_drlcompress.core.errors import ExecutorError
from pytest_drlcompress.core.settings import NEEDS_RAY, Settings
from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.executors.local import WorkerPool, default_workers


def make_executor(workers: int | None = None) -> Executor:
    """The executor of this machine with ``workers`` (default: as many as it finds room for)."""
    return WorkerPool(workers or default_workers())


def executor_of(settings: Settings) -> Executor:
    """The executor that is asked for.

    Raises:
        ExecutorError: it is not installed.
    """
    if settings.executor == "local":
        return make_executor(settings.workers or None)
    if importlib.util.find_spec("ray") is None:
        raise ExecutorError(NEEDS_RAY)
    from pytest_drlcompress.evaluation.executors.ray.run import RayRun

    return RayRun(settings.workers or None, settings.ray_address, settings.ray_runtime_env)
