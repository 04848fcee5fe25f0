"""A compression step: what recipes can name, what it is given and what it makes.

A step works on the torch network (``level="network"``: pruning, sparsity), makes the ONNX
model out of it (``level="export"``: quantization-aware training, which learns numbers that only
the model can hold), or works on the exported ONNX model (``level="graph"``: post-training
quantization). They come in this order; a recipe with one of the first two cannot start from an
ONNX file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.compression.recipe import Step
from pytest_drlcompress.core.key_values import Scalar

Level = Literal["network", "export", "graph"]


class Observations(Protocol):
    """Observations from the policy's own rollouts, for calibration and distillation.

    ``teacher`` is the network whose actions a later step is held to; ``None`` where that is the
    network the step is given.
    """

    @property
    def teacher(self) -> nn.Module | None:
        """See above."""
        ...

    def blank(self, count: int) -> Tensor:
        """Zeros ``(count, *observation_shape)`` of the observation's type, to trace a network."""
        ...

    def sample(self, count: int) -> NDArray[Any]:
        """``(count, *observation_shape)``, the same for every call with this ``count``."""
        ...

    def describe(self, count: int) -> dict[str, Any]:
        """Where they come from (environment, seeds), as JSON builtins for the provenance."""
        ...

    def visited(self, student: nn.Module, count: int, number: int) -> NDArray[Any]:
        """About ``count`` observations of whole episodes in which ``student`` acts.

        Each ``number`` (from 1) has episodes of its own. There are more observations where the
        episodes are long, and fewer where the student fails at once in hundreds of them.
        """
        ...


@dataclass(frozen=True)
class Result:
    """What a step made of its input: a network or a model, and what it measured on the way.

    ``observations`` is what the steps after it are to use, where the old ones no longer fit.
    """

    value: Any
    provenance: Mapping[str, Any] = field(default_factory=dict)
    observations: Observations | None = None


@dataclass(frozen=True)
class SparsityTarget:
    """The zeros that a step aims at: their share of the weights, and how layers share them.

    ``distribution`` is a name that ``pruning.distribution`` knows; of ``"global"`` only the total
    is promised.
    """

    share: float
    distribution: str


@dataclass(frozen=True)
class Failing:
    """What is known of a variant that lost too much.

    ``worst_layer`` (from 1) has the quantizer that costs most; ``trainable`` says whether there is
    a torch network that a step could train.
    """

    worst_layer: int
    trainable: bool


@dataclass(frozen=True)
class StepKind:
    """A compression step that recipes can name.

    ``apply(value, step, observations)`` gets the torch network (``level="network"`` and
    ``"export"``) or the ONNX bytes (``"graph"``) and returns a ``Result`` with a network
    (``"network"``) or ONNX bytes (the others); options it was not given have the values of
    ``options``, or of ``image_options`` where the policy sees images. ``amount`` is the open
    interval the amount must lie in, ``None`` where there is none to give; ``default_amount``
    makes it optional. ``quantizes`` claims that every linear
    layer of the result executes in int8, which the quantization-error gate then checks.
    """

    name: str
    level: Level
    apply: Callable[[Any, Step, Observations], Result]
    summary: str
    amount: tuple[float, float] | None = None
    default_amount: float | None = None
    options: Mapping[str, Scalar] = field(default_factory=dict)
    image_options: Mapping[str, Scalar] = field(default_factory=dict)
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    quantizes: bool = False
    sparsity: Callable[[Step], SparsityTarget] | None = None
    suggest: Callable[[Step, Failing], str] | None = None
