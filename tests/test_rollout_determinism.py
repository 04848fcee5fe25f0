"""An episode's return depends on artifact, environment and seed alone, to the last bit."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

from pytest_drlcompress.core.errors import ActionError
from pytest_drlcompress.environments.engines import engine_choice
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.local import WorkerPool
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.runtime.onnxruntime import OnnxController

# violent actions on a body that never falls: rounding differences grow by orders within 150 steps
CHEETAH = EnvSpec.parse("HalfCheetah-v5:max_episode_steps=150")
# episodes of very different lengths: slots are refilled and become idle one by one
HOPPER = EnvSpec.parse("Hopper-v5:max_episode_steps=150")
SEEDS = list(range(500, 521))
KINDS = ("fp32", "static-int8", "dynamic-int8")


def actor(inputs, outputs, hidden=256, gain=1.0):
    """A random tanh actor as ONNX bytes; ``gain`` is how violent it is."""
    generator = np.random.default_rng(7)
    sizes = (inputs, hidden, hidden, outputs)
    tensors, nodes, last = [], [], "observation"
    for layer, (wide, narrow) in enumerate(pairwise(sizes)):
        weight = (gain * generator.standard_normal((wide, narrow)) / wide**0.5).astype(np.float32)
        bias = np.zeros(narrow, np.float32)
        tensors += [
            numpy_helper.from_array(weight, f"w{layer}"),
            numpy_helper.from_array(bias, f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        last = f"a{layer}"
        nodes.append(helper.make_node("Relu" if layer < 2 else "Tanh", [f"z{layer}"], [last]))
    # ONNX Runtime's tanh reaches 1.0000001
    tensors += [
        numpy_helper.from_array(np.float32(-1), "low"),
        numpy_helper.from_array(np.float32(1), "high"),
    ]
    nodes.append(helper.make_node("Clip", [last, "low", "high"], ["action"]))
    graph = helper.make_graph(
        nodes,
        "actor",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", outputs])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


class Samples(CalibrationDataReader):
    """Standard normal observations for calibration."""

    def __init__(self, width):
        generator = np.random.default_rng(0)
        self.rows = iter(generator.standard_normal((8, 1, width)).astype(np.float32))

    def get_next(self):
        row = next(self.rows, None)
        return None if row is None else {"observation": row}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """``artifact(kind, spec)``: bytes of a random actor, quantized as asked."""
    folder = tmp_path_factory.mktemp("artifacts")

    def make(kind, spec):
        width = spec.observation_shape[0]
        path = folder / f"{spec.id}-{kind}.onnx"
        if not path.exists():
            # the cheetah is thrown about, the hopper allowed to stand for a while
            gain = 1.0 if spec is CHEETAH else 0.25
            exported = actor(width, spec.action.shape[0], gain=gain)
            if kind == "static-int8":
                quantize_static(onnx.load_from_string(exported), path, Samples(width))
            elif kind == "dynamic-int8":
                quantize_dynamic(onnx.load_from_string(exported), path)
            else:
                path.write_bytes(exported)
        return path.read_bytes()

    return make


def outcome(spec, actor, seeds=SEEDS, **arguments):
    """What a rollout gives, by seed; floats compare bit for bit."""
    episodes = rollout(spec, actor, seeds, **arguments)
    return {episode.seed: (episode.total, episode.length) for episode in episodes}


@pytest.fixture(scope="module")
def expected(artifact):
    """``expected(spec, kind)``: the outcome in one slot, each episode by itself."""
    known = {}

    def find(spec, kind):
        if (spec, kind) not in known:
            known[spec, kind] = outcome(spec, artifact(kind, spec), slots=1)
        return known[spec, kind]

    return find


@pytest.mark.parametrize("kind", ["fp32", "static-int8"])
@pytest.mark.parametrize("width", [11, 17, 348])
def test_rows_do_not_depend_on_the_batch(kind, width, artifact, tmp_path):
    """What the engine relies on: kernels treat each row alike, whatever the batch."""
    exported = actor(width, 6)
    if kind == "static-int8":
        path = tmp_path / "model.onnx"
        quantize_static(onnx.load_from_string(exported), path, Samples(width))
        exported = path.read_bytes()
    controller = OnnxController(exported)
    assert controller.batch_invariant
    rows = np.random.default_rng(1).standard_normal((64, width)).astype(np.float32)
    alone = np.stack([controller.act_one(row).copy() for row in rows])
    for batch in (1, 2, 3, 7, 8, 16, 31, 32, 64):
        np.testing.assert_array_equal(controller.act(rows[:batch]), alone[:batch])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", [CHEETAH, HOPPER], ids=["cheetah", "hopper"])
@pytest.mark.parametrize("slots", [8, 16, 32, 64])
def test_slots(spec, kind, slots, artifact, expected):
    assert outcome(spec, artifact(kind, spec), slots=slots) == expected(spec, kind)


def test_the_episodes_would_show_a_difference(expected, artifact):
    """The last bit of one layer's weights moves every return: these tests can fail."""
    for spec in (CHEETAH, HOPPER):
        model = onnx.load_from_string(artifact("fp32", spec))
        layer = model.graph.initializer[2]
        weights = np.nextafter(numpy_helper.to_array(layer), np.float32(9))
        layer.CopyFrom(numpy_helper.from_array(weights, layer.name))
        moved = outcome(spec, model.SerializeToString())
        same = [seed for seed, result in expected(spec, "fp32").items() if moved[seed] == result]
        assert not same
    assert len({length for _, length in expected(HOPPER, "fp32").values()}) > 5


