"""What the commands that read policies share: how to read them, and how to judge them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pytest_drlcompress.core.settings import Settings, default_settings


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """How a policy that is no baseline is read."""
    parser.add_argument("--env", help="environment of a policy that is not a baseline")
    parser.add_argument("--baselines", type=Path, default=Path("baselines"), metavar="DIR")
    parser.add_argument("--vecnormalize", "--drlc-vecnormalize", metavar="PATH|none")
    parser.add_argument(
        "--trust", "--drlc-trust", action="store_true", help="allow reading VecNormalize's pickle"
    )


def add_retention_arguments(parser: argparse.ArgumentParser) -> None:
    """What a return is held to."""
    parser.add_argument("--min-retention", type=float, default=0.90, metavar="SHARE")
    parser.add_argument("--max-episodes", type=int, default=200, metavar="N")


def settings_of(arguments: argparse.Namespace, policies: Sequence[str]) -> Settings:
    """The settings that ``arguments`` ask for; the defaults for what they do not have."""
    known = ("env", "baselines", "vecnormalize", "trust", "min_retention", "max_episodes")
    given = {name: value for name, value in vars(arguments).items() if name in known}
    return default_settings(policies=tuple(policies), **given)
