"""Does the compressed policy fit the microcontroller? Needs ``--drlc-target``, as cortex-m4."""

from pytest_drlcompress import Gate


def test_chip(chip: Gate) -> None:
    """Flash, RAM and instructions of the generated C under QEMU; its actions bit by bit."""
    chip.check()
