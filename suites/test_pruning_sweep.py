"""How much structured pruning does the policy take? Minutes for each policy: ``--drlc-sweep``."""

import pytest

from pytest_drlcompress import Gate


@pytest.mark.parametrize("pruning_sweep", ["l1", "l2"], indirect=True)
def test_most_pruning(pruning_sweep: Gate) -> None:
    """5, 10, ..., 70 % of the channels, up to the first ratio that is not shown to keep 90 %."""
    pruning_sweep.check()
