"""More than one core: seeds dealt to workers, episodes handed out in the order of the seeds.

Two kinds of worker do the same work. A thread costs nothing to start and is as fast as a
process where the work runs outside the interpreter's lock, as MuJoCo and ONNX Runtime do. A
process is for environments in Python, and for those that may hang: it can be killed.

What can go wrong and what then happens: a worker that dies, or makes no step for too long, gives an
``EpisodeError`` when the turn of its episode has come; closing the iterator (a verdict, an
error, Ctrl-C) stops every worker; a process whose parent is gone ends itself.
"""

import contextlib
import ctypes
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Protocol

from pytest_drlcompress.errors import DrlcError, EpisodeError
from pytest_drlcompress.evaluation.episodes import Episode

_TICK_S = 0.1
"""How often steps are reported and stalls looked for."""

_PATIENCE_S = 2.0
"""How long a worker that was told to stop may take before it is made to."""

Message = int | Episode | Exception
"""Steps made (0: ready), a result, or why there are no more."""
Emit = Callable[[Message], None]


class Work(Protocol):
    """What a worker does; picklable where processes do it."""

    def run(
        self, seeds: Sequence[int], on_steps: Callable[[int], None] = ...
    ) -> Generator[Episode, None, None]:
        """Episodes in the order of ``seeds``; ``on_steps(0)`` once the environments are made."""
        ...


class Worker(Protocol):
    """Runs ``Work`` on some seeds elsewhere."""

    def start(self, emit: Emit) -> None:
        """Begin; ``emit`` is called from another thread."""
        ...

    def stop(self) -> None:
        """End now; nothing is left behind that can be helped."""
        ...


