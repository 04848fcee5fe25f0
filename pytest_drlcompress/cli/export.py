"""``python -m pytest_drlcompress export``: a policy as C99, with vectors that check it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.cli.arguments import (
    add_out_folder,
    add_policy_arguments,
    add_value,
    settings_of,
)
from pytest_drlcompress.core.errors import CodeGenerationError
from pytest_drlcompress.core.option_values import one_of, whole
from pytest_drlcompress.core.settings import CHIPS

if TYPE_CHECKING:
    from pytest_drlcompress.measurement.chip import Generated

_VECTORS = 64
_LAYOUTS = ("dense", "csr", "block", "tile", "small", "fast", "vector")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``export``."""
    parser.add_argument("policy", metavar="POLICY", help="as --drlc-policy, or an ONNX file")
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="for example narrow@16+qat; none: as it is"
    )
    add_out_folder(parser, required=True, help="folder of the .h, the .c, vectors and check")
    add_value(
        parser, "--target", one_of(("c", *CHIPS)), default="c", dest="chip", metavar="c|CHIP",
        help=f"c, or one of {', '.join(CHIPS)}: also compiled and run for it under QEMU",
    )  # fmt: skip
    add_value(
        parser, "--layout", one_of(_LAYOUTS), default="small", metavar="LAYOUT",
        help=f"of weights: {', '.join(_LAYOUTS)} (default small; docs/deploy.md)",
    )  # fmt: skip
    parser.add_argument("--name", default="policy", help="prefix of functions and files")
    add_value(
        parser, "--vectors", whole(1), default=_VECTORS, metavar="N",
        help=f"observations in the vector file (default {_VECTORS})",
    )  # fmt: skip
    parser.add_argument(
        "--no-shrink", action="store_true", help="keep units that cannot change the action"
    )
    add_policy_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the files, compile and run the check where there is a compiler.

    Raises:
        DrlcError: the policy or recipe does not exist or does not fit; it cannot be written as C.
    """
    from pytest_drlcompress.codegen.emit import vector_files
    from pytest_drlcompress.codegen.targets import TARGETS, measure_on_target, missing_tools
    from pytest_drlcompress.core.files import write_atomic
    from pytest_drlcompress.measurement.chip import generate_checked

    if arguments.chip != "c" and (reason := missing_tools(TARGETS[arguments.chip])):
        raise CodeGenerationError(reason)
    model, observations, whose = _model(arguments)
    made = generate_checked(
        model,
        observations,
        layout=arguments.layout,
        name=arguments.name,
        shrunk=not arguments.no_shrink,
    )
    vectors = vector_files(
        made.program,
        made.observations,
        made.actions,
        tolerance=made.tolerance,
        name=arguments.name,
    )
    files = {**made.source.files, **vectors}
    for name, text in files.items():
        write_atomic(arguments.out / name, text.encode())
    sizes = ", ".join(
        f"{layout} {' x '.join(map(str, layer.weight.shape))}"
        for layout, layer in zip(made.source.layouts, made.program.layers, strict=True)
    )
    print(f"{arguments.out}: {', '.join(files)}")
    print(f"  layers: {sizes}")
    print(
        f"  constants {made.source.table_bytes:,} bytes, buffers {made.source.buffer_bytes:,}"
        f" bytes on the stack; {len(observations)} vectors of {whose}"
    )
    print(f"  {_check(made, arguments.out)}")
    if arguments.chip != "c":
        figures = measure_on_target(
            made.source,
            made.program,
            TARGETS[arguments.chip],
            made.observations,
            made.actions,
            tolerance=made.tolerance,
        )
        print(
            f"  {figures.target}: flash {figures.flash:,} bytes, RAM {figures.ram:,} bytes,"
            f" {figures.instructions:,.0f} instructions an action; {figures.equal} of"
            f" {figures.vectors} actions agree"
        )
        return 0 if figures.equal == figures.vectors else 1
    return 0


def _model(arguments: argparse.Namespace) -> tuple[bytes, Any, str]:
    """The artifact, observations for its vectors, and whose they are."""
    import numpy as np

    from pytest_drlcompress.compression.recipe import parse_recipe
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.compression.variant import Variant
    from pytest_drlcompress.policies.onnx_interface import Interface
    from pytest_drlcompress.policies.onnx_read import read_onnx
    from pytest_drlcompress.policies.onnx_watch import adapt_watched
    from pytest_drlcompress.runtime.onnxruntime import OnnxController
    from pytest_drlcompress.workbench.candidate import Candidate
    from pytest_drlcompress.workbench.workbench import Workbench

    path = Path(arguments.policy)
    if path.suffix == ".onnx" and arguments.env is None and arguments.recipe is None:
        model = adapt_watched(read_onnx(path), Interface()).model
        controller = OnnxController(model)
        random = np.random.default_rng(0)
        shape = (arguments.vectors, *controller.observation_shape)
        if controller.observation_dtype == np.uint8:
            return model, random.integers(0, 256, shape, np.uint8), "random pixels"
        normal = random.standard_normal(shape).astype(controller.observation_dtype)
        return model, normal, "random numbers (give --env for the policy's own observations)"
    recipe = arguments.recipe or "fp32"
    registry = builtin_registry()
    registry.resolve(parse_recipe(recipe))
    loaded = Workbench(settings_of(arguments, [arguments.policy]), registry).load(arguments.policy)
    candidate = Candidate(loaded, Variant(recipe))
    model = candidate.artifact.model
    seen = loaded.probe_observations
    chosen = np.linspace(0, len(seen) - 1, min(arguments.vectors, len(seen))).round().astype(int)
    return model, np.ascontiguousarray(seen[chosen]), "the policy's own episodes"


def _check(made: "Generated", folder: Path) -> str:
    """What the check prints, compiled and run in a folder of its own."""
    import subprocess
    import tempfile

    from pytest_drlcompress.codegen.compile import EXACT, STRICT, find_compiler, run_compiler

    try:
        compiler = find_compiler()
    except CodeGenerationError as error:
        return f"not checked: {error}"
    name = made.source.name
    with tempfile.TemporaryDirectory() as temporary:
        program = str(Path(temporary) / "check")
        sources = [f"{name}.c", f"{name}_check.c"]
        run_compiler([compiler, *STRICT, *EXACT, "-O2", *sources, "-lm", "-o", program], folder)
        done = subprocess.run(  # noqa: S603  # just compiled
            [program], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise CodeGenerationError(f"the generated C fails its check: {done.stdout.strip()}")
    return f"checked with {Path(compiler).name}: {done.stdout.strip()}"
