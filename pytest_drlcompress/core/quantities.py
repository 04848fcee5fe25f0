"""Quantities as people write them: ``"256KiB"``."""

import re
from types import MappingProxyType

_BYTES = MappingProxyType(
    {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
)


def parse_bytes(text: str) -> float:
    """``"256KiB"`` (1024 bytes each), ``"80kB"`` (1000 bytes each), ``"65536"`` as bytes.

    Raises:
        ValueError: no such size, or none.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*", text)
    number, unit = (match[1], match[2].lower()) if match else ("0", "")
    if unit not in _BYTES or not float(number):
        raise ValueError("must be a size such as 256KiB, 80kB or a number of bytes")
    return float(number) * _BYTES[unit]


def format_bytes(count: float) -> str:
    """``"76,808 B (75.0 KiB)"``."""
    for size, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            return f"{count:,.0f} B ({count / size:.1f} {unit})"
    return f"{count:,.0f} B"
