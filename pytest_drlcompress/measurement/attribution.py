"""Which quantizer makes the error? Each one of an artifact alone, all others turned off.

``instrumentation`` puts a switch behind each of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.measurement.action_error import compare_actions
from pytest_drlcompress.measurement.instrumentation import Probe, Site, instrument
from pytest_drlcompress.runtime.onnxruntime import make_session
from pytest_drlcompress.runtime.recurrent import feed, observations_of, one_by_one

_OBSERVATIONS = 512
_OBSERVATIONS_PER_DIMENSION = 128
_DYNAMIC = 4
"""How many times fewer observations where each has to be run alone."""


@dataclass(frozen=True)
class Contribution:
    """The mean action error that one quantizer alone makes (a share of the action range).

    ``part`` is ``"activation"`` (the input of a layer), ``"weight"`` (with its bias) or
    ``"all weights"`` (of a trained artifact, whose weights have no fp32 counterpart). ``layer``
    counts the linear layers from 1; the input of layer 1 is the observation.
    """

    layer: int
    part: Literal["activation", "weight", "all weights"]
    error: float
    scale: float | None = None
    dimension: int | None = None
    span: float | None = None

    def __str__(self) -> str:
        if self.part == "all weights":
            return "weights of all layers"
        if self.part == "weight":
            return f"weights of layer {self.layer}"
        where = "observation input" if self.layer == 1 else f"input of layer {self.layer}"
        scale = "scale chosen at run time" if self.scale is None else f"scale {self.scale:.2g}"
        notes = f"per-tensor {scale}"
        if self.dimension is not None:
            notes += f"; dimension {self.dimension} spans {self.span:.2g}"
        return f"{where} ({notes})"

    def to_json(self) -> dict[str, Any]:
        """JSON builtins for the verdict's details."""
        found = {"layer": self.layer, "part": self.part, "error": self.error, "scale": self.scale}
        if self.dimension is not None:
            found |= {"dimension": self.dimension, "span": self.span}
        return found


def attribute_error(
    model: bytes, reference: bytes, observations: NDArray[Any], action: ActionSpec
) -> tuple[Contribution, ...]:
    """What each quantizer of ``model`` alone does to its actions, the largest error first.

    ``reference`` is the fp32 model; its weights stand in where those of ``model`` are a
    rounding of them. ``observations`` is ``(count, *observation_shape)``, of which at most 512
    are used. Empty for a model without quantizers.
    """
    probe = instrument(model, reference)
    if not probe.activations and not probe.weights:
        return ()
    share = _DYNAMIC if probe.dynamic else 1
    observations = _spread(observations, _OBSERVATIONS // share)
    few = _spread(observations, _OBSERVATIONS_PER_DIMENSION // share)
    run = _Runner(probe, action)
    exact = run(observations)
    found = []
    for site in probe.activations:
        error = run.error(exact, run(observations, {site.switch: np.ones(site.size, bool)}))
        contribution = Contribution(site.layer, "activation", error, site.scale)
        if site.layer == 1 and site.size > 1:
            worst = _worst_dimension(site, run, few)
            span = float(np.abs(run.tensor(observations, site.tensor)[:, worst]).max())
            contribution = replace(contribution, dimension=worst, span=span)
        found.append(contribution)
    for site in probe.weights:
        error = run.error(exact, run(observations, {site.switch: np.ones(1, bool)}))
        found.append(Contribution(site.layer, "weight", error, site.scale))
    if probe.trained:
        fp32 = make_session(reference)
        wanted = fp32.run(None, feed(fp32.get_inputs(), observations))[0]
        found.append(Contribution(0, "all weights", run.error(np.asarray(wanted), exact)))
    return tuple(sorted(found, key=lambda c: -c.error))


def _spread(observations: NDArray[Any], count: int) -> NDArray[Any]:
    return observations[:: max(1, len(observations) // count)][:count]


def _worst_dimension(site: "Site", run: "_Runner", observations: NDArray[Any]) -> int:
    exact = run(observations)
    errors = [
        run.error(exact, run(observations, {site.switch: switch}))
        for switch in np.eye(site.size, dtype=bool)
    ]
    return int(np.argmax(errors))


class _Runner:
    """The instrumented model; switches that are not given are off."""

    def __init__(self, probe: Probe, action: ActionSpec) -> None:
        self._session = make_session(probe.model)
        self._off = {s.switch: np.zeros(s.size, bool) for s in (*probe.activations, *probe.weights)}
        self._inputs = self._session.get_inputs()
        self._outputs = [output.name for output in self._session.get_outputs()]
        # the range of a dynamic quantizer is one observation's, as in deployment
        self._dynamic = probe.dynamic
        states = [i for i in self._inputs if i.name not in self._off]
        self._one_by_one = one_by_one(states)
        self._action = action

    def __call__(
        self, observations: NDArray[Any], on: Mapping[str, NDArray[np.bool_]] | None = None
    ) -> NDArray[Any]:
        """Actions ``(count, *action_shape)``."""
        feeds = {**self._off, **(on or {})}
        single = self._dynamic or self._one_by_one
        rows = np.array_split(observations, len(observations)) if single else [observations]
        actions = [
            np.asarray(
                self._session.run(self._outputs[:1], {**feeds, **feed(self._inputs, row)})[0]
            )
            for row in rows
        ]
        return np.concatenate(actions)

    def tensor(self, observations: NDArray[Any], name: str) -> NDArray[Any]:
        """The inner tensor ``name``, all switches off."""
        if name == self._inputs[0].name:
            return observations_of(observations)
        feeds = {**self._off, **feed(self._inputs, observations)}
        return np.asarray(self._session.run([name], feeds)[0])

    def error(self, exact: NDArray[Any], actual: NDArray[Any]) -> float:
        """Mean action error of ``actual`` against ``exact``."""
        return compare_actions(exact, actual, self._action).mean
