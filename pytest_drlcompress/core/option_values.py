"""Readers of option values: from text to a value, or a ``ValueError`` that says what it must be."""

import math
from collections.abc import Callable
from pathlib import Path

REPORT_SUFFIXES = (".html", ".md", ".json")


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


def report_path(text: str) -> Path:
    """A path whose suffix names a form of report."""
    path = Path(text)
    if path.suffix not in REPORT_SUFFIXES:
        raise ValueError(f"must end in {', '.join(REPORT_SUFFIXES)}")
    if path.is_dir():
        raise ValueError("is a folder")
    return path
