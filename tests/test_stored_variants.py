"""Variants kept beside their baseline, and the commands that make them."""

import json

import pytest
import zstandard
from baseline_copies import copy_baseline
from test_planted_changes import CONFTEST

from pytest_drlcompress.__main__ import main
from pytest_drlcompress.baselines.variants import load_variant, store_variant
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.measurement.sparsity import measure_sparsity, off_schedule
from pytest_drlcompress.workbench.workbench import Workbench

OPTIONS = "steps=20,rounds=1,samples=300"
RECIPE = f"sparse@60:{OPTIONS}"


@pytest.fixture
def baselines(tmp_path):
    copy_baseline("trpo-hopper", tmp_path / "baselines")
    return tmp_path / "baselines"


@pytest.fixture
def stored(baselines):
    path = store_variant(
        baselines / "trpo-hopper",
        Artifact(b"onnx", "trpo-hopper", "sparse@95+qat", {"a": 1}),
        {"how": "in training"},
    )
    assert path.name == "sparse@95+qat.onnx.zst"
    return path


def load(baselines):
    return load_variant(baselines / "trpo-hopper", "trpo-hopper", "sparse@95+qat")


def test_what_is_stored_is_found(baselines, stored):
    found = load(baselines)
    assert found.model == b"onnx"
    assert found.provenance == {"a": 1, "made": {"how": "in training"}}
    assert load_variant(baselines / "trpo-hopper", "trpo-hopper", "sparse@95") is None
    bench = Workbench(default_settings(baselines=baselines), builtin_registry())
    assert bench.candidate("trpo-hopper", "sparse@95+qat").artifact.model == b"onnx"


def test_a_changed_file_is_an_error(baselines, stored):
    stored.write_bytes(zstandard.compress(b"other"))
    with pytest.raises(BaselineError, match=r"is not the file that .* describes"):
        load(baselines)
    stored.write_bytes(b"no zstd")
    with pytest.raises(BaselineError, match="cannot be used"):
        load(baselines)
    stored.unlink()
    with pytest.raises(BaselineError, match="cannot be used"):
        load(baselines)


def test_a_variant_of_another_policy_is_passed_over(baselines, stored):
    path = baselines / "trpo-hopper/baseline.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "0" * 64}))
    assert load(baselines) is None


