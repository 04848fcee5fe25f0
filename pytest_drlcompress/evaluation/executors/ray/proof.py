"""How a node proves itself: by its library versions, and by two episodes, bit for bit.

Versions that differ, or another return, keep a node out. Another processor whose episodes are the
same is let in, and recorded.
"""

import importlib.metadata
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray import cloudpickle

from pytest_drlcompress.core.errors import ExecutorError
from pytest_drlcompress.evaluation.cache import processor_id
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import Work

PROOF_EPISODES = 2

_COMPARED = (
    "pytest-drlcompress", "ale-py", "gymnasium", "mujoco", "numpy", "onnx", "onnxruntime",
    "onnxscript", "torch", "torch-pruning",
)  # fmt: skip
"""Distributions that make artifacts or returns."""


@dataclass(frozen=True)
class Description:
    """What a process runs on; a version is ``"none"`` where a distribution is not installed."""

    host: str
    processor: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Proof:
    """Pickled ``order`` (a ``Work``), and the ``episodes`` that it gave here."""

    order: bytes
    episodes: tuple[Episode, ...]


def describe() -> Description:
    """What the calling process runs on."""
    return Description(socket.gethostname(), processor_id(), {
        "python": platform.python_version(), **{name: _version(name) for name in _COMPARED}
    })  # fmt: skip


def differing_versions(theirs: Description, ours: Description) -> str:
    """What differs; empty for nothing."""
    return ", ".join(
        f"{name} {version} instead of {ours.versions[name]}"
        for name, version in theirs.versions.items()
        if ours.versions[name] != version
    )


def differing_episodes(theirs: Sequence[Episode], ours: Sequence[Episode]) -> str:
    """The first episode that differs in any bit; empty for none."""
    for there, here in zip(theirs, ours, strict=True):
        if (there.total, there.length) != (here.total, here.length):
            return (
                f"the episode with seed {here.seed} returned {there.total!r} in {there.length}"
                f" steps there, {here.total!r} in {here.length} here"
            )
    return ""


def episodes_of(work: Work, seeds: Sequence[int]) -> tuple[Episode, ...]:
    """What ``work`` gives on ``seeds``.

    Raises:
        DrlcError: what ``work`` raised.
    """
    return tuple(work.run(seeds, lambda steps: None))


def pickled(work: Work) -> bytes:
    """``work`` for processes on other machines.

    Raises:
        ExecutorError: it cannot be sent there.
    """
    try:
        order: bytes = cloudpickle.dumps(work)  # type: ignore[no-untyped-call]
    except Exception as error:  # pickling calls the code of what is pickled
        raise ExecutorError(f"the rollout cannot be sent to a node: {error!r}") from None
    return order


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"
