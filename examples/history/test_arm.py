"""What the arm's compressed policy is held to."""

import pytest


@pytest.mark.parametrize("variant", ["ptdq", "ptsq"], indirect=True)
def test_the_return_is_kept(retention):
    """With the history as in training."""
    retention.check()
