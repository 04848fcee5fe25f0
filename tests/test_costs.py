"""Budgets on what an action costs: where they come from, and that none passes unmeasured."""

import json

import numpy as np
import pytest

from pytest_drlcompress.core.quantities import format_bytes, parse_bytes
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.budgets import Budgets, recorded_budgets
from pytest_drlcompress.measurement import latency
from pytest_drlcompress.measurement.latency import compare_calls, measure_deadline, miss_interval
from pytest_drlcompress.reporting.text import verdict_line
from tests.test_measurement import Busy


def test_sizes_are_read_as_people_write_them():
    assert parse_bytes("256KiB") == 256 * 1024
    assert parse_bytes("80 kB") == 80_000
    assert parse_bytes("1.5MiB") == 1.5 * 2**20
    assert parse_bytes("4096") == 4096
    for wrong in ("", "KiB", "-3", "0", "12 parsecs", "nan", "1e3"):
        with pytest.raises(ValueError, match="size such as 256KiB"):
            parse_bytes(wrong)
    assert format_bytes(76808) == "76,808 B (75.0 KiB)"


class TestWhereALimitComesFrom:
    def test_command_line_then_marker_then_baseline_then_ini(self):
        recorded = {"max_bytes": 3.0}
        cli = default_settings(max_bytes=1.0)
        ini = default_settings()
        object.__setattr__(ini, "max_bytes", 4.0)
        marked, unmarked = Budgets(max_bytes=2.0), Budgets()
        assert marked.limit("max_bytes", cli, recorded) == 1
        assert marked.limit("max_bytes", ini, recorded) == 2
        assert unmarked.limit("max_bytes", ini, recorded) == 3
        assert unmarked.limit("max_bytes", ini) == 4
        assert unmarked.limit("max_bytes", default_settings()) is None

    def test_a_baseline_may_say_it_for_one_variant_or_all_others(self):
        stored = {"ptdq": {"max_bytes": "80kB"}, "*": {"max_latency_ratio": 1.5}}
        assert recorded_budgets(stored, "ptdq") == {"max_bytes": 80_000}
        assert recorded_budgets(stored, "fp32") == {"max_latency_ratio": 1.5}

    def test_an_action_error_may_be_bounded_for_each_variant(self):
        recorded = recorded_budgets({"ptdq": {"max_action_error": 0.01}}, "ptdq")
        cli = default_settings(max_action_error=0.04)
        marked, unmarked = Budgets(max_action_error=0.02), Budgets()
        assert marked.limit("max_action_error", cli, recorded) == 0.04
        assert marked.limit("max_action_error", default_settings(), recorded) == 0.02
        assert unmarked.limit("max_action_error", default_settings(), recorded) == 0.01
        assert unmarked.limit("max_action_error", default_settings()) == 0.05

    @pytest.mark.parametrize("entry", [{"max_byte": 1}, {"max_bytes": -1}, {"fits": "much"}])
    def test_a_wrong_one_is_refused(self, entry):
        with pytest.raises(ValueError, match="budgets"):
            recorded_budgets({"*": entry}, "fp32")


class TestLatency:
    def test_a_close_limit_takes_more_blocks_than_a_far_one(self, monkeypatch):
        noise = np.random.default_rng(0)
        truth = {"baseline": 1e-5, "candidate": 2e-5}
        monkeypatch.setattr(latency, "warm_up", lambda act: 100)
        monkeypatch.setattr(
            latency,
            "median_call_seconds",
            lambda act, calls: truth[act] * noise.lognormal(sigma=0.05),
        )

        def compare(limit):
            return compare_calls("baseline", "candidate", limit=limit, blocks=8)

        assert compare(None).blocks == compare(4).blocks == compare(1).blocks == 8
        near = compare(2.0)
        assert near.blocks == 72
        assert near.interval[0] < 2 < near.interval[1]
        assert near.ratio == pytest.approx(2, rel=0.05)

    def test_misses_are_bounded_as_clopper_and_pearson_do(self):
        # 1 - 0.05 ** (1 / n): zero misses in 2,995 calls bound the probability by 1e-3
        assert miss_interval(0, 2995, 0.05) == pytest.approx((0, 1e-3), rel=1e-3)
        assert miss_interval(0, 2994, 0.05)[1] > 1e-3
        assert miss_interval(10, 10, 0.05)[1] == 1
        low, high = miss_interval(5, 100, 0.05)
        assert low < 0.05 < high

    def test_deadlines_count_what_is_late(self):
        busy = Busy(200)
        assert measure_deadline(lambda: busy.act_one(0), 100e-6, calls=50).misses == 50
        assert measure_deadline(lambda: busy.act_one(0), 10.0, calls=50).misses == 0