def test_dynamic_quantization_would_depend_on_the_batch(artifact):
    """Why such an artifact is run row by row: its activations' scale is the whole batch's."""
    model = artifact("dynamic-int8", CHEETAH)
    controller = OnnxController(model)
    assert not controller.batch_invariant
    rows = np.random.default_rng(1).standard_normal((16, 17)).astype(np.float32)
    together = controller._session.run(None, {"observation": rows})[0]
    assert not np.array_equal(together, controller.act(rows))


def test_order_and_company(artifact, expected):
    model = artifact("fp32", HOPPER)
    shuffled = np.random.default_rng(3).permutation(SEEDS).tolist()
    assert outcome(HOPPER, model, shuffled) == expected(HOPPER, "fp32")
    for seed in SEEDS[:4]:
        assert outcome(HOPPER, model, [seed]) == {seed: expected(HOPPER, "fp32")[seed]}
    others = outcome(HOPPER, model, [*range(40), *SEEDS])
    assert {seed: others[seed] for seed in SEEDS} == expected(HOPPER, "fp32")


@pytest.mark.parametrize("kind", KINDS)
def test_workers(kind, artifact, expected):
    """One, two and three workers, and a pool that goes from one rollout to the next."""
    with WorkerPool(3) as pool:
        for spec in (CHEETAH, HOPPER):
            model = artifact(kind, spec)
            assert outcome(spec, model, workers=pool) == expected(spec, kind)
            assert outcome(spec, model, workers=pool, slots=4) == expected(spec, kind)
    assert outcome(CHEETAH, artifact(kind, CHEETAH), workers=2) == expected(CHEETAH, kind)


def test_the_engines_give_the_same_returns(artifact, expected, monkeypatch):
    """Also through the whole loop: Gymnasium's own stepping, in one slot and in sixteen."""
    assert engine_choice(HOPPER).name == "mujoco", engine_choice(HOPPER).reason
    monkeypatch.setattr("pytest_drlcompress.environments.mujoco.engine.PROVEN_MUJOCO", ())
    assert engine_choice(HOPPER).name == "gymnasium"
    assert outcome(HOPPER, artifact("fp32", HOPPER)) == expected(HOPPER, "fp32")
    assert outcome(HOPPER, artifact("fp32", HOPPER), slots=1) == expected(HOPPER, "fp32")


def test_threads_within_a_batch(artifact, expected, monkeypatch):
    """MuJoCo's own threads do not matter either (the engine uses none)."""
    batch = pytest.importorskip("mujoco.batch")
    real = batch.Batch
    monkeypatch.setattr(batch, "Batch", lambda model, slots, threads: real(model, slots, 2))
    assert outcome(CHEETAH, artifact("fp32", CHEETAH)) == expected(CHEETAH, "fp32")


def test_another_process(artifact, expected, tmp_path):
    """A fresh interpreter with other thread counts for the linear algebra libraries."""
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact("fp32", CHEETAH))
    code = (
        "import sys; from pathlib import Path;"
        " from pytest_drlcompress.evaluation.rollout import rollout;"
        " from pytest_drlcompress.environments.spec import EnvSpec;"
        " episodes = rollout(EnvSpec.parse(sys.argv[1]), Path(sys.argv[2]).read_bytes(),"
        " [int(seed) for seed in sys.argv[3:]]);"
        " print(*(episode.total.hex() for episode in episodes))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(CHEETAH), str(path), *map(str, SEEDS)],
        env={"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    totals = [total.hex() for total, _ in expected(CHEETAH, "fp32").values()]
    assert run.stdout.split() == totals


def test_the_first_error_is_the_same_too(artifact):
    """An action outside the action space ends the rollout at its seed's turn, not at its time."""
    model = onnx.load_from_string(artifact("fp32", HOPPER))
    del model.graph.node[-2:]  # no tanh: some episodes leave the action space
    model.graph.node[-1].output[0] = "action"
    layer = model.graph.initializer[4]
    weights = numpy_helper.to_array(layer) * np.float32(36)
    layer.CopyFrom(numpy_helper.from_array(weights, layer.name))
    ends = set()
    for arguments in ({"slots": 1}, {"slots": 16}, {"slots": 5, "workers": 2}):
        finished = []
        with pytest.raises(ActionError) as error:
            finished.extend(
                episode.total
                for episode in rollout(HOPPER, model.SerializeToString(), SEEDS, **arguments)
            )
        ends.add((tuple(finished), str(error.value)))
    assert len(ends) == 1, ends


class ShapeDependent:
    """A kernel whose last bits depend on the batch shape."""

    def act(self, observations):
        force = np.float32(0.3) * (1 + np.finfo(np.float32).eps * len(observations))
        return np.full((len(observations), 6), force, np.float32)


def test_a_kernel_that_depends_on_the_batch_shape_cannot_tell_how_many_slots_there_are():
    actor = ShapeDependent()
    assert actor.act(np.zeros((16, 17)))[0, 0] != actor.act(np.zeros((32, 17)))[0, 0]
    sixteen = outcome(CHEETAH, actor, slots=16)
    for slots in (None, 32, 64):
        assert outcome(CHEETAH, actor, slots=slots) == sixteen
