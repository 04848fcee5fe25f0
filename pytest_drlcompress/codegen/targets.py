"""The generated C on a microcontroller: cross-compiled, sized, and run in QEMU's emulation.

With ``-icount shift=0`` QEMU's clock advances by one nanosecond an instruction, so that counts are
deterministic. They are instructions and no cycles: a Cortex-M4 needs about one cycle each.
RISC-V's counter of cycles counts them itself.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.codegen.compile import EXACT, STRICT, run_compiler, write_files
from pytest_drlcompress.codegen.emit import Source, render_template, vector_files
from pytest_drlcompress.codegen.program import Program
from pytest_drlcompress.core.errors import CodeGenerationError

VECTORIZED = 1
"""Whether the vector instructions of the target are used."""

_SECONDS = 120


@dataclass(frozen=True)
class Toolchain:
    """Compiler, emulator and what starts a program; ``packages`` are Debian's."""

    prefix: str
    emulator: str
    packages: str
    board: str
    compile: tuple[str, ...]
    link: tuple[str, ...]
    run: tuple[str, ...] = ()


ARM = Toolchain(
    "arm-none-eabi-",
    "qemu-system-arm",
    "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm",
    "board_cortex_m.c.j2",
    ("-mthumb",),
    ("--specs=nosys.specs",),
)
RISC_V = Toolchain(
    "riscv64-unknown-elf-",
    "qemu-system-riscv32",
    "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc",
    "board_riscv.c.j2",
    ("--specs=picolibc.specs",),
    ("-Wl,-e,start",),
    ("-bios", "none"),
)


@dataclass(frozen=True)
class Target:
    """A processor and the board that QEMU emulates with it; ``hertz`` is that of its clock."""

    name: str
    toolchain: Toolchain
    machine: str
    flags: tuple[str, ...]
    hertz: float
    flash_bytes: int = 4 << 20
    ram_bytes: int = 4 << 20
    flash_origin: str = "0x00000000"
    ram_origin: str = "0x20000000"


_TARGETS = (
    Target(
        "cortex-m0", ARM, "microbit", ("-mcpu=cortex-m0",), 16e6, 256 << 10, 16 << 10
    ),
    Target(
        "cortex-m4",
        ARM,
        "mps2-an386",
        ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
        25e6,
    ),
    Target(
        "cortex-m7",
        ARM,
        "mps2-an500",
        ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
        25e6,
    ),
    Target(
        "cortex-m55",
        ARM,
        "mps3-an547",
        ("-mcpu=cortex-m55", "-mfloat-abi=hard"),
        32e6,
        512 << 10,
        512 << 10,
    ),
    # without floating point, as an ESP32-C3 or a CH32V
    Target(
        "riscv32",
        RISC_V,
        "virt",
        ("-march=rv32imac", "-mabi=ilp32"),
        1e9,
        flash_origin="0x80000000",
        ram_origin="0x80400000",
    ),
)  # fmt: skip
TARGETS: Mapping[str, Target] = MappingProxyType({target.name: target for target in _TARGETS})


@dataclass(frozen=True)
class ChipFigures:
    """The policy alone on a microcontroller; sizes in bytes.

    ``flash`` is code, constants and initial data, the parts of the C library that it calls
    included; ``ram`` the deepest stack of an action (painted and read back) and static data.
    ``frame`` is what the compiler says of ``policy_act``'s own stack. ``instructions`` is the
    mean of an action, ``largest`` the largest. ``equal`` of ``vectors`` actions agree with
    ONNX Runtime's, bit by bit where ``tolerance`` is 0.
    """

    target: str
    flash: int
    ram: int
    frame: int
    instructions: float
    largest: float
    vectors: int
    equal: int
    tolerance: float


def missing_tools(target: Target) -> str:
    """What is not installed and how to install it; empty where nothing is missing."""
    chain = target.toolchain
    tools = (f"{chain.prefix}gcc", f"{chain.prefix}size", chain.emulator)
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if not missing:
        return ""
    return f"{', '.join(missing)} not found; Debian and Ubuntu: apt install {chain.packages}"


