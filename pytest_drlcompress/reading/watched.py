"""Work on foreign bytes in a process that may hang, crash or take all memory without harm.

One server process a run is started when it is first needed. It imports what a task needs once and
forks a child for each task, so that a task costs milliseconds and a bad one ends its child only.
A task is a function ``module:function`` of this package, from bytes to bytes.
"""

import contextlib
import importlib
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.threads import ONE_THREAD

MEMORY = 8 * 2**30
"""Bytes of address space that a task may take beyond what its process has."""

_WALL_FACTOR = 6
"""How much longer than its processor time a task may take: machines are shared."""


class WatchedError(Exception):
    """A task that hung, crashed or ran out of memory; the text says which."""


class _Order(Struct):
    task: str
    payload: bytes
    seconds: float


class _Answer(Struct):
    result: bytes = b""
    refused: str = ""
    """The message of a ``DrlcError`` of the task."""
    died: str = ""
    """How the process ended that should have given a result."""


def run_watched(task: str, payload: bytes, seconds: float) -> bytes:
    """What ``task`` (``"module:function"``) makes of ``payload`` within ``seconds`` of processor.

    Raises:
        DrlcError: the task's own refusal, with its message.
        WatchedError: it hung, crashed, ran out of memory, or failed in another way.
    """
    answer = _server().ask(_Order(task, payload, seconds))
    if answer.refused:
        raise DrlcError(answer.refused)
    if answer.died:
        raise WatchedError(answer.died)
    return answer.result


class _Server:
    """The handle of the server process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def ask(self, order: _Order) -> _Answer:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = _start()
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                _write(self._process.stdin, msgspec.msgpack.encode(order))
                raw = _read(self._process.stdout)
            except OSError:
                raw = None
            if raw is None:
                self._process.kill()
                return _Answer(died="its watching process ended")
            return msgspec.msgpack.decode(raw, type=_Answer)


@cache
def _server() -> _Server:
    """The one of this process."""
    return _Server()


os.register_at_fork(after_in_child=_server.cache_clear)  # its pipes belong to the parent


def _start() -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from {__name__} import serve; serve()"
    return subprocess.Popen(  # noqa: S603 (our own interpreter and code)
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is the parent's
        env={**os.environ, **ONE_THREAD},
    )


def serve() -> None:
    """The server: one order after the other, until its parent closes the pipe or is gone."""
    # what a task prints must not look like an answer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (raw := _read(sys.stdin.buffer)) is not None:
        order = msgspec.msgpack.decode(raw, type=_Order)
        try:
            _write(answers, msgspec.msgpack.encode(_carry_out(order)))
        except BrokenPipeError:
            return


def _carry_out(order: _Order) -> _Answer:
    module, _, function = order.task.partition(":")
    try:
        task = getattr(importlib.import_module(module), function)
    except Exception as error:  # what is installed is broken: the next task may fare better
        return _Answer(died=f"it cannot be imported: {error!r}")
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        with contextlib.suppress(BaseException):
            _work(task, order, theirs)
        os._exit(0)
    os.close(theirs)
    deadline = time.monotonic() + _WALL_FACTOR * order.seconds
    chunks: list[bytes] = []
    hung = False
    with os.fdopen(ours, "rb", buffering=0) as stream:
        while not hung:
            ready, _, _ = select.select([stream], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                hung = True
            elif chunk := stream.read(2**20):
                chunks.append(chunk)
            else:
                break
    if hung:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if hung or code == -signal.SIGXCPU:
        return _Answer(died=f"it took more than {order.seconds:.0f} s of processor time")
    if code < 0:
        return _Answer(died=f"it ended the process ({signal.Signals(-code).name})")
    try:
        return msgspec.msgpack.decode(b"".join(chunks), type=_Answer)
    except msgspec.DecodeError:
        return _Answer(died="it ended the process without a result")


def _work(task: Any, order: _Order, channel: int) -> None:
    _limit(order.seconds)
    try:
        answer = _Answer(result=task(order.payload))
    except DrlcError as error:
        answer = _Answer(refused=str(error) or type(error).__name__)
    except MemoryError:
        answer = _Answer(died=f"it took more than {MEMORY / 2**30:g} GiB of memory")
    except Exception as error:  # native code and damaged files raise anything
        text = " ".join(str(error).split())[:500]
        answer = _Answer(died=f"it fails with {type(error).__name__}: {text}")
    with os.fdopen(channel, "wb") as stream:
        stream.write(msgspec.msgpack.encode(answer))


def _limit(seconds: float) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, limit in (
        (resource.RLIMIT_AS, taken + MEMORY),
        (resource.RLIMIT_CPU, max(int(seconds), 1)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),  # nothing is written
    ):
        _, hard = resource.getrlimit(kind)
        with contextlib.suppress(ValueError, OSError):
            bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (bound, hard))
    # the soft limit of processor time: the default action ends the process
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def _write(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(8, "little") + message)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes | None:
    head = stream.read(8)
    if len(head) < 8:
        return None
    size = int.from_bytes(head, "little")
    message = stream.read(size)
    return message if len(message) == size else None
