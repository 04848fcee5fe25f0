"""A recording as ``compression.step.Observations``: calibration, distillation without rollouts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.environments.recorded import Recording, calibration_part

if TYPE_CHECKING:
    from torch import Tensor, nn  # which ONNX files do without


@dataclass(frozen=True)
class RecordedObservations:
    """The part of ``rows``, ``(count, *observation_shape)``, that is not compared on."""

    recording: Recording
    rows: NDArray[Any]

    def blank(self, count: int) -> "Tensor":
        """Zeros, to trace a network."""
        import torch

        return torch.zeros((count, *self.rows.shape[1:]), dtype=torch.from_numpy(self.rows).dtype)

    def sample(self, count: int) -> NDArray[Any]:
        """At most ``count`` observations, evenly spread over the recording."""
        return evenly(calibration_part(self.rows), count)

    def describe(self, count: int) -> dict[str, Any]:
        """The file and its content's hash."""
        return {
            "recording": self.recording.path.name,
            "sha256": self.recording.sha256,
            "observations": len(self.sample(count)),
        }

    @property
    def teacher(self) -> None:
        """The network a step is given is its teacher."""
        return None

    def visited(self, student: "nn.Module", count: int, number: int) -> NDArray[Any]:  # noqa: ARG002
        """A random part of the recording: nobody can see where ``student`` would have gone."""
        rows = calibration_part(self.rows)
        chosen = np.random.default_rng(number).permutation(len(rows))[:count]
        return np.ascontiguousarray(rows[np.sort(chosen)])


def evenly(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """``count`` of ``rows``, evenly spread; all of them where there are fewer."""
    count = min(count, len(rows))
    chosen = np.linspace(0, len(rows) - 1, count).round().astype(int)
    return np.ascontiguousarray(rows[chosen])
