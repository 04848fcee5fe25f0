"""``python -m pytest_drlcompress import``: an existing policy becomes a baseline."""

import argparse
from pathlib import Path

from torch import nn

from pytest_drlcompress.baselines.record import record_baseline
from pytest_drlcompress.cli.arguments import add_options, add_out_folder
from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.core.progress import progress_bar
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.reference import POOL_EPISODES
from pytest_drlcompress.policies.load import load_policy_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``import``."""
    parser.add_argument("policy", help="an SB3 or sb3-contrib .zip")
    add_options(parser, ["env"], required=True)
    add_out_folder(parser, required=True, help="the new baseline")
    add_options(parser, ["vecnormalize", "trust"])


def run(arguments: argparse.Namespace) -> int:
    """Import one policy.

    Raises:
        PolicyError: it cannot be read, does not fit, or cannot be stored.
        BaselineError: it is not competent.
    """
    policy = load_policy_source(
        arguments.policy,
        env=EnvSpec.parse(arguments.env),
        trust=arguments.trust,
        vecnormalize=arguments.vecnormalize,
        baselines=arguments.out.parent,
    )
    network = policy.source
    if not isinstance(network, nn.Sequential):
        raise PolicyError(
            f"{arguments.policy!r} cannot become a baseline: only SB3 and sb3-contrib zips can."
            " Gate it where it is, with --drlc-policy"
        )
    with progress_bar("reference returns", POOL_EPISODES, "episodes") as on_episodes:
        record = record_baseline(
            arguments.out,
            network,
            policy.env,
            algorithm=policy.algorithm,
            training={"imported_from": Path(arguments.policy).name},
            on_episodes=on_episodes,
        )
    reference = record.reference
    print(
        f"{arguments.out}: return {reference.mean:.0f} over {len(reference.returns)} episodes"
        f" (random {reference.random_mean:.0f}). Record its variants:\n"
        f"    pytest suites/ --drlc-policy={arguments.out.name} --drlc-record-new"
    )
    return 0
