"""Gates on a recorded flight, where there is no environment to step."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from sb3_models import on
from stable_baselines3 import PPO

from conftest import ROOT
from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.errors import ObservationsError, PolicyError
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.environments.recorded import (
    calibration_part,
    probe_part,
    read_recording,
)
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.runtime.onnxruntime import OnnxController
from pytest_drlcompress.workbench.workbench import Workbench

SIZE = 5


@pytest.fixture(scope="module")
def flight() -> NDArray[np.float64]:
    steps = np.random.default_rng(0).normal(0, 0.2, (400, SIZE))
    return np.cumsum(steps, axis=0)


@pytest.fixture(scope="module")
def network(exporter: None) -> torch.nn.Module:
    torch.manual_seed(0)
    linear = torch.nn.Linear
    return torch.nn.Sequential(linear(SIZE, 32), torch.nn.ReLU(), linear(32, 2)).eval()


@pytest.fixture(scope="module")
def model(network: torch.nn.Module) -> bytes:
    return export_onnx(network, (SIZE,), np.dtype(np.float32))


def bench(tmp_path: Path, policy: Any, flight: NDArray[Any], **given: Any) -> Workbench:
    np.savez(tmp_path / "flight.npz", observations=flight)
    settings = default_settings(
        policies=(str(policy),),
        observations=tmp_path / "flight.npz",
        baselines=tmp_path,
        **given,
    )
    return Workbench(settings, builtin_registry())


def test_the_gates_without_an_environment(
    pytester: pytest.Pytester, model: bytes, flight: NDArray[Any]
) -> None:
    shutil.copytree(ROOT / "suites", pytester.path / "suites")
    (pytester.path / "policy.onnx").write_bytes(model)
    (pytester.path / "policy.int8.onnx").write_bytes(
        quantize_statically(model, flight.astype(np.float32))
    )
    np.savez(pytester.path / "flight.npz", observations=flight, motors=flight[:, :2])
    result = pytester.runpytest(
        "suites/", "--drlc-policy=policy.onnx", "--drlc-observations=flight.npz",
        "--drlc-variant=policy.int8.onnx", "--drlc-report=report.json", "-k",
        "retention or action_error or memory or latency",
    )  # fmt: skip
    result.assert_outcomes(passed=3, skipped=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(
        [
            "action error policy / policy.int8: PASS*100 observations*",
            "retention policy / policy.int8: NOT_MEASURED*no returns*--drlc-env*",
        ]
    )
    report = json.loads((pytester.path / "report.json").read_text())
    states = {v["gate"]: v["state"] for v in report["verdicts"]}
    assert states["retention"] == "NOT_MEASURED"
    assert states["memory"] == states["latency"] == states["action error"] == "PASS"


def test_action_error_is_relative_to_the_range_seen(
    tmp_path: Path, model: bytes, network: torch.nn.Module, flight: NDArray[Any]
) -> None:
    (tmp_path / "policy.onnx").write_bytes(model)
    (tmp_path / "other.onnx").write_bytes(quantize_statically(model, flight.astype(np.float32)))
    found = bench(tmp_path, tmp_path / "policy.onnx", flight)
    candidate = found.candidate(str(tmp_path / "policy.onnx"), str(tmp_path / "other.onnx"))
    rows = probe_part(flight).astype(np.float32)
    with torch.no_grad():
        exact = network(torch.from_numpy(rows)).numpy()
    actual = OnnxController(candidate.artifact.model).act(rows)
    expected = (np.abs(actual - exact) / np.ptp(exact, axis=0)).mean()
    assert candidate.action_error.mean == pytest.approx(expected, rel=1e-3)
    assert candidate.action_error.count == len(rows)
    found.close()


@pytest.mark.parametrize(
    "recipe", ["ptsq", "qat:steps=30", "sparse@50:steps=40,samples=200,rounds=1"]
)
def test_calibration_and_distillation_use_the_recording(
    recipe: str, tmp_path: Path, flight: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SB3 zip: its spaces are read from it."""
    torch.manual_seed(0)
    PPO("MlpPolicy", "Pendulum-v1", **on()).save(tmp_path / "model.zip")
    found = bench(tmp_path, tmp_path / "model.zip", flight[:, :3])
    loaded = found.load(str(tmp_path / "model.zip"))
    assert loaded.policy.env.action.high.tolist() == [2.0]
    candidate = found.candidate(str(tmp_path / "model.zip"), recipe)
    described = json.dumps(candidate.artifact.provenance)
    assert '"recording": "flight.npz"' in described
    assert candidate.action_error.mean < 0.2
    found.close()


