"""What others add through hooks: compression steps of their own, and an ear for verdicts."""

import pytest

RETENTION = "suites/test_return_retention.py"
ERROR = "suites/test_quantization_error.py"

OWN_STEP = """
from pytest_drlcompress import Result, StepKind

def halve(network, step, observations):
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    return Result(network)

def pytest_drlcompress_recipes():
    return [StepKind("halve", "network", halve, "weights rounded to 16 bits")]
"""


def test_a_step_from_a_conftest_is_gated_by_the_suites(suites):
    suites.makeconftest(OWN_STEP)
    variants = ("--drlc-variant=halve", "--drlc-variant=halve+ptsq")
    result = suites.runpytest(RETENTION, ERROR, *variants)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["retention trpo-hopper / halve: PASS*"])


def test_a_name_that_is_taken_ends_the_run(suites):
    suites.makeconftest(OWN_STEP.replace('"halve"', '"ptsq"'))
    result = suites.runpytest(RETENTION, "--drlc-variant=ptsq")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*a compression step named 'ptsq' already exists*"])


def test_a_step_from_an_installed_package(suites, tmp_path, monkeypatch):
    (tmp_path / "halving.py").write_text(OWN_STEP)
    metadata = tmp_path / "pytest_halving-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-halving\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[pytest11]\nhalving = halving\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    result = suites.runpytest_subprocess(ERROR, "--drlc-variant=halve")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["plugins: *halving-1*"])


@pytest.mark.parametrize("spread", [(), ("-n2",)], ids=["one process", "xdist"])
def test_every_verdict_is_told_once(suites, spread):
    suites.makeconftest(
        """
        def pytest_drlcompress_verdict(verdict, nodeid):
            with open("told.txt", "a") as file:
                print(verdict.gate, verdict.variant, verdict.state, nodeid, file=file)
        """
    )
    suites.runpytest(ERROR, "--drlc-variant=fp32", "--drlc-variant=ptsq", *spread)
    assert sorted((suites.path / "told.txt").read_text().splitlines()) == [
        f"action error {variant} PASS {ERROR}::test_action_error[trpo-hopper-{variant}]"
        for variant in ("fp32", "ptsq")
    ]
