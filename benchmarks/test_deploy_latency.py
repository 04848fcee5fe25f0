# ruff: noqa: INP001 (written like the tests)
"""What one action costs at batch 1: ONNX Runtime, generated C, SB3's predict, interleaved.

``pytest benchmarks/test_deploy_latency.py -s`` prints a table for each policy. The trainings are
short: a latency depends on the layers, not on how good they are.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.measurement.latency import median_call_seconds
from pytest_drlcompress.measurement.rivals import contest, plain_run, sb3_predict
from pytest_drlcompress.runtime.c import CController
from pytest_drlcompress.workbench.workbench import Workbench

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
POLICIES = ("sac-halfcheetah", "ppo-halfcheetah", "sac-hopper")
QUICK = "steps=300,rounds=2,samples=1000"
RECIPES = {
    "dense": "ptsq",
    "sparse 98 %": f"sparse@98:{QUICK}+qat:steps=100,samples=2000",
    "narrow 16-16": f"narrow@16:{QUICK}+qat:steps=100,samples=2000",
}
LOOP = 200


@pytest.mark.parametrize("policy", POLICIES)
def test_generated_c_is_faster_than_onnxruntime(policy):
    """A narrow network: five times through the call and fifteen times inside, against ``run``.

    Dense and sparse ones are shown beside it.
    """
    bench = Workbench(default_settings(baselines=BASELINES, workers=1), builtin_registry())
    loaded = bench.load(policy)
    observation = loaded.probe_observations[0]
    exported = loaded.exported.model
    contenders = {
        "ONNX Runtime fp32, run": plain_run(exported, observation),
        "ONNX Runtime fp32, IO-bound": partial(loaded.controller.act_one, observation),
    }
    inside = {}
    for name, recipe in RECIPES.items():
        candidate = bench.candidate(policy, recipe)
        controller = CController(candidate.artifact.model)
        assert controller.exact
        if name == "dense":
            contenders["ONNX Runtime int8, IO-bound"] = partial(
                candidate.controller.act_one, observation
            )
        contenders[f"C {name}"] = partial(controller.act_one, observation)
        inside[f"C {name}, inside"] = partial(controller.repeat_network, LOOP)
    predict = sb3_predict(loaded.policy, observation)
    if predict is not None:
        contenders["SB3 predict"] = predict
    times = contest({**contenders, **inside})
    times[:, len(contenders) :] /= LOOP
    names = [*contenders, *inside]
    ratios = {
        name: float(np.median(times[:, 0] / times[:, place])) for place, name in enumerate(names)
    }
    print(f"\n{policy}: microseconds per action, {len(times)} interleaved rounds")
    for place, name in enumerate(names):
        print(f"  {name:<28} {np.median(times[:, place]):8.3f}  {ratios[name]:6.1f} x")
    bench.close()
    assert min(ratios[f"C {name}"] for name in RECIPES) >= 5
    assert ratios["C narrow 16-16, inside"] >= 15
    assert median_call_seconds(contenders["C dense"], 7) < 1e-3
