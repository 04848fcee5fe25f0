"""The recipe grammar: steps joined by ``+``, each ``name``, ``name@amount`` or
``name@amount:key=value,...``. Pure text; what a step does stands in ``registry``. The amount is
a number, or for steps that take widths a list of them, ``narrow@64-32``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pytest_drlcompress.core.errors import OptionTextError, RecipeError
from pytest_drlcompress.core.key_values import Scalar, format_options, parse_options


@dataclass(frozen=True)
class Step:
    """One step of a recipe as it was asked for."""

    name: str
    amount: float | None = None
    options: Mapping[str, Scalar] = field(default_factory=dict)
    widths: tuple[int, ...] = ()

    def __str__(self) -> str:
        amount = "" if self.amount is None else f"@{self.amount:g}"
        amount = f"@{'-'.join(map(str, self.widths))}" if self.widths else amount
        options = f":{format_options(self.options)}" if self.options else ""
        return f"{self.name}{amount}{options}"


@dataclass(frozen=True)
class Recipe:
    """A sequence of steps; ``str`` gives the canonical text, which identifies it in records."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.steps))


def parse_recipe(text: str) -> Recipe:
    """Read ``"l2@30+ptsq:equalize=true"``.

    Only the form is checked here: whether a step exists and takes this amount and these
    options is ``Registry.resolve``'s to say.

    Raises:
        RecipeError: an empty step, an amount that is not a number, unreadable options.
    """
    return Recipe(tuple(_parse_step(text, part.strip()) for part in text.split("+")))


def _parse_step(recipe: str, part: str) -> Step:
    head, colon, tail = part.partition(":")
    name, at, amount_text = (word.strip() for word in head.partition("@"))
    if not name:
        raise RecipeError(f"recipe {recipe!r} has an empty step; write for example ptdq or l2@30")
    listed = re.fullmatch(r"\d+(-\d+)+", amount_text) is not None
    widths = tuple(map(int, amount_text.split("-"))) if listed else ()
    amount = _amount(recipe, name, amount_text) if at and not listed else None
    if not colon:
        return Step(name, amount, widths=widths)
    try:
        return Step(name, amount, MappingProxyType(parse_options(tail)), widths)
    except OptionTextError as error:
        raise RecipeError(f"recipe {recipe!r}, step {name!r}: {error}") from None


def _amount(recipe: str, name: str, text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not math.isfinite(amount):
        raise RecipeError(
            f"recipe {recipe!r}: the amount of {name!r} must be a number, not {text!r}"
        )
    return amount
