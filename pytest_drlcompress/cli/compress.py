"""``python -m pytest_drlcompress compress``: the file that a recipe makes of a policy."""

import argparse
import time

from pytest_drlcompress.cli.arguments import add_policy_arguments, add_value, settings_of
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.option_values import output_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``compress``."""
    parser.add_argument("policy", metavar="POLICY", help="as --drlc-policy")
    parser.add_argument("recipe", metavar="RECIPE", help="for example sparse@95+qat")
    add_value(parser, "--out", output_file, metavar="FILE.onnx", help="write the artifact here")
    parser.add_argument(
        "--store",
        action="store_true",
        help="keep it as the baseline's variant, which the gates then use instead of compressing",
    )
    add_policy_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compress one policy, write the file, and print what is known of it.

    Raises:
        DrlcError: the policy or recipe does not exist or does not fit; nowhere to write to.
    """
    from pytest_drlcompress.baselines.variants import store_variant
    from pytest_drlcompress.compression.recipe import parse_recipe
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.core.files import write_atomic
    from pytest_drlcompress.measurement.size import measure_size
    from pytest_drlcompress.measurement.sparsity import measure_sparsity
    from pytest_drlcompress.workbench.workbench import Workbench

    if arguments.out is None and not arguments.store:
        raise RecipeError("say where the artifact goes: --out FILE.onnx, or --store for a baseline")
    registry, recipe = builtin_registry(), parse_recipe(arguments.recipe)
    registry.resolve(recipe)
    bench = Workbench(settings_of(arguments, [arguments.policy]), registry)
    loaded = bench.load(arguments.policy)
    if arguments.store and loaded.folder is None:
        raise RecipeError(
            f"--store is for baselines, and {arguments.policy!r} is none: make it one with"
            " 'import', or give --out FILE.onnx"
        )
    started = time.monotonic()
    artifact = loaded.compressed(recipe)
    seconds = round(time.monotonic() - started, 1)
    size, sparsity = measure_size(artifact.model), measure_sparsity(artifact.model)
    print(f"{loaded.policy.id} / {artifact.recipe}: {size.artifact:,} bytes, {seconds:g} s")
    print(
        f"  compressed {size.stripped_zstd:,} bytes, entropy bound {size.entropy_bound:,},"
        f" nonzero weights alone {size.nnz_claim:,}, resident {size.initializers:,}"
    )
    print(f"  {sparsity.nonzero:,} of {sparsity.weights:,} weights, {sparsity.total:.2%} zeros")
    for name, share in sparsity.by_layer.items():
        print(f"    {name}: {share:.2%} zeros")
    if arguments.out is not None:
        write_atomic(arguments.out, artifact.model)
        print(f"  written to {arguments.out}")
    if arguments.store:
        assert loaded.folder is not None
        path = store_variant(loaded.folder, artifact, {"how": "after training", "seconds": seconds})
        print(f"  stored as {path}")
    return 0
