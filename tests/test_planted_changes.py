"""Changes planted in the code that compresses: exactly the rows they affect turn red, and say why.

Each test records a baseline's verdicts with the code as it is, plants a change as a conftest
that patches the code while pytest runs, and runs the suites again.
"""

import json
import shutil

import pytest
from baseline_copies import copy_baseline

RECORDED = ("fp32", "ptdq", "ptsq", "ptsq:equalize=true", "l2@30")
GATES = ("suites/test_return_retention.py", "suites/test_quantization_error.py")

CONFTEST = """
import pytest

patch = pytest.MonkeyPatch()

def pytest_configure(config):
{change}

def pytest_unconfigure(config):
    patch.undo()
"""

QUANTIZATION = "pytest_drlcompress.compression.quantization"

SEEDS = """
    from pytest_drlcompress.workbench import calibration
    patch.setattr(calibration, "CALIBRATION_SEEDS", 1)
"""

ZERO_POINT = """
    import onnx
    from onnx import numpy_helper
    from pytest_drlcompress.compression.quantization import post_training

    right = post_training.quantize_statically

    def wrong(*args, **kwargs):
        model = onnx.load_from_string(right(*args, **kwargs))
        inputs = {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"}
        for tensor in model.graph.initializer:
            if tensor.name in inputs:
                array = numpy_helper.to_array(tensor) + SHIFT
                tensor.CopyFrom(numpy_helper.from_array(array.astype("uint8"), tensor.name))
        return model.SerializeToString()

    patch.setattr(post_training, "quantize_statically", wrong)
"""

MORE_PRUNING = """
    from pytest_drlcompress.compression.pruning import structured_step

    right = structured_step.plan_channels
    patch.setattr(
        structured_step, "plan_channels", lambda widths, share, n: right(widths, share + 0.05, n)
    )
"""

NO_VECNORMALIZE = """
    from pytest_drlcompress.policies import store
    from pytest_drlcompress.policies.network import Normalize

    right = store.load_network

    def bare(*args):
        network = right(*args)
        return network[1:] if isinstance(network[0], Normalize) else network

    patch.setattr(store, "load_network", bare)
"""


def plant(project, change):
    project.makeconftest(CONFTEST.format(change=change))


def record(project, *options):
    variants = [f"--drlc-variant={variant}" for variant in RECORDED]
    result = project.runpytest(*GATES, *variants, "--drlc-record", *options)
    assert result.ret == 0, result.stdout.str()


def rows(project, *options):
    """``{(policy, variant): outcomes of its gates}`` of a run, and its failures' messages."""
    project.runpytest(*GATES, "--drlc-report=out.json", *options)
    report = json.loads((project.path / "out.json").read_text())
    found = {}
    for verdict in report["verdicts"]:
        found.setdefault((verdict["policy"], verdict["variant"]), set()).add(verdict["outcome"])
    return found, {failure["test"]: failure["message"] for failure in report["failures"]}


def red(found):
    return {variant for (_, variant), outcomes in found.items() if "failed" in outcomes}


@pytest.fixture
def recorded(suites, tmp_path_factory):
    """A project whose baseline is recorded by this processor; the tests of a run share that."""
    shared = tmp_path_factory.getbasetemp() / "recorded.json"
    baseline = suites.path / "baselines/trpo-hopper/baseline.json"
    if shared.exists():
        shutil.copy(shared, baseline)
        return suites
    record(suites)
    found, _ = rows(suites)
    assert {variant for _, variant in found} == set(RECORDED)
    assert red(found) == set()  # as recorded
    shutil.copy(baseline, shared)
    return suites


def test_other_calibration_seeds(recorded):
    plant(recorded, SEEDS)
    found, messages = rows(recorded)
    assert red(found) == {"ptsq", "ptsq:equalize=true"}
    assert len(messages) == 4
    for message in messages.values():
        assert "ptsq calibration first_seed 655360 -> 1." in message
        assert "unchanged: nodes" in message
        assert (
            "Place: step ptsq (pytest_drlcompress.compression.quantization.post_training)."
            in message
        )
        assert "record it: pytest suites/ --drlc-policy=trpo-hopper --drlc-record" in message


def test_a_wrong_zero_point(recorded):
    plant(recorded, ZERO_POINT.replace("SHIFT", "9"))
    found, messages = rows(recorded)
    assert red(found) == {"ptsq", "ptsq:equalize=true"}
    for message in messages.values():
        assert "its recipe's settings are unchanged" in message
        assert "Changed in it: zero points; unchanged: nodes, scales, weights." in message
        assert "Mean action error 0.00" in message
        assert (
            "Place: step ptsq (pytest_drlcompress.compression.quantization.post_training)."
            in message
        )


def test_more_pruning(recorded):
    plant(recorded, MORE_PRUNING)
    found, messages = rows(recorded)
    assert red(found) == {"l2@30"}
    for message in messages.values():
        assert "l2 channels 1 64, 45 -> 64, 42; l2 channels 3 64, 45 -> 64, 42" in message
        assert "Bytes 12,655 -> " in message
        place = "pytest_drlcompress.compression.pruning.structured_step"
        assert f"Place: step l2 ({place})." in message


def test_a_dropped_vecnormalize(suites):
    """Of two baselines only the one that was trained with observation normalisation changes."""
    copy_baseline("sac-halfcheetah", suites.path / "baselines")
    variants = ("-k", "fp32 or ptdq")
    record(suites, *variants)
    plant(suites, NO_VECNORMALIZE)
    found, messages = rows(suites, *variants)
    assert {policy for (policy, _), outcomes in found.items() if "failed" in outcomes} == {
        "trpo-hopper"
    }
    assert red(found) == {"fp32", "ptdq"}
    for message in messages.values():
        assert "Sub 1 -> none" in message
        assert "the fp32 policy that every recipe starts from is another: loading" in message


def test_an_improvement_is_reported(suites):
    some = ("-k", "ptdq or (ptsq and not equalize)")
    plant(suites, ZERO_POINT.replace("SHIFT", "60"))
    record(suites, *some)
    plant(suites, "    pass")
    found, messages = rows(suites, *some)
    assert messages == {}
    assert found["trpo-hopper", "ptsq"] == {"improved"}
    assert found["trpo-hopper", "ptdq"] == {"passed"}
    report = json.loads((suites.path / "out.json").read_text())
    for verdict in report["verdicts"]:
        if verdict["outcome"] == "improved":
            assert "Mean action error 0.1" in verdict["message"]
            assert (
                "Record the improvement: pytest suites/ --drlc-policy=trpo-hopper"
                in verdict["message"]
            )
