"""The same verdicts under ``-n2``, and no lost worker or lost result is ever green."""

import re

GATE = "suites/test_return_retention.py"
VARIANTS = ("--drlc-variant=fp32", "--drlc-variant=ptsq", "--drlc-max-episodes=60")


def verdicts(result):
    """The verdict lines without the figures that a measurement of time would change."""
    lines = [line for line in result.outlines if re.match(r"(retention|action error) ", line)]
    return sorted(lines)


def test_two_workers_give_the_verdicts_of_one(suites):
    arguments = ("suites/test_return_retention.py", "suites/test_quantization_error.py", *VARIANTS)
    alone = suites.runpytest(*arguments, "--drlc-no-cache")
    spread = suites.runpytest(*arguments, "--drlc-no-cache", "-n2")
    alone.assert_outcomes(passed=4)
    spread.assert_outcomes(passed=4)
    assert len(verdicts(alone)) == 4
    assert verdicts(alone) == verdicts(spread)


def test_a_killed_worker_is_not_green(suites):
    suites.makeconftest(
        """
        import os, pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(item):
            if "ptsq" in item.nodeid:
                os.kill(os.getpid(), 9)
            return (yield)
        """
    )
    result = suites.runpytest(GATE, *VARIANTS, "-n2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*worker * crashed*"])


def test_a_result_that_never_arrives_is_not_green(suites):
    # a report that execnet cannot serialize: some versions of xdist then lose it and exit with 0
    suites.makeconftest(
        """
        import numpy, pytest

        @pytest.hookimpl(trylast=True)
        def pytest_runtest_setup(item):
            item.user_properties.append(("not serializable", numpy.float64(1)))
        """
    )
    assert suites.runpytest(GATE, *VARIANTS, "-n2").ret != 0


class TestLostGates:
    """What counts as lost, in one process: the controller keeps the same books."""

    def test_a_gate_without_a_report_fails_the_run(self, suites):
        suites.makeconftest(
            """
            import pytest

            @pytest.hookimpl(tryfirst=True)
            def pytest_runtest_protocol(item):
                return True  # claims to have run the test, and reports nothing
            """
        )
        result = suites.runpytest(GATE, *VARIANTS)
        assert result.ret == 1
        result.stdout.fnmatch_lines(["2 gates never reported a result: *"])

    def test_deselected_gates_are_not_lost(self, suites):
        result = suites.runpytest(GATE, *VARIANTS, "-k", "nothing")
        assert result.ret == 5
        assert "never reported" not in result.stdout.str()

    def test_gates_after_a_stop_are_not_lost(self, suites):
        suites.makeconftest("def pytest_runtest_setup(item): raise ValueError('stop here')")
        result = suites.runpytest(GATE, *VARIANTS, "-x")
        assert result.ret == 1
        assert "never reported" not in result.stdout.str()

    def test_collecting_only_loses_nothing(self, suites):
        result = suites.runpytest(GATE, *VARIANTS, "--collect-only")
        assert result.ret == 0
