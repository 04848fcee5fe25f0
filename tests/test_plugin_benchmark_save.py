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
    result.stdout.fnmatch_lines(
        ["latency trpo-hopper / ptsq: PASS*", "latencies: not recorded: --benchmark-disable"]
    )


LATENCY = ("suites/test_latency.py", "--drlc-variant=ptsq", "-p", "no:xdist")


def test_without_pytest_benchmark_the_gate_judges_and_says_so(suites):
    result = suites.runpytest(*LATENCY, "-p", "no:benchmark")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["latencies: not recorded: pytest-benchmark is not loaded"])


def test_another_plugins_benchmark_fixture_breaks_nothing(suites):
    suites.makeconftest("import pytest\n@pytest.fixture\ndef benchmark(): return 'something else'")
    result = suites.runpytest(*LATENCY, "-p", "no:benchmark")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["latencies: not recorded: the benchmark fixture is builtins's"])


def test_a_run_is_compared_by_its_name_on_the_same_hardware_only(suites):
    suites.runpytest(*LATENCY, "--benchmark-save=a").assert_outcomes(passed=1)
    result = suites.runpytest(*LATENCY, "--benchmark-compare=a")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["latency trpo-hopper / ptsq: * us, recorded *: * us, *x"])
    (path,) = saved(suites)
    stored = json.loads(path.read_text())
    stored["machine_info"]["cpu"]["brand_raw"] = "Another CPU"
    path.write_text(json.dumps(stored))
    result = suites.runpytest(*LATENCY, "--benchmark-compare=a")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["latencies recorded * of other hardware (Another CPU): not*"])
    assert " us, recorded" not in result.stdout.str()


def test_the_newest_run_of_a_name_is_meant(pytester):
    pytester.makepyfile(test_speed=BENCHMARK)
    for name in ("a", "ab", "a"):
        assert pytester.runpytest(f"--benchmark-save={name}").ret == 0
    result = pytester.runpytest("--benchmark-compare=a")
    assert "0003_a" in result.stdout.str()
    assert "0001_a" not in result.stdout.str()
    assert "0002_ab" in pytester.runpytest("--benchmark-compare=0002").stdout.str()
