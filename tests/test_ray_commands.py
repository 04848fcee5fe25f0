"""The commands on a Ray cluster: what they write is what they write without one."""

import contextlib
import csv
import json
import shutil
import threading

import pytest
from safetensors.numpy import load_file
from test_deploy import TOOLS

from conftest import ROOT
from pytest_drlcompress.__main__ import main
from pytest_drlcompress.baselines.record import read_baseline_record
from pytest_drlcompress.frontier import halving, ladder

pytest.importorskip("ray", reason="needs pytest-drlcompress[ray]")

from ray_cluster import kill, small_cluster, worker_pids

BASELINES = ["--baselines", str(ROOT / "baselines")]
SPARSE = "rounds=1,samples=256,steps=20"
RECIPES = """
[tiny-a]
algorithm = "trpo"
environment = "InvertedPendulum-v5"
steps = 512
segment = 128
n_envs = 2
normalize = true
net_arch = [16, 16]
activation = "Tanh"
hyperparameters = {n_steps = 64, batch_size = 64, n_critic_updates = 2}

[tiny-b]
algorithm = "sac"
environment = "InvertedPendulum-v5"
steps = 300
segment = 100
net_arch = [16, 16]
hyperparameters = {learning_starts = 100, batch_size = 32, train_freq = 8, gradient_steps = 2}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes, which have an episode cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("nodes")))
        with small_cluster(2) as cluster:
            yield cluster


@pytest.fixture
def on_ray(cluster, tmp_path, monkeypatch):
    """Run a command on the cluster; what was measured without it is not known there."""

    def command(arguments):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return main([*arguments, "--executor=ray", f"--ray-address={cluster.address}"])

    return command


@pytest.fixture
def lines(monkeypatch):
    """What is drawn on the live line."""
    drawn = []

    @contextlib.contextmanager
    def status_line(title):
        yield drawn.append

    monkeypatch.setattr("pytest_drlcompress.evaluation.executors.waiting.status_line", status_line)
    return drawn


def test_sweep(tmp_path, on_ray, capsys):
    command = ["sweep", "trpo-hopper", "--norm=l2", "--ratios=10,60", "--max-episodes=8",
               "--no-plot", *BASELINES]  # fmt: skip
    assert main([*command, f"--out={tmp_path / 'here'}"]) == 0
    assert on_ray([*command, f"--out={tmp_path / 'there'}"]) == 0
    rows = []
    for folder in ("here", "there"):
        with (tmp_path / folder / "sweep.csv").open() as file:
            rows.append([row | {"latency": ""} for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2
    assert "ray: 2 workers on 2 nodes: " in capsys.readouterr().err


def test_sparsity(tmp_path, on_ray, lines, capsys):
    command = ["sparsity", "trpo-hopper", "--levels=60", "--tails=none", "--max-episodes=8",
               f"--options={SPARSE}", *BASELINES]  # fmt: skip
    assert main([*command, f"--out={tmp_path / 'here'}"]) == 0
    assert on_ray([*command, f"--out={tmp_path / 'there'}"]) == 0
    here, there = (cells(tmp_path / folder) for folder in ("here", "there"))
    assert here == there
    assert len(here) == 1
    assert any(" cells done, " in line and line.endswith(" steps/s") for line in lines)
    assert "ray: " in capsys.readouterr().err


def cells(folder):
    return {path.name: timeless(json.loads(path.read_text())) for path in folder.iterdir()}


def timeless(value):
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if "seconds" not in k}
    return value


@TOOLS
def test_search(tmp_path, on_ray, lines, capsys, monkeypatch):
    monkeypatch.setattr(ladder, "widest_that_fits", lambda *given: (8, ""))
    monkeypatch.setattr(ladder, "narrow_arms", lambda widest: [])
    monkeypatch.setattr(ladder, "sparsest_needed", lambda *given: None)
    monkeypatch.setattr(ladder, "quick_arms", lambda: [arm("ptsq"), arm("ptdq")])
    monkeypatch.setattr(halving, "RUNGS", (1.0,))
    monkeypatch.setattr("pytest_drlcompress.frontier.search.EPISODES", (2,))
    command = ["search", "trpo-hopper", "--budget=weights=40kB", "--min-retention=0.5",
               "--max-episodes=40", *BASELINES]  # fmt: skip
    codes = [
        main([*command, f"--out={tmp_path / 'here'}"]),
        on_ray([*command, f"--out={tmp_path / 'there'}"]),
    ]
    assert codes == [0, 0], capsys.readouterr()
    results = []
    for folder in ("here", "there"):
        found = [json.loads(path.read_text()) for path in (tmp_path / folder).glob("*.json")]
        results.append({one["recipe"]: timeless(one) for one in found})
        results[-1]["winner"] = (tmp_path / folder / "winner.onnx").read_bytes()
    assert results[0] == results[1]
    assert len(results[0]) == 3
    assert any(" trials done, " in line for line in lines)
    assert "ray: 2 workers on 2 nodes" in capsys.readouterr().out


def arm(recipe):
    return ladder.Arm(recipe, lambda share: recipe)


def test_baselines_measure(tmp_path, on_ray, capsys):
    for folder in ("here", "there"):
        shutil.copytree(ROOT / "baselines/trpo-hopper", tmp_path / folder / "trpo-hopper")
        record = tmp_path / folder / "trpo-hopper/baseline.json"
        old = json.loads(record.read_text())
        old["versions"]["mujoco"] = "3.0.0"  # so that all is measured anew
        record.write_text(json.dumps(old))
        command = ["baselines", "--measure", "--episodes=24", f"--baselines={tmp_path / folder}"]
        assert (on_ray if folder == "there" else main)(command) == 0
    here, there = (
        read_baseline_record(tmp_path / folder / "trpo-hopper") for folder in ("here", "there")
    )
    assert here == there
    assert len(here.episodes) == 24
    assert "2 nodes: 24 episodes" in capsys.readouterr().err


@pytest.fixture
def checkpoints_read_often(monkeypatch):
    monkeypatch.setattr("pytest_drlcompress.cli.train_elsewhere._READ_S", 0.5)


@pytest.mark.usefixtures("checkpoints_read_often")
def test_train_all_and_a_worker_that_is_killed(tmp_path, cluster, on_ray, lines, capfd):
    """Its training ends with it, goes on elsewhere, and is the one that nobody disturbed."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "recipes.toml").write_text(RECIPES)
    assert main(train(tmp_path / "here")) == 1
    struck = []

    def strike():
        while not struck and ended.wait(0.02) is False:
            if (tmp_path / "there/work/tiny-a/state.json").exists():
                for node in cluster.worker_nodes:
                    struck.extend(worker_pids(node))
                for pid in struck:
                    kill(pid)

    ended = threading.Event()
    thread = threading.Thread(target=strike)
    thread.start()
    try:
        code = on_ray(train(tmp_path / "there"))
    finally:
        ended.set()
        thread.join()
    said = capfd.readouterr()
    assert code == 1
    assert struck
    assert "another process is training" not in said.out + said.err
    assert "workers lost" in said.err
    assert said.err.count("not trained: tiny-b\n") == 2, "so short a training is not recorded"
    for baseline in ("tiny-a", "tiny-b"):
        assert trained(tmp_path / "there", baseline) == trained(tmp_path / "here", baseline)
    assert any(" trainings done, 2 running, 0 waiting" in line for line in lines)


def train(folder):
    return [
        "train", "--all", "--episodes=20", f"--recipes={folder / 'recipes.toml'}",
        f"--work={folder / 'work'}", f"--out={folder / 'out'}",
    ]  # fmt: skip


def trained(folder, baseline):
    """State and weights, and what became of the reference, without times."""
    work, out = folder / "work" / baseline, folder / "out" / baseline
    weights = load_file(work / "best/policy.safetensors")
    record = out / ("baseline.json" if baseline == "tiny-a" else "training.json")
    return (
        timeless(json.loads((work / "state.json").read_text())),
        {name: array.tolist() for name, array in weights.items()},
        timeless(json.loads(record.read_text())),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all", "--cores=4"], "one core and no GPU"),
        (["--all", "--device=cuda"], "one core and no GPU"),
        (["tiny-a", "--recipe=sparse@95"], "leave out --executor=ray"),
    ],
)
def test_trainings_that_ray_does_not_take(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes.toml").write_text(RECIPES)
    assert main(["train", *arguments, "--recipes=recipes.toml", "--executor=ray"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