def run_on_workers(
    work: Work,
    seeds: Sequence[int],
    *,
    workers: int,
    processes: bool,
    stall_s: float | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Generator[Episode, None, None]:
    """``work`` on ``seeds``, worker ``i`` of ``n`` taking every ``n``-th from the ``i``-th on.

    ``stall_s`` limits the time without a finished step, and ten times it the time until the
    environments are made.

    Raises:
        DrlcError: what a worker raised, once the episodes before it have been yielded.
        EpisodeError: a worker died or stalled.
    """
    kind: type[ThreadWorker | ProcessWorker] = ProcessWorker if processes else ThreadWorker
    team = [kind(work, seeds[first::workers]) for first in range(workers)]
    inbox: queue.SimpleQueue[tuple[int, Message]] = queue.SimpleQueue()
    results: list[deque[Episode | Exception]] = [deque() for _ in team]
    heard, ready = [time.monotonic()] * workers, [False] * workers

    def listen() -> None:
        timeout = _TICK_S
        with contextlib.suppress(queue.Empty):
            while True:
                index, message = inbox.get(timeout=timeout)
                heard[index], ready[index], timeout = time.monotonic(), True, 0
                if isinstance(message, int):
                    on_steps(message)
                else:
                    results[index].append(message)

    try:
        for index, worker in enumerate(team):
            worker.start(_sender(inbox, index))
        for position, seed in enumerate(seeds):
            index = position % workers
            while not results[index]:
                listen()
                limit = None if stall_s is None else stall_s * (1 if ready[index] else 10)
                if limit and not results[index] and time.monotonic() - heard[index] > limit:
                    raise EpisodeError(_stalled(limit, seed, ready=ready[index]))
            result = results[index].popleft()
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        for worker in team:
            worker.stop()


class ThreadWorker:
    """Work in a thread of this process; implements ``Worker``."""

    def __init__(self, work: Work, seeds: Sequence[int]) -> None:
        self._work, self._seeds = work, seeds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, emit: Emit) -> None:
        """Begin."""
        self._thread = threading.Thread(
            target=self._main, args=(emit,), name="drlcompress-rollout", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Wait for the step in progress.

        A thread that hangs in Python code is interrupted; one that hangs elsewhere is left
        behind, as nothing can end it.
        """
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive() and self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(_Stopped)
            )
            self._thread.join(_PATIENCE_S)

    def _main(self, emit: Emit) -> None:
        with contextlib.suppress(_Stopped):
            _run(self._work, self._seeds, self._checked(emit))

    def _checked(self, emit: Emit) -> Emit:
        def send(message: Message) -> None:
            if self._stop.is_set():
                raise _Stopped
            emit(message)

        return send


class ProcessWorker:
    """Work in a process of its own, relayed by a thread of this one; implements ``Worker``.

    The process shares no state with this one: it is started afresh and imports what it needs.
    """

    def __init__(self, work: Work, seeds: Sequence[int]) -> None:
        self._order, self._count = pickle.dumps((work, list(seeds))), len(seeds)
        self._process: subprocess.Popen[bytes] | None = None
        self._relay: threading.Thread | None = None
        self._stopping = False

    def start(self, emit: Emit) -> None:
        """Begin."""
        connection, theirs = Pipe()
        root = str(Path(__file__).parents[2])
        code = (
            f"import sys; sys.path.insert(0, {root!r});"
            f" from {__name__} import serve; serve({theirs.fileno()})"
        )
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and code)
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C in a terminal goes to this process alone
            )
        self._relay = threading.Thread(
            target=self._main, args=(connection, emit), name="drlcompress-relay", daemon=True
        )
        self._relay.start()

    def stop(self) -> None:
        """Kill the process, and what its environments may have started."""
        self._stopping = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._relay is not None:
            self._relay.join(_PATIENCE_S)

    def _main(self, connection: Connection, emit: Emit) -> None:
        assert self._process is not None
        left = self._count
        with connection, contextlib.suppress(EOFError, OSError):
            connection.send((sys.path, self._order))
            while left:
                message = connection.recv()
                left = 0 if isinstance(message, Exception) else left - isinstance(message, Episode)
                emit(message)
        if left and not self._stopping:
            code = self._process.wait()
            emit(EpisodeError(f"a worker process died ({_cause(code)}); its output says why"))


def serve(handle: int) -> None:
    """What a worker process runs: one order from the pipe, its results back."""
    connection = Connection(handle)
    paths, order = connection.recv()
    sys.path[:] = paths
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    work, seeds = pickle.loads(order)  # noqa: S301 (written by the parent process)
    with contextlib.suppress(BrokenPipeError):
        _run(work, seeds, lambda message: connection.send(_portable(message)))


class _Stopped(BaseException):
    """Ends the work of a thread; no ``except Exception`` of an environment holds it up."""


def _run(work: Work, seeds: Sequence[int], emit: Emit) -> None:
    pending, due = 0, time.monotonic() + _TICK_S

    def count(steps: int) -> None:
        nonlocal pending, due
        pending += steps
        now = time.monotonic()
        if now >= due or steps == 0:
            emit(pending)
            pending, due = 0, now + _TICK_S

    try:
        for episode in work.run(seeds, count):
            if pending:
                emit(pending)
                pending = 0
            emit(episode)
    except _Stopped:
        raise
    except BaseException as error:  # whatever it is (sys.exit too), somebody waits for results
        emit(error if isinstance(error, Exception) else EpisodeError(f"a worker ended: {error!r}"))


def _portable(message: Message) -> Message:
    """``message`` as something that pickles: foreign exceptions may not."""
    if isinstance(message, Exception) and not isinstance(message, DrlcError):
        return EpisodeError(f"a worker process failed: {message!r}")
    return message


def _end_with_parent(connection: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        connection.recv()  # the parent sends nothing more
    os.killpg(0, signal.SIGKILL)


def _sender(inbox: "queue.SimpleQueue[tuple[int, Message]]", index: int) -> Emit:
    return lambda message: inbox.put((index, message))


def _stalled(limit: float, seed: int, *, ready: bool) -> str:
    if not ready:
        return f"the environments could not be made within {limit:g} s"
    return (
        f"no step was finished within {limit:g} s while the episode with seed {seed} was awaited:"
        " the environment hangs, or needs a higher limit"
    )


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
