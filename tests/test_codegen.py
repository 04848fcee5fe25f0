"""Generated C gives ONNX Runtime's bits, compiles without a warning, and says what it cannot do."""

import itertools
import shutil
import subprocess

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_models import Graph, convolutional_network, float_network, integer_network

from pytest_drlcompress.codegen.bound import error_bound
from pytest_drlcompress.codegen.compile import EXACT, STRICT, find_compiler, write_files
from pytest_drlcompress.codegen.emit import generate, vector_files
from pytest_drlcompress.codegen.layouts import CHOICES
from pytest_drlcompress.codegen.parse import parse_program
from pytest_drlcompress.codegen.shrink import shrink
from pytest_drlcompress.core.errors import CodeGenerationError
from pytest_drlcompress.runtime.c import CRuntime
from pytest_drlcompress.runtime.onnxruntime import OnnxRuntime

few = settings(
    max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
WIDTHS = st.lists(st.integers(1, 24), min_size=3, max_size=4)


def observations_for(controller, count=64, seed=0):
    random = np.random.default_rng(seed)
    shape = (count, *controller.observation_shape)
    if controller.observation_dtype == np.uint8:
        return random.integers(0, 256, shape, np.uint8)
    rows = (random.standard_normal(shape) * 3).astype(np.float32)
    rows[0], rows[1], rows[2] = 0, 1e9, -1e9
    return rows


def actions_of(controller, observations):
    return np.stack([controller.act_one(row).copy() for row in observations])


def assert_same_bits(model, layout="small"):
    reference, ours = OnnxRuntime().load(model), CRuntime(layout=layout).load(model)
    assert ours.exact
    observations = observations_for(reference)
    expected = actions_of(reference, observations)
    np.testing.assert_array_equal(actions_of(ours, observations), expected)
    np.testing.assert_array_equal(ours.act(observations), expected)
    assert (ours.observation_shape, ours.action_shape) == (
        reference.observation_shape, reference.action_shape
    )  # fmt: skip


@few
@given(
    WIDTHS,
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.5, 0.9, 0.98]),
    st.sampled_from(["Relu", "Tanh"]),
    st.sampled_from(["Tanh", "clip", "choice", "plain"]),
    st.sampled_from(CHOICES),
)
def test_integer_networks_have_onnxruntimes_bits(  # noqa: PLR0917  # hypothesis gives them
    widths, seed, zeros, hidden, end, layout
):
    model = integer_network(widths, seed, zeros=zeros, hidden=hidden, end=end)
    assert_same_bits(model, layout)


@few
@given(WIDTHS, st.integers(0, 2**31), st.sampled_from([0.6, 0.9]))
def test_shrinking_keeps_the_bits(widths, seed, zeros):
    model = integer_network(widths, seed, zeros=zeros)
    smaller = shrink(model)
    before, after = OnnxRuntime().load(model), OnnxRuntime().load(smaller)
    observations = observations_for(before)
    np.testing.assert_array_equal(after.act(observations), before.act(observations))
    layers = parse_program(smaller).layers
    for first, second in itertools.pairwise(layers):
        if len(first.weight) > 1:
            assert (second.weight != 0).any(0).all(), "a unit that nothing looks at"
            assert (first.weight != 0).any(1).all(), "a unit that looks at nothing"
    assert shrink(smaller) == smaller


@few
@given(WIDTHS, st.integers(0, 2**31), st.sampled_from(["Relu", "Tanh"]), st.sampled_from(CHOICES))
def test_float_networks_stay_within_the_bound(widths, seed, hidden, layout):
    model = float_network(widths, seed, hidden)
    reference, ours = OnnxRuntime().load(model), CRuntime(layout=layout).load(model)
    observations = observations_for(reference)[3:]
    bound = error_bound(parse_program(model), observations)
    assert not ours.exact
    assert 0 < bound < 1e-2
    difference = np.abs(actions_of(ours, observations) - actions_of(reference, observations))
    assert difference.max() <= bound


@pytest.mark.parametrize("seed", range(3))
def test_convolutions_have_onnxruntimes_bits(seed):
    assert_same_bits(convolutional_network(seed))


def test_layers_that_onnxruntime_keeps_in_floats_are_not_called_exact():
    """It fuses no integer kernel over a reshape: sums of floats then, in an order of its own."""
    model = convolutional_network(0, quantize_reshaped=False)
    reference, ours = OnnxRuntime().load(model), CRuntime().load(model)
    assert not ours.exact
    observations = observations_for(reference)
    np.testing.assert_allclose(ours.act(observations), reference.act(observations), atol=1e-4)


SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def has_sanitizers(compiler, folder):
    """Debian has clang's in a package of its own, libclang-rt-dev."""
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    command = [compiler, *SANITIZE, "empty.c", "-o", "empty"]
    return not subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("layout", ["dense", "csr", "block"])
def test_strict_compilers_and_sanitizers_are_silent(compiler, layout, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    flags = SANITIZE if has_sanitizers(compiler, tmp_path) else ("-O2",)
    for number, model in enumerate(
        [
            integer_network([5, 12, 9, 3], 1, zeros=0.5, hidden="Tanh"),
            integer_network([5, 12, 9, 3], 1, zeros=0.5, end="choice"),
            float_network([5, 12, 3], 1),
            convolutional_network(1),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        program, controller = parse_program(model), OnnxRuntime().load(model)
        observations = observations_for(controller)
        actions = actions_of(controller, observations)
        files = vector_files(program, observations, actions, tolerance=0 if program.exact else 1e-2)
        write_files(generate(program, layout=layout), folder)
        write_files(files, folder)
        command = [compiler, *STRICT, "-Werror", *EXACT, *flags, "policy.c", "policy_check.c",
                   "-lm", "-o", "check"]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True)
        done = subprocess.run(["./check"], check=False, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "64 of 64" in done.stdout


def test_a_changed_weight_is_noticed(tmp_path):
    model = integer_network([5, 12, 3], 1)
    program, controller = parse_program(model), OnnxRuntime().load(model)
    observations = observations_for(controller)
    source = generate(program, layout="dense")
    write_files(source, tmp_path)
    write_files(
        vector_files(program, observations, actions_of(controller, observations), tolerance=0),
        tmp_path,
    )
    text = (tmp_path / "policy.c").read_text()
    table = text[text.index("weights1[60] = {") + 16 :].split("}")[0]
    first = table.split(",")[0]
    (tmp_path / "policy.c").write_text(
        text.replace(table, table.replace(first, f" {int(first) ^ 1}", 1), 1)
    )
    subprocess.run([find_compiler(), "policy.c", "policy_check.c", "-lm", "-o", "check"],
                   cwd=tmp_path, check=True)  # fmt: skip
    assert (
        subprocess.run(["./check"], check=False, cwd=tmp_path, capture_output=True).returncode == 1
    )


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        (["Softmax"], "node 'Softmax_t1' .* there is no C code for Softmax"),
        (["Sigmoid", "Tanh"], "node 'Sigmoid_t1'"),
    ],
)
def test_unsupported_operators_are_named(operators, message):
    graph = Graph((3,))
    graph.add("Gemm", graph.constant(np.ones((3, 3))))
    for operator in operators:
        graph.add(operator)
    with pytest.raises(CodeGenerationError, match=message):
        parse_program(graph.model([3]))


def test_what_is_no_chain_or_no_model_is_one_clear_line():
    graph = Graph((3,))
    graph.add("Gemm", graph.constant(np.ones((3, 3))))
    graph.add("Add", graph.name)
    with pytest.raises(CodeGenerationError, match="one chain of layers"):
        parse_program(graph.model([3]))
    with pytest.raises(Exception, match="not an ONNX model"):
        parse_program(b"\x00no model")


def test_names_and_missing_compilers(monkeypatch):
    program = parse_program(float_network([2, 2, 1], 0))
    with pytest.raises(CodeGenerationError, match="no C identifier"):
        generate(program, name="my-policy")
    assert "hover_act(const float *observation" in generate(program, name="hover").files["hover.h"]
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CodeGenerationError, match=r"no C compiler \(no-such-compiler\); install"):
        find_compiler()


def test_inputs_that_nothing_looks_at_are_not_read():
    model = onnx.load_from_string(integer_network([6, 4, 2], 3))
    arrays = {t.name: t for t in model.graph.initializer}
    weight = next(t for t in model.graph.initializer if list(t.dims) == [4, 6])
    codes = onnx.numpy_helper.to_array(weight).copy()
    zero = next(onnx.numpy_helper.to_array(arrays[n.input[2]]) for n in model.graph.node
                if n.op_type == "DequantizeLinear" and n.input[0] == weight.name)  # fmt: skip
    codes[:, [0, 3]] = zero
    weight.CopyFrom(onnx.numpy_helper.from_array(codes, weight.name))
    text = bytes(model.SerializeToString())
    assert list(parse_program(text).observation.live) == [1, 2, 4, 5]
    assert_same_bits(text)
