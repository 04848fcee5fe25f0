"""``--benchmark-save`` without a value, in the company pytest-benchmark keeps."""

import json
import os
from types import SimpleNamespace

import pytest

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.plugin.benchmark_compare import (
    comparison_lines,
    find_named_run,
    recorded_run,
)
from pytest_drlcompress.plugin.benchmarking import _not_recording

BENCHMARK = "def test_speed(benchmark): benchmark(sum, [1, 2])"


@pytest.fixture(autouse=True)
def _outside_xdist(monkeypatch):
    """pytest-benchmark saves nothing in a worker, and tells one by this variable."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def saved(pytester):
    return sorted(pytester.path.glob(".benchmarks/*/*.json"))


def test_bare_saves_under_an_automatic_name(pytester):
    pytester.makepyfile(test_speed=BENCHMARK)
    result = pytester.runpytest("test_speed.py", "--benchmark-save")
    assert result.ret == 0
    (path,) = saved(pytester)
    assert path.name.startswith("0001_")
    assert json.loads(path.read_text())["benchmarks"]


def test_a_name_works_as_before(pytester):
    pytester.makepyfile(test_speed=BENCHMARK)
    assert pytester.runpytest("--benchmark-save=mine").ret == 0
    assert [path.name for path in saved(pytester)] == ["0001_mine.json"]


def test_an_illegal_name_is_still_refused(pytester):
    pytester.makepyfile(test_speed=BENCHMARK)
    result = pytester.runpytest("--benchmark-save=a/b")
    assert result.ret == 4


def test_without_pytest_benchmark_nothing_breaks(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    assert pytester.runpytest("-p", "no:benchmark").ret == 0


def test_the_latency_suite_records_ratio_and_variant(suites):
    result = suites.runpytest(
        "suites/test_latency.py", "--benchmark-save", "--drlc-variant=ptsq", "-p", "no:xdist"
    )
    result.assert_outcomes(passed=1)
    (path,) = saved(suites)
    (benchmark,) = json.loads(path.read_text())["benchmarks"]
    assert benchmark["name"] == "test_latency[trpo-hopper-ptsq]"
    assert benchmark["extra_info"]["variant"] == "ptsq"
    assert benchmark["extra_info"]["ratio"] > 0
    assert benchmark["extra_info"]["artifact_bytes"] > 1000
    assert benchmark["stats"]["rounds"] == 200


def test_disabled_benchmarks_still_judge(suites):
    result = suites.runpytest(
        "suites/test_latency.py", "--benchmark-disable", "--drlc-variant=ptsq"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["latency trpo-hopper / ptsq: PASS*", "latencies: not recorded: --benchmark-disable"]
    )


LATENCY = ("suites/test_latency.py", "--drlc-variant=ptsq", "-p", "no:xdist")


def test_without_pytest_benchmark_the_gate_judges_and_says_so(suites):
    result = suites.runpytest(*LATENCY, "-p", "no:benchmark")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["latencies: not recorded: pytest-benchmark is not loaded"])


def test_a_run_is_compared_by_its_name(suites):
    suites.runpytest(*LATENCY, "--benchmark-save=a").assert_outcomes(passed=1)
    result = suites.runpytest(*LATENCY, "--benchmark-compare=a")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["latency trpo-hopper / ptsq: * us, recorded *: * us, *x"])
    (path,) = saved(suites)
    stored = json.loads(path.read_text())
    assert stored["benchmarks"][0]["extra_info"]["memory"]["peak_activation_bytes"] > 0


CPU = {"brand_raw": "Some CPU", "count": 2}
STORED = {
    "machine_info": {"cpu": CPU, "machine": "x86_64", "node": "elsewhere"},
    "datetime": "2026-01-02T03:04:05.678",
    "benchmarks": [
        {"extra_info": {"policy": "p", "variant": "v", "latency": {"candidate_us": 5.0}}},
        {"extra_info": {}},
    ],
}
NOW = [Verdict("latency", "p", "v", State.PASS, "", 1.0, details={"candidate_us": 6.0})]


def test_times_are_compared_on_the_same_hardware_only():
    here = {"cpu": CPU, "machine": "x86_64", "node": "here"}
    assert comparison_lines(recorded_run(here, STORED), NOW) == [
        "latency p / v: 6.00 us, recorded 2026-01-02T03:04:05: 5.00 us, 1.20x"
    ]
    other = {**here, "cpu": {**CPU, "count": 4}}
    (line,) = comparison_lines(recorded_run(other, STORED), NOW)
    assert line.endswith("of other hardware (Some CPU): not compared")
    assert comparison_lines(recorded_run(here, {**STORED, "benchmarks": []}), NOW) == []


def test_the_newest_run_of_exactly_that_name_is_meant(tmp_path):
    def asked(text):
        option = SimpleNamespace(benchmark_compare=text, benchmark_storage=f"file://{tmp_path}")
        find_named_run(SimpleNamespace(option=option))
        return option.benchmark_compare

    folder = tmp_path / "Linux-CPython"
    folder.mkdir()
    for age, name in enumerate(("0001_a", "0002_ab", "0003_a", "0004_b")):
        (folder / f"{name}.json").write_text("{}")
        os.utime(folder / f"{name}.json", (age, age))
    assert asked("a") == str(folder / "0003_a.json")
    # what pytest-benchmark understands itself is left to it
    for text in ("0002", "missing", "*_a", True, None):
        assert asked(text) == text


def test_a_foreign_benchmark_fixture_records_nothing():
    config = SimpleNamespace()
    assert _not_recording("something", config) == "the benchmark fixture is builtins's"
    quiet = SimpleNamespace(pedantic=None, extra_info={}, disabled=True)
    assert _not_recording(quiet, config) == "--benchmark-disable"
    assert "xdist" in _not_recording(quiet, SimpleNamespace(workerinput={}))
    assert _not_recording(SimpleNamespace(pedantic=None, extra_info={}), config) == ""
