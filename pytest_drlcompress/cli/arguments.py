"""What the commands share with pytest's options: one table of them, and their readers."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from pytest_drlcompress.core.option_values import output_folder, read_value
from pytest_drlcompress.core.settings import OPTIONS, Settings, default_settings
from pytest_drlcompress.evaluation.executors.base import Executor

_OF_ALL = ("policies", "variants", "stored")
"""Fields that a command names in its own way: as arguments, or separated by commas."""


def add_options(parser: argparse.ArgumentParser, fields: Sequence[str], **changes: Any) -> None:
    """The options of ``core.settings`` named ``fields``, as ``--min-retention``.

    Pytest's name of each (``--drlc-min-retention``) is understood too: messages use it.
    ``changes`` go to ``add_argument``.
    """
    for field in fields:
        option = next(option for option in OPTIONS if option.field == field)
        switch = option.switch.replace("--drlc-", "--")
        how: dict[str, Any] = {"dest": field, "help": option.help.replace("%", "%%"), **changes}
        if option.flag:
            parser.add_argument(switch, option.switch, action="store_true", **how)
            continue
        parser.add_argument(
            switch,
            option.switch,
            type=partial(read_value, switch, option.read),
            default=option.default,
            metavar=option.metavar,
            **how,
        )


def add_value(
    parser: argparse.ArgumentParser, switch: str, reader: Callable[[str], Any], **how: Any
) -> None:
    """An option of one command, whose text ``reader`` (of ``core.option_values``) reads."""
    parser.add_argument(switch, type=partial(read_value, switch, reader), **how)


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """How a policy that is no baseline is read."""
    add_options(parser, ["env", "observations", "vecnormalize", "trust"])
    add_baselines_folder(parser)


def add_baselines_folder(parser: argparse.ArgumentParser) -> None:
    """``--baselines DIR``, which is in the current directory by default."""
    add_options(parser, ["baselines"], help="folder of the baselines (default: baselines)")


def add_retention_arguments(parser: argparse.ArgumentParser) -> None:
    """What a return is held to."""
    add_options(parser, ["min_retention", "max_episodes"])


def add_executor_arguments(parser: argparse.ArgumentParser) -> None:
    """Where it runs."""
    add_options(parser, ["executor", "ray_address", "ray_runtime_env"])


@contextlib.contextmanager
def notes_of(executor: Executor) -> Iterator[None]:
    """In the end, also after an error, say on standard error what the ``executor`` has to say."""
    try:
        yield
    finally:
        for note in executor.notes():
            print(note, file=sys.stderr)


def add_out_folder(parser: argparse.ArgumentParser, **how: Any) -> None:
    """``--out DIR``."""
    add_value(parser, "--out", output_folder, metavar="DIR", **how)


def settings_of(arguments: argparse.Namespace, policies: Sequence[str]) -> Settings:
    """The settings that ``arguments`` ask for; the defaults for what they do not have."""
    shared = {option.field for option in OPTIONS}.difference(_OF_ALL)
    given = {name: value for name, value in vars(arguments).items() if name in shared}
    return default_settings(policies=tuple(policies), **given)
