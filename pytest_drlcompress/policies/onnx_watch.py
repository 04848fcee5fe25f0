"""The first time that a foreign ONNX model is loaded and run: in a watched process.

What gets through it is loaded in this process as well. The same bytes are not watched twice in a
run, and files that the run itself made or that a record describes not at all.
"""

from functools import lru_cache

import msgspec
from msgspec import Struct

from pytest_drlcompress.core.errors import ArtifactError, DrlcError
from pytest_drlcompress.policies.onnx_interface import Adapted, Interface, adapt
from pytest_drlcompress.reading.watched import WatchedError, run_watched
from pytest_drlcompress.runtime.onnxruntime import OnnxController

_SECONDS = 5.0
_SECONDS_PER_BYTE = 1e-7
"""Processor time to load and run a model once: a large one takes a second."""


class _Job(Struct, frozen=True):
    model: bytes
    output: str
    constants: tuple[tuple[str, float], ...]
    observation: tuple[int, ...] | None
    action: tuple[int, ...] | None
    discrete: bool


class _Made(Struct):
    model: bytes
    notes: tuple[str, ...]


def adapt_watched(
    model: bytes,
    interface: Interface,
    observation: tuple[int, ...] | None = None,
    action: tuple[int, ...] | None = None,
    *,
    discrete: bool = False,
) -> Adapted:
    """``onnx_interface.adapt``, and one action of the result, under limits of time and memory.

    Raises:
        ArtifactError: as ``adapt``, or the model crashes, hangs or takes too much memory.
    """
    constants = tuple(sorted(interface.constants.items()))
    job = _Job(model, interface.output, constants, observation, action, discrete)
    found = _watched(job)
    if isinstance(found, str):
        raise ArtifactError(found)
    return found


@lru_cache(maxsize=8)
def _watched(job: _Job) -> Adapted | str:
    """What became of it, or why nothing did: neither is found out twice."""
    seconds = _SECONDS + _SECONDS_PER_BYTE * len(job.model)
    try:
        raw = run_watched(f"{__name__}:adapt_and_act", msgspec.msgpack.encode(job), seconds)
    except WatchedError as error:
        return f"the model cannot be used: loaded and run in a process of its own, {error}"
    except DrlcError as error:
        return str(error)
    made = msgspec.msgpack.decode(raw, type=_Made)
    return Adapted(job.model if not made.model else made.model, made.notes)


def adapt_and_act(payload: bytes) -> bytes:
    """The watched task."""
    job = msgspec.msgpack.decode(payload, type=_Job)
    interface = Interface(job.output, dict(job.constants))
    adapted = adapt(job.model, interface, job.observation, job.action, discrete=job.discrete)
    OnnxController(adapted.model)  # runs it once
    same = adapted.model == job.model
    return msgspec.msgpack.encode(_Made(b"" if same else adapted.model, adapted.notes))
