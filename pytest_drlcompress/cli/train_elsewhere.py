"""``train ... --executor ray``: whole trainings on the nodes of a cluster.

Checkpoints and baselines are files: the folders must be on a file system that every node sees.
"""

import argparse
import contextlib
import dataclasses
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_drlcompress.cli.arguments import notes_of, settings_of
from pytest_drlcompress.core.errors import ExecutorError, TrainingError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.base import JobsProgress, Node
from pytest_drlcompress.evaluation.executors.factory import executor_of
from pytest_drlcompress.evaluation.executors.waiting import as_they_end
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout
from pytest_drlcompress.training.checkpoint import read_state
from pytest_drlcompress.training.recipes import TrainingRecipe, read_recipes

_READ_S = 5.0
"""How often the checkpoints are looked at, which may lie on another machine."""


def train_elsewhere(
    arguments: argparse.Namespace, commands: Mapping[str, Sequence[str]]
) -> list[int]:
    """Run ``commands``, by baseline, on nodes; their exit codes.

    Prints what each said when it has ended, and for those that were lost, once, why.

    Raises:
        TrainingError: options that a worker of one core cannot follow.
        ExecutorError: there are no nodes.
    """
    if arguments.device != "cpu" or arguments.cores != 1:
        raise TrainingError(
            "a worker on Ray has one core and no GPU: leave out --device and --cores, or --executor"
        )
    every = read_recipes(arguments.recipes)
    recipes = [every[baseline] for baseline in commands]
    env = EnvSpec.parse(recipes[0].environment)
    settings = dataclasses.replace(settings_of(arguments, ()), workers=arguments.jobs or 0)
    mark = arguments.work / f".seen-{uuid.uuid4().hex}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    codes = dict.fromkeys(commands, 1)
    lost: dict[str, None] = {}
    try:
        with contextlib.closing(executor_of(settings)) as executor, notes_of(executor):
            for _ in rollout(env, ZeroActor(env.action), range(2), workers=executor):
                pass  # the nodes prove themselves
            jobs = executor.jobs
            assert jobs is not None
            futures = {
                jobs.submit(_train, command, str(Path.cwd()), str(mark.resolve())): baseline
                for baseline, command in commands.items()
            }
            measured = _by_checkpoints(recipes, arguments.work)
            for future in as_they_end(jobs, futures, "trainings", measured=measured):
                try:
                    codes[futures[future]], said = future.result()
                except ExecutorError as error:
                    lost[f"error: {error}"] = None
                else:
                    print(said, end="", flush=True)
    finally:
        mark.unlink(missing_ok=True)
    print(*lost, sep="\n", end="\n" if lost else "", file=sys.stderr)
    return list(codes.values())


def _by_checkpoints(
    recipes: Sequence[TrainingRecipe], work: Path
) -> Callable[[JobsProgress], JobsProgress]:
    """Steps a second and the time left by what the checkpoints hold, over all nodes."""

    def trained() -> int:
        states = [(recipe, read_state(work / recipe.id)) for recipe in recipes]
        return sum(min(state.steps, recipe.steps) for recipe, state in states if state)

    wanted = sum(recipe.steps for recipe in recipes)
    at_first = trained()
    steps, started = at_first, time.monotonic()
    read = started

    def measured(progress: JobsProgress) -> JobsProgress:
        nonlocal steps, read
        if time.monotonic() > read + _READ_S:
            steps, read = trained(), time.monotonic()
        rate = max(steps - at_first, 0) / max(read - started, 1e-3)
        left = (wanted - steps) / rate if rate else None
        return dataclasses.replace(progress, steps_per_s=rate, seconds_left=left)

    return measured


def _train(
    node: Node,  # noqa: ARG001 (a job's)
    command: Sequence[str],
    folder: str,
    mark: str,
) -> tuple[int, str]:
    """On a node: one training, in a process of its own."""
    if not Path(mark).exists():
        raise ExecutorError(
            f"a node does not see {Path(mark).parent}: --work and --out must be on a file system"
            " that all nodes share"
        )
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from {__name__} import serve; serve()"
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        return process.wait(), said


def serve() -> None:
    """What the process of a training runs: a command, for as long as its worker lives.

    Where the worker is lost the training begins again elsewhere, from its last checkpoint, which
    this one must not hold.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("pytest_drlcompress", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing comes but the end
    os.killpg(0, signal.SIGKILL)