def test_compress_writes_and_stores(baselines, tmp_path, capsys):
    out = tmp_path / "sparse.onnx"
    arguments = ["compress", "trpo-hopper", RECIPE, "--baselines", str(baselines)]
    assert main([*arguments, "--out", str(out), "--store"]) == 0
    printed = capsys.readouterr().out
    assert "of 4,992 weights, 60.0" in printed
    recipe = str(parse_recipe(RECIPE))
    found = load_variant(baselines / "trpo-hopper", "trpo-hopper", recipe)
    assert found.model == out.read_bytes()
    assert measure_sparsity(found.model).total == pytest.approx(0.6, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compress", "trpo-hopper", "ptdq"], "say where the artifact goes"),
        (["compress", "trpo-hopper", "sparse@200", "--store"], "strictly between 0 and 100"),
        (["sparsity", "trpo-hopper", "--levels", "a", "--out", "x"], "separated by commas"),
        (["train", "sac", "Hopper-v9", "--recipe", "sparse@95"], "no training recipe for sac on"),
        (["train", "sac-hopper", "--recipe", "ptsq"], "cannot be trained"),
        (["train", "sac-hopper", "--steps", "5"], "go with --recipe"),
    ],
)
def test_wrong_requests_are_one_line(baselines, capsys, arguments, message):
    extra = [] if arguments[0] == "train" else ["--baselines", str(baselines)]
    assert main([*arguments, *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_sparsity_command_goes_on_where_it_ended(baselines, tmp_path, capsys):
    arguments = ["sparsity", "trpo-hopper", "--baselines", str(baselines), "--levels", "60"]
    arguments += ["--tails", "none", "--options", OPTIONS, "--out", str(tmp_path / "cells")]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    (cell,) = (tmp_path / "cells").iterdir()
    content = json.loads(cell.read_text())
    assert content["zeros"] == pytest.approx(0.6, abs=1e-3)
    cell.write_text(json.dumps({**content, "cpu_seconds": 123456}))
    assert main(arguments) == 0
    second = capsys.readouterr().out
    assert "123456" in second
    assert second.count("\n") == first.count("\n")


def test_a_stored_variant_is_not_made_again_for_its_cell(baselines, tmp_path, capsys):
    common = ["--baselines", str(baselines)]
    assert main(["compress", "trpo-hopper", RECIPE, "--store", *common]) == 0
    capsys.readouterr()
    out = ["--out", str(tmp_path / "cells"), "--options", OPTIONS]
    arguments = ["sparsity", "trpo-hopper", "--levels", "60", "--tails", "none", *out]
    assert main([*arguments, *common]) == 0
    assert capsys.readouterr().out.strip().endswith("| stored |")
    (cell,) = (tmp_path / "cells").iterdir()
    assert json.loads(cell.read_text())["cpu_seconds"] is None


def test_recipes_that_begin_alike_share_that_work_and_nothing_else(baselines):
    bench = Workbench(default_settings(baselines=baselines), builtin_registry())
    recipes = [RECIPE, f"{RECIPE}+qat:steps=20,samples=300", f"{RECIPE}+ptsq", RECIPE]
    loaded = bench.load("trpo-hopper")
    together = [loaded.compressed(parse_recipe(recipe)) for recipe in recipes]
    stage = loaded._stage(str(builtin_registry().resolve(parse_recipe(RECIPE))))
    assert loaded._stage.cache_info().misses == 1
    assert all(shared.cpu_seconds > stage.cpu_seconds > 0 for shared in together)
    for recipe, shared in zip(recipes, together, strict=True):
        fresh = Workbench(default_settings(baselines=baselines), builtin_registry())
        alone = fresh.load("trpo-hopper").compressed(parse_recipe(recipe))
        assert alone.sha256 == shared.sha256
        assert alone.provenance == shared.provenance


LINEAR = """
    from pytest_drlcompress.compression.pruning.schedule import CubicSchedule

    def linear(self, step):
        return self.final * min(max((step - self.start) / (self.end - self.start), 0.0), 1.0)

    patch.setattr(CubicSchedule, "at", linear)
"""

UNIFORM = """
    import numpy as np
    from pytest_drlcompress.compression.pruning import distribution

    patch.setattr(
        distribution, "layer_densities", lambda shapes, share, name: np.full(len(shapes), 1 - share)
    )
"""


@pytest.fixture
def with_stored(suites):
    """The suites, with one stored sparse variant of the baseline; nothing asks for it by name."""
    folder = ["--baselines", str(suites.path / "baselines")]
    assert main(["compress", "trpo-hopper", RECIPE, "--store", *folder]) == 0
    return suites


def rows(suites, *options):
    return suites.runpytest("suites/test_sparsity_schedule.py::test_sparsity", *options)


def test_stored_variants_are_judged_and_planted_bugs_turn_their_rows_red(with_stored):
    result = rows(with_stored)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*sparse@60:rounds=1*60.0%*"])
    rows(with_stored, "--drlc-stored=qat").assert_outcomes(passed=4)
    for change, message in (
        (LINEAR, "*[Tt]he schedule is not the one it was pruned on: at step *"),
        (UNIFORM, "*has * nonzero weights, erdos-renyi allows *"),
    ):
        with_stored.makeconftest(CONFTEST.format(change=change))
        result = rows(with_stored)
        result.assert_outcomes(passed=4, failed=1)
        result.stdout.fnmatch_lines([message])


def test_a_variant_made_under_a_planted_schedule_is_red(with_stored):
    """Made by wrong code and judged by right code: the formula stands in the gate, too."""
    path = with_stored.path / "baselines/trpo-hopper/variants"
    (about,) = path.glob("*.json")
    facts = json.loads(about.read_text())
    made = facts["provenance"]["sparse"]
    assert made["prunings"][-1][2] == pytest.approx(0.6, abs=1e-3)
    half = len(made["prunings"]) // 2
    made["prunings"][half][2] = made["prunings"][half][1] = 0.3
    about.write_text(json.dumps(facts))
    result = rows(with_stored)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*of the weights were zero; the cubic schedule says*"])


def test_a_pruning_off_the_schedule_is_found():
    schedule = {"final": 0.9, "start": 0.0, "interval": 10.0, "count": 4}
    right = [(10.0 * k, 0.0, 0.9 * (1 - (1 - k / 4) ** 3)) for k in range(5)]
    assert off_schedule(schedule, right, 1000) == ""
    late = [(step, 0.0, reached - 0.0021 * (step == 20)) for step, _, reached in right]
    assert "at step 20" in off_schedule(schedule, late, 1000)
    assert "were not all made" in off_schedule(schedule, right[:-1], 1000)
