"""A report with everything in it, as a run with every gate would make it."""

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.reporting.report import Report
from pytest_drlcompress.reporting.results import Failure, Judged

VARIANTS = ("fp32", "ptdq", "ptsq:equalize=true", "sparse@95+qat", "l2@30")
FACTS = {
    "policy": "p",
    "variant": "ptsq",
    "sha256": "a" * 64,
    "bytes": 1000,
    "source": "0" * 12,
    "operators": {"Gemm": 3},
    "parts": {"nodes": "1", "scales": "2", "weights": "3"},
    "settings": {"ptsq.calibration.first_seed": 655360},
    "versions": {"onnxruntime": "1.31.1"},
    "processor": "x86",
    "code": {"ptsq": "module"},
}
"""The fingerprint of an artifact."""

HOSTILE = "<script>alert(1)</script>|`x`"


def _verdicts(policy):
    for n, variant in enumerate(VARIANTS):
        kept = 1.0 - 0.12 * n / 4 if variant != "l2@30" else 0.42
        state = State.PASS if kept > 0.9 else State.FAIL
        yield Verdict(
            "retention", policy, variant, state, f"{46 + n} episodes", kept,
            (kept - 0.08, kept + 0.08), 0.9, 46 + n, "episodes", 21.0, 0.05,
        )  # fmt: skip
        attribution = [
            {"layer": layer, "part": part, "error": 0.01 * n / layer, "scale": 0.1}
            for layer in (1, 2, 3)
            for part in ("activation", "weight")
        ]
        yield Verdict(
            "action error", policy, variant, State.PASS, "small", 0.004 * n, None, 0.05, 2000,
            "observations", details={"attribution": attribution if n else [], "max": float("nan")},
        )  # fmt: skip
        layers = {"layer 1": 0.9 if n == 3 else 0.0, "layer 2": 0.97 if n == 3 else 0.01 * n}
        yield Verdict(
            "sparsity", policy, variant, State.PASS, "", sum(layers.values()) / 2,
            details={"by_layer": layers, "total": sum(layers.values()) / 2},
        )  # fmt: skip
        yield Verdict(
            "latency", policy, variant, State.PASS, "No budget was given.", 1.0 - 0.07 * n,
            (0.98 - 0.07 * n, 1.02 - 0.07 * n), None, 40, "blocks",
        )  # fmt: skip
        yield Verdict(
            "memory", policy, variant, State.PASS, "", 288_811 / (n + 1), unit="bytes",
            details={"bytes_on_disk": 288_811 // (n + 1)},
        )  # fmt: skip
        yield Verdict("energy", policy, variant, State.NOT_MEASURED, "no counter is readable")
    points = [
        {
            "recipe": f"l2@{ratio}", "ratio": float(ratio), "parameters": 1 - ratio / 100,
            "bytes": 280_000 - 3000 * ratio, "latency": 1 - ratio / 200, "state": "PASS",
            "retention": 1 - ratio / 150, "low": 0.9 - ratio / 150, "high": 1.1 - ratio / 150,
            "episodes": 46, "in_sequence": True,
        }
        for ratio in (5, 10, 30, 50)
    ]  # fmt: skip
    yield Verdict(
        "pruning", policy, "l2", State.PASS, "10 % keeps 90 %", 0.1, details={"points": points}
    )


def _judged(verdict):
    passed = verdict.state is State.PASS
    outcome = "passed" if passed else "skipped"
    if verdict.state is State.FAIL:
        outcome = "failed"
    if verdict.gate == "retention" and verdict.variant == "ptdq":
        outcome = "improved"
    message = "" if outcome == "passed" else f"{verdict.gate} {HOSTILE} recorded as FAIL 0.500"
    return Judged(verdict, f"suites/test_x.py::test[{verdict.variant}]", outcome, message)


def full_report(policies=("sac-hopper", "a-policy-with-a-rather-long-name-v5")):
    """``Report`` of several policies: failures, improvements, sweeps, text like HTML."""
    judged = tuple(_judged(v) for policy in policies for v in _verdicts(policy))
    failures = tuple(
        Failure(
            j.test, f"{j.message}\n    It is recorded as PASS 1.000.\n" + "x" * 300
        )
        for j in judged
        if j.outcome == "failed"
    )  # fmt: skip
    facts = {
        "policy": policies[0], "variant": "ptdq", "sha256": "a" * 64, "bytes": 1000,
        "source": "0" * 12, "operators": {"Gemm": 3}, "parts": {"nodes": "1" * 12},
        "settings": {"ptdq.step": "ptdq"}, "versions": {"onnx": "1.23.2"}, "processor": "f" * 12,
        "code": {"ptdq": "module"},
    }  # fmt: skip
    return Report(
        judged=judged,
        artifacts=(facts,),
        failures=failures,
        notes=("recorded nothing",),
        not_run=(),
        arguments=("suites/",),
        options=("--drlc-policy=my model.zip",),
        exit_status=1,
        created="2026-01-01T00:00:00+00:00",
        settings={"min_retention": 0.9, "perturb": ""},
        versions={"onnxruntime": "1.31.1"},
        processor="f" * 12,
    )
