"""``python -m pytest_drlcompress train``: train baselines and record their references."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pytest_drlcompress.baselines.record import FAILURE, record_baseline
from pytest_drlcompress.cli.arguments import add_executor_arguments, add_out_folder, add_value
from pytest_drlcompress.cli.train_elsewhere import train_elsewhere
from pytest_drlcompress.cli.train_sparse import run_sparse
from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.core.option_values import output_folder, whole
from pytest_drlcompress.core.progress import progress_bar
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.reference import POOL_EPISODES
from pytest_drlcompress.policies.record_file import RECORD
from pytest_drlcompress.policies.store import load_network, load_policy
from pytest_drlcompress.training.checkpoint import TrainingState, only_one
from pytest_drlcompress.training.hardware import Hardware
from pytest_drlcompress.training.recipes import (
    ALGORITHMS,
    TrainingRecipe,
    choose,
    find,
    read_recipes,
)
from pytest_drlcompress.training.train import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``train``."""
    parser.add_argument(
        "baseline", nargs="*", help="ids from the recipes file, or an algorithm and its task"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="every recipe not yet trained, in order (name one that failed to train it again)",
    )
    parser.add_argument(
        "--recipe",
        metavar="RECIPE",
        help="sparse@N, sparse@N+qat or qat: prune and quantize in training; the artifact becomes a"
        " variant of the baseline",
    )
    for switch, default, text in (
        ("--steps", None, "with --recipe: environment steps, if not all"),
        ("--segment", None, "with --recipe: steps between checkpoints"),
        ("--jobs", None, "trainings side by side (default 1; on Ray, one a core)"),
        ("--cores", 1, "threads of an image policy's emulators, and workers that evaluate"),
        ("--episodes", POOL_EPISODES, f"of the recorded pool (default {POOL_EPISODES:,})"),
    ):
        add_value(parser, switch, whole(1), default=default, metavar="N", help=text)
    add_executor_arguments(parser)
    parser.add_argument(
        "--recipes", type=Path, default=Path("baselines/recipes.toml"), metavar="FILE"
    )
    add_out_folder(parser, default=Path("baselines"))
    parser.add_argument(
        "--device",
        default="cpu",
        choices=("cpu", "cuda"),
        help="where an image policy's network trains (default cpu)",
    )
    add_value(
        parser,
        "--work",
        output_folder,
        default=Path(".training"),
        metavar="DIR",
        help="checkpoints",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train what was asked for; 1 if one of several trainings failed.

    Raises:
        TrainingError: unknown baseline ids, or nothing asked for.
        BaselineError: the one policy trained is not competent.
    """
    recipes = read_recipes(arguments.recipes)
    if len(arguments.baseline) == 2 and arguments.baseline[0] in ALGORITHMS:
        arguments.baseline = [find(recipes, *arguments.baseline).id]
    if arguments.recipe is not None:
        if arguments.executor == "ray":
            raise TrainingError("--recipe trains one baseline, here: leave out --executor=ray")
        return run_sparse(arguments, recipes)
    if arguments.steps is not None or arguments.segment is not None:
        raise TrainingError("--steps and --segment go with --recipe; baselines train in full")
    wanted = [choose(recipes, baseline) for baseline in arguments.baseline]
    if arguments.all:
        wanted += [r for r in recipes.values() if not _trained(arguments.out / r.id)]
    if not wanted and not arguments.all:
        raise TrainingError("name the baselines to train, or give --all")
    if len(wanted) > 1 or (wanted and arguments.executor == "ray"):
        return _side_by_side([recipe.id for recipe in wanted], arguments)
    for recipe in wanted:
        _one(recipe, arguments)
    return 0


def _trained(folder: Path) -> bool:
    return (folder / RECORD).exists() or (folder / FAILURE).exists()


def _one(recipe: TrainingRecipe, arguments: argparse.Namespace) -> None:
    work = arguments.work / recipe.id
    with only_one(recipe.id, work):
        _train(recipe, work, arguments)


def _train(recipe: TrainingRecipe, work: Path, arguments: argparse.Namespace) -> None:
    folder = arguments.out / recipe.id
    with progress_bar(recipe.id, recipe.steps, "steps") as on_steps:
        state = train(
            recipe,
            work,
            baselines=folder.parent,
            hardware=Hardware(arguments.device, arguments.cores),
            on_segment=lambda s: _report(recipe, s),
            on_steps=on_steps,
        )
    env = EnvSpec.parse(recipe.environment)
    training = {
        **recipe.to_json(),
        "trained_steps": state.steps,
        "best_steps": state.best_steps,
        "seconds": state.seconds,
        "curve": state.curve,
        "devices": state.devices,
    }
    if recipe.teacher:
        training["teacher_sha256"] = load_policy(folder.parent / recipe.teacher).sha256
    with progress_bar(f"{recipe.id} reference", arguments.episodes, "episodes") as on_episodes:
        record = record_baseline(
            folder,
            load_network(work / "best"),
            env,
            algorithm=recipe.algorithm,
            training=training,
            episodes=arguments.episodes,
            on_episodes=on_episodes,
        )
    reference = record.reference
    print(
        f"{recipe.id}: return {reference.mean:.0f} over {len(reference.returns)} episodes"
        f" (random {reference.random_mean:.0f}, quality {record.quality}); written to {folder}",
        flush=True,
    )


def _report(recipe: TrainingRecipe, state: TrainingState) -> None:
    rate = state.steps / state.seconds if state.seconds else 0.0
    left = max(recipe.steps - state.steps, 0) / rate / 60 if rate else 0.0
    print(
        f"{recipe.id}: {state.steps:,} of {recipe.steps:,} steps, return"
        f" {state.curve[-1][1]:.0f}, best {state.best_return:.0f}, {rate:.0f} steps/s,"
        f" {left:.0f} min left",
        flush=True,
    )


def _side_by_side(baselines: Sequence[str], arguments: argparse.Namespace) -> int:
    # processes of their own: torch's thread count and random state are global
    common = [
        "--recipes", str(arguments.recipes), "--out", str(arguments.out),
        "--work", str(arguments.work), "--device", arguments.device,
        "--cores", str(arguments.cores), "--episodes", str(arguments.episodes),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(baseline: str) -> list[str]:
        return ["train", baseline, *common]

    def one(baseline: str) -> int:
        # no terminal for standard error: two live bars would overwrite each other
        ended = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pytest_drlcompress", *command(baseline)],
            env=environment, check=False, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        print(ended.stderr, end="", file=sys.stderr, flush=True)
        return ended.returncode

    if arguments.executor == "ray":
        codes = train_elsewhere(arguments, {baseline: command(baseline) for baseline in baselines})
    else:
        with ThreadPoolExecutor(arguments.jobs or 1) as pool:
            codes = list(pool.map(one, baselines))
    failed = [baseline for baseline, code in zip(baselines, codes, strict=True) if code]
    if failed:
        print(f"not trained: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0
