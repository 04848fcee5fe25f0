"""The first time that a foreign ONNX model is loaded and run: in a watched process.

What gets through it is loaded in this process as well. The same bytes are not watched twice in a
run, and files that the run itself made or that a record describes not at all.
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from msgspec import Struct

from pytest_drlcompress.core.errors import ArtifactError, DrlcError
from pytest_drlcompress.environments.parts import Part
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
    links: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


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
    parts: Sequence[Part] = (),
) -> Adapted:
    """``onnx_interface.adapt``, and one action of the result, under limits of time and memory.

    Raises:
        ArtifactError: as ``adapt``, or the model crashes, hangs or takes too much memory.
    """
    constants = tuple(sorted(interface.constants.items()))
    links = tuple(sorted(interface.links.items()))
    job = _Job(
        model, interface.output, constants, observation, action, discrete, links, tuple(parts)
    )
    found = _watched(job)
    if isinstance(found, str):
        raise ArtifactError(found)
    return found


@lru_cache(maxsize=8)
def _watched(job: _Job) -> Adapted | str:
    """What became of it, or why nothing did: neither is found out twice."""
    seconds = _SECONDS + _SECONDS_PER_BYTE * len(job.model)
    try:
        raw = run_watched(
            f"{__name__}:adapt_and_act", msgspec.msgpack.encode(job, enc_hook=str), seconds
        )
    except WatchedError as error:
        return f"the model cannot be used: loaded and run in a process of its own, {error}"
    except DrlcError as error:
        return str(error)
    made = msgspec.msgpack.decode(raw, type=_Made)
    return Adapted(job.model if not made.model else made.model, made.notes)


def adapt_and_act(payload: bytes) -> bytes:
    """The watched task."""
    # a part's dtype is the one thing that msgpack does not know
    job = msgspec.msgpack.decode(payload, type=_Job, dec_hook=lambda kind, text: np.dtype(text))
    interface = Interface(job.output, dict(job.constants), dict(job.links))
    adapted = adapt(
        job.model,
        interface,
        job.observation,
        job.action,
        discrete=job.discrete,
        parts=job.parts,
    )
    OnnxController(adapted.model)  # runs it once
    same = adapted.model == job.model
    return msgspec.msgpack.encode(_Made(b"" if same else adapted.model, adapted.notes))
