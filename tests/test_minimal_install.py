"""Two ONNX files and recorded observations need no torch, no Stable-Baselines3 and no MuJoCo."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import pytest_drlcompress
from pytest_drlcompress.core.extras import EXTRAS, missing_extra

WITHOUT = (
    "torch", "torch_pruning", "onnxscript", "safetensors", "stable_baselines3", "sb3_contrib",
    "mujoco", "imageio", "ale_py", "cv2", "ray", "matplotlib", "pyarrow", "pynvml",
)  # fmt: skip
PACKAGE = Path(pytest_drlcompress.__file__).parent
SUITES = next(path for path in (PACKAGE / "suites", PACKAGE.parent / "suites") if path.is_dir())
"""As a wheel has them, or a checkout."""

BLOCKED = f"import sys; sys.modules.update(dict.fromkeys({WITHOUT!r}))\n"


def write_linear(path: Path, offset: float) -> None:
    """A policy from 5 observations to 2 actions."""
    weights = np.random.default_rng(0).normal(0, 0.1, (5, 2)).astype(np.float32) + offset
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["observation", "w"], ["action"])],
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    opset = [helper.make_opsetid("", 21)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    )


@pytest.fixture
def flight(tmp_path: Path) -> Path:
    write_linear(tmp_path / "policy.onnx", 0)
    write_linear(tmp_path / "near.onnx", 1e-4)
    write_linear(tmp_path / "far.onnx", 0.5)
    np.savez(tmp_path / "flight.npz", observations=np.random.default_rng(1).normal(size=(400, 5)))
    return tmp_path


def gate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Pytest in ``folder``, where no optional package can be imported."""
    run = f"{BLOCKED}import pytest; sys.exit(pytest.main({['-rs', *arguments]!r}))"
    return subprocess.run(
        [sys.executable, "-c", run], cwd=folder, capture_output=True, text=True, check=False
    )


def test_two_files_and_a_recording(flight: Path) -> None:
    done = gate(
        flight, f"{SUITES / 'test_quantization_error.py'}", f"{SUITES / 'test_memory.py'}",
        "--drlc-policy=policy.onnx", "--drlc-observations=flight.npz",
        "--drlc-variant=near.onnx", "--drlc-variant=far.onnx", "--drlc-variant=ptdq",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "action error policy / near: PASS" in done.stdout
    assert "action error policy / far: FAIL" in done.stdout
    assert "action error policy / ptdq: PASS" in done.stdout
    assert done.stdout.count("memory policy") >= 3


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["--drlc-policy=policy.onnx", "--drlc-variant=qat"], "[torch]'"),
        (["--drlc-policy=model.zip"], "[torch]'"),
        (["--drlc-policy=policy.onnx", "--drlc-report=a.html"], "[plot]'"),
        (["--drlc-policy=policy.onnx", "--drlc-executor=ray"], "[ray]'"),
    ],
)
def test_what_is_missing_is_named_with_its_pip_line(
    flight: Path, asked: list[str], line: str
) -> None:
    (flight / "model.zip").write_bytes(b"")
    done = gate(flight, "--drlc-observations=flight.npz", *asked)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert f"pip install 'pytest-drlcompress{line}" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_suite_can_be_collected(flight: Path) -> None:
    done = gate(
        flight, str(SUITES), "--drlc-policy=policy.onnx", "--drlc-observations=flight.npz",
        "--drlc-variant=near.onnx", "--collect-only", "-q",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_sparsity_schedule.py::test_pruning[" in done.stdout


def test_a_simulator_that_is_missing(flight: Path) -> None:
    done = gate(flight, "--drlc-policy=policy.onnx", "--drlc-env=Hopper-v5")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "pip install 'pytest-drlcompress[mujoco]'" in done.stderr


def test_a_command_names_the_extra_too(flight: Path) -> None:
    run = f"{BLOCKED}from pytest_drlcompress.__main__ import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", run, "costs", "model.zip", "--env", "Hopper-v5"],
        cwd=flight, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "pip install 'pytest-drlcompress[" in done.stderr


def test_a_broken_package_is_not_called_missing() -> None:
    assert "onnx" not in EXTRAS
    assert missing_extra(ImportError("no such name", name="torch")) is None
    assert missing_extra(ImportError("other", name="numpy")) is None
