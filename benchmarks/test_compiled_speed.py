"""The ways to run a policy, in turns on one machine: ONNX Runtime, generated C, SB3.

    pytest benchmarks/test_compiled_speed.py -s

What an action costs does not depend on what was learned, so the variants are hardly trained: the
same layers, zeros and integers as the recipe's in seconds.
"""

import numpy as np
import pytest

from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.measurement import rivals
from pytest_drlcompress.runtime.c import CController
from pytest_drlcompress.runtime.onnxruntime import OnnxController
from pytest_drlcompress.workbench.workbench import Workbench

POLICIES = ("sac-halfcheetah", "ppo-halfcheetah", "sac-hopper")
REPEATS = 50
SHORT = "rounds=1,samples=256"
VARIANTS = {
    "dense": "qat:samples=256,steps=1",
    "sparse@98": f"sparse@98:{SHORT},steps=200+qat:samples=256,steps=1",
    "narrow@16": f"narrow@16:{SHORT},steps=1+qat:samples=256,steps=1",
}
GOAL_CALLED, GOAL_INSIDE = 5, 15


@pytest.mark.parametrize("policy", POLICIES)
def test_generated_c_against_the_usual_ways(policy):
    bench = Workbench(default_settings(policies=(policy,)), builtin_registry())
    loaded = bench.load(policy)
    observation = loaded.probe_observations[0]
    exported = loaded.exported.model
    contenders = {
        "ONNX Runtime run, fp32": rivals.plain_run(exported, observation),
        "ONNX Runtime IO-bound, fp32": _call(OnnxController(exported), observation),
    }
    if (predict := rivals.sb3_predict(loaded.policy, observation)) is not None:
        contenders["SB3 predict"] = predict
    flash = {}
    for name, recipe in VARIANTS.items():
        model = loaded.compressed(parse_recipe(recipe)).model
        controller = CController(model)
        controller.act_one(observation)
        flash[f"C {name}"] = controller.source.table_bytes
        contenders[f"ONNX Runtime IO-bound, {name}"] = _call(OnnxController(model), observation)
        contenders[f"C {name}, called"] = _call(controller, observation)
        contenders[f"C {name}, inside"] = _inside(controller)
    bench.close()
    times = rivals.contest(contenders)
    plain = times[:, 0]
    print(f"\n{policy}\n| way | us | x faster than run | constants, bytes |\n|---|---|---|---|")
    faster = {}
    for place, name in enumerate(contenders):
        column = times[:, place] / (REPEATS if name.endswith("inside") else 1)
        faster[name] = float(np.median(plain / column))
        size = flash.get(name.partition(",")[0], "")
        print(f"| {name} | {np.median(column):.3f} | {faster[name]:.1f} | {size} |")
    assert max(x for name, x in faster.items() if name.endswith("called")) >= GOAL_CALLED
    assert max(x for name, x in faster.items() if name.endswith("inside")) >= GOAL_INSIDE


def _call(controller, observation):
    return lambda: controller.act_one(observation)


def _inside(controller):
    return lambda: controller.repeat_network(REPEATS)
