"""A pytest run on a Ray cluster, and what is left of it when every node dies."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs pytest-drlcompress[ray]")

from ray_cluster import orphans, raylet, small_cluster

ROOT = Path(__file__).resolve().parent.parent

CONFTEST = """
import os, signal
from pathlib import Path

def pytest_drlcompress_verdict(config, verdict, nodeid):
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, fields = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        parent = fields.split()[1]
        mine = name == os.environ.get("KILL_MINE") and parent == str(os.getpid())
        if mine or os.environ.get("KILL") in (folder.name, parent):
            os.kill(int(folder.name), signal.SIGKILL)
"""
"""Once there is a verdict, kills a process and its children, or one that the run has started."""


ON_RAY = ["--drlc-executor=ray", "--drlc-variant=qat:steps=100000"]
"""A second cell, in flight for minutes."""


def run(folder, *options, **environment):
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "test_return_retention.py", "-p", "no:cacheprovider",
            "--drlc-policy=trpo-hopper", "--drlc-variant=fp32",
            "--drlc-max-episodes=40", "--drlc-precision=1e-6", "--drlc-inconclusive=skip",
            "--drlc-no-cache", f"--drlc-report={report}", *options,
        ],
        cwd=folder, env={**os.environ, "RAY_worker_niceness": "0", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(report.read_text()) if report.exists() else {"verdicts": []}
    for verdict in found["verdicts"]:
        # the command, which the message ends with, names the cluster
        del verdict["details"]["seconds"], verdict["command"], verdict["message"]
    return ended, found["verdicts"]


def fill(folder):
    shutil.copytree(ROOT / "baselines/trpo-hopper", folder / "baselines/trpo-hopper")
    shutil.copy(ROOT / "suites/test_return_retention.py", folder)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


@pytest.fixture
def project(tmp_path):
    return fill(tmp_path)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The verdict of a run without Ray."""
    _, verdicts = run(fill(tmp_path_factory.mktemp("here")))
    return verdicts


def one_clear_failure(ended, left, here, why):
    """The gate in flight fails and says so; what was judged before is in the report, unchanged."""
    said = ended.stdout + ended.stderr
    assert said.count(f"the Ray cluster was lost: {why}") == 1, said
    assert ended.returncode == 1
    assert [verdict["variant"] for verdict in left] == ["fp32"]
    assert left == here
    assert "Traceback" not in said


def test_every_node_dies(project, here):
    with small_cluster(1) as cluster:
        (node,) = cluster.worker_nodes
        ended, left = run(
            project,
            *ON_RAY,
            f"--drlc-ray-address={cluster.address}",
            KILL=str(raylet(node)),
        )
    one_clear_failure(ended, left, here, "every node has died")


@pytest.mark.parametrize(
    ("process", "why"),
    [
        ("gcs_server", "its head node does not answer"),
        ("raylet", "Ray's process on this machine, the raylet, has died"),
    ],
)
def test_a_process_of_the_head_is_killed(project, here, process, why):
    """Ray itself would start another cluster, or end this process and its verdicts with it."""
    before = orphans()
    started = time.monotonic()
    ended, left = run(project, *ON_RAY, "--drlc-workers=1", KILL_MINE=process)
    assert time.monotonic() - started < 150
    one_clear_failure(ended, left, here, why)
    end = time.monotonic() + 15
    while left_over := orphans() - before:
        assert time.monotonic() < end, left_over
        time.sleep(0.5)


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
