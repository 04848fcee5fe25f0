"""An end to inferences that loop: ONNX Runtime stops between two nodes when it is told to."""

import threading
import time
import weakref
from typing import Any

PATIENCE_S = 10.0
"""How long a batch of actions of a model with loops may take."""

_TICK_S = 0.5


class Patrol:
    """A context manager: what runs in it with ``options`` is ended after ``PATIENCE_S``.

    ``ended`` tells whether the last one was.
    """

    def __init__(self) -> None:
        import onnxruntime

        self.options: Any = onnxruntime.RunOptions()
        self.options.log_severity_level = 4
        self.ended = False
        self.since: float | None = None
        threading.Thread(target=_walk, args=(weakref.ref(self),), daemon=True).start()

    def __enter__(self) -> None:
        if self.options.terminate:
            self.options.terminate = False
        self.ended = False
        self.since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.since = None

    def look(self) -> None:
        """End what has taken too long."""
        since = self.since
        if since is not None and time.monotonic() - since > PATIENCE_S:
            self.ended = True
            self.options.terminate = True


class NoPatrol:
    """For models without loops."""

    options = None
    ended = False

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


NO_PATROL = NoPatrol()


def _walk(patrolled: "weakref.ref[Patrol]") -> None:
    while (patrol := patrolled()) is not None:
        patrol.look()
        del patrol
        time.sleep(_TICK_S)
