"""``python -m pytest_drlcompress baselines``: what there is, and whether it still holds."""

import argparse
import contextlib
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from pytest_drlcompress.baselines.record import measure_again, read_baseline_record
from pytest_drlcompress.cli.arguments import (
    add_baselines_folder,
    add_executor_arguments,
    add_value,
    notes_of,
    settings_of,
)
from pytest_drlcompress.compression.pipeline import export_policy
from pytest_drlcompress.core.errors import BaselineError, DrlcError, ExecutorError
from pytest_drlcompress.core.files import write_atomic
from pytest_drlcompress.core.option_values import whole
from pytest_drlcompress.core.progress import progress_bar, step_counter
from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.executors.factory import executor_of
from pytest_drlcompress.evaluation.reference import POOL_EPISODES
from pytest_drlcompress.evaluation.reproduce import compare
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.policies.record_file import RECORD
from pytest_drlcompress.policies.store import load_policy
from pytest_drlcompress.reporting.baseline_table import (
    Row,
    markdown_table,
    read_rows,
    summary,
    text_table,
)
from pytest_drlcompress.training.recipes import read_recipes

VERIFY_EPISODES = 20

FALSE_ALARM = 0.01
"""Probability that ``--verify`` fails although nothing has changed, over all its baselines."""

_MARKS = re.compile(r"(<!-- baselines: begin[^>]*-->\n).*(<!-- baselines: end -->)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``baselines``."""
    parser.add_argument("baseline", nargs="*", help="only these ids (default: all)")
    add_baselines_folder(parser)
    parser.add_argument(
        "--work", type=Path, default=Path(".training"), metavar="DIR", help="checkpoints of `train`"
    )
    for switch, text in (
        ("--episodes", f"for --measure (default: {POOL_EPISODES})"),
        ("--workers", "processor cores for --measure (default: all)"),
    ):
        add_value(parser, switch, whole(1), metavar="N", help=text)
    add_executor_arguments(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--verify",
        action="store_true",
        help=f"run {VERIFY_EPISODES} recorded episodes of each again; fail if they are outside the"
        " recorded distribution, or if the weights have changed",
    )
    action.add_argument(
        "--measure",
        action="store_true",
        help="complete the recorded returns of each to --episodes; record them anew if others than"
        " the installed versions made them",
    )
    action.add_argument(
        "--markdown",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print the table as Markdown, or write it between the marks in FILE",
    )


def run(arguments: argparse.Namespace) -> int:
    """List, verify or measure; 1 if a baseline is damaged or has changed.

    Raises:
        TrainingError: the recipes cannot be read.
        BaselineError: no baselines, an id that is not among them, or a file without marks.
    """
    folder: Path = arguments.baselines
    recipes = read_recipes(folder / "recipes.toml") if (folder / "recipes.toml").exists() else {}
    rows = read_rows(folder, recipes, arguments.work)
    if not rows:
        raise BaselineError(f"{folder} holds no baseline and no recipes.toml: give --baselines DIR")
    rows = _chosen(rows, arguments.baseline)
    if arguments.verify:
        return _verify(folder, rows)
    if arguments.measure:
        settings = dataclasses.replace(settings_of(arguments, ()), workers=arguments.workers or 0)
        with contextlib.closing(executor_of(settings)) as executor, notes_of(executor):
            return _measure(folder, rows, arguments.episodes, executor)
    if arguments.markdown == "-":
        print(markdown_table(rows))
    elif arguments.markdown:
        _write_between_marks(Path(arguments.markdown), markdown_table(rows))
    else:
        print(f"{text_table(rows)}\n\n{summary(rows)}")
    return int(any(row.state == "damaged" for row in rows))


def _chosen(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    unknown = sorted(set(wanted) - {row.id for row in rows})
    if unknown:
        known = ", ".join(row.id for row in rows) or "none"
        raise BaselineError(f"no baseline or recipe {', '.join(unknown)}; known: {known}")
    return [row for row in rows if not wanted or row.id in wanted]


def _recorded(folder: Path, rows: Sequence[Row]) -> list[Row]:
    recorded = [row for row in rows if (folder / row.id / RECORD).exists()]
    if not recorded:
        raise BaselineError(f"none of these baselines is recorded under {folder}")
    return recorded


def _verify(folder: Path, rows: Sequence[Row]) -> int:
    present = _recorded(folder, rows)
    alpha = FALSE_ALARM / len(present)
    failed = 0
    for row in present:
        try:
            changed, text = _verify_one(folder / row.id, alpha)
        except DrlcError as error:
            changed, text = True, str(error)
        failed += changed
        print(f"{row.id}: {'FAIL' if changed else 'ok'}  {text}", flush=True)
    print(
        f"{len(present) - failed} of {len(present)} baselines verified"
        f" (a wrong alarm has a probability of at most {FALSE_ALARM:g})"
    )
    return int(failed > 0)


def _verify_one(folder: Path, alpha: float) -> tuple[bool, str]:
    reference = read_baseline_record(folder).reference
    policy = load_policy(folder)  # checks the hash
    with step_counter(f"{folder.name} again") as on_steps:
        episodes = list(
            rollout(
                policy.env,
                export_policy(policy).model,
                reference.seeds[:VERIFY_EPISODES],
                on_steps=on_steps,
            )
        )
    found = compare(reference, [episode.total for episode in episodes])
    return found.changed(alpha), found.text(alpha)


def _measure(folder: Path, rows: Sequence[Row], episodes: int | None, executor: Executor) -> int:
    failed = 0
    for row in _recorded(folder, rows):
        before = "-" if row.mean is None else f"{row.mean:.1f}"
        try:
            with progress_bar(f"{row.id} reference", episodes or POOL_EPISODES, "episodes") as show:
                record = measure_again(
                    folder / row.id, episodes=episodes, workers=executor, on_episodes=show
                )
        except ExecutorError:  # what ends this one ends the others
            raise
        except DrlcError as error:
            failed += 1
            print(f"{row.id}: FAIL  {error}", flush=True)
            continue
        reference = record.reference
        print(
            f"{row.id}: mean return {reference.mean:.1f} over {len(reference.returns):,} episodes,"
            f" was {before}",
            flush=True,
        )
    return int(failed > 0)


def _write_between_marks(path: Path, table: str) -> None:
    try:
        content = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path} cannot be read: {error}") from None
    written, count = _MARKS.subn(lambda found: f"{found[1]}{table}\n{found[2]}", content)
    if count != 1:
        raise BaselineError(
            f"{path} must hold one <!-- baselines: begin --> and <!-- baselines: end -->"
        )
    write_atomic(path, written.encode())
