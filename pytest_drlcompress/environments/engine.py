"""What steps an environment: the protocols, and what a project may add to our own engines."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.environments.perturbation import Perturbation
from pytest_drlcompress.environments.spec import EnvSpec


class VectorEnv(Protocol):
    """``slots`` copies of one environment.

    ``observations`` is ``(slots, *observation_shape)``; ``reset`` and ``step`` update it in
    place and leave rows of slots outside ``busy`` as they were. ``failures`` tells which
    slots failed in the last ``step``; their rows mean nothing.
    """

    slots: int
    observations: NDArray[Any]
    failures: dict[int, EpisodeError]

    def reset(self, slot: int, seed: int) -> None:
        """Start the episode of ``seed`` in ``slot``, as ``env.reset(seed=seed)`` does.

        Raises:
            EpisodeError: the environment failed.
        """
        ...

    def step(
        self, actions: NDArray[Any], busy: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Advance the busy slots; rewards and "episode over" (either kind), both ``(slots,)``."""
        ...

    def close(self) -> None:
        """Release what the environments hold."""
        ...


class Engine(Protocol):
    """How one environment, with its perturbation, is stepped."""

    @property
    def name(self) -> str:
        """What steps the environment, for the user."""
        ...

    @property
    def reason(self) -> str:
        """Why it is this engine, for the user."""
        ...

    @property
    def may_hang(self) -> bool:
        """Whether a step may take forever, as code of a user's may: it is then watched."""
        ...

    def vector_env(self, slots: int) -> VectorEnv:
        """``slots`` fresh environments, whose episodes depend on seeds and actions alone."""
        ...


EngineFactory: TypeAlias = Callable[[EnvSpec, Perturbation], Engine | None]
"""The engine for an environment and its perturbation, or ``None`` to leave it to others.

It may raise ``DeclinedError`` to leave it to others and tell the user why.
"""


class DeclinedError(Exception):
    """An engine leaves an environment to others; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
