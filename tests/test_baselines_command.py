"""``python -m pytest_drlcompress baselines``: the list, the verification, the document."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from baseline_copies import BASELINES, copy_baseline

from conftest import ROOT
from pytest_drlcompress.__main__ import main
from pytest_drlcompress.baselines.record import (
    FAILURE,
    current_versions,
    rate,
    read_baseline_record,
    same_environment,
)
from pytest_drlcompress.core.files import write_json
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.pool import POOL_FILE, pool_digest, write_pool
from pytest_drlcompress.evaluation.reference import Reference
from pytest_drlcompress.evaluation.reproduce import compare
from pytest_drlcompress.policies.load import baseline_ids
from pytest_drlcompress.policies.store import load_network, save_network
from pytest_drlcompress.reporting.baseline_table import markdown_table, read_rows, sparkline
from pytest_drlcompress.training.recipes import read_recipes

TASKS = ("HalfCheetah", "HumanoidStandup", "Ant", "Humanoid", "Hopper")
GRID = {*product(("trpo", "ppo", "ddpg", "td3", "sac"), TASKS)}
GRID |= {("sac", "Walker2d"), ("sac", "Swimmer")}
GAMES = product(("pong", "boxing", "crazyclimber", "tutankham"), ("cnn", "resnet"))
ATARI = {f"dqn-{game}-{network}" for game, network in GAMES}


@pytest.fixture
def folder(tmp_path):
    """A folder of baselines with one of them, TRPO Hopper."""
    copy_baseline("trpo-hopper", tmp_path)
    return tmp_path


def baselines(folder: Path, *arguments: str) -> int:
    return main(["baselines", "--baselines", str(folder), *arguments])


def read(folder: Path):
    return json.loads((folder / "trpo-hopper/baseline.json").read_text())


def change_weights(folder: Path, factor: float) -> str:
    network = load_network(folder / "trpo-hopper")
    network[-2].weight.data.mul_(factor)
    return save_network(folder / "trpo-hopper", network)


def change_returns(folder: Path, returns) -> None:
    """Record other returns, of episodes of 1,000 steps."""
    episodes = [Episode(seed, value, 1000) for seed, value in enumerate(returns)]
    write_pool(folder / "trpo-hopper" / POOL_FILE, episodes)
    record = read(folder)
    pool = {"episodes": len(episodes), "sha256": pool_digest(episodes)}
    write_json(
        folder / "trpo-hopper/baseline.json",
        record | {"reference": record["reference"] | pool | {"mean": float(np.mean(returns))}},
    )


def reference(returns, random=(0.0, 1.0)) -> Reference:
    return Reference(tuple(returns), tuple(range(len(returns))), random, (0.0, 1.0))


def test_recipes_are_the_papers_grid():
    every = read_recipes(BASELINES / "recipes.toml")
    assert every.keys() >= ATARI
    recipes = {name: recipe for name, recipe in every.items() if name not in ATARI}
    tasks = {name: EnvSpec.parse(r.environment).id for name, r in recipes.items()}
    assert {(r.algorithm, tasks[n].removesuffix("-v5")) for n, r in recipes.items()} == GRID
    for name, recipe in recipes.items():
        assert name == f"{recipe.algorithm}-{tasks[name].removesuffix('-v5').lower()}"
        assert recipe.source
        assert (recipe.published is None) == (tasks[name] == "HumanoidStandup-v5"), name


def test_recorded_baselines_were_trained_by_their_recipes():
    recipes = read_recipes(BASELINES / "recipes.toml")
    for name in baseline_ids(BASELINES):
        record = read_baseline_record(BASELINES / name)
        recorded = {key: record.training[key] for key in recipes[name].to_json()}
        assert recorded | {"source": ""} == recipes[name].to_json() | {"source": ""}, name
        assert record.quality == rate(record.reference, record.training), name


def test_the_table_in_the_documentation_is_what_the_command_writes(tmp_path):
    rows = read_rows(BASELINES, read_recipes(BASELINES / "recipes.toml"), tmp_path)
    assert markdown_table(rows) in (ROOT / "docs/baselines.md").read_text(), (
        "run: python -m pytest_drlcompress baselines --markdown docs/baselines.md"
    )


class TestList:
    def test_every_recipe_has_its_line(self, capsys):
        assert baselines(BASELINES) == 0
        lines = capsys.readouterr().out.splitlines()
        table = lines[1 : lines.index("")]
        assert [line.split()[0] for line in table] == list(read_recipes(BASELINES / "recipes.toml"))
        hopper = next(line for line in lines if line.startswith("trpo-hopper "))
        for figure in (
            "3,367 +- 11",
            "1,000",
            "15",
            "140",
            "full",
            "501,760",
            "21,684",
            "92a08a10",
        ):
            assert figure in hopper
        assert lines[-1].startswith("35 baselines: ")

    def test_what_is_not_trained_says_how_far_it_is(self, capsys, tmp_path):
        shutil.copy(BASELINES / "recipes.toml", tmp_path)
        write_json(tmp_path / "work/ddpg-humanoid/state.json", {"steps": 12345})
        assert baselines(tmp_path, "--work", str(tmp_path / "work")) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "not trained, 12,345 steps so far" in next(x for x in lines if "ddpg-humanoid " in x)
        assert lines[-1] == "35 baselines: 0 competent (0 full, 0 partial), 35 not trained"

    def test_weights_that_are_not_the_recorded_ones_are_damage(self, capsys, folder):
        sha256 = change_weights(folder, 0.5)
        assert baselines(folder) == 1
        output = capsys.readouterr().out
        assert f"has SHA-256 {sha256[:12]}, recorded 92a08a10" in output
        assert output.splitlines()[-1].endswith("1 damaged")

    def test_an_unknown_id_is_one_clear_error(self, capsys, folder):
        assert baselines(folder, "trpo-hoper") == 2
        assert capsys.readouterr().err == (
            "error: no baseline or recipe trpo-hoper; known: trpo-hopper\n"
        )

    def test_a_folder_without_baselines_is_one_clear_error(self, capsys, tmp_path):
        assert baselines(tmp_path) == 2
        assert "holds no baseline and no recipes.toml" in capsys.readouterr().err

    def test_a_training_that_failed_is_shown_with_its_curve(self, capsys, folder):
        failure = {
            "policy": {"mean": -5, "deviation": 1, "length": 9, "random": -4, "zero": -6},
            "training": {
                "published": 990, "trained_steps": 2000, "seconds": 60,
                "curve": [[1e3, -9], [2e3, -5]],
            },
            "reason": "It does not beat the random policy. Do this.",
        }  # fmt: skip
        write_json(folder / "ddpg-ant" / FAILURE, failure)
        (folder / "recipes.toml").write_text(
            '[ddpg-ant]\nalgorithm = "ddpg"\nenvironment = "Ant-v5"\nsteps = 1\nsegment = 1'
        )
        assert baselines(folder) == 0
        output = capsys.readouterr().out
        assert "▁█" in next(x for x in output.splitlines() if x.startswith("ddpg-ant "))
        assert "ddpg-ant: It does not beat the random policy.\n" in output
        assert baselines(folder, "--markdown") == 0
        assert "Its curve: 1,000: -9, 2,000: -5." in capsys.readouterr().out


class TestVerify:
    def test_the_recorded_returns_come_again(self, capsys, folder):
        assert baselines(folder, "--verify") == 0
        assert "1 of 1 baselines verified" in capsys.readouterr().out

    def test_a_changed_hash_fails(self, capsys, folder):
        change_weights(folder, 1.0 + 1e-3)
        assert baselines(folder, "--verify") == 1
        assert "trpo-hopper: FAIL" in (output := capsys.readouterr().out)
        assert "is not the file that baseline.json describes" in output

    def test_another_policy_under_the_right_hash_fails(self, capsys, folder):
        record = read(folder) | {"sha256": change_weights(folder, 0.9)}
        write_json(folder / "trpo-hopper/baseline.json", record)
        assert baselines(folder, "--verify") == 1
        assert "trpo-hopper: FAIL  OUTSIDE the recorded" in capsys.readouterr().out

    def test_other_rounding_is_no_failure(self, capsys, folder):
        """As on another processor: other returns for the same seeds, of the same distribution."""
        returns = read_baseline_record(folder / "trpo-hopper").reference.returns
        change_returns(folder, [*returns[40:60], *returns[20:]])
        assert baselines(folder, "--verify") == 0
        assert "ok  within the recorded distribution" in capsys.readouterr().out

    def test_wrong_alarms_are_as_rare_as_stated_and_shifts_are_seen(self):
        generator = np.random.default_rng(0)
        alarms = seen = 0
        for _ in range(1000):
            pool = reference(generator.normal(3000, 300, 200))
            alarms += compare(pool, generator.normal(3000, 300, 20)).changed(0.05)
            seen += compare(pool, generator.normal(2400, 300, 20)).changed(0.01 / 27)
        assert alarms <= 50 + 3 * np.sqrt(1000 * 0.05 * 0.95)
        assert seen >= 900

    def test_rounding_is_forgiven(self):
        values = np.linspace(1000, 1100, 40)
        assert compare(reference(values), list(values[:20] * (1 + 1e-9))).p is None
        assert compare(reference(values), list(values[:20] * (1 + 1e-4))).p is not None


def test_measuring_again_keeps_the_policy_and_its_verdicts(capsys, monkeypatch, folder):
    monkeypatch.setattr("pytest_drlcompress.baselines.record.POOL_EPISODES", 20)
    before = read(folder)
    change_returns(folder, [0.0] * 200)
    damaged = read(folder)
    del damaged["quality"]
    damaged["versions"]["mujoco"] = "1.0"  # with others than these versions: measured anew
    write_json(folder / "trpo-hopper/baseline.json", damaged)
    assert baselines(folder, "--measure") == 0
    after = read(folder)
    assert after["sha256"] == before["sha256"]
    assert after["verdicts"] == before["verdicts"]
    assert after["quality"] == "full"
    measured = read_baseline_record(folder / "trpo-hopper")
    assert np.allclose(measured.reference.mean, before["reference"]["mean"], rtol=0.01)
    assert [episode.length for episode in measured.episodes] == [1000] * 20
    assert "was 0.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("env", "changed", "same"),
    [
        ("Hopper-v5", {}, True),
        ("Hopper-v5", {"mujoco": "1.0"}, False),
        ("Hopper-v5", {"gymnasium": "1.0"}, False),
        ("Hopper-v5", {"gymnasium": None}, False),
        ("Hopper-v5", {"ale-py": "0.1", "torch": "2.0"}, True),
        ("CartPole-v1", {"mujoco": None}, True),
        ("ALE/Pong-v5:preprocessing=gymnasium", {"mujoco": "1.0"}, True),
        ("ALE/Pong-v5:preprocessing=gymnasium", {"ale-py": "0.1"}, False),
    ],
)
def test_only_what_steps_an_environment_makes_its_returns_others(env, changed, same):
    spec = EnvSpec.parse(env)
    recorded = {**current_versions(spec), **changed}
    recorded = {name: version for name, version in recorded.items() if version is not None}
    assert same_environment(recorded, spec) is same


@pytest.mark.parametrize(
    ("published", "mean", "random", "quality"),
    [
        (100, 50, (0.0, 0.0), "full"),
        (100, 49, (0.0, 0.0), "partial"),
        (None, 200, (100.0, 100.0), "full"),
        (None, 199, (100.0, 100.0), "partial"),
        (None, 199, (-100.0, -100.0), "unrated"),
    ],
)
def test_quality(published, mean, random, quality):
    assert rate(reference((mean, mean), random), {"published": published}) == quality
    assert rate(reference((mean, mean), random), {"imported_from": "a.zip"}) == "unrated"


def test_the_document_needs_its_marks(capsys, folder, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- baselines: begin -->\nold\n<!-- baselines: end -->\nafter\n")
    assert baselines(folder, "--markdown", str(page)) == 0
    lines = page.read_text().splitlines()
    assert lines[:2] == ["before", "<!-- baselines: begin -->"]
    assert lines[-2:] == ["<!-- baselines: end -->", "after"]
    assert any(line.startswith("| trpo-hopper | 3,367 +- 11 |") for line in lines)
    kept = lines.index("| retention | fp32 | ptdq | ptsq | ptsq:equalize=true |")
    assert lines[kept + 2] == "| trpo-hopper | PASS 0.999 | PASS 0.995 | PASS 1.000 | PASS 1.000 |"
    assert lines[kept + 3] == "| |" + " 1 of 1 PASS |" * 4
    page.write_text("nothing")
    assert baselines(folder, "--markdown", str(page)) == 2
    assert "must hold one <!-- baselines: begin -->" in capsys.readouterr().err


def test_sparkline():
    assert sparkline([]) == ""
    assert sparkline([1, 1]) == "▁▁"
    assert sparkline([0, 7]) == "▁█"
    long = sparkline([float(n) for n in range(100)])
    assert (len(long), long[0], long[-1]) == (16, "▁", "█")
