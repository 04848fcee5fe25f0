"""Does the compressed policy still earn its share of the baseline's return?"""

from pytest_drlcompress import Gate


def test_return_retention(retention: Gate) -> None:
    """At least 90 % of the return, with both errors bounded (or as the baseline records)."""
    retention.check()
