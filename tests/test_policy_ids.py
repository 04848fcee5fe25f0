"""Ids that tell policies apart: unique, stable, readable, whatever else is there."""

import itertools
import json

import pytest
from sb3_models import on
from stable_baselines3 import PPO
from torch import nn

from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.ids import unique_ids
from pytest_drlcompress.policies.policy import Policy

HOPPER = EnvSpec.parse("Hopper-v5")


def named(policies):
    """``unique_ids`` of ``{text: id}`` or ``{text: (id, origin)}``, in any order."""
    made = []
    for text, given in policies.items():
        identity, origin = (given, text) if isinstance(given, str) else given
        made.append((text, Policy(identity, HOPPER, nn.Identity(), origin=origin)))
    found = unique_ids(made)
    for order in itertools.islice(itertools.permutations(made), 24):
        assert unique_ids(order) == found
    assert len(set(found.values())) == len(policies)
    return found


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ({"a.zip": "sac-hopper", "b.zip": "sac-ant"}, ["sac-hopper", "sac-ant"]),
        ({"m/a.zip": "sac-hopper", "m/b.zip": "sac-hopper"}, ["sac-hopper~a", "sac-hopper~b"]),
        # one stem: the folder that tells them apart, and no other
        (
            {"runs/1/models/best.zip": "sac-ant", "runs/2/models/best.zip": "sac-ant"},
            ["sac-ant~1~best", "sac-ant~2~best"],
        ),
        (
            {"1/best.zip": "sac-ant", "2/best.zip": "sac-ant", "2/last.zip": "sac-ant"},
            ["sac-ant~1~best", "sac-ant~2~best", "sac-ant~last"],
        ),
        # no one folder does: a grid of runs
        (
            {f"{run}/{seed}/best.zip": "sac-ant" for run in "ab" for seed in "12"},
            ["sac-ant~a~1~best", "sac-ant~a~2~best", "sac-ant~b~1~best", "sac-ant~b~2~best"],
        ),
        ({"best.zip": "sac-ant", "old/best.zip": "sac-ant"}, ["sac-ant~best", "sac-ant~old~best"]),
        ({"m/best.zip": "best", "m/best.onnx": "best"}, ["best~best.zip", "best~best.onnx"]),
        # the stem is the id: it would say nothing
        ({"a/best.onnx": "best", "b/Best.onnx": "best"}, ["best~a", "best~b"]),
        ({"one:network": "network", "pkg.two:network": "network"}, ["network~one", "network~two"]),
        # a baseline's record goes by its id
        (
            {"sac-ant": ("sac-ant", "baselines/sac-ant"), "best.zip": "sac-ant"},
            ["sac-ant", "sac-ant~best"],
        ),
        (
            {"sac-ant": ("sac-ant", "baselines/sac-ant"), "other/sac-ant": "sac-ant"},
            ["sac-ant", "sac-ant~other"],
        ),
        # an id that another one's file makes
        (
            {"m/a.zip": "sac", "m/b.zip": "sac", "x/sac~a.onnx": "sac~a"},
            ["sac~a~3887bc", "sac~b", "sac~a"],
        ),
    ],
)
def test_ids(policies, expected):
    assert list(named(policies).values()) == expected


def test_one_file_named_twice_is_told_apart_by_its_text():
    found = named({"m/best.zip": "sac-ant", "./m/best.zip": "sac-ant"})
    assert all(identity.startswith("sac-ant~best~") for identity in found.values())


def test_what_else_is_selected_changes_nothing_without_a_namesake():
    two = {"m/a.zip": "sac-ant", "m/b.zip": "sac-ant"}
    more = named({**two, "m/c.zip": "sac-ant", "d.zip": "ppo-ant"})
    assert named(two).items() <= more.items()


def test_two_zips_of_one_algorithm_and_task_have_rows_of_their_own(suites):
    (suites.path / "models").mkdir()
    for seed, name in enumerate(("first", "second")):
        model = PPO("MlpPolicy", "Pendulum-v1", seed=seed, **on())
        model.save(suites.path / "models" / name)
    run = ("suites/test_quantization_error.py", "--drlc-env=Pendulum-v1", "--drlc-variant=fp32")
    suites.runpytest(*run, "--drlc-policy=models/*.zip", "--drlc-report=out.json")
    report = json.loads((suites.path / "out.json").read_text())
    ids = ["ppo-pendulum~first", "ppo-pendulum~second"]
    assert [verdict["policy"] for verdict in report["verdicts"]] == ids
    assert len({facts["sha256"] for facts in report["artifacts"]}) == 2
