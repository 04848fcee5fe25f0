"""Files written whole or not at all."""

import hashlib
import json
import os
import tempfile
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
