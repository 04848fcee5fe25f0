"""What the cart's compressed policy is held to."""

import pytest


@pytest.mark.drlcompress(min_retention=0.95)
def test_the_return_is_kept(retention):
    """In the cart's own simulator."""
    retention.check()


@pytest.mark.drlcompress(max_action_error=0.03)
def test_the_actions_stay(action_error):
    """On what the policy sees there."""
    action_error.check()
