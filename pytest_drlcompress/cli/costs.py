"""``python -m pytest_drlcompress costs``: what variants cost, and by which way of running them.

Prints a Markdown table for each policy; latencies are measured interleaved and stand as ratios to
the policy's own artifact. The estimate of energy is one (docs/measurement.md).
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.cli.arguments import add_policy_arguments, add_value, settings_of
from pytest_drlcompress.cli.tables import Table
from pytest_drlcompress.core.extras import installed
from pytest_drlcompress.core.option_values import recipes

if TYPE_CHECKING:
    from pytest_drlcompress.workbench.workbench import Workbench

VARIANTS = "fp32,ptdq,ptsq,qat,l2@30,l2@50,l2@70,sparse@95+qat"
_TABLE = Table(
    ("variant", "us", "ratio", "network us", "run us", "x run", "file B", "zstd B", "weights B",
     "peak act. B", "est. uJ"),
    (24, 7, 6, 10, 7, 6, 9, 9, 9, 11, 8),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``costs``."""
    parser.add_argument(
        "policies", nargs="*", metavar="POLICY", help="as --drlc-policy (default: every baseline)"
    )
    add_value(
        parser,
        "--variants",
        recipes,
        default=VARIANTS,
        metavar="RECIPE,...",
        help=f"recipes and .onnx files, separated by commas (default {VARIANTS})",
    )
    add_policy_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; 1 if a variant could not be made.

    Raises:
        DrlcError: a policy that does not exist or cannot be read.
    """
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.workbench.workbench import Workbench

    if installed("torch"):
        import torch

        torch.set_num_threads(1)
    bench = Workbench(settings_of(arguments, arguments.policies), builtin_registry())
    try:
        missing = sum(_table(bench, policy, arguments.variants) for policy in bench.policy_texts())
    finally:
        bench.close()
    return 1 if missing else 0


def _table(bench: "Workbench", text: str, variants: Sequence[str]) -> int:
    """Print the table of one policy; how many variants are missing."""
    import numpy as np

    from pytest_drlcompress.core.errors import DrlcError
    from pytest_drlcompress.gates.memory import memory_figures
    from pytest_drlcompress.measurement import rivals
    from pytest_drlcompress.measurement.model_energy import estimate_energy

    loaded = bench.load(text)
    policy, baseline = loaded.policy, loaded.controller
    observation = loaded.probe_observation
    contenders: dict[str, rivals.Contender] = {"": _acting(baseline, observation)}
    available, missing = [], {}
    for variant in variants:
        try:
            candidate = bench.candidate(text, variant)
            controller, model = candidate.controller, candidate.artifact.model
        except DrlcError as error:
            missing[variant] = str(error)
            continue
        available.append(variant)
        contenders[f"act {variant}"] = _acting(controller, observation)
        contenders[f"network {variant}"] = controller.run_network
        contenders[f"run {variant}"] = rivals.plain_run(model, observation)
    if not isinstance(policy.source, bytes):
        contenders["torch eager"] = rivals.torch_eager(policy.network, observation)
        predict = rivals.sb3_predict(policy, observation)
        if predict is not None:
            contenders["SB3 predict"] = predict
    times = rivals.contest(contenders)
    column = {name: times[:, place] for place, name in enumerate(contenders)}

    def median(name: str) -> float:
        return float(np.median(column[name]))

    def ratio(name: str, to: str) -> float:
        return float(np.median(column[name] / column[to]))

    print(f"\n{policy.id}\n\n{_TABLE.head()}")
    for variant in available:
        act, plain = f"act {variant}", f"run {variant}"
        model = bench.candidate(text, variant).artifact.model
        size = memory_figures(model)
        print(
            _TABLE.row(
                (
                    variant,
                    f"{median(act):.2f}",
                    f"{ratio(act, ''):.3f}",
                    f"{median(f'network {variant}'):.2f}",
                    f"{median(plain):.2f}",
                    f"{ratio(plain, act):.2f}x",
                    f"{size['bytes_on_disk']:,}",
                    f"{size['stripped_zstd_bytes']:,}",
                    f"{size['initializer_bytes']:,}",
                    f"{size['peak_activation_bytes']:,}",
                    f"{estimate_energy(model).on_chip_uj:.4f}",
                )
            ),
            flush=True,
        )
    for variant, reason in missing.items():
        print(f"| {variant:<{_TABLE.widths[0]}} | not available: {reason} |")
    print()
    for rival in ("torch eager", "SB3 predict"):
        if rival in column:
            faster = ratio(rival, "")
            print(f"{rival}: {median(rival):.1f} us; the fp32 artifact is {faster:.1f}x faster")
    return len(missing)


def _acting(controller: Any, observation: Any) -> Any:
    from functools import partial

    return partial(controller.act_one, observation)
