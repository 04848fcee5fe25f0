"""JSON and TOML from files that anybody may have written: typed, bounded, one clear error.

Each kind of file has its schema beside this module, as msgspec types with ranges. What is read is
checked against it whole, so that nothing behind a reader meets a wrong type.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

MAX_JSON_BYTES = 256 * 2**20
"""Larger text is no record, report or recipe; parsing takes some ten times its size in memory."""

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A whole number that JSON, float64 and int64 hold exactly."""

Seconds = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(max_length=4096)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
ShortSha256 = Annotated[str, Meta(pattern="^[0-9a-f]{6,64}$")]
StateName = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID", "NOT_MEASURED"]
Scalar = str | float | bool | None
"""JSON's own; ``float`` takes integers, too."""


class ContentError(ValueError):
    """What a file holds is not what it should be; the text names the field."""


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of ``path``, unless it is beyond ``limit`` bytes.

    Raises:
        OSError: it cannot be read.
        ContentError: it is too large.
    """
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ContentError(f"it has more than {limit:,} bytes")
    return content


def decode_json(raw: bytes, schema: Callable[..., T] | Any = Any) -> Any:
    """``raw`` as JSON builtins that fit ``schema``; strict JSON, without NaN and infinity.

    Raises:
        ContentError: no JSON, or a field that does not fit.
    """
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ContentError(f"not valid JSON: {error}") from None
    check(found, schema)
    return found


def decode_python_json(raw: bytes) -> Any:
    """``raw`` as Python's ``json`` writes it, with NaN and infinity.

    Raises:
        ContentError: no JSON, or a nesting or number that Python does not read.
    """
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"not valid JSON: {error}") from None


def read_json(path: Path, schema: Any = Any, limit: int = MAX_JSON_BYTES) -> Any:
    """The JSON builtins in ``path``, which fit ``schema``.

    Raises:
        OSError: it cannot be read.
        ContentError: too large, no JSON, or a field that does not fit.
    """
    return decode_json(read_bytes(path, limit), schema)


def read_toml(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The TOML document in ``path``.

    Raises:
        OSError: it cannot be read.
        ContentError: too large, not UTF-8, no TOML.
    """
    try:
        return tomllib.loads(read_bytes(path, limit).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ContentError(str(error)) from None


def check(found: Any, schema: Any, where: str = "") -> None:
    """Hold builtins to ``schema``; ``where`` is the field in which they stand.

    Raises:
        ContentError: the field that does not fit, and how.
    """
    if schema is Any:
        return
    try:
        msgspec.convert(found, schema)
    except (msgspec.ValidationError, RecursionError) as error:
        what, _, place = str(error).partition(" - at ")
        field = f"{where}{place.strip('`').removeprefix('$')}".lstrip(".")
        raise ContentError(f"{field}: {_plain(what)}" if field else _plain(what)) from None


def _plain(text: str) -> str:
    return text.replace("`", "").replace("Expected", "expected", 1)
