"""``train ... --recipe``: a sparse training from the command line, kept beside its baseline."""

import argparse
import dataclasses
from collections.abc import Mapping

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.core.files import write_json
from pytest_drlcompress.core.progress import progress_bar
from pytest_drlcompress.policies.record_file import RECORD
from pytest_drlcompress.training.checkpoint import only_one
from pytest_drlcompress.training.recipes import TrainingRecipe, choose


def run_sparse(arguments: argparse.Namespace, recipes: Mapping[str, TrainingRecipe]) -> int:
    """Train one baseline's recipe with sparsity.

    Raises:
        TrainingError: not exactly one baseline, or a recipe that cannot be trained.
        RecipeError: a compression recipe that does not exist.
    """
    from pytest_drlcompress.baselines.variants import store_variant
    from pytest_drlcompress.compression.in_training.plan import SparsePlan
    from pytest_drlcompress.compression.recipe import parse_recipe
    from pytest_drlcompress.training.sparse import ARTIFACT, train_sparse

    if len(arguments.baseline) != 1 or arguments.all:
        raise TrainingError("--recipe trains one baseline: name it, or an algorithm and its task")
    recipe = choose(recipes, arguments.baseline[0])
    for option in ("steps", "segment"):
        value = getattr(arguments, option)
        if value is not None:
            recipe = dataclasses.replace(recipe, **{option: value})
    plan = SparsePlan.of(parse_recipe(arguments.recipe))
    work = arguments.work / f"{recipe.id}+{plan.recipe.replace(':', '~')}"
    total = plan.callback(recipe.steps, {}).learn_steps
    with only_one(recipe.id, work), progress_bar(recipe.id, total, "steps") as on_steps:
        artifact, state = train_sparse(
            recipe,
            plan,
            work,
            on_segment=lambda s: print(
                f"{recipe.id} {plan.recipe}: {s.steps:,} of {total:,} steps, return"
                f" {s.curve[-1][1]:.0f}",
                flush=True,
            ),
            on_steps=on_steps,
        )
    facts = artifact.provenance
    print("   steps   scheduled   zeros in the artifact   return")
    for steps, scheduled, measured, value in facts["segments"]:
        print(f"{steps:8,}   {scheduled:9.4f}   {measured:21.4f}   {value:6.0f}")
    write_json(work / "sparsity.json", facts)
    print(f"best of the finished: {state.best_return:.0f}, {work / ARTIFACT}")
    folder = arguments.out / recipe.id
    if (folder / RECORD).exists():
        print(f"stored as {store_variant(folder, artifact, {'how': 'in training'})}")
    else:
        print(
            f"there is no dense baseline {folder} to hold it against: 'train {recipe.id}', then"
            " this command again stores it as a variant"
        )
    return 0