def test_a_verdict_reads_in_its_unit():
    verdict = Verdict("memory", "p", "ptdq", State.FAIL, "", estimate=76808.0, limit=70000.0)
    assert verdict_line(verdict) == "memory p / ptdq: FAIL  76,808 B > 70,000 B"
    verdict = Verdict("energy", "p", "v", State.PASS, "", 3.2e-5, (3.1e-5, 3.3e-5), 5e-5)
    assert verdict_line(verdict) == "energy p / v: PASS  32 uJ [31 uJ, 33 uJ] <= 50 uJ"


class TestGates:
    def test_every_source_of_a_budget_decides(self, suites):
        record = suites.path / "baselines/trpo-hopper/baseline.json"
        stored = json.loads(record.read_text())
        stored["budgets"] = {"ptdq": {"max_bytes": "1kB"}, "*": {"fits": "1GiB"}}
        record.write_text(json.dumps(stored))
        suites.makeini("[pytest]\ndrlc_max_energy_uj = 5\ndrlc_fits = 1KiB\n")
        path = suites.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("variant", ["fp32", "ptdq"], indirect=True)
            class TestBudgets:
                def test_recorded(self, memory): memory.check()

                @pytest.mark.drlcompress(max_bytes="1MB", fits="1KiB")
                def test_marked(self, memory): memory.check()

                def test_ini(self, energy): energy.check()

                @pytest.mark.drlcompress(deadline_hz=1000, max_latency_us=1e6)
                def test_absolute(self, latency): latency.check()
            """
        )
        result = suites.runpytest(path, "-rs")
        # recorded passes fp32 and fails ptdq; the marked fits fails both; nothing else is measured
        result.assert_outcomes(passed=1, failed=3, skipped=4)
        result.stdout.fnmatch_lines(
            [
                "*The file has * more than 1,000 B.*",
                "*Weights and activations take *more than 1,024 B (1.0 KiB).*",
                "energy of 2 variants: NOT_MEASURED  No energy counter is readable: *",
            ]
        )
        result.stdout.fnmatch_lines(["*deadline_hz: absolute times are held against a tuned*"])

    def test_a_baselines_own_action_error_decides(self, suites):
        """Recorded as PASS under the usual 5 %, and held to less than it has all the same."""
        record = suites.path / "baselines/trpo-hopper/baseline.json"
        stored = json.loads(record.read_text())
        stored["budgets"] = {"ptdq": {"max_action_error": 0.001}, "ptsq": {"max_bytes": 1}}
        record.write_text(json.dumps(stored))
        result = suites.runpytest("suites/test_quantization_error.py", "-k", "ptdq or ptsq]")
        result.assert_outcomes(passed=1, failed=1, deselected=2)
        result.stdout.fnmatch_lines(["action error trpo-hopper / ptdq: FAIL * > 0.001 *"])

    def test_unmeasured_fails_on_request_and_an_untuned_machine_is_refused(
        self, suites, monkeypatch
    ):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")  # never tuned, whatever runs the tests
        path = suites.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("variant", ["fp32"], indirect=True)
            class TestBudgets:
                @pytest.mark.drlcompress(max_energy_uj=5)
                def test_energy(self, energy): energy.check()

                @pytest.mark.drlcompress(deadline_hz=1000)
                def test_deadline(self, latency): latency.check()
            """
        )
        result = suites.runpytest(path, "--drlc-unmeasured=fail", "--drlc-hard-deadline")
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines(
            [
                "energy trpo-hopper / fp32: NOT_MEASURED*",
                "*No energy counter is readable: *",
                "latency trpo-hopper / fp32: INVALID*",
                "*--drlc-hard-deadline needs a tuned machine*pytest-xdist runs other tests*",
            ]
        )

    @pytest.mark.parametrize(
        ("option", "complaint"),
        [
            ("--drlc-fits=much", "must be a size such as 256KiB"),
            ("--drlc-max-latency-ratio=-1", "must be a number greater than 0"),
            ("--drlc-unmeasured=pass", "must be one of skip, fail"),
        ],
    )
    def test_impossible_options_end_the_run(self, pytester, option, complaint):
        result = pytester.runpytest(option)
        assert result.ret == 4
        result.stderr.fnmatch_lines([f"*{complaint}*"])

    def test_memory_reports_every_size_to_junit_and_the_benchmark(self, suites):
        path = suites.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("variant", ["ptsq"], indirect=True)
            def test_sizes(memory, benchmark):
                verdict = memory.check()
                benchmark.pedantic(lambda: None)
                details = verdict.details
                assert details["bytes_on_disk"] > details["initializer_bytes"]
                assert details["initializer_bytes"] > details["entropy_bound_bytes"]
                assert details["resident_bytes"] > details["resident_before_bytes"] > 10**7
                assert benchmark.extra_info["memory"]["nnz_claim_bytes"] > 1000
            """
        )
        suites.runpytest(path, "-p", "no:xdist").assert_outcomes(passed=1)
