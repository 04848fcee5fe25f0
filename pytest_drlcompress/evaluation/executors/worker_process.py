"""A worker process: its handle here, and what it runs there.

It is started afresh (nothing is forked from a process with threads in it), takes one order
after the other, and asks for seeds as its slots become free. Messages to it are ``(kind, number
of the order, payload)``, those from it ``(number of the order, message)``, so that what belongs to
an order that was called off is told from what belongs to the next.
"""

import contextlib
import enum
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeAlias

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.core.threads import ONE_THREAD
from pytest_drlcompress.evaluation.executors.base import (
    PATIENCE_S,
    Message,
    SeedShare,
    Stopped,
    Work,
    portable,
    report,
)

Channel: TypeAlias = "Connection[Any, Any]"

_IN_STOCK = 2
"""Seeds a process holds beyond those in flight, so that it never waits for the next."""


class _Signal(enum.Enum):
    MORE = 1
    IDLE = 2


class WorkerProcess:
    """One worker process. ``begin`` gives it an order, ``release`` calls that off."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._share: SeedShare | None = None
        self._number = self._finished = 0
        self._released = 0.0

    @property
    def free(self) -> bool:
        """Whether no rollout is using it."""
        return self._share is None

    def begin(self, order: bytes, share: SeedShare) -> None:
        """Work on pickled ``order`` with seeds from ``share``; starts the process if need be."""
        hangs = self._finished < self._number and time.monotonic() > self._released + PATIENCE_S
        if hangs or (self._process is not None and self._process.poll() is not None):
            self.close()
        if self._process is None:
            self._start()
        self._number += 1
        self._share = share
        self._send("order", (sys.path, order), self._number)

    def release(self) -> None:
        """Call the order off; the process stops after the step in progress."""
        self._share = None
        self._released = time.monotonic()
        self._send("cancel", None, self._number)

    def close(self) -> None:
        """Kill the process, and what its environments may have started."""
        self._share = None
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._finished = self._number

    def _start(self) -> None:
        ours, theirs = Pipe()
        root = str(Path(__file__).parents[3])
        code = (
            f"import sys; sys.path.insert(0, {root!r});"
            f" from {__name__} import serve; serve({theirs.fileno()})"
        )
        with theirs:
            process = subprocess.Popen(  # noqa: S603 (our own interpreter and code)
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **ONE_THREAD},
                process_group=0,  # Ctrl-C in a terminal goes to the parent alone
            )
        self._process, self._outbox = process, queue.SimpleQueue()
        outbox = self._outbox
        delivery = threading.Thread(target=_deliver, args=(ours, outbox), daemon=True)
        delivery.start()

        def relay() -> None:
            with ours:
                self._relay(ours)
                # not closed under a send: that would raise something else than an OSError
                outbox.put(None)
                delivery.join()
            self._report_death(process)

        threading.Thread(target=relay, daemon=True).start()

    def _relay(self, connection: Channel) -> None:
        stocked = 0
        with contextlib.suppress(EOFError, OSError):
            while True:
                number, message = connection.recv()
                if message is _Signal.IDLE:
                    self._finished = number
                share = self._share
                if share is None or number != self._number:
                    continue
                if isinstance(message, int) and stocked < number:
                    stocked = number
                    for _ in range(_IN_STOCK):
                        self._send("seed", share.take(), number)
                if message is _Signal.MORE:
                    self._send("seed", share.take(), number)
                elif message is not _Signal.IDLE:
                    share.emit(message)

    def _report_death(self, process: "subprocess.Popen[bytes]") -> None:
        code, share = process.wait(), self._share
        if share is not None and self._process is process:
            share.emit(EpisodeError(f"a worker process died ({_cause(code)}); see its output"))

    def _send(self, kind: str, payload: Any, number: int) -> None:
        self._outbox.put((kind, number, payload))


def _deliver(connection: Channel, outbox: "queue.SimpleQueue[Any]") -> None:
    """Send what is put into ``outbox``: an order can be large, and the process still starting."""
    with contextlib.suppress(OSError):  # the process is gone, which the relay sees as well
        for message in iter(outbox.get, None):
            connection.send(message)


def serve(handle: int) -> None:
    """What the process runs: orders from the pipe, until the parent is gone."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _Server(Connection(handle)).serve()


class _Server:
    def __init__(self, connection: Channel) -> None:
        self._connection = connection
        self._orders: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._seeds: queue.SimpleQueue[tuple[int, int | None]] = queue.SimpleQueue()
        self._cancelled = 0

    def serve(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            number, (paths, order) = self._orders.get()
            sys.path[:] = paths
            with contextlib.suppress(Stopped):
                self._work(number, order)
            self._connection.send((number, _Signal.IDLE))

    def _work(self, number: int, order: bytes) -> None:
        def check() -> None:
            if self._cancelled >= number:
                raise Stopped

        def send(message: Message | _Signal) -> None:
            check()
            self._connection.send((number, _portable(message)))

        def seeds() -> Iterator[int]:
            while True:
                send(_Signal.MORE)
                of, seed = self._seeds.get()
                while of != number:
                    of, seed = self._seeds.get()
                check()
                if seed is None:
                    return
                yield seed

        try:
            check()
            work: Work = pickle.loads(order)  # noqa: S301 (written by the parent process)
        except Exception as error:  # a module that this process cannot import, for example
            send(error)
        else:
            report(work, seeds(), send, check)

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, number, payload = self._connection.recv()
                if kind == "order":
                    self._orders.put((number, payload))
                elif kind == "seed":
                    self._seeds.put((number, payload))
                else:
                    self._cancelled = number
                    self._seeds.put((number, None))  # whoever waits for a seed wakes up
        os.killpg(0, signal.SIGKILL)  # the parent is gone; children of environments go along


def _portable(message: Message | _Signal) -> Message | _Signal:
    return portable(message) if isinstance(message, Exception) else message


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