def measure_on_target(
    source: Source,
    program: Program,
    target: Target,
    observations: NDArray[Any],
    actions: NDArray[Any],
    *,
    tolerance: float = 0.0,
) -> ChipFigures:
    """Compile ``source`` for ``target`` and act on each of ``observations``.

    Raises:
        CodeGenerationError: a tool is missing, or fails; the policy does not fit the board.
    """
    if reason := missing_tools(target):
        raise CodeGenerationError(reason)
    chain = target.toolchain
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_files(source, folder)
        vectors = vector_files(
            program, observations, actions, tolerance=tolerance, name=source.name
        )
        context: dict[str, Any] = {
            "name": source.name,
            "target": target,
            "tolerance": np.float32(tolerance),
            "observation_type": "uint8_t" if program.observation.dtype == np.uint8 else "float",
            "action_type": "int32_t" if program.chooses else "float",
        }
        write_files(
            {
                **vectors,
                "main.c": render_template("target_main.c.j2", context),
                "target.ld": render_template("target.ld.j2", context),
            },
            folder,
        )
        compiler = [
            f"{chain.prefix}gcc", *STRICT, *EXACT, "-O2", "-ffunction-sections", "-fdata-sections",
            f"-D{source.name.upper()}_SIMD={VECTORIZED}", *chain.compile,
            *target.flags,
        ]  # fmt: skip
        run_compiler([*compiler, "-fstack-usage", "-c", f"{source.name}.c"], folder)
        # GNU extensions: inline assembly for semihosting
        run_compiler([*compiler, "-std=gnu99", "-c", "main.c"], folder)
        link = [*compiler, "-nostartfiles", "-Wl,--gc-sections", "-T", "target.ld", *chain.link]
        objects = [f"{source.name}.o", "-lm"]
        run_compiler([*link, "main.o", *objects, "-o", "board.elf"], folder)
        # the policy alone: what only the check needs is collected as garbage
        run_compiler([*link, f"-Wl,-e,{source.name}_act", *objects, "-o", "policy.elf"], folder)
        flash, static = _sizes(chain, folder / "policy.elf")
        figures = _emulate(target, folder / "board.elf")
        return ChipFigures(
            target=target.name,
            flash=flash,
            ram=figures["stack"] + static,
            frame=_frame(folder / f"{source.name}.su", f"{source.name}_act"),
            instructions=figures["ticks"] / target.hertz * 1e9 / figures["vectors"],
            largest=figures["largest"] / target.hertz * 1e9,
            vectors=figures["vectors"],
            equal=figures["equal"],
            tolerance=tolerance,
        )


def _sizes(chain: Toolchain, program: Path) -> tuple[int, int]:
    printed = run_compiler([f"{chain.prefix}size", str(program)], program.parent)
    text, data, bss = map(int, printed.splitlines()[1].split()[:3])
    return text + data, data + bss


def _frame(report: Path, function: str) -> int:
    lines = [line.split("\t") for line in report.read_text(encoding="utf-8").splitlines()]
    return next((int(line[1]) for line in lines if line[0].endswith(f":{function}")), 0)


def _emulate(target: Target, program: Path) -> dict[str, int]:
    command = [
        target.toolchain.emulator, *target.toolchain.run, "-M", target.machine, "-nographic",
        "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native",
        "-icount", "shift=0", "-kernel", str(program),
    ]  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603  # the command is made here
            command, capture_output=True, text=True, check=False, timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CodeGenerationError(
            f"QEMU's {target.machine} did not finish in {_SECONDS} s; give fewer observations"
        ) from None
    printed = done.stdout + done.stderr
    figures = {
        name: int(number) for name, number in re.findall(r"^(\w+) (\d+)$", printed, re.MULTILINE)
    }
    if "stack" not in figures:
        text = " ".join(printed.split())[:300]
        raise CodeGenerationError(f"the policy failed on QEMU's {target.machine}: {text}")
    return figures
