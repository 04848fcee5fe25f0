"""What a recipe asks of a training: ``sparse@95:distribution=uniform+qat``, or ``qat`` alone."""

from dataclasses import dataclass
from typing import Any

from pytest_drlcompress.compression.in_training.callback import SparseTraining
from pytest_drlcompress.compression.pruning.schedule import PRUNING_STEPS
from pytest_drlcompress.compression.recipe import Recipe, Step
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.errors import TrainingError


@dataclass(frozen=True)
class SparsePlan:
    """How a training compresses: ``sparse@N`` or ``sparse@N+qat`` with a distribution, or ``qat``.

    ``sparsity`` is 0 for ``qat``.
    """

    recipe: str
    sparsity: float
    distribution: str
    qat: bool

    @classmethod
    def of(cls, recipe: Recipe) -> "SparsePlan":
        """What ``recipe`` asks for.

        Raises:
            TrainingError: anything but a sparse step, perhaps followed by qat at 8 bits.
            RecipeError: a step that does not exist, or takes no such amount.
        """
        steps: tuple[Step, ...] = builtin_registry().resolve(recipe).steps
        names = [step.name for step in steps]
        if recipe.steps == (Step("qat"),):
            return cls(str(recipe), 0.0, "", qat=True)
        given = set(recipe.steps[0].options) - {"distribution"}
        if names not in (["sparse"], ["sparse", "qat"]) or given or recipe.steps[1:] not in (
            (), (Step("qat"),),
        ):  # fmt: skip
            raise TrainingError(
                f"recipe {str(recipe)!r} cannot be trained: write qat, sparse@95 or sparse@95+qat,"
                " with no option but distribution (sparse@95:distribution=uniform+qat)"
            )
        assert steps[0].amount is not None
        distribution = str(steps[0].options["distribution"])
        return cls(str(recipe), steps[0].amount / 100, distribution, "qat" in names)

    def callback(self, steps: int, state: dict[str, Any]) -> SparseTraining:
        """The callback of a training of ``steps`` environment steps before QAT."""
        return SparseTraining(
            self.sparsity,
            steps,
            distribution=self.distribution,  # type: ignore[arg-type]  # the registry checked it
            prunings=min(PRUNING_STEPS, steps),
            qat=self.qat,
            state=state,
        )
