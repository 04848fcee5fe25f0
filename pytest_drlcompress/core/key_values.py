"""The ``key=value,key=value`` text shared by recipes and environment specifications."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_drlcompress.core.errors import OptionTextError

_VALUES = "true, false, a number or a word"
Scalar = bool | int | float | str
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Json:
    """A list or object, as its canonical text: it compares and hashes like a scalar."""

    text: str

    @property
    def value(self) -> Any:
        """What the text says."""
        return json.loads(self.text)


Value = Scalar | Json


def plain(value: Value) -> Any:
    """A value as Python takes it."""
    return value.value if isinstance(value, Json) else value


def parse_arguments(text: str) -> dict[str, Value]:
    """``parse_options`` whose values may be JSON lists and objects: ``goal=[1, 2],gain={"p": 3}``.

    Commas inside brackets and quotes belong to the value.

    Raises:
        OptionTextError: as ``parse_options``, or a value that begins like JSON and is none.
    """
    options: dict[str, Value] = {}
    for item in split_outside(text, ","):
        key, separator, value = (part.strip() for part in item.partition("="))
        if separator and value[:1] in ("[", "{"):
            try:
                read: Value = Json(json.dumps(json.loads(value), sort_keys=True))
            except json.JSONDecodeError as error:
                raise OptionTextError(f"option {key!r} is not JSON: {error}") from None
            if not key or key in options:
                raise OptionTextError(f"option {key!r} has no name, or is given twice")
            options[key] = read
        else:
            for name, scalar in _parse([item]).items():
                if name in options:
                    raise OptionTextError(f"option {name!r} is given twice")
                options[name] = scalar
    return options


def split_outside(text: str, separator: str) -> Iterator[str]:
    """The pieces of ``text`` between ``separator``, but for those inside brackets and quotes."""
    depth, quoted, start = 0, False, 0
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == separator and depth <= 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def parse_options(text: str) -> dict[str, Scalar]:
    """Read ``"equalize=true,samples=2000"`` into ``{"equalize": True, "samples": 2000}``.

    Raises:
        OptionTextError: an item without ``=``, an empty or repeated key, an empty value.
    """
    return _parse(text.split(","))


def _parse(items: list[str]) -> dict[str, Scalar]:
    options: dict[str, Scalar] = {}
    for item in items:
        key, separator, value = (part.strip() for part in item.partition("="))
        if not separator or not key or not value:
            raise OptionTextError(
                f"cannot read option {item!r}: write key=value, the value being {_VALUES}"
            )
        if key in options:
            raise OptionTextError(f"option {key!r} is given twice")
        options[key] = _scalar(value)
    return options


def format_options(options: Mapping[str, Value]) -> str:
    """The canonical text of ``options`` (sorted keys), which is read back the same."""
    return ",".join(f"{key}={_text(options[key])}" for key in sorted(options))


def _scalar(value: str) -> Scalar:
    lowered = value.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for read in (int, float):
        try:
            return read(value)
        except ValueError:
            continue
    return value


def _text(value: Value) -> str:
    if isinstance(value, Json):
        return value.text
    return value if isinstance(value, str) else json.dumps(value)
