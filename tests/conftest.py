"""What the plugin's own tests share."""

import importlib.util
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from baseline_copies import copy_baseline
from counting import ENV_ID, CountingEnv
from hypothesis import settings

import pytest_drlcompress.baselines.fingerprint
import pytest_drlcompress.baselines.verdicts

# pytester forgets modules that its runs import, and NumPy and torch refuse to be imported twice
import pytest_drlcompress.compression.registry
import pytest_drlcompress.reporting.report
import pytest_drlcompress.reporting.terminal
import pytest_drlcompress.reporting.write
import pytest_drlcompress.workbench.workbench
from pytest_drlcompress.gates.kinds import GATE_KINDS
from pytest_drlcompress.onnx_graph.export import trace_onnx

pytest_drlcompress.compression.registry.builtin_registry()  # imports every step
for kind in GATE_KINDS:
    kind.load_judge()
if all(map(importlib.util.find_spec, ("jinja2", "matplotlib"))):
    import pytest_drlcompress.reporting.html

# shared machines stall: a property is slow or fast, not right or wrong
settings.register_profile("drlcompress", deadline=None)
settings.load_profile("drlcompress")

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz-minutes", type=float, default=0, help="damaged files through every reader"
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Never read or fill the user's episode cache; the tests of one run share theirs."""
    root = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "drlcompress-cache"))


@pytest.fixture(autouse=True)
def _not_in_ci(monkeypatch):
    """Recording is refused where CI is set, which is where these tests run, too."""
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture(scope="session")
def exporter():
    """torch imports parts of its exporter at the first export; see the imports above."""
    trace_onnx(torch.nn.Sequential(torch.nn.Linear(2, 1)), (2,), np.dtype(np.float32))


@pytest.fixture
def suites(pytester, exporter):
    """A project with a copy of the suites and of one baseline (TRPO Hopper)."""
    shutil.copytree(ROOT / "suites", pytester.path / "suites")
    copy_baseline("trpo-hopper", pytester.path / "baselines")
    return pytester


@pytest.fixture
def counting_env():
    """The environment of ``counting.counting()``, known to Gymnasium."""
    gym.register(ENV_ID, CountingEnv, disable_env_checker=True)
    yield
    del gym.registry[ENV_ID]
