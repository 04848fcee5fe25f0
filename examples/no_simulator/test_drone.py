"""What the drone's compressed policy is held to."""

import pytest


@pytest.mark.drlcompress(max_action_error=0.02, max_bytes="8kB")
def test_the_actions_stay_and_the_file_fits(action_error, memory):
    """On the recorded flight."""
    action_error.check()
    memory.check()


def test_the_return_is_kept(retention):
    """NOT_MEASURED, and skipped, until there is a simulator."""
    retention.check()
