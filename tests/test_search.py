"""The search: which recipes it tries, who goes on, what it may claim, and that it goes on."""

import time
from dataclasses import dataclass
from functools import partial

import pytest
from test_deploy import TOOLS

from pytest_drlcompress import find_smallest
from pytest_drlcompress.__main__ import main
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.errors import OptionError
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.frontier import halving, ladder
from pytest_drlcompress.frontier.costs import beyond, read_budget, read_budgets, size_name
from pytest_drlcompress.frontier.trial import Job, run_jobs


@dataclass(frozen=True)
class Seen:
    name: str
    retention: float | None
    size: float


def names(trials):
    return [trial.name for trial in trials]


def test_budgets_are_read_and_held():
    assert read_budget("flash=8KiB") == ("flash", 8192)
    assert read_budgets({"latency_us": 5, "ram": "2KiB"}) == {"latency_us": 5, "ram": 2048}
    assert size_name({"latency_us": 5, "ram": 1, "flash": 1}) == "flash"
    assert size_name({"latency_us": 5}) == "weights"
    assert beyond({"flash": 100, "ram": 9}, {"flash": 100, "ram": 8}) == "ram 9 B"
    assert beyond({}, {"flash": 100}) == "flash unknown", "never within what was not measured"
    for text in ("flash", "flesh=3", "flash=-1", "latency_us=nan", "latency_us=0"):
        with pytest.raises(ValueError, match=r"FIGURE=LIMIT|must be"):
            read_budget(text)
    with pytest.raises(OptionError, match="budgets"):
        read_budgets({"flash": "much"})


def test_the_smaller_of_those_that_keep_enough_goes_on():
    wide, narrow, poor = Seen("wide", 0.99, 800), Seen("narrow", 0.95, 200), Seen("poor", 0.5, 100)
    failed = Seen("failed", None, 50)
    assert names(halving.survivors([wide, poor, narrow, failed], 0.9)) == ["narrow", "wide"]
    assert names(halving.survivors([poor, failed, Seen("fair", 0.8, 900)], 0.9)) == ["fair", "poor"]
    assert halving.survivors([], 0.9) == []


def test_finalists_are_few_and_the_smallest_comes_first():
    trials = [Seen(str(n), 0.95, size) for n, size in enumerate((500, 400, 300, 200))]
    trials += [Seen("near", 0.85, 50), Seen("hopeless", 0.7, 10), Seen("failed", None, 5)]
    assert names(halving.finalists(trials, 0.9)) == ["3", "2", "1"]
    assert names(halving.finalists(trials[4:], 0.9)) == ["near"]


def test_the_front_holds_what_nothing_smaller_beats():
    trials = [Seen("a", 0.5, 1), Seen("b", 0.4, 2), Seen("c", 0.9, 3), Seen("d", 0.8, 3)]
    assert names(halving.pareto(trials)) == ["a", "c"]


def test_time_decides_how_many_are_trained():
    assert halving.affordable(6, 0, 1, 2) == 6, "nothing is known yet"
    assert halving.affordable(6, 100, 250, 2) == 4
    assert halving.affordable(6, 100, 99, 2) == 0


def test_every_rung_of_every_arm_is_a_recipe():
    registry = builtin_registry()
    arms = [*ladder.quick_arms(), *ladder.narrow_arms(43), ladder.sparse_arm(98), ladder.qat_arm()]
    for arm in arms:
        for share in halving.RUNGS:
            registry.resolve(parse_recipe(arm.at(share)))
        assert arm.at(1.0) == arm.name
    assert [arm.name for arm in ladder.narrow_arms(2)] == ["narrow@2+qat", "narrow@1+qat"]


def test_untrained_networks_show_the_widest_that_fits():
    tried = []

    def costs(width, overhead):
        tried.append(width)
        return {"flash": overhead + width * width}

    widest, _ = ladder.widest_that_fits(128, partial(costs, overhead=700), {"flash": 2300})
    assert 38 <= widest <= 40
    assert len(tried) < 9
    assert ladder.widest_that_fits(128, partial(costs, overhead=1), {}) == (128, "")
    none, why = ladder.widest_that_fits(128, partial(costs, overhead=700), {"flash": 500})
    assert (none, why) == (0, "flash 701 B")
    assert ladder.sparsest_needed(70_000, 4096) == 98
    assert ladder.sparsest_needed(70_000, 500) is None


@TOOLS
def test_an_impossible_budget_ends_with_no_recipe_found(tmp_path, capsys):
    command = ["search", "trpo-hopper", "--budget", "flash=200", "--out", str(tmp_path)]
    assert main(command) == 1
    assert "No recipe found: nothing fits the budgets (flash" in capsys.readouterr().out
    found = find_smallest("trpo-hopper", {"flash": 200}, out=tmp_path, on_line=lambda line: None)
    assert (found.winner, found.rows(), found.command) == (None, [], "")
    assert found.reason.startswith("No recipe found"), "in a notebook the same"
    assert main([*command, "--budget", "weight=3"]) == 2
    assert "FIGURE=LIMIT, the figure being one of flash" in capsys.readouterr().err


@TOOLS
def test_a_search_shows_its_winner_and_goes_on_where_it_ended(tmp_path, capsys, monkeypatch):
    def short(step):
        recipe = f"{step}:rounds=1,samples=256,steps=50+qat:samples=256,steps=20"
        return ladder.Arm(recipe, lambda share: recipe)

    monkeypatch.setattr(ladder, "widest_that_fits", lambda *given: (8, ""))
    monkeypatch.setattr(ladder, "narrow_arms", lambda widest: [short("narrow@8")])
    monkeypatch.setattr(ladder, "sparsest_needed", lambda *given: None)
    quick = "qat:samples=256,steps=20"
    monkeypatch.setattr(ladder, "qat_arm", lambda: ladder.Arm(quick, lambda share: quick))
    monkeypatch.setattr(ladder, "quick_arms", lambda: [ladder.Arm("ptsq", lambda share: "ptsq")])
    monkeypatch.setattr(halving, "RUNGS", (1.0,))
    monkeypatch.setattr("pytest_drlcompress.frontier.search.EPISODES", (2,))
    command = ["search", "trpo-hopper", "--budget", "weights=40kB", "--out", str(tmp_path),
               "--min-retention", "0.5", "--max-episodes", "60"]  # fmt: skip
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "2 finalists" in first, "narrow@8 was hardly trained"
    assert "each at alpha = 0.025: together at most 0.05" in first
    assert "retention trpo-hopper / ptsq: PASS" in first
    assert "compress trpo-hopper ptsq --out trpo-hopper.onnx" in first
    rows = (tmp_path / "frontier.csv").read_text().splitlines()
    assert len(rows) == 4
    assert (tmp_path / "frontier.png").is_file()
    winner = (tmp_path / "winner.onnx").read_bytes()

    def started(*given, **named):
        raise AssertionError("a trial was made again")

    monkeypatch.setattr("pytest_drlcompress.frontier.trial.subprocess.Popen", started)
    assert main(command) == 0
    assert (tmp_path / "winner.onnx").read_bytes() == winner


def test_trials_that_take_too_long_are_ended(tmp_path):
    job = Job(
        default_settings(policies=("trpo-hopper",)), "trpo-hopper", "narrow@8+qat", "cortex-m4",
        (), tmp_path, "key", 2, 0.0, 1.0,
    )  # fmt: skip
    started = time.monotonic()
    assert run_jobs([job], 1, 0.5, lambda job, result: None) == 1
    assert time.monotonic() - started < 60
    assert not job.path.exists()
