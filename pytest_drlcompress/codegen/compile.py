"""The generated C as a shared library, by the system's own compiler."""

import os
import shutil
import subprocess
from pathlib import Path

from pytest_drlcompress.codegen.emit import Source
from pytest_drlcompress.core.errors import CodeGenerationError

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion")
EXACT = ("-ffp-contract=off", "-fno-math-errno")
"""Without fused multiply-adds, which round once where ONNX Runtime rounds twice."""

_FAST = ("-O3", "-march=native", "-fno-trapping-math")


def find_compiler() -> str:
    """The C compiler: ``$CC`` or the first of cc, gcc and clang.

    Raises:
        CodeGenerationError: there is none.
    """
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise CodeGenerationError(
            f"there is no C compiler ({', '.join(names)}); install one (Debian: apt install gcc)"
            " or name it in the environment variable CC"
        )
    return found


def write_files(files: "Source | dict[str, str]", folder: Path) -> None:
    """The generated files, written to ``folder``."""
    named = files.files if isinstance(files, Source) else files
    for name, text in named.items():
        (folder / name).write_text(text, encoding="utf-8")


def compile_library(source: Source, folder: Path) -> Path:
    """A shared library of ``source`` in ``folder``, for this processor.

    Raises:
        CodeGenerationError: there is no compiler, or it fails; the message has its first lines.
    """
    write_files(source, folder)
    library = folder / f"{source.name}.so"
    run_compiler(
        [find_compiler(), *STRICT, *EXACT, *_FAST, f"-D{source.name.upper()}_SIMD=1", "-shared",
         "-fPIC", "-o", str(library), f"{source.name}_library.c", "-lm"],
        folder,
    )  # fmt: skip
    return library


def run_compiler(command: list[str], folder: Path) -> str:
    """What ``command`` prints, run in ``folder``.

    Raises:
        CodeGenerationError: it fails; the message has its first lines.
    """
    done = subprocess.run(  # noqa: S603  # the command is made here
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = " / ".join(done.stderr.strip().splitlines()[:4])
        raise CodeGenerationError(f"{Path(command[0]).name} fails on the generated C: {lines}")
    return done.stdout
