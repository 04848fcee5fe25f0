"""Which compression steps there are: a recipe is checked against them."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import get_args

from pytest_drlcompress.compression.recipe import Recipe, Step
from pytest_drlcompress.compression.step import Level, Result, StepKind
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.extras import installed, need
from pytest_drlcompress.core.key_values import Scalar

_ORDER: tuple[Level, ...] = get_args(Level)
_ON_NETWORKS = ("qat", "l1", "l2", "sparse", "narrow")
"""Built-in steps that need torch."""


@dataclass(frozen=True)
class Registry:
    """The steps of a run: the built-in ones and those that hooks added.

    ``missing`` names built-in steps that need torch where that is not installed.
    """

    kinds: Mapping[str, StepKind]
    missing: frozenset[str] = field(default=frozenset())

    def with_kinds(self, extra: Sequence[StepKind]) -> "Registry":
        """The steps of this registry and ``extra``.

        Raises:
            RecipeError: a name is already taken, or something is no ``StepKind``.
        """
        kinds = dict(self.kinds)
        for kind in extra:
            if not isinstance(kind, StepKind):
                raise RecipeError(f"a compression step must be a StepKind, not {kind!r}")
            if kind.name in kinds:
                raise RecipeError(f"a compression step named {kind.name!r} already exists")
            kinds[kind.name] = kind
        return Registry(MappingProxyType(kinds), self.missing)

    def resolve(self, recipe: Recipe, *, images: bool = False) -> Recipe:
        """``recipe`` checked, with every option filled in, as for ``images`` where they are.

        Raises:
            RecipeError: an unknown step or option, a missing or impossible amount, an option
                of the wrong type, or steps in an impossible order.
        """
        steps = tuple(self._resolve(recipe, step, images=images) for step in recipe.steps)
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

    def _resolve(self, recipe: Recipe, step: Step, *, images: bool) -> Step:
        kind = self.kinds.get(step.name)
        if step.name in self.missing:
            need("torch", f"recipe {str(recipe)!r}: step {step.name!r}")
        if kind is None:
            raise RecipeError(f"recipe {str(recipe)!r}: {_unknown(step.name, self.kinds)}")
        where = f"recipe {str(recipe)!r}, step {step.name!r}"
        amount = step.amount if step.amount is not None else kind.default_amount
        if step.widths and not kind.takes_widths:
            raise RecipeError(f"{where} takes no list of widths")
        if kind.amount is None and step.amount is not None:
            raise RecipeError(f"{where} takes no amount")
        if kind.amount is not None and not step.widths:
            low, high = kind.amount
            if amount is None:
                raise RecipeError(f"{where} needs an amount, for example {kind.name}@30")
            if not low < amount < high:
                raise RecipeError(
                    f"{where}: the amount must lie strictly between {low:g} and {high:g},"
                    f" not {amount:g}"
                )
        options = {**kind.options, **(kind.image_options if images else {})}
        for name, value in step.options.items():
            if name not in options:
                known = ", ".join(options) or "none"
                raise RecipeError(f"{where} has no option {name!r}; options: {known}")
            _check_option(where, name, value, options[name], kind.choices.get(name))
            options[name] = value
        return Step(step.name, amount, MappingProxyType(options), step.widths)


def builtin_registry() -> Registry:
    """The steps that come with the plugin; without torch, those that work on ONNX graphs."""
    from pytest_drlcompress.compression.quantization.post_training import PTDQ, PTSQ

    fp32 = StepKind("fp32", "graph", lambda model, step, observations: Result(model), "export only")
    kinds = (fp32, PTDQ, PTSQ)
    if not installed("torch"):
        return Registry(_by_name(kinds), frozenset(_ON_NETWORKS))
    from pytest_drlcompress.compression.distillation.narrow import NARROW
    from pytest_drlcompress.compression.pruning.sparse import SPARSE
    from pytest_drlcompress.compression.pruning.structured_step import L1, L2
    from pytest_drlcompress.compression.quantization.qat import QAT

    return Registry(_by_name((*kinds, QAT, L1, L2, SPARSE, NARROW)))


def _by_name(kinds: Sequence[StepKind]) -> Mapping[str, StepKind]:
    return MappingProxyType({kind.name: kind for kind in kinds})


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
