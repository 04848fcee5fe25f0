"""Importing what users name, as they would from the directory they stand in."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """Modules of the current directory come first."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
