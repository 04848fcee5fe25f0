"""Training resumes after kill -9 and ends in the same weights as an uninterrupted one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from filelock import FileLock
from safetensors.numpy import load_file

from conftest import ROOT
from pytest_drlcompress.__main__ import main
from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.training.models import check_hyperparameters
from pytest_drlcompress.training.recipes import choose, find, read_recipes
from pytest_drlcompress.training.train import train as run_training

RECIPES = """
[tiny-trpo]
algorithm = "trpo"
environment = "Pendulum-v1"
steps = 768
segment = 256
n_envs = 2
normalize = true
net_arch = [16, 16]
activation = "Tanh"
hyperparameters = {n_steps = 64, batch_size = 64, n_critic_updates = 2}

[tiny-sac]
algorithm = "sac"
environment = "Pendulum-v1"
steps = 400
segment = 100
normalize = true
net_arch = [16, 16]
hyperparameters = {learning_starts = 100, batch_size = 32, train_freq = 8, gradient_steps = 2}
"""

WHOLE = '[a]\nalgorithm = "sac"\nenvironment = "Pendulum-v1"\nsteps = 1\nsegment = 1\n'


def command(folder, *arguments):
    return [
        sys.executable, "-m", "pytest_drlcompress", "train", *arguments,
        "--recipes", str(folder / "recipes.toml"),
        "--work", str(folder / "work"), "--out", str(folder / "out"), "--episodes=20",
    ]  # fmt: skip


def train(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(folder, *arguments), capture_output=True, text=True, env=environment, check=False
    )


def kill_at_a_random_moment(folder, baseline, chance):
    """Kill -9 somewhere in learning, evaluating or storing, after one more segment."""
    process = subprocess.Popen(command(folder, baseline), stdout=subprocess.DEVNULL)
    before = segment(folder, baseline)
    while segment(folder, baseline) == before:
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.5))
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"


def segment(folder, baseline):
    state = folder / "work" / baseline / "state.json"
    return json.loads(state.read_text())["segment"] if state.exists() else 0


def result(folder, baseline):
    state = json.loads((folder / "work" / baseline / "state.json").read_text())
    del state["seconds"]
    return state, load_file(folder / "work" / baseline / "best" / "policy.safetensors")


@pytest.mark.parametrize(("baseline", "kills"), [("tiny-trpo", 1), ("tiny-sac", 2)])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, baseline, kills):
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
        (folder / "recipes.toml").write_text(RECIPES)
    chance = random.Random(baseline)
    for _ in range(kills):
        kill_at_a_random_moment(folders[1], baseline, chance)
    ended = [train(folder, baseline) for folder in folders]
    states, weights = zip(*(result(folder, baseline) for folder in folders), strict=True)
    assert states[0] == states[1]
    assert len(states[0]["curve"]) == {"tiny-trpo": 3, "tiny-sac": 4}[baseline]
    assert weights[0].keys() == weights[1].keys()
    for name, array in weights[0].items():
        assert (array == weights[1][name]).all(), name
    for run, folder in zip(ended, folders, strict=True):
        # so short a training learns nothing, and what has learned nothing is not recorded
        assert run.returncode == 2, run.stderr
        assert "is not recorded: The baseline does not significantly beat" in run.stderr
        failure = json.loads((folder / "out" / baseline / "training.json").read_text())
        assert failure["training"]["curve"] == states[0]["curve"]
        assert failure["reason"].startswith("The baseline does not significantly beat")
        assert not (folder / "out" / baseline / "baseline.json").exists()


def test_more_steps_go_on_from_where_the_training_ended(tmp_path):
    (tmp_path / "recipes.toml").write_text(RECIPES)
    recipe = replace(read_recipes(tmp_path / "recipes.toml")["tiny-sac"], steps=416, segment=104)
    whole = run_training(recipe, tmp_path / "whole")
    run_training(replace(recipe, steps=208), tmp_path / "longer")
    ended = []
    longer = run_training(recipe, tmp_path / "longer", on_segment=ended.append)
    assert [state.steps for state in ended] == [312, 416]
    assert replace(longer, seconds=0) == replace(whole, seconds=0)
    arrays = [
        load_file(tmp_path / name / "best/policy.safetensors") for name in ("whole", "longer")
    ]
    assert all((arrays[0][name] == arrays[1][name]).all() for name in arrays[0])

    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(replace(recipe, steps=832), tmp_path / "longer", on_segment=stop)
    enough = run_training(replace(recipe, steps=520), tmp_path / "longer")
    assert (enough.steps, enough.planned) == (520, 520), "fewer steps than planned end it here"
    assert enough.curve[:4] == longer.curve
    for other in (replace(recipe, steps=104), replace(recipe, steps=104, seed=2)):
        again = run_training(other, tmp_path / "longer")
        assert len(again.curve) == 1, "another recipe, or fewer steps than trained, starts anew"


def test_a_training_under_way_is_not_started_twice(tmp_path):
    (tmp_path / "recipes.toml").write_text(RECIPES)
    names = "tiny-trpo", "tiny-sac"
    with ExitStack() as stack:
        for name in names:
            (tmp_path / "work" / name).mkdir(parents=True)
            stack.enter_context(FileLock(tmp_path / "work" / name / ".lock"))
        run = train(tmp_path, "--all", "--jobs=2")
    assert run.returncode == 1
    for name in names:
        assert f"error: another process is training {name} in" in run.stderr
    assert run.stderr.endswith("not trained: tiny-trpo, tiny-sac\n")


class TestRecipes:
    def read(self, tmp_path, text):
        path = tmp_path / "recipes.toml"
        path.write_text(text)
        return read_recipes(path)

    def test_defaults_apply_to_their_algorithm(self, tmp_path):
        recipes = self.read(
            tmp_path,
            """
            [defaults.sac]
            segment = 7
            hyperparameters = {gamma = 0.9, batch_size = 5}
            [a]
            algorithm = "sac"
            environment = "Hopper-v5"
            steps = 1
            hyperparameters = {gamma = 0.5}
            """,
        )
        assert recipes["a"].segment == 7
        assert recipes["a"].hyperparameters == {"gamma": 0.5, "batch_size": 5}

    @pytest.mark.parametrize("task", ["Ant-v5", "Ant-v5:frame_skip=4"])
    def test_a_task_is_found_with_and_without_its_options(self, tmp_path, task):
        text = '[a]\nalgorithm = "sac"\nenvironment = "Ant-v5:frame_skip=4"\nsteps = 1\nsegment = 1'
        recipes = self.read(tmp_path, text)
        assert find(recipes, "sac", task).id == "a"
        with pytest.raises(TrainingError, match="sac has: Ant-v5:frame_skip=4"):
            find(recipes, "sac", "Ant-v5:frame_skip=3")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[a", "cannot be read"),
            ('[a]\nalgorithm = "sac"', "is incomplete"),
            (
                '[a]\nalgorithm="ppo"\nenvironment="E-v0"\nsteps=8\nsegment=8\ncritic_norm=true',
                "critic_norm is for sac, td3, ddpg, not ppo",
            ),
            ('[a]\nalgorithm = "sac"\nspeed = 3', "unknown keys speed"),
            (
                '[a]\nalgorithm = "a3c"\nenvironment = "E"\nsteps = 1\nsegment = 1',
                "unknown algorithm 'a3c'",
            ),
            (
                '[a]\nalgorithm = "sac"\nenvironment = "E"\nsteps = 0\nsegment = 1',
                "needs steps > 0",
            ),
            ("a = 3", "a must be a table"),
            ("defaults = 3", "defaults must be a table"),
            ("defaults.sac = 3", "defaults.sac must be a table"),
            (f"{WHOLE}hyperparameters = 3", "needs hyperparameters as a table, not 3"),
            (f"{WHOLE}seed = -1", "needs seed >= 0, a whole number, not -1"),
            (f"{WHOLE}n_envs = 1.5", "needs n_envs > 0, a whole number, not 1.5"),
            (f"{WHOLE}n_envs = true", "needs n_envs > 0, a whole number, not True"),
            (f"{WHOLE}normalize = 1", "needs normalize true or false, not 1"),
            (f"{WHOLE}net_arch = 64", "needs net_arch as whole numbers in brackets"),
            (f"{WHOLE}net_arch = [64, 0]", "needs net_arch as whole numbers in brackets"),
            (f"{WHOLE}activation = 'Swish'", "needs activation one of ReLU, Tanh"),
            (f"{WHOLE}action_noise = nan", "needs action_noise >= 0, a number, not nan"),
            (f"{WHOLE}log_std_init = inf", "needs log_std_init as a finite number, not inf"),
            (f"{WHOLE}published = 'x'", "needs published as a finite number"),
            (WHOLE.replace("[a]", "['../a']"), "needs id of letters, digits"),
            (WHOLE.replace("steps = 1", "steps = '1'"), "needs steps > 0, a whole number, not '1'"),
        ],
    )
    def test_a_wrong_file_is_one_clear_error(self, tmp_path, text, message):
        with pytest.raises(TrainingError, match=message):
            self.read(tmp_path, text)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("gama = 1", "hyperparameter gama is unknown to sac; known: learning_rate"),
            ("gamma = 'x'", "hyperparameter gamma must be a number >= 0, not 'x'"),
            ("gamma = nan", "hyperparameter gamma must be finite, not nan"),
            ("batch_size = 0", "hyperparameter batch_size must be a whole number >= 1, not 0"),
            ("seed = 1", "hyperparameter seed is unknown to sac"),
            ("use_sde = 3", "hyperparameter use_sde must be true or false, not 3"),
            ("ent_coef = 'x'", "refuses its hyperparameters"),
        ],
    )
    def test_impossible_hyperparameters_are_one_clear_line(self, tmp_path, capsys, text, message):
        path = tmp_path / "recipes.toml"
        path.write_text(f"{WHOLE}hyperparameters = {{{text}}}")
        folders = [f"--work={tmp_path / 'work'}", f"--out={tmp_path / 'out'}"]
        assert main(["train", "a", f"--recipes={path}", *folders]) == 2
        (line,) = [n for n in capsys.readouterr().err.splitlines() if n.startswith("error: ")]
        assert message in line

    def test_the_baselines_own_recipes_are_possible(self):
        for recipe in read_recipes(ROOT / "baselines/recipes.toml").values():
            if recipe.algorithm not in ("pqn", "distillation"):  # see test_training_images
                check_hyperparameters(recipe)

    def test_unknown_baselines_name_the_closest(self, tmp_path):
        (tmp_path / "recipes.toml").write_text(RECIPES)
        run = train(tmp_path, "tiny-sacc")
        assert run.returncode == 2
        assert run.stderr.strip().endswith("did you mean 'tiny-sac'?")
        assert "Traceback" not in run.stderr
        with pytest.raises(TrainingError):
            choose({}, "anything")
