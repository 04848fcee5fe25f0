"""``baselines/recipes.toml``: how each baseline is trained."""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.network import ACTIVATIONS
from pytest_drlcompress.reading.typed import ContentError, read_toml

ALGORITHMS = ("sac", "td3", "ddpg", "ppo", "trpo", "dqn", "pqn", "distillation")
CONTINUOUS = ("sac", "td3", "ddpg")
"""The off-policy algorithms with an actor and critics."""

OFF_POLICY = (*CONTINUOUS, "dqn")
IMAGE_LEARNERS = ("pqn", "distillation")
"""The algorithms that are the project's own; the others are SB3's."""


@dataclass(frozen=True)
class TrainingRecipe:
    """One baseline's training.

    ``steps`` counts environment steps over all ``n_envs`` environments, ``segment`` the steps
    between checkpoints. ``hyperparameters`` go to the SB3 algorithm, ``net_arch`` and
    ``activation`` to its policy, whose critics get layer normalisation by ``critic_norm`` (the
    off-policy algorithms'; ``critics``); ``network`` names the one of an image policy instead
    (``image_networks``), ``teacher`` the baseline that ``distillation`` learns from. ``published``
    is the return this is compared with and ``source`` where it and the hyperparameters come from.
    """

    id: str
    algorithm: str
    environment: str
    steps: int
    segment: int
    seed: int = 1
    n_envs: int = 1
    normalize: bool = False
    net_arch: tuple[int, ...] = (256, 256)
    activation: str = "ReLU"
    log_std_init: float = 0.0
    action_noise: float = 0.0
    critic_norm: bool = False
    network: str = ""
    teacher: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    published: float | None = None
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON builtins, for a baseline's provenance."""
        data = dataclasses.asdict(self)
        data["net_arch"] = list(self.net_arch)
        data["hyperparameters"] = dict(self.hyperparameters)
        # older checkpoints and records do not have these
        for later in ("network", "teacher", "critic_norm"):
            if not data[later]:
                del data[later]
        return data


def read_recipes(path: Path) -> dict[str, TrainingRecipe]:
    """Every recipe of the file, by baseline id. ``[defaults.<algorithm>]`` apply to each.

    Raises:
        TrainingError: a file that cannot be read, or a recipe with unknown or missing keys or
            impossible values.
    """
    try:
        document = read_toml(path)
    except FileNotFoundError:
        raise TrainingError(f"there are no training recipes at {path}") from None
    except (OSError, ContentError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from None
    defaults = document.pop("defaults", {})
    _check_tables(path, document)
    _check_tables(path, {"defaults": defaults})
    _check_tables(path, {f"defaults.{name}": table for name, table in defaults.items()})
    return {
        baseline: _recipe(path, baseline, _merged(defaults, table))
        for baseline, table in document.items()
    }


def choose(recipes: Mapping[str, TrainingRecipe], baseline: str) -> TrainingRecipe:
    """The recipe of ``baseline``.

    Raises:
        TrainingError: there is none; names the closest one.
    """
    if baseline in recipes:
        return recipes[baseline]
    close = difflib.get_close_matches(baseline, recipes, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(recipes)}"
    raise TrainingError(f"no training recipe for {baseline!r}{hint}")


def find(recipes: Mapping[str, TrainingRecipe], algorithm: str, environment: str) -> TrainingRecipe:
    """The first recipe of an algorithm on a task, named with or without its options.

    Raises:
        TrainingError: there is none; names the algorithm's tasks.
    """
    of_it = [recipe for recipe in recipes.values() if recipe.algorithm == algorithm]
    for recipe in of_it:
        if environment in (recipe.environment, EnvSpec.parse(recipe.environment).id):
            return recipe
    known = ", ".join(recipe.environment for recipe in of_it) or "none"
    raise TrainingError(
        f"no training recipe for {algorithm} on {environment!r}; {algorithm} has: {known}"
    )


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= low


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _layers(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(map(_whole(1), value))


_VALUES: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        # it names a folder
        "id": (
            "of letters, digits, '.', '-' and '_'",
            lambda value: bool(re.fullmatch(r"\w[\w.-]*", value)),
        ),
        "environment": ("in quotes", lambda value: isinstance(value, str)),
        "steps": ("> 0, a whole number", _whole(1)),
        "segment": ("> 0, a whole number", _whole(1)),
        "seed": (">= 0, a whole number", _whole(0)),
        "n_envs": ("> 0, a whole number", _whole(1)),
        "normalize": ("true or false", lambda value: isinstance(value, bool)),
        "net_arch": ("as whole numbers in brackets, [64, 64]", _layers),
        "activation": (
            f"one of {', '.join(ACTIVATIONS)}",
            lambda value: isinstance(value, str) and value in ACTIVATIONS,
        ),
        "log_std_init": ("as a finite number", _number),
        "critic_norm": ("true or false", lambda value: isinstance(value, bool)),
        "action_noise": (">= 0, a number", lambda value: _number(value) and value >= 0),
        "published": ("as a finite number", lambda value: value is None or _number(value)),
        "source": ("in quotes", lambda value: isinstance(value, str)),
    }
)
"""What each key of a recipe must be, in words and as a test."""


def _check_tables(path: Path, tables: Mapping[str, Any]) -> None:
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise TrainingError(f"{path}: {name} must be a table, [{name}], not {table!r}")
        given = table.get("hyperparameters", {})
        if not isinstance(given, dict):
            raise TrainingError(f"{path}: [{name}] needs hyperparameters as a table, not {given!r}")


def _merged(defaults: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    base = dict(defaults.get(str(table.get("algorithm")), {}))
    merged = {**base, **table}
    merged["hyperparameters"] = {
        **base.get("hyperparameters", {}),
        **table.get("hyperparameters", {}),
    }
    return merged


def _recipe(path: Path, baseline: str, table: dict[str, Any]) -> TrainingRecipe:
    known = {f.name for f in dataclasses.fields(TrainingRecipe)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise TrainingError(f"{path}: [{baseline}] has unknown keys {', '.join(unknown)}")
    if isinstance(table.get("net_arch"), list):
        table["net_arch"] = tuple(table["net_arch"])
    try:
        recipe = TrainingRecipe(id=baseline, **table)
    except TypeError as error:
        raise TrainingError(f"{path}: [{baseline}] is incomplete: {error}") from None
    if recipe.algorithm not in ALGORITHMS:
        raise TrainingError(
            f"{path}: [{baseline}] has unknown algorithm {recipe.algorithm!r}; known:"
            f" {', '.join(ALGORITHMS)}"
        )
    if (recipe.algorithm == "distillation") != bool(recipe.teacher):
        raise TrainingError(f"{path}: [{baseline}]: distillation, and nothing else, has a teacher")
    if recipe.network and recipe.algorithm not in (*IMAGE_LEARNERS, "dqn"):
        raise TrainingError(
            f"{path}: [{baseline}]: network is for images, which {recipe.algorithm} does not learn"
            " from; a network of states is net_arch"
        )
    if recipe.critic_norm and (recipe.network or recipe.algorithm not in CONTINUOUS):
        raise TrainingError(
            f"{path}: [{baseline}]: critic_norm is for {', '.join(CONTINUOUS)}, not"
            f" {recipe.algorithm}"
        )
    for name, (words, holds) in _VALUES.items():
        value = getattr(recipe, name)
        if not holds(value):
            raise TrainingError(f"{path}: [{baseline}] needs {name} {words}, not {value!r}")
    return recipe
