"""Gates on a real baseline (TRPO Hopper): verdicts, budgets, records, and broken candidates."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from conftest import ROOT
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.store import load_network

RETENTION = "suites/test_return_retention.py"
ERROR = "suites/test_quantization_error.py"


@pytest.fixture(scope="session")
def exported(exporter):
    """The baseline's network as ONNX bytes."""
    network = load_network(ROOT / "baselines/trpo-hopper")
    return export_onnx(network, (11,), np.dtype(np.float64))


def record(suites):
    return json.loads((suites.path / "baselines/trpo-hopper/baseline.json").read_text())


def rewrite(suites, change):
    path = suites.path / "baselines/trpo-hopper/baseline.json"
    data = json.loads(path.read_text())
    change(data["verdicts"])
    path.write_text(json.dumps(data))


@pytest.mark.usefixtures("exporter")
class TestCandidateFiles:
    def judge(self, suites, model, *args):
        (suites.path / "small.onnx").write_bytes(model)
        return suites.runpytest(*(args or (RETENTION,)), "--drlc-variant=small.onnx")

    def test_a_faithful_file_passes(self, suites, exported):
        result = self.judge(suites, exported, RETENTION, ERROR)
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(["retention trpo-hopper / small: PASS*episodes, e = *"])

    def test_leaving_the_action_space_fails_at_once(self, suites):
        network = load_network(ROOT / "baselines/trpo-hopper")
        unclipped = torch.nn.Sequential(*list(network)[:-1])
        with torch.no_grad():
            unclipped[-1].weight *= 20
        result = self.judge(suites, export_onnx(unclipped, (11,), np.dtype(np.float64)))
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*is outside Box [[]-1, 1[]] of shape (3,).*"])

    def test_nan_weights_fail_at_once(self, suites, exported):
        model = onnx.load_from_string(exported)
        weights = next(t for t in model.graph.initializer if len(t.dims) == 2)
        array = numpy_helper.to_array(weights).copy()
        array[0, 0] = np.nan
        weights.CopyFrom(numpy_helper.from_array(array, weights.name))
        result = self.judge(suites, model.SerializeToString(), RETENTION, ERROR)
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines(["*nan*is outside*"])

    def test_another_observation_size_is_a_clean_failure(self, suites):
        other = export_onnx(torch.nn.Sequential(torch.nn.Linear(5, 3)), (5,), np.dtype(np.float32))
        result = self.judge(suites, other)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*takes observations of shape (5,); 'Hopper-v5' gives (11,)*"])

    def test_a_file_that_is_no_model_is_a_clean_failure(self, suites):
        result = self.judge(suites, b"not a model")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*not an ONNX file, or truncated*"])


