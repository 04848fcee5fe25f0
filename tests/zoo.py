"""Where the published RL Zoo policies lie, which are too large to be part of this repository."""

from pathlib import Path

import pytest

_ZOO = Path(__file__).resolve().parents[2] / "shared" / "zoo"


def zoo_path(relative: str) -> Path:
    """A file of the zoo beside the checkout; skips the test where there is none."""
    path = _ZOO / relative
    if not path.exists():
        pytest.skip(f"needs ../shared/zoo/{relative} beside the checkout")
    return path
