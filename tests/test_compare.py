"""Comparing two reports: better, worse, new, missing, and the exit code that CI acts on."""

import json

import pytest
from reports import FACTS

from pytest_drlcompress.__main__ import main
from pytest_drlcompress.core.verdict import State, Verdict


def verdict(gate="retention", state="PASS", estimate=1.0, interval=None, variant="ptsq"):
    return Verdict(gate, "p", variant, State(state), "why", estimate, interval)


def ranged(gate, estimate, half):
    return verdict(gate, "PASS", estimate, (estimate - half, estimate + half))


@pytest.fixture
def compared(tmp_path, capsys):
    def run(old, new, *options, processors=("x86", "x86"), artifacts=((), ())):
        names = []
        for name, verdicts, processor, facts in zip(
            ("old", "new"), (old, new), processors, artifacts, strict=True
        ):
            report = {
                "schema_version": 1,
                "run": {"processor": processor},
                "verdicts": [v.to_json() for v in verdicts],
                "artifacts": list(facts),
            }
            (tmp_path / f"{name}.json").write_text(json.dumps(report))
            names.append(str(tmp_path / f"{name}.json"))
        code = main(["compare", *names, *options])
        return code, capsys.readouterr().out

    return run


def test_the_same_is_no_news(compared):
    code, out = compared([verdict()], [verdict()])
    assert code == 0
    assert out == "0 worse, 0 missing, 0 better, 0 new, 0 changed, 1 same\n"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (verdict(), verdict(state="FAIL", estimate=0.5), "worse"),
        (verdict(), verdict(state="INCONCLUSIVE"), "worse"),
        (verdict(state="FAIL"), verdict(), "better"),
        # figures of one state
        (verdict(estimate=1.0), verdict(estimate=0.96), "same"),
        (verdict(estimate=1.0), verdict(estimate=0.94), "worse"),
        (ranged("retention", 1.0, 0.1), ranged("retention", 0.91, 0.05), "same"),
        (ranged("retention", 1.5, 0.1), ranged("retention", 1.0, 0.1), "worse"),
        (verdict("action error", estimate=0.01), verdict("action error", estimate=0.02), "worse"),
        (verdict("action error", estimate=0.02), verdict("action error", estimate=0.01), "better"),
        (verdict("action error", estimate=0.0), verdict("action error", estimate=1e-9), "same"),
        (verdict("memory", estimate=1000), verdict("memory", estimate=900), "better"),
        (verdict("sparsity", estimate=0.95), verdict("sparsity", estimate=0.5), "worse"),
        (ranged("latency", 1.0, 0.01), ranged("latency", 1.1, 0.01), "same"),
        (ranged("latency", 1.0, 0.01), ranged("latency", 1.3, 0.01), "worse"),
        (verdict("my own", estimate=1.0), verdict("my own", estimate=2.0), "changed"),
    ],
)
def test_what_became_of_a_gate(compared, old, new, kind):
    code, out = compared([old], [new])
    assert code == (kind == "worse")
    assert f"1 {kind}" in out
    assert kind == "same" or f"{kind}:\n    {old.gate} p / ptsq: " in out


def test_latency_of_two_machines_is_compared_by_state(compared):
    old, new = verdict("latency", estimate=1.0), verdict("latency", estimate=3.0)
    code, out = compared([old], [new], processors=("x86", "arm"))
    assert code == 0
    assert "two processors" in out
    failed = verdict("latency", "FAIL", 3.0)
    assert compared([old], [failed], processors=("x86", "arm"))[0] == 1


def test_missing_fails_unless_it_may(compared):
    both, one = [verdict(), verdict("memory")], [verdict()]
    code, out = compared(both, one)
    assert code == 1
    assert "missing:\n    memory p / ptsq: was PASS 1 B\n" in out
    assert compared(both, one, "--allow-missing")[0] == 0


def test_what_is_no_longer_measured_is_missing(compared):
    assert compared([verdict("energy")], [verdict("energy", "NOT_MEASURED", None)])[0] == 1
    code, out = compared(
        [verdict(), verdict("energy", "NOT_MEASURED", None)], [verdict(), verdict("energy")]
    )
    assert (code, "1 new" in out) == (0, True)


def test_nothing_in_common_always_fails(compared):
    code, out = compared([verdict()], [verdict(variant="qat")], "--allow-missing")
    assert code == 1
    assert "no gate in common" in out


def test_a_changed_artifact_is_explained(compared):
    other = {**FACTS, "sha256": "b" * 64, "settings": {"ptsq.calibration.first_seed": 1}}
    code, out = compared([verdict()], [verdict()], artifacts=([FACTS], [other]))
    assert code == 0
    assert (
        "p / ptsq: The artifact is not the old one: ptsq calibration first_seed 655360 -> 1" in out
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("no JSON", "cannot be read"),
        ("[]", "has no schema version; this version reads 1"),
        ('{"schema_version": 2}', "has schema version 2; this version reads 1"),
        ('{"schema_version": 1}', "is damaged: Object missing required field verdicts"),
        (
            '{"schema_version": 1, "verdicts": [{}]}',
            "is damaged: verdicts[0]: Object missing required field gate",
        ),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, capsys, content, message):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    assert main(["compare", str(path), str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_tolerance_must_be_a_number(capsys):
    assert main(["compare", "a", "b", "--tolerance=nan"]) == 2
    assert "must be a number of at least 0" in capsys.readouterr().err
