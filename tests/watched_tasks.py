"""What the watched process is given in tests; it imports this file, and nothing else of them."""

import os
import signal
from pathlib import Path

from pytest_drlcompress.core.errors import DrlcError


def hang(_: bytes) -> bytes:
    while True:
        pass


def crash(_: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def end(_: bytes) -> bytes:
    os._exit(0)


def fill(_: bytes) -> bytes:
    return bytes(2**40)


def fail(_: bytes) -> bytes:
    raise ValueError("no such thing")


def refuse(_: bytes) -> bytes:
    raise DrlcError("said so")


def write(path: bytes) -> bytes:
    Path(path.decode()).write_bytes(b"x" * 100)
    return b""


def say(payload: bytes) -> bytes:
    print("this is no answer")
    return payload[::-1]