class TestBudgets:
    TEST = """
        import pytest

        @pytest.mark.drlcompress({marker})
        @pytest.mark.parametrize("variant", ["fp32"], indirect=True)
        def test_mine(variant, retention):
            assert variant.recipe == "fp32"
            print("LIMIT", retention.measure().limit)
    """

    def limit(self, suites, marker, *args):
        test = suites.makepyfile(self.TEST.format(marker=marker))
        result = suites.runpytest(test, "-s", "--drlc-max-episodes=3", *args)
        result.assert_outcomes(passed=1)
        return next(line.split("LIMIT ")[1] for line in result.outlines if "LIMIT " in line)

    def test_the_command_line_wins_over_the_marker(self, suites):
        line = self.limit(suites, "min_retention=0.95", "--drlc-min-retention=0.8")
        assert line == "0.8"

    def test_the_marker_wins_over_the_ini_file(self, suites):
        suites.makeini("[pytest]\ndrlc_min_retention = 0.7\n")
        assert self.limit(suites, "min_retention=0.95") == "0.95"
        assert self.limit(suites, "max_action_error=0.1") == "0.7"

    @pytest.mark.parametrize(
        ("marker", "expected"),
        [
            ("min_retension=0.9", "has no budget 'min_retension'; known: min_retention"),
            ("0.9", "takes keyword arguments only"),
            ("min_retention=float('nan')", "min_retention must be a positive number, not nan"),
            ("min_retention=-1", "min_retention must be a positive number, not -1"),
            ("min_retention=True", "min_retention must be a positive number, not True"),
        ],
    )
    def test_a_wrong_marker_is_a_clean_failure(self, suites, marker, expected):
        result = suites.runpytest(suites.makepyfile(self.TEST.format(marker=marker)))
        assert result.ret == 1
        assert expected in result.stdout.str()
        assert "Traceback" not in result.stdout.str()

    def test_a_latency_budget_decides(self, suites):
        test = suites.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("variant", ["fp32"], indirect=True)
            class TestLatency:
                @pytest.mark.drlcompress(max_latency_ratio=10)
                def test_wide(self, latency): latency.check()

                @pytest.mark.drlcompress(max_latency_ratio=0.01)
                def test_narrow(self, latency): latency.check()
            """
        )
        result = suites.runpytest(test)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*The whole interval lies beyond the budget.*"])


class TestInconclusive:
    @pytest.mark.parametrize(
        ("how", "outcome"), [("fail", "failed"), ("xfail", "xfailed"), ("skip", "skipped")]
    )
    def test_never_passes(self, suites, how, outcome):
        arguments = ("--drlc-variant=fp32", "--drlc-max-episodes=5", f"--drlc-inconclusive={how}")
        result = suites.runpytest(RETENTION, *arguments, "-rxs")
        result.assert_outcomes(**{outcome: 1})
        assert "retention trpo-hopper / fp32: INCONCLUSIVE" in result.stdout.str()


class TestPerturbed:
    ARGUMENTS = (RETENTION, "--drlc-max-episodes=60", "--drlc-workers=1")

    def test_is_a_gate_of_its_own_against_an_equally_disturbed_baseline(self, suites):
        disturbed = "--drlc-perturb=mass=1.3,action_noise=0.1"
        result = suites.runpytest(*self.ARGUMENTS, "-k", "fp32", disturbed)
        assert "retention under mass=1.3,action_noise=0.1 trpo-hopper / fp32: " in str(
            result.stdout
        )
        assert "is recorded" not in str(result.stdout)  # the record is of the undisturbed one
        assert "1 INVALID" not in str(result.stdout)

    def test_a_marker_can_ask_for_it(self, suites):
        test = suites.makepyfile(
            """
            import pytest

            @pytest.mark.drlcompress(perturb="mass=1.3,action_noise=0.1")
            @pytest.mark.parametrize("variant", ["fp32"], indirect=True)
            def test_mine(retention):
                assert retention.measure().gate == "retention under mass=1.3,action_noise=0.1"
            """
        )
        suites.runpytest(test, *self.ARGUMENTS[1:]).assert_outcomes(passed=1)


class TestRecords:
    """Only fp32 is run, so that each of these costs one gate."""

    ARGUMENTS = (RETENTION, "-k", "fp32")

    def test_as_recorded(self, suites):
        suites.runpytest(*self.ARGUMENTS).assert_outcomes(passed=1, deselected=3)

    def test_a_missing_record_fails_with_the_command(self, suites):
        rewrite(suites, lambda verdicts: verdicts.pop("fp32"))
        result = suites.runpytest(*self.ARGUMENTS)
        result.assert_outcomes(failed=1, deselected=3)
        result.stdout.fnmatch_lines(["*--drlc-policy=trpo-hopper --drlc-record-new"])

    def test_recording_new_writes_it_and_nothing_else(self, suites):
        before = record(suites)["verdicts"]
        rewrite(suites, lambda verdicts: verdicts.pop("fp32"))
        result = suites.runpytest(*self.ARGUMENTS, "--drlc-record-new")
        result.assert_outcomes(passed=1, deselected=3)
        after = record(suites)["verdicts"]
        assert after["fp32"]["retention"]["state"] == "PASS"
        assert "action error" not in after["fp32"]
        assert {k: v for k, v in after.items() if k != "fp32"} == {
            k: v for k, v in before.items() if k != "fp32"
        }
        suites.runpytest(*self.ARGUMENTS).assert_outcomes(passed=1, deselected=3)

    def test_recorded_fail_that_passes_is_an_improvement(self, suites):
        def fail(verdicts):
            verdicts["fp32"]["retention"].update(state="FAIL", estimate=0.5)

        rewrite(suites, fail)
        result = suites.runpytest(*self.ARGUMENTS)
        result.assert_outcomes(passed=1, deselected=3)
        result.stdout.fnmatch_lines(["IMPROVED retention trpo-hopper / fp32: PASS*"])
        assert "recorded as FAIL 0.500" in result.stdout.str()

    def test_recorded_pass_that_fails_is_red(self, suites):
        def demand(verdicts):
            verdicts["fp32"]["retention"].update(limit=1.5)

        rewrite(suites, demand)
        suites.makeini("[pytest]\ndrlc_min_retention = 1.5\n")
        result = suites.runpytest(*self.ARGUMENTS)
        result.assert_outcomes(failed=1, deselected=3)
        result.stdout.fnmatch_lines(["*It is recorded as PASS*"])

    def test_recorded_fail_that_fails_is_expected(self, suites):
        def demand(verdicts):
            verdicts["fp32"]["retention"].update(limit=1.5, state="FAIL", estimate=1.0)

        rewrite(suites, demand)
        suites.makeini("[pytest]\ndrlc_min_retention = 1.5\n")
        result = suites.runpytest(*self.ARGUMENTS)
        result.assert_outcomes(xfailed=1, deselected=3)
        assert result.ret == 0

    def test_asking_for_a_variant_asks_afresh(self, suites):
        rewrite(suites, lambda verdicts: verdicts.clear())
        result = suites.runpytest(RETENTION, "--drlc-variant=fp32")
        result.assert_outcomes(passed=1)


def test_ids_are_short_and_the_same_everywhere(suites):
    result = suites.runpytest("suites", "--collect-only", "-q", "-k", "retention")
    assert [line for line in result.outlines if "::" in line] == [
        f"{RETENTION}::test_return_retention[trpo-hopper-{variant}]"
        for variant in ("fp32", "ptdq", "ptsq", "ptsq:equalize=true")
    ]


def test_verdicts_reach_junit(suites):
    suites.runpytest(RETENTION, "--drlc-variant=fp32", "--junitxml=out.xml")
    text = (suites.path / "out.xml").read_text()
    for field, value in (("policy", "trpo-hopper"), ("state", "PASS"), ("sample_size", "42")):
        assert f'<property name="drlcompress.retention.{field}" value="{value}" />' in text
    assert 'name="drlcompress.retention.estimate" value="0.99' in text
    assert "drlcompress_" not in text  # what carries the verdicts is not for reading


class TestPlan:
    def test_it_says_what_the_gates_would_cost_and_runs_nothing(self, suites):
        result = suites.runpytest(
            "suites", "-k", "retention", "--drlc-plan", "--drlc-variant=fp32",
            "--drlc-variant=l2@30", "--drlc-policy=trpo-hopper",
        )  # fmt: skip
        result.stdout.fnmatch_lines(
            [
                "trpo-hopper: fp32 * (as recorded), l2@30 * (if it keeps everything); *.* min",
                "plan: 2 retention gates, * min expected, * Nothing was run.",
            ]
        )
        assert result.ret == 0
        assert "passed" not in result.stdout.lines[-1]

    def test_a_plan_is_for_one_process(self, suites):
        pytest.importorskip("xdist")
        result = suites.runpytest("suites", "--drlc-plan", "-n1")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*--drlc-plan runs nothing: leave out -n*"])
