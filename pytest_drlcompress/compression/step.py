"""A compression step: what recipes can name, what it is given and what it makes.

A step works on the torch network (``level="network"``: pruning, sparsity), makes the ONNX
model out of it (``level="export"``: quantization-aware training, which learns numbers that only
the model can hold), or works on the exported ONNX model (``level="graph"``: post-training
quantization). They come in this order; a recipe with one of the first two cannot start from an
ONNX file.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from numpy.typing import NDArray

from pytest_drlcompress.compression.recipe import Step
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.key_values import Scalar

if TYPE_CHECKING:
    from torch import Tensor, nn  # which steps on ONNX graphs do without

Level = Literal["network", "export", "graph"]
_NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)


class Observations(Protocol):
    """Observations from the policy's own rollouts, for calibration and distillation.

    ``teacher`` is the network whose actions a later step is held to; ``None`` where that is the
    network the step is given.
    """

    @property
    def teacher(self) -> "nn.Module | None":
        """See above."""
        ...

    def blank(self, count: int) -> "Tensor":
        """Zeros ``(count, *observation_shape)`` of the observation's type, to trace a network."""
        ...

    def sample(self, count: int) -> NDArray[Any]:
        """``(count, *observation_shape)``, the same for every call with this ``count``."""
        ...

    def describe(self, count: int) -> dict[str, Any]:
        """Where they come from (environment, seeds), as JSON builtins for the provenance."""
        ...

    def visited(self, student: "nn.Module", count: int, number: int) -> NDArray[Any]:
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
class Diagnosis:
    """What is known of a variant that lost too much.

    ``worst_layer`` (from 1) has the quantizer that costs most; ``trainable`` says whether there is
    a torch network that a step could train.
    """

    worst_layer: int
    trainable: bool


@dataclass(frozen=True)
class StepKind:
    """A compression step that recipes can name.

    ``name`` is what a recipe calls it, ``summary`` one line on what it does.
    ``apply(value, step, observations)`` gets the torch network (``level="network"`` and
    ``"export"``) or the ONNX bytes (``"graph"``) and returns a ``Result`` with a network
    (``"network"``) or ONNX bytes (the others). It may change the network it is given, which is a
    copy. The same input must give the same bytes; what the step wants the user to know is a
    ``RecipeError``.

    ``amount`` is the open interval the amount must lie in, ``None`` where there is none to give;
    ``default_amount`` makes it optional. ``options`` holds every option with its default, whose
    type is the option's: ``step.options`` has them all; ``image_options`` are other defaults for
    policies that see images. ``choices`` lists the words that an option may be. ``takes_widths``
    allows a list of widths (``64-32``) in the amount's place.

    ``quantizes`` claims that every linear layer of the result executes in int8, which the
    quantization-error gate then checks. ``sparsity(step)`` says what zeros the step aims at,
    which the sparsity gate then checks; ``None`` where it aims at none. ``suggest(step,
    diagnosis)`` gives the step to try in its place where it lost too much, as recipe text; ``""``
    where there is none to suggest.

    Raises:
        RecipeError: a name that no recipe could spell, a level that there is not, or a default
            that the amount or the choices exclude.
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
    takes_widths: bool = False
    sparsity: Callable[[Step], SparsityTarget] | None = None
    suggest: Callable[[Step, Diagnosis], str] | None = None

    def __post_init__(self) -> None:
        where = f"compression step {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise RecipeError(
                f"{where}: a recipe could not name it; use letters, digits, '_' and '-', and"
                " begin with a letter"
            )
        if self.level not in get_args(Level):
            raise RecipeError(
                f"{where}: level must be one of {', '.join(get_args(Level))}, not {self.level!r}"
            )
        if self.default_amount is not None and not (
            self.amount and self.amount[0] < self.default_amount < self.amount[1]
        ):
            raise RecipeError(
                f"{where}: the default amount {self.default_amount:g} does not lie strictly"
                f" between the bounds in amount={self.amount}"
            )
        for option, words in self.choices.items():
            if self.options.get(option) not in words:
                raise RecipeError(
                    f"{where}: the default of option {option!r} is none of {', '.join(words)}"
                )
