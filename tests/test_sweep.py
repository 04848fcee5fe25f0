"""Pruning sweeps: where they stop, what they conclude, the command, the opt-in suite."""

import csv

import pytest
import torch

from pytest_drlcompress import __main__ as command
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.pruning import Point, conclude, recipe_at

TINY = """
import torch
from torch import nn
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(11, 8), nn.Tanh(), nn.Linear(8, 3), nn.Tanh())
"""


def point(ratio, state, *, in_sequence=True, estimate=0.95):
    verdict = Verdict("retention", "p", f"l2@{ratio}", state, "why", estimate, limit=0.9)
    latency = Verdict("latency", "p", f"l2@{ratio}", State.PASS, "", 0.8)
    return Point(f"l2@{ratio}", ratio, 1000, 0.5, latency, verdict, in_sequence)


def test_the_first_that_is_not_pass_ends_the_sweep():
    points = [point(5, State.PASS), point(10, State.PASS), point(15, State.FAIL, estimate=0.5)]
    # measured all the same, and better: no claim may rest on it
    points.append(point(20, State.PASS, in_sequence=False))
    verdict = conclude("p", "l2", points, Budgets())
    assert verdict.state is State.PASS
    assert verdict.estimate == 0.10
    assert verdict.sample_size == 3
    assert verdict.reason == "Pruning 10% still keeps 90% of the return; l2@15 is FAIL (0.500)."


@pytest.mark.parametrize(
    ("states", "budget", "expected", "most"),
    [
        ("PPF", None, State.PASS, 0.10),
        ("F", None, State.PASS, 0.0),
        ("PP", None, State.PASS, 0.10),
        ("N", None, State.INVALID, None),
        ("PPF", 0.10, State.PASS, 0.10),
        ("PPF", 0.15, State.FAIL, 0.10),
        ("PPI", 0.15, State.INCONCLUSIVE, 0.10),
        ("PPI", 0.05, State.PASS, 0.10),
        ("F", 0.05, State.FAIL, 0.0),
    ],
)
def test_what_a_sweep_concludes(states, budget, expected, most):
    names = {"P": State.PASS, "F": State.FAIL, "I": State.INCONCLUSIVE, "N": State.INVALID}
    points = [point(5 * (i + 1), names[letter]) for i, letter in enumerate(states)]
    verdict = conclude("p", "l2", points, Budgets(min_pruning=budget))
    assert (verdict.state, verdict.estimate) == (expected, most)


def test_the_amount_goes_to_the_first_step():
    assert recipe_at("l2", 30) == "l2@30"
    assert recipe_at("l2:of=parameters+ptdq", 5) == "l2@5:of=parameters+ptdq"
    with pytest.raises(RecipeError, match="leave it out"):
        recipe_at("l2@30", 5)


def test_default_settings_are_those_of_a_bare_run(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest()
    header = default_settings(policies=()).header()
    result.stdout.fnmatch_lines([header.replace("[", "[[]")])


def _sweep(*arguments):
    return command.main(["sweep", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratios=0,10"], "strictly between 0 and 100, not 0"),
        (["--ratios=10,100"], "strictly between 0 and 100, not 100"),
        (["--ratios=ten"], "--ratios=ten: write per cents separated by commas"),
        (["--norm=l3"], "no compression step 'l3'"),
        (["--norm=l2@30"], "leave it out"),
        (["--norm=ptdq"], "takes no amount"),
    ],
)
def test_impossible_sweeps_are_one_clear_line(capsys, arguments, message):
    assert _sweep("missing.zip", "--env=Hopper-v5", *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_a_missing_matplotlib_is_said_before_anything_runs(capsys, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    hide = lambda name, *rest: None if name == "matplotlib" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hide)
    assert _sweep("missing.zip", "--env=Hopper-v5", f"--out={tmp_path}") == 2
    assert "pytest-drlcompress[plot]" in capsys.readouterr().err
    assert _sweep("missing.zip", "--env=Hopper-v5", f"--out={tmp_path}", "--no-plot") == 2
    assert "no such file" in capsys.readouterr().err


def test_the_command_writes_table_csv_and_plot(tmp_path, monkeypatch, capsys):
    """An untrained policy: the sweep must say INVALID, and still what pruning costs and saves."""
    pytest.importorskip("matplotlib")
    (tmp_path / "tiny_policy.py").write_text(TINY)
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    options = ["--env=Hopper-v5", "--ratios=25,50", "--norm=l2", "--max-episodes=4", f"--out={out}"]
    assert _sweep("tiny_policy:network", *options) == 0
    text = capsys.readouterr().out
    assert "/ l2: INVALID" in text
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["recipe"] for row in rows] == ["l2@25", "l2@50"]
    assert [row["state"] for row in rows] == ["INVALID", ""]
    kept = [(12 * n + (n + 1) * 3) / (12 * 8 + 9 * 3) for n in (6, 4)]
    assert [float(row["parameters"]) for row in rows] == pytest.approx(kept)
    assert int(rows[1]["bytes"]) < int(rows[0]["bytes"])
    assert len(list(out.glob("*.png"))) == 1
    assert torch.get_num_threads() >= 1


def test_the_suite_is_skipped_with_the_option_that_runs_it(suites):
    result = suites.runpytest("suites/test_pruning_sweep.py", "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*run it with --drlc-sweep*"])


def test_a_sweep_is_not_recorded(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest("--drlc-sweep", "--drlc-record-new")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--drlc-sweep measures and is not recorded" in "\n".join(result.errlines)


def test_the_suite_reports_each_ratio_and_the_most(suites):
    # 16 episodes cannot decide the first ratio, which ends the sweep: it has been measured
    options = ["--drlc-sweep", "--drlc-max-episodes=16", "-k", "l2", "--drlc-policy=trpo-hopper"]
    result = suites.runpytest("suites/test_pruning_sweep.py", *options)
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "pruning trpo-hopper / l2: PASS  0.000*(1 ratios)",
            "retention trpo-hopper / l2@5: *16 episodes*",
        ]
    )
