"""Readers of option values: from text to a value, or a ``ValueError`` that says what it must be."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pytest_drlcompress.core.errors import OptionError

T = TypeVar("T")

REPORT_SUFFIXES = (".html", ".md", ".json")


def read_value(source: str, read: Callable[[str], T], text: str) -> T:
    """What ``read`` makes of ``text``, which stands in the option ``source``.

    Raises:
        OptionError: an impossible value, naming ``source`` and the text.
    """
    try:
        return read(text)
    except ValueError as error:
        raise OptionError(f"{source}={text}: {error}") from None


def number(low: float, high: float, *, closed: bool = False) -> Callable[[str], float]:
    """A number in ``(low, high)``, or ``(low, high]`` if ``closed``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isinf(high) and not low < value < high:
            raise ValueError(f"must be a number greater than {low:g}")
        if not (low < value < high or (closed and value == high)):
            upper = "at most" if closed else "less than"
            raise ValueError(f"must be a number greater than {low:g} and {upper} {high:g}")
        return value

    return read


def at_least(low: float) -> Callable[[str], float]:
    """A finite number from ``low``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value < math.inf:
            raise ValueError(f"must be a number of at least {low:g}")
        return value

    return read


def named_value(text: str) -> str:
    """``NAME=NUMBER`` or ``NAME=WORD``, as it is."""
    name, separator, value = text.partition("=")
    try:
        usable = math.isfinite(float(value))
    except ValueError:
        usable = bool(value.strip())
    if not (separator and name and usable):
        raise ValueError(
            "must be NAME=NUMBER, such as time_step=0, NAME=step, or NAME=OUTPUT of a state"
        )
    return text


def whole(low: int) -> Callable[[str], int]:
    """A whole number from ``low``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise ValueError(f"must be a whole number >= {low}")
        return value

    return read


def one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    """One of these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def per_cents(text: str) -> tuple[float, ...]:
    """``"50,10"`` as ``(10, 50)``: per cents, sorted, each once."""
    values = set()
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            raise ValueError("write per cents separated by commas, for example 10,30,50") from None
        if not 0 < value < 100:
            raise ValueError(f"a per cent must lie strictly between 0 and 100, not {part.strip()}")
        values.add(value)
    return tuple(sorted(values))


def recipes(text: str) -> tuple[str, ...]:
    """Recipes separated by commas, each once; ``name:key=value,...`` keeps its own commas."""
    parts: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        inside = "=" in part and ":" not in part
        if inside and parts and ":" in parts[-1]:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    if not parts:
        raise ValueError("write recipes separated by commas, for example ptdq,l2@30")
    return tuple(dict.fromkeys(parts))


def output_file(text: str) -> Path:
    """A file to write; the folders above it are made where they are missing."""
    path = _no_folder(text)
    output_folder(str(path.parent))
    return path


def output_folder(text: str) -> Path:
    """A folder to write to, made with those above it where they are missing."""
    path = Path(text)
    existing = next(folder for folder in (path, *path.parents, Path()) if folder.exists())
    if not existing.is_dir():
        raise ValueError(f"{existing} is not a folder")
    return path


def _no_folder(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise ValueError("is a folder; name a file in it")
    return path


def report_path(text: str) -> Path:
    """A path whose suffix names a form of report.

    Whether it can be written shows at the end of the run: a run's verdicts are worth more than
    their report.
    """
    path = _no_folder(text)
    if path.suffix not in REPORT_SUFFIXES:
        raise ValueError(f"must end in {', '.join(REPORT_SUFFIXES)}")
    return path
