"""What a pull request may not break."""


def test_the_return_is_kept(retention):
    """On CartPole."""
    retention.check()
