"""Recording: what is written, what stays, who may write, and what survives a crash."""

import json
import signal
import subprocess
import sys

import pytest
from reports import FACTS

from pytest_drlcompress.baselines.changes import find_change
from pytest_drlcompress.baselines.verdicts import (
    ARTIFACT,
    Expectation,
    record_verdicts,
)
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.kinds import MEMORY
from pytest_drlcompress.gates.records import expected_of, recordable


def verdict(gate="retention", variant="ptsq", state=State.PASS, estimate=0.98765):
    return Verdict(gate, "p", variant, state, "why", estimate, (0.9, 1.123456), 0.9, 46)


@pytest.fixture
def folder(tmp_path):
    record = {"environment": "Hopper-v5", "sha256": "0" * 64, "verdicts": {}, "kept": [1, 2]}
    (tmp_path / "baseline.json").write_text(json.dumps(record))
    return tmp_path


def stored(folder):
    return json.loads((folder / "baseline.json").read_text())["verdicts"]


class TestWriting:
    def test_figures_are_rounded_and_name_their_artifact(self, folder):
        lines = record_verdicts(folder, [verdict()], {"ptsq": FACTS}, only_new=True)
        assert lines == ["p / ptsq retention: new -> PASS 0.988 (artifact aaaaaaaaaaaa)"]
        assert stored(folder)["ptsq"]["retention"] == {
            "artifact": "a" * 12,
            "estimate": 0.9877,
            "interval": [0.9, 1.1235],
            "limit": 0.9,
            "sample_size": 46,
            "state": "PASS",
        }
        described = stored(folder)["ptsq"][ARTIFACT]
        assert described["bytes"] == 1000
        assert described["versions"] == {"onnxruntime": "1.31.1"}
        assert "code" not in described

    def test_bytes_and_sparsity_are_kept_and_expected_of_nobody(self, folder):
        record_verdicts(folder, recordable([verdict("memory", estimate=1000)]), {}, only_new=True)
        assert stored(folder)["ptsq"]["memory"]["estimate"] == 1000
        assert expected_of(MEMORY, stored(folder), "p", "ptsq") is None

    def test_what_depends_on_the_machine_is_not_recorded(self, folder):
        assert recordable([verdict("latency"), verdict("energy")]) == []
        assert record_verdicts(folder, recordable([verdict("latency")]), {}, only_new=False) == []
        assert stored(folder) == {}

    def test_only_new_leaves_what_is_there(self, folder):
        record_verdicts(folder, [verdict()], {}, only_new=True)
        assert record_verdicts(folder, [verdict(estimate=0.5)], {}, only_new=True) == []
        assert stored(folder)["ptsq"]["retention"]["estimate"] == 0.9877

    def test_only_new_describes_the_artifact_of_an_old_record(self, folder):
        record_verdicts(folder, [verdict()], {}, only_new=True)
        assert ARTIFACT not in stored(folder)["ptsq"]
        lines = record_verdicts(folder, [verdict()], {"ptsq": FACTS}, only_new=True)
        assert lines == [
            "p / ptsq retention: unchanged; its artifact aaaaaaaaaaaa is described now"
        ]
        assert stored(folder)["ptsq"][ARTIFACT]["sha256"] == "a" * 64

    def test_all_says_old_and_new(self, folder):
        record_verdicts(folder, [verdict()], {}, only_new=True)
        again = verdict(state=State.FAIL, estimate=0.5)
        assert record_verdicts(folder, [again], {}, only_new=False) == [
            "p / ptsq retention: PASS 0.988 -> FAIL 0.500"
        ]

    def test_the_same_again_writes_nothing(self, folder):
        record_verdicts(folder, [verdict()], {"ptsq": FACTS}, only_new=False)
        before = (folder / "baseline.json").stat().st_mtime_ns
        assert record_verdicts(folder, [verdict()], {"ptsq": FACTS}, only_new=False) == []
        assert (folder / "baseline.json").stat().st_mtime_ns == before


RECORD_ONE = """
import sys
from pathlib import Path
from pytest_drlcompress.baselines.verdicts import record_verdicts
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.kinds import MEMORY
from pytest_drlcompress.gates.records import expected_of, recordable

folder, variant = Path(sys.argv[1]), sys.argv[2]
for gate in ("retention", "action error"):
    verdict = Verdict(gate, "p", variant, State.PASS, "", 0.95, None, 0.9, 46)
    record_verdicts(folder, [verdict], {}, only_new=True)
"""

KILLED = """
import os, signal
import pytest_drlcompress.core.files as files

def kill(handle):
    os.kill(os.getpid(), signal.SIGKILL)  # the new content is written, and not yet in place

files.os.fsync = kill
"""


