"""Which compression steps there are, what they take, and what carries them out.

A step works on the torch network (``level="network"``: pruning, sparsity), makes the ONNX
model out of it (``level="export"``: quantization-aware training, which learns numbers that only
the model can hold), or works on the exported ONNX model (``level="graph"``: post-training
quantization). They come in this order; a recipe with one of the first two cannot start from an
ONNX file.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.compression.recipe import Recipe, Step
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.key_values import Scalar

Level = Literal["network", "export", "graph"]
_ORDER: tuple[Level, ...] = get_args(Level)


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
class StepKind:
    """A compression step that recipes can name.

    ``apply(value, step, observations)`` gets the torch network (``level="network"`` and
    ``"export"``) or the ONNX bytes (``"graph"``) and returns a ``Result`` with a network
    (``"network"``) or ONNX bytes (the others); options it was not given have the values of
    ``options``. ``amount`` is the open interval the amount must lie in, ``None`` where there is
    none to give; ``default_amount`` makes it optional. ``quantizes`` claims that every linear
    layer of the result executes in int8, which the quantization-error gate then checks.
    """

    name: str
    level: Level
    apply: Callable[[Any, Step, Observations], Result]
    summary: str
    amount: tuple[float, float] | None = None
    default_amount: float | None = None
    options: Mapping[str, Scalar] = field(default_factory=dict)
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    quantizes: bool = False


@dataclass(frozen=True)
class Registry:
    """The steps of a run: the built-in ones and those that hooks added."""

    kinds: Mapping[str, StepKind]

    def with_kinds(self, extra: Sequence[StepKind]) -> "Registry":
        """The steps of this registry and ``extra``.

        Raises:
            RecipeError: a name is already taken.
        """
        for kind in extra:
            if kind.name in self.kinds:
                raise RecipeError(f"a compression step named {kind.name!r} already exists")
        return Registry(MappingProxyType({**self.kinds, **{k.name: k for k in extra}}))

    def resolve(self, recipe: Recipe) -> Recipe:
        """``recipe`` checked, with every option filled in.

        Raises:
            RecipeError: an unknown step or option, a missing or impossible amount, an option
                of the wrong type, or steps in an impossible order.
        """
        steps = tuple(self._resolve(recipe, step) for step in recipe.steps)
        levels = [self.kinds[step.name].level for step in steps]
        if levels != sorted(levels, key=_ORDER.index):
            raise RecipeError(
                f"recipe {str(recipe)!r}: steps that change the network must come before those"
                " that quantize the exported model"
            )
        if levels.count("export") > 1 or (
            "export" in levels and any(self.kinds[step.name].quantizes for step in steps[:-1])
        ):
            raise RecipeError(f"recipe {str(recipe)!r} quantizes twice")
        names = [step.name for step in steps]
        if len(set(names)) < len(names):
            raise RecipeError(f"recipe {str(recipe)!r} names a step twice")
        return Recipe(steps)

    def _resolve(self, recipe: Recipe, step: Step) -> Step:
        kind = self.kinds.get(step.name)
        if kind is None:
            raise RecipeError(f"recipe {str(recipe)!r}: {_unknown(step.name, self.kinds)}")
        where = f"recipe {str(recipe)!r}, step {step.name!r}"
        amount = step.amount if step.amount is not None else kind.default_amount
        if kind.amount is None and step.amount is not None:
            raise RecipeError(f"{where} takes no amount")
        if kind.amount is not None:
            low, high = kind.amount
            if amount is None:
                raise RecipeError(f"{where} needs an amount, for example {kind.name}@30")
            if not low < amount < high:
                raise RecipeError(
                    f"{where}: the amount must lie strictly between {low:g} and {high:g},"
                    f" not {amount:g}"
                )
        options = dict(kind.options)
        for name, value in step.options.items():
            if name not in options:
                known = ", ".join(options) or "none"
                raise RecipeError(f"{where} has no option {name!r}; options: {known}")
            _check_option(where, name, value, options[name], kind.choices.get(name))
            options[name] = value
        return Step(step.name, amount, MappingProxyType(options))


def builtin_registry() -> Registry:
    """The steps that come with the plugin."""
    from pytest_drlcompress.compression.pruning.sparse import SPARSE
    from pytest_drlcompress.compression.pruning.structured import L1, L2
    from pytest_drlcompress.compression.quantization.post_training import PTDQ, PTSQ
    from pytest_drlcompress.compression.quantization.qat import QAT

    fp32 = StepKind("fp32", "graph", lambda model, step, observations: Result(model), "export only")
    kinds = (fp32, PTDQ, PTSQ, QAT, L1, L2, SPARSE)
    return Registry(MappingProxyType({kind.name: kind for kind in kinds}))


def _unknown(name: str, kinds: Mapping[str, StepKind]) -> str:
    close = difflib.get_close_matches(name, kinds, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(kinds))}"
    return f"there is no compression step {name!r}; {hint}"


def _check_option(
    where: str, name: str, value: Scalar, default: Scalar, choices: Sequence[str] | None
) -> None:
    if choices is not None and value not in choices:
        raise RecipeError(f"{where}: {name} must be one of {', '.join(choices)}, not {value!r}")
    accepted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, accepted) or isinstance(value, bool) != isinstance(default, bool):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}
        raise RecipeError(
            f"{where}: {name} must be {kind.get(type(default), 'a word')}, not {value!r}"
        )
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not 0 < float(value) < float("inf"):
        raise RecipeError(f"{where}: {name} must be greater than 0, not {value!r}")
