"""What runs an artifact: two small protocols, whatever the runtime behind them."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Controller(Protocol):
    """A deployed policy: observations in, actions out.

    ``batch_invariant`` says whether row ``i`` of ``act`` is, to the last bit, what
    ``act_one`` returns for it whatever else is in the batch. Where it is not, ``act``
    itself runs the rows one by one, so callers need not care. ``device`` is what it runs on
    (``"cpu"``): an energy counter must see that.
    """

    batch_invariant: bool
    device: str
    observation_shape: tuple[int, ...]
    observation_dtype: np.dtype[Any]
    action_shape: tuple[int, ...]

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions ``(batch, *action_shape)`` for observations ``(batch, *observation_shape)``."""
        ...

    def act_one(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The action for one observation; the array is reused by the next call."""
        ...

    def run_network(self) -> None:
        """Run the network alone, on the observation that ``act_one`` saw last."""
        ...


class Runtime(Protocol):
    """What executes artifacts; it pickles, for worker processes."""

    @property
    def name(self) -> str:
        """As ``make_runtime`` and the user call it."""
        ...

    def load(self, model: bytes) -> Controller:
        """The artifact ``model`` (ONNX bytes), ready to act.

        Raises:
            ArtifactError: it cannot be loaded or has not one input and one output with a
                leading batch dimension.
        """
        ...

    def acts_like(self, model: bytes) -> str:
        """The name of the runtime whose actions for ``model`` have the same bits.

        It may be this one's own. Episodes are shared between runtimes that act alike.
        """
        ...
