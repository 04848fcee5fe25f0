"""``train ... --executor ray``: whole trainings on the nodes of a cluster.

Checkpoints and baselines are files: the folders must be on a file system that every node sees.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_drlcompress.cli.arguments import settings_of
from pytest_drlcompress.core.errors import ExecutorError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.base import Node
from pytest_drlcompress.evaluation.executors.factory import executor_of
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout
from pytest_drlcompress.training.recipes import read_recipes


def train_elsewhere(
    arguments: argparse.Namespace, commands: Mapping[str, Sequence[str]]
) -> list[int]:
    """Run ``commands``, by baseline, on nodes; their exit codes. Prints what they said.

    Raises:
        ExecutorError: a node does not see this folder, or there is no node left.
    """
    first = read_recipes(arguments.recipes)[next(iter(commands))]
    env = EnvSpec.parse(first.environment)
    mark = arguments.work / f".seen-{uuid.uuid4().hex}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        with contextlib.closing(executor_of(settings_of(arguments, ()))) as executor:
            for _ in rollout(env, ZeroActor(env.action), range(2), workers=executor):
                pass  # the nodes prove themselves
            jobs = executor.jobs
            assert jobs is not None
            futures = [
                jobs.submit(_train, command, str(Path.cwd()), str(mark.resolve()))
                for command in commands.values()
            ]
            codes = []
            for future in futures:
                code, said = future.result()
                print(said, end="", flush=True)
                codes.append(code)
            return codes
    finally:
        mark.unlink(missing_ok=True)


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
    ended = subprocess.run(  # noqa: S603
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return ended.returncode, ended.stdout
