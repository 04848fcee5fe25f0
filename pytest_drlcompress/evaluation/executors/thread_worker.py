"""A worker that is a thread of this process: it starts at once."""

import contextlib
import ctypes
import threading

from pytest_drlcompress.core.threads import limit_openmp_here
from pytest_drlcompress.evaluation.executors.base import (
    PATIENCE_S,
    SeedShare,
    Stopped,
    Work,
    report,
)


class ThreadWorker:
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
