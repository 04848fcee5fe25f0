"""What does one action of the compressed policy cost?"""

from typing import Any

from pytest_drlcompress import Gate


def test_latency(latency: Gate, benchmark: Any) -> None:  # noqa: ARG001 (latency records with it)
    """The ratio to the baseline's own artifact, interleaved; microseconds go to the benchmark."""
    latency.check()
