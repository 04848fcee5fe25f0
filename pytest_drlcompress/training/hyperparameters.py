"""A recipe's hyperparameters, held against an algorithm's own before hours of training."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.training.recipes import TrainingRecipe

_LEAST = MappingProxyType({"gradient_steps": -1, "learning_starts": 0, "verbose": 0})
"""The whole numbers that may be less than 1; -1 gradient steps are as many as were acted."""


def check_values(recipe: TrainingRecipe, defaults: Mapping[str, Any]) -> None:
    """Each must be one of ``defaults``, by name, and of its default's kind.

    Raises:
        TrainingError: one that the algorithm does not have, or of another kind than its default.
    """
    for name, value in recipe.hyperparameters.items():
        where = f"{recipe.id}: hyperparameter {name}"
        if name not in defaults:
            raise TrainingError(
                f"{where} is unknown to {recipe.algorithm}; known: {', '.join(defaults)}"
            )
        default = defaults[name]
        number = type(value) in (int, float)
        if number and not math.isfinite(value):
            raise TrainingError(f"{where} must be finite, not {value}")
        least = _LEAST.get(name, 1)
        if type(default) is int and (type(value) is not int or value < least):
            raise TrainingError(f"{where} must be a whole number >= {least}, not {value!r}")
        if type(default) is float and not (number and value >= 0):
            raise TrainingError(f"{where} must be a number >= 0, not {value!r}")
        if isinstance(default, bool) and not isinstance(value, bool):
            raise TrainingError(f"{where} must be true or false, not {value!r}")
