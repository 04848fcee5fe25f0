"""How many bytes does the compressed policy take, on disk and while it runs?"""

from pytest_drlcompress import Gate


def test_memory(memory: Gate) -> None:
    """Sizes from the file and its graph; held against ``max_bytes`` and ``fits`` where given."""
    memory.check()
