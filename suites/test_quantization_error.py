"""How far are the compressed policy's actions from the original's?"""

from pytest_drlcompress import Gate


def test_action_error(action_error: Gate) -> None:
    """Mean error on the policy's own observations, as a share of the action range."""
    action_error.check()
