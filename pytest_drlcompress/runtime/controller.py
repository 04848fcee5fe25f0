"""What runs an artifact: one small protocol, whatever the runtime behind it."""

from typing import Any, Protocol

from numpy.typing import NDArray


class Controller(Protocol):
    """A deployed policy: observations in, actions out.

    ``batch_invariant`` says whether row ``i`` of ``act`` is, to the last bit, what
    ``act_one`` returns for it whatever else is in the batch. Where it is not, ``act``
    itself runs the rows one by one, so callers need not care.
    """

    batch_invariant: bool

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions ``(batch, *action_shape)`` for observations ``(batch, *observation_shape)``."""
        ...

    def act_one(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The action for one observation; the array is reused by the next call."""
        ...
