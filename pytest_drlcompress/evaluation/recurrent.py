"""A recurrent policy in a rollout: each slot carries its state, zero when an episode begins."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.runtime.recurrent import Recurrent


class RecurrentActor:
    """Acts as ``controller`` does, on ``tile`` slots at a time; implements ``Actor``."""

    def __init__(self, controller: Recurrent, tile: int) -> None:
        self._controller, self._tile = controller, tile
        self._states = [np.zeros((0, *state.shape), state.dtype) for state in controller.states]

    def begin(self, slot: int, seed: int) -> None:  # noqa: ARG002 (a callback)
        """An episode begins in ``slot``."""
        self._hold(slot + 1)
        for state in self._states:
            state[slot] = 0

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions ``(slots, *action_shape)``; the states go on."""
        self._hold(len(observations))
        actions = []
        for start in range(0, len(observations), self._tile):
            part = slice(start, min(start + self._tile, len(observations)))
            acted, following = self._controller.advance(
                observations[part], [state[part] for state in self._states]
            )
            actions.append(acted)
            for state, rows in zip(self._states, following, strict=True):
                state[part] = rows
        return np.concatenate(actions)

    def _hold(self, slots: int) -> None:
        missing = slots - len(self._states[0])
        if missing > 0:
            self._states = [
                np.concatenate([state, np.zeros((missing, *state.shape[1:]), state.dtype)])
                for state in self._states
            ]
