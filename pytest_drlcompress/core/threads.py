"""One core for one worker: what the libraries underneath may use.

Batches of a policy are too small to gain from several threads. OpenBLAS starts them all the same
for vectors of 10,000 numbers, and they spin while they wait for the next.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType, TracebackType
from typing import Any

ONE_THREAD: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        (
            "OMP_NUM_THREADS",  # OpenMP: torch, and BLAS libraries that are built with it
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "BLIS_NUM_THREADS",
            "VECLIB_MAXIMUM_THREADS",
            "NUMEXPR_NUM_THREADS",
        ),
        "1",
    )
)
"""Environment of a process that is to use one core; read when a library is loaded."""


class OneThread:
    """While anybody holds it, BLAS libraries in this process use one thread, and so does OpenMP in
    the thread that took it first.

    A context manager that may be held several times, in any order: the last to leave it gives
    back what there was.
    """

    def __init__(self) -> None:
        self._holders = 0
        self._limits: Any = None

    def __enter__(self) -> None:
        if not self._holders:
            from threadpoolctl import threadpool_limits

            self._limits = threadpool_limits(1)
        self._holders += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._holders -= 1
        if not self._holders:
            self._limits.restore_original_limits()


@cache
def one_thread() -> OneThread:
    """The one of this process, whose limits they are: rollouts may overlap, in any order."""
    return OneThread()


def limit_openmp_here() -> None:
    """Let OpenMP use one thread in the calling thread, whose own setting it is."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="openmp")
