"""What a rollout on a node tells whoever ordered it, beside steps and episodes."""

import enum

from pytest_drlcompress.evaluation.executors.base import Message


class Signal(enum.Enum):
    """From a rollout: a seed was taken, and another is wanted."""

    MORE = 1


class Unusable(Exception):  # noqa: N818 (what it says of a node, not an error of ours)
    """From a rollout: ``error`` befell it before it could begin an episode."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


Batch = list[Message | Signal]
