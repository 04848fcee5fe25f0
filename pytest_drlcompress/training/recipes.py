"""``baselines/recipes.toml``: how each baseline is trained."""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.environments.spec import EnvSpec

ALGORITHMS = ("sac", "td3", "ddpg", "ppo", "trpo", "pqn", "distillation")
OFF_POLICY = ("sac", "td3", "ddpg")


@dataclass(frozen=True)
class TrainingRecipe:
    """One baseline's training.

    ``steps`` counts environment steps over all ``n_envs`` environments, ``segment`` the steps
    between checkpoints. ``hyperparameters`` go to the SB3 algorithm, ``net_arch`` and
    ``activation`` to its policy; ``network`` names the one of an image policy instead
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
        for later in ("network", "teacher"):  # older checkpoints and records do not have these
            if not data[later]:
                del data[later]
        return data


def read_recipes(path: Path) -> dict[str, TrainingRecipe]:
    """Every recipe of the file, by baseline id. ``[defaults.<algorithm>]`` apply to each.

    Raises:
        TrainingError: a file that cannot be read, or a recipe with unknown or missing keys.
    """
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise TrainingError(f"there are no training recipes at {path}") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from None
    defaults = document.pop("defaults", {})
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
    if "net_arch" in table:
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
    if recipe.steps <= 0 or recipe.segment <= 0:
        raise TrainingError(f"{path}: [{baseline}] needs steps > 0 and segment > 0")
    return recipe
