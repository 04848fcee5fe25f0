"""Files written whole or not at all."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, sees the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would hide a committed file from others
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as sorted, diff-friendly JSON; numbers in a list share one line."""
    write_atomic(path, (_dump(data, 0) + "\n").encode())


def write_described(files: Mapping[Path, bytes], record: Path, data: Any) -> None:
    """Write ``files`` and the JSON file ``record``, which describes them, as one step.

    The record is the step: killed before it is replaced, everything is as it was; after it, the
    new files wait beside the old ones, and ``settled`` finds them.
    """
    for path, content in files.items():
        write_atomic(_waiting(path), content)
    write_json(record, data)
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # a reader has settled it
            _waiting(path).replace(path)


def settled(path: Path, described: Callable[[Path], bool]) -> Path:
    """Where the content of ``path`` is that its record has ``described``: mostly ``path`` itself.

    What an interrupted ``write_described`` left waiting is put in its place.
    """
    waiting = _waiting(path)
    if not waiting.is_file() or (path.is_file() and described(path)) or not described(waiting):
        return path
    try:
        waiting.replace(path)
    except OSError:  # a folder that is only read, or another reader came first
        return waiting if waiting.is_file() else path
    return path


def _waiting(path: Path) -> Path:
    return path.with_name(f".{path.name}.next")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of the file at ``path``."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _dump(data: Any, depth: int) -> str:
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(data, dict) and data:
        items = (
            f"{inner}{json.dumps(str(k))}: {_dump(v, depth + 1)}" for k, v in sorted(data.items())
        )
        return "{\n" + ",\n".join(items) + f"\n{outer}}}"
    if isinstance(data, list) and any(isinstance(item, dict | list) for item in data):
        return "[\n" + ",\n".join(f"{inner}{_dump(v, depth + 1)}" for v in data) + f"\n{outer}]"
    return json.dumps(data, allow_nan=False)
