"""``--benchmark-save`` without a value, in the company pytest-benchmark keeps."""

import json

import pytest

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
    result.stdout.fnmatch_lines(["latency trpo-hopper / ptsq: PASS*"])
