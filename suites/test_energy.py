"""How many joules does one action of the compressed policy take?"""

from pytest_drlcompress import Gate


def test_energy(energy: Gate) -> None:
    """By the processor's own counter; skipped with the reason where there is none."""
    energy.check()