def test_a_torch_module_takes_the_shape_of_the_recording(
    tmp_path: Path, flight: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flown.py").write_text(
        "import torch\ntorch.manual_seed(0)\nactor = torch.nn.Linear(5, 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    found = bench(tmp_path, "flown:actor", flight)
    assert found.load("flown:actor").policy.env.spaces[0] == (SIZE,)
    assert found.candidate("flown:actor", "ptdq").action_error.mean < 0.05
    found.close()


def test_calibration_never_sees_what_is_compared_on(flight: NDArray[Any]) -> None:
    seen, compared = calibration_part(flight), probe_part(flight)
    assert len(seen) == 300
    assert len(compared) == 100
    assert not {row.tobytes() for row in seen} & {row.tobytes() for row in compared}


def _parquet(path: Path, columns: dict[str, Any]) -> None:
    parquet.write_table(pa.table(columns), path)


class TestFiles:
    @pytest.mark.parametrize("kind", ["npy", "npz", "episodes", "columns", "lists", "folder"])
    def test_every_form_gives_the_same_rows(
        self, kind: str, tmp_path: Path, flight: NDArray[Any]
    ) -> None:
        path = tmp_path / f"log.{'parquet' if kind in ('columns', 'lists') else kind[:3]}"
        if kind == "npy":
            np.save(path, flight)
        elif kind == "npz":
            np.savez(path, time=np.arange(400.0), imu=flight)
        elif kind == "episodes":
            path = tmp_path / "log.npy"
            np.save(path, flight.reshape(4, 100, SIZE))
        elif kind == "columns":
            _parquet(path, {f"o{i}": flight[:, i] for i in range(SIZE)})
        elif kind == "lists":
            _parquet(path, {"obs": flight.tolist(), "time": np.arange(400)})
        else:
            path.mkdir()
            np.savez(path / "a.npz", observations=flight[:150])
            np.savez(path / "b.npz", observations=flight[150:])
            (path / "notes.txt").write_text("calm")
        rows = read_recording(path).rows((SIZE,), np.dtype(np.float32))
        np.testing.assert_array_equal(rows, flight.astype(np.float32))

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"a": np.zeros((99, 3))}, r"no array holds observations of shape \(5,\)"),
            ({"a": np.zeros((99, 5)), "b": np.zeros((99, 5))}, "several arrays"),
            ({"a": np.zeros((39, 5))}, "39 observations; at least 40"),
            ({"a": np.full((99, 5), np.nan)}, "NaN or infinity"),
            ({"a": np.array([object()])}, "cannot be read"),
        ],
    )
    def test_refusals(self, arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
        np.savez(tmp_path / "log.npz", **arrays)
        with pytest.raises(ObservationsError, match=message):
            read_recording(tmp_path / "log.npz").rows((SIZE,), np.dtype(np.float32))

    def test_bytes_stay_bytes_or_are_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "log.npy", np.full((99, 5), 200.0))
        rows = read_recording(tmp_path / "log.npy").rows((SIZE,), np.dtype(np.uint8))
        assert rows.dtype == np.uint8
        np.save(tmp_path / "log.npy", np.full((99, 5), 0.5))
        with pytest.raises(ObservationsError, match="not uint8"):
            read_recording(tmp_path / "log.npy").rows((SIZE,), np.dtype(np.uint8))

    @pytest.mark.parametrize("name", ["missing.npz", "log.csv", "empty", "broken.parquet"])
    def test_what_is_no_recording(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("1,2")
        (tmp_path / "broken.parquet").write_text("x")
        (tmp_path / "empty").mkdir()
        with pytest.raises(ObservationsError, match=name):
            read_recording(tmp_path / name)


def test_a_missing_file_ends_the_run_at_once(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("--drlc-observations=nowhere.npz")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nowhere.npz: no such file or folder*"])


def test_a_recording_of_another_robot(tmp_path: Path, model: bytes, flight: NDArray[Any]) -> None:
    (tmp_path / "policy.onnx").write_bytes(model)
    found = bench(tmp_path, tmp_path / "policy.onnx", flight[:, :3])
    with pytest.raises((ObservationsError, PolicyError), match=r"of shape \(5,\)"):
        found.load(str(tmp_path / "policy.onnx"))
    found.close()
