"""Vector instructions behind one macro: the same integers, whatever the compiler has."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from random_models import integer_network

from pytest_drlcompress.codegen.compile import EXACT, STRICT, write_files
from pytest_drlcompress.codegen.emit import generate, vector_files
from pytest_drlcompress.codegen.parse import parse_program
from pytest_drlcompress.codegen.targets import TARGETS, measure_on_target, missing_tools
from pytest_drlcompress.core.settings import CHIPS
from pytest_drlcompress.runtime.onnxruntime import OnnxRuntime

HERE = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").exists() else set()
WAYS = {
    "portable": ("-DPOLICY_SIMD=0", set()),
    "without": ("-DPOLICY_SIMD=1", set()),
    "avx2": ("-DPOLICY_SIMD=1 -mavx2", {"avx2"}),
    "vnni": ("-DPOLICY_SIMD=1 -mavx2 -mavx512f -mavx512bw -mavx512vnni", {"avx512_vnni"}),
}
EIGHT_BITS = 7
"""A seed whose weights all lie within 8 bits of their zero point."""

SIZES = ([7, 33, 16, 3], [17, 40, 21, 5])


def networks():
    for sizes in SIZES:
        yield integer_network(sizes, EIGHT_BITS, zeros=0.3)


def vectors(model, count=64):
    controller = OnnxRuntime().load(model)
    random = np.random.default_rng(0)
    seen = (random.standard_normal((count, *controller.observation_shape)) * 3).astype(np.float32)
    return seen, np.stack([controller.act_one(row).copy() for row in seen])


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_onnxruntimes_bits(way, compiler, tmp_path):
    flags, needed = WAYS[way]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    if not needed <= HERE:
        pytest.skip(f"this processor has no {', '.join(needed)}")
    for number, model in enumerate(networks()):
        folder = tmp_path / str(number)
        folder.mkdir()
        program = parse_program(model)
        source = generate(program, layout="tile")
        assert source.layouts == ("tile",) * 3
        write_files(source, folder)
        write_files(vector_files(program, *vectors(model), tolerance=0), folder)
        command = [compiler, *STRICT, "-Werror", *EXACT, "-O2", *flags.split(), "policy.c",
                   "policy_check.c", "-lm", "-o", "check"]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True)
        done = subprocess.run(["./check"], check=False, cwd=folder, capture_output=True, text=True)
        assert "64 of 64" in done.stdout


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_microcontrollers_vectors_save_instructions_and_keep_bits(target, monkeypatch):
    if reason := missing_tools(TARGETS[target]):
        pytest.skip(reason)
    model = integer_network([17, 32, 32, 6], EIGHT_BITS)
    program = parse_program(model)
    source = generate(program, layout="dense")
    seen, actions = vectors(model, 8)
    fast = measure_on_target(source, program, TARGETS[target], seen, actions)
    monkeypatch.setattr("pytest_drlcompress.codegen.targets.VECTORIZED", 0)
    plain = measure_on_target(source, program, TARGETS[target], seen, actions)
    assert fast.equal == plain.equal == 8
    assert fast.instructions < 0.85 * plain.instructions


def test_options_name_the_targets_there_are():
    assert tuple(TARGETS) == CHIPS
