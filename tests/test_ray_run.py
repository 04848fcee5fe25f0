"""A pytest run on a Ray cluster, and what is left of it when every node dies."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs pytest-drlcompress[ray]")

from ray_cluster import raylet, small_cluster

ROOT = Path(__file__).resolve().parent.parent

CONFTEST = """
import os, signal
from pathlib import Path

def pytest_drlcompress_verdict(config, verdict, nodeid):
    if "RAYLET" in os.environ:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if os.environ["RAYLET"] in (folder.name, fields[1]):
                os.kill(int(folder.name), signal.SIGKILL)
"""


def run(folder, *options, **environment):
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "test_return_retention.py", "-p", "no:cacheprovider",
            "--drlc-policy=trpo-hopper", "--drlc-variant=fp32", "--drlc-variant=l2@10",
            "--drlc-max-episodes=40", "--drlc-precision=1e-6", "--drlc-inconclusive=skip",
            "--drlc-no-cache", f"--drlc-report={report}", *options,
        ],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(report.read_text()) if report.exists() else {"verdicts": []}
    for verdict in found["verdicts"]:
        # the command, which the message ends with, names the cluster
        del verdict["details"]["seconds"], verdict["command"], verdict["message"]
    return ended, found["verdicts"]


@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "baselines/trpo-hopper", tmp_path / "baselines/trpo-hopper")
    shutil.copy(ROOT / "suites/test_return_retention.py", tmp_path)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def test_every_node_dies(project):
    """The gate in flight fails and says so; what was judged before is in the report, unchanged."""
    _, here = run(project)
    with small_cluster(1) as cluster:
        (node,) = cluster.worker_nodes
        ended, left = run(
            project,
            "--drlc-executor=ray",
            f"--drlc-ray-address={cluster.address}",
            RAYLET=str(raylet(node)),
        )
    assert "the Ray cluster was lost: every node has died" in ended.stdout
    assert ended.returncode == 1
    assert [verdict["variant"] for verdict in left] == ["fp32"]
    assert left == here[:1]
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-n2"], "spreads the run by itself: leave out -n"),
        (["--drlc-ray-address=127.0.0.1:1"], "nothing answers there"),
        (["--drlc-ray-runtime-env=nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_what_cannot_be_is_said_at_once(project, options, message):
    ended, _ = run(project, "--drlc-executor=ray", *options)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