class TestManyProcesses:
    def test_ten_at_once_lose_nothing(self, folder):
        variants = [f"l2@{5 * n}" for n in range(1, 11)]
        running = [
            subprocess.Popen([sys.executable, "-c", RECORD_ONE, folder, variant])
            for variant in variants
        ]
        assert [process.wait() for process in running] == [0] * 10
        found = stored(folder)
        assert sorted(found) == sorted(variants)
        assert all(set(gates) == {"retention", "action error"} for gates in found.values())

    def test_a_kill_during_the_write_leaves_the_old_file(self, folder):
        record_verdicts(folder, [verdict()], {}, only_new=True)
        before = (folder / "baseline.json").read_bytes()
        dead = subprocess.run(
            [sys.executable, "-c", KILLED + RECORD_ONE, folder, "l2@5"], check=False
        )
        assert dead.returncode == -signal.SIGKILL
        assert (folder / "baseline.json").read_bytes() == before
        # and the next one is not locked out
        subprocess.run([sys.executable, "-c", RECORD_ONE, folder, "l2@5"], check=True, timeout=60)
        assert set(stored(folder)) == {"ptsq", "l2@5"}


class TestExpectation:
    @pytest.mark.parametrize(
        ("recorded", "now", "outcome"),
        [
            ("PASS", "PASS", "pass"),
            ("PASS", "INCONCLUSIVE", "fail"),
            ("FAIL", "FAIL", "xfail"),
            ("FAIL", "INCONCLUSIVE", "xfail"),
            ("FAIL", "PASS", "improved"),
            ("FAIL", "INVALID", "fail"),
            ("INCONCLUSIVE", "FAIL", "fail"),
        ],
    )
    def test_no_state_may_be_worse_than_recorded(self, recorded, now, outcome):
        expected = Expectation({"state": recorded, "estimate": 0.5}, "command")
        assert expected.outcome(verdict(state=State(now)))[0] == outcome


ENTRY = {"artifact": "a" * 12}


class TestChange:
    """``find_change`` on a record of FACTS; what is planted in real code: test_planted_changes."""

    def change(self, errors=(0.005, 0.005), **facts):
        return find_change(ENTRY, FACTS, {**FACTS, "sha256": "b" * 64, **facts}, errors)

    def test_the_same_artifact_has_not_changed(self):
        assert find_change(ENTRY, FACTS, FACTS, (None, None)) is None

    def test_a_record_without_an_artifact_is_taken_as_it_is(self):
        assert find_change({"state": "PASS"}, None, FACTS, (None, None)) is None

    def test_a_record_of_yet_another_artifact(self):
        assert find_change({"artifact": "c" * 12}, FACTS, FACTS, (None, None)).kind == "worse"

    @pytest.mark.parametrize(
        ("facts", "kind"),
        [
            ({}, "worse"),  # same versions, same processor, other bytes
            ({"processor": "arm", "parts": {"scales": "9"}}, "elsewhere"),
            ({"versions": {"onnxruntime": "2"}, "bytes": 900, "operators": {}}, "elsewhere"),
            ({"processor": "arm", "bytes": 900}, "worse"),
            ({"processor": "arm", "operators": {"Gemm": 2}}, "worse"),
            ({"processor": "arm", "settings": {"ptsq.calibration.first_seed": 1}}, "worse"),
            ({"versions": {"onnxruntime": "2"}, "settings": {}}, "worse"),
        ],
    )
    def test_what_another_place_explains(self, facts, kind):
        assert self.change(**facts).kind == kind

    @pytest.mark.parametrize(
        ("errors", "kind"),
        [((0.005, 0.009), "elsewhere"), ((0.005, 0.01), "worse"), ((0.05, 0.03), "better")],
    )
    def test_the_action_error_decides_elsewhere(self, errors, kind):
        assert self.change(errors, processor="arm").kind == kind

    def test_another_source_leaves_no_error_to_compare(self):
        change = self.change((0.05, 0.001), source="1" * 12)
        assert change.kind == "worse"
        assert "the fp32 policy that every recipe starts from is another" in change.text


class TestWhoMayRecord:
    @pytest.fixture(autouse=True)
    def _project(self, pytester):
        pytester.makepyfile("def test_nothing(): pass")

    @pytest.mark.parametrize("option", ["--drlc-record", "--drlc-record-new"])
    def test_not_under_xdist_unless_asked(self, pytester, option):
        result = pytester.runpytest(option, "-n2")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"{option} writes into the baselines, and this run is spread" in str(result.stderr)
        assert pytester.runpytest(option, "-n2", "--drlc-record-anyway").ret == 0
        assert pytester.runpytest(option, "-n0").ret == 0

    @pytest.mark.parametrize("option", ["--drlc-record", "--drlc-record-new"])
    def test_not_in_ci_unless_asked(self, pytester, monkeypatch, option):
        monkeypatch.setenv("CI", "true")
        result = pytester.runpytest(option)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"{option} writes into the baselines, which nobody looks at in CI" in str(
            result.stderr
        )
        assert pytester.runpytest(option, "--drlc-record-anyway").ret == 0
        monkeypatch.setenv("CI", "false")
        assert pytester.runpytest(option).ret == 0
