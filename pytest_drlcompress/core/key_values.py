"""The ``key=value,key=value`` text shared by recipes and environment specifications."""

import json
from collections.abc import Mapping

from pytest_drlcompress.core.errors import OptionTextError

_VALUES = "true, false, a number or a word"
Scalar = bool | int | float | str


def parse_options(text: str) -> dict[str, Scalar]:
    """Read ``"equalize=true,samples=2000"`` into ``{"equalize": True, "samples": 2000}``.

    Raises:
        OptionTextError: an item without ``=``, an empty or repeated key, an empty value.
    """
    options: dict[str, Scalar] = {}
    for item in text.split(","):
        key, separator, value = (part.strip() for part in item.partition("="))
        if not separator or not key or not value:
            raise OptionTextError(
                f"cannot read option {item!r}: write key=value, the value being {_VALUES}"
            )
        if key in options:
            raise OptionTextError(f"option {key!r} is given twice")
        options[key] = _scalar(value)
    return options


def format_options(options: Mapping[str, Scalar]) -> str:
    """The canonical text of ``options`` (sorted keys), which ``parse_options`` reads back."""
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


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value)
