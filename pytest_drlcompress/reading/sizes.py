"""How much memory a file would take, said before it takes any."""

import zipfile
from collections.abc import Iterable
from typing import IO, Any

import numpy as np

from pytest_drlcompress.reading.typed import ContentError

MAX_MODEL_BYTES = 2 * 2**30
"""Protobuf's own limit, and far beyond any controller."""

MAX_ARRAY_BYTES = 32 * 2**30
"""Of recorded observations in one file."""


def check_members(members: Iterable[zipfile.ZipInfo], limit: int) -> None:
    """Refuse a zip whose ``members`` unpack to more than ``limit`` bytes.

    The sizes are what the zip says of itself; ``zipfile`` never unpacks more than that.

    Raises:
        ContentError: they do.
    """
    total = sum(member.file_size for member in members)
    if total > limit:
        raise ContentError(f"it unpacks to {total:,} bytes, more than {limit:,}")


def check_array(stream: IO[bytes], size: int) -> None:
    """Refuse a ``.npy`` file of ``size`` bytes whose header promises more than it has.

    Raises:
        ContentError: it does, or holds Python objects, which are pickled.
        ValueError: no header.
    """
    version = np.lib.format.read_magic(stream)
    if version[0] not in (1, 2, 3):
        raise ContentError(f"it is of version {version[0]}")
    read: Any = np.lib.format.read_array_header_1_0
    if version[0] > 1:
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ContentError("it holds Python objects, which would have to be unpickled")
    count = 1
    for length in shape:  # of Python's integers, which do not overflow
        count *= length
    if count < 0 or count * max(dtype.itemsize, 1) > size:
        raise ContentError(f"its header promises {shape} of {dtype}, more than the file holds")
