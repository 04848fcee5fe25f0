"""From the recipe to the chip: narrow networks, the C runtime in the gates, targets, commands."""

import itertools
import re
import shutil
from dataclasses import replace

import pytest
import torch
from random_models import float_network, integer_network
from samples import Samples
from torch import nn

from pytest_drlcompress.__main__ import main
from pytest_drlcompress.codegen.emit import generate
from pytest_drlcompress.codegen.targets import TARGETS, measure_on_target, missing_tools
from pytest_drlcompress.compression.distillation.narrow import hidden_widths, narrowed
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.errors import CodeGenerationError, RecipeError
from pytest_drlcompress.measurement.chip import generate_checked, measure_chip

REASON = missing_tools(TARGETS["cortex-m4"])
TOOLS = pytest.mark.skipif(bool(REASON), reason=REASON or "tools are there")


def network(*hidden):
    sizes = [11, *hidden, 3]
    layers = [
        layer
        for inputs, outputs in itertools.pairwise(sizes)
        for layer in (nn.Linear(inputs, outputs), nn.ReLU())
    ]
    torch.manual_seed(0)
    return nn.Sequential(*layers[:-1], nn.Tanh()).eval()


def with_one_bit_changed(source):
    """The lowest bit of the first weight of the first layer."""
    text = source.files["policy.c"]
    table = re.search(r"weights1\[\d+\] = \{([^}]*)\}", text)[1]
    first = table.split(",")[0]
    flipped = table.replace(first, f" {int(first) ^ 1}", 1)
    return replace(source, files={**source.files, "policy.c": text.replace(table, flipped)})


class TestNarrow:
    @pytest.mark.parametrize(
        ("recipe", "widths"),
        [("narrow@16", (16, 16)), ("narrow@12-8", (12, 8)), ("narrow@0.25", (16, 8))],
    )
    def test_widths_are_one_for_all_a_share_or_a_list(self, recipe, widths):
        registry = builtin_registry()
        step = registry.resolve(parse_recipe(f"{recipe}+qat")).steps[0]
        assert str(parse_recipe(f"{recipe}+qat")) == f"{recipe}+qat"
        assert hidden_widths(network(64, 32), step) == widths
        student = narrowed(network(64, 32), widths)
        assert [m.out_features for m in student if isinstance(m, nn.Linear)] == [*widths, 3]

    @pytest.mark.parametrize(
        ("recipe", "message"),
        [
            ("narrow@8-8-8", "2 hidden layers .64-32., and 8-8-8 are 3 widths"),
            ("narrow@2.5", "a width is a whole number"),
            ("narrow@9999-1", "a width is 1 to 4096"),
        ],
    )
    def test_widths_that_do_not_fit_are_refused(self, recipe, message):
        with pytest.raises(RecipeError, match=message):
            hidden_widths(network(64, 32), parse_recipe(recipe).steps[0])

    def test_other_steps_take_no_list(self):
        with pytest.raises(RecipeError, match="takes no list of widths"):
            builtin_registry().resolve(parse_recipe("sparse@8-8"))

    def test_the_student_learns_the_teachers_actions_and_again_the_same(self):
        registry = builtin_registry()
        step = registry.resolve(parse_recipe("narrow@16:steps=600,rounds=2,samples=500")).steps[0]
        teacher = network(64)
        results = [registry.kinds["narrow"].apply(network(64), step, Samples()) for _ in range(2)]
        rows = torch.from_numpy(Samples().sample(300))
        with torch.no_grad():
            wanted, learned = teacher(rows), results[0].value(rows)
            again = results[1].value(rows)
        assert torch.equal(learned, again)
        assert ((learned - wanted) ** 2).mean() < 0.2 * wanted.var()
        assert results[0].provenance["widths"] == [16]
        assert results[0].observations.teacher is not None, "qat is held to the original"


class TestTargets:
    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("hidden", ["Relu", "Tanh"])
    def test_the_chip_acts_bit_by_bit_as_onnxruntime_does(self, target, hidden):
        if reason := missing_tools(TARGETS[target]):
            pytest.skip(reason)
        model = integer_network([11, 16, 16, 3], 5, zeros=0.3, hidden=hidden)
        observations = Samples().sample(20)
        figures = measure_chip(model, target, observations)
        assert (figures.equal, figures.vectors, figures.tolerance) == (20, 20, 0)
        weights = 11 * 16 + 16 * 16 + 16 * 3
        assert weights * 0.7 < figures.flash < weights + 16_000
        assert figures.frame <= figures.ram < 1000
        assert weights < figures.instructions <= figures.largest
        assert measure_chip(model, target, observations) == figures, "counts are deterministic"

    @TOOLS
    def test_a_policy_of_floats_stays_within_its_bound(self):
        figures = measure_chip(float_network([11, 8, 3], 0), "cortex-m4", Samples().sample(10))
        assert figures.equal == 10
        assert 0 < figures.tolerance < 1e-3

    @TOOLS
    def test_one_changed_bit_of_one_weight_is_noticed(self):
        made = generate_checked(integer_network([11, 16, 3], 5), Samples().sample(20))
        source = with_one_bit_changed(made.source)
        figures = measure_on_target(
            source, made.program, TARGETS["cortex-m4"], made.observations, made.actions
        )
        assert figures.equal < figures.vectors

    @TOOLS
    def test_what_does_not_fit_the_board_is_one_clear_line(self):
        with pytest.raises(CodeGenerationError, match=r"will not fit|overflow"):
            measure_chip(float_network([11, 300, 300, 3], 0), "cortex-m0", Samples().sample(2))


def test_missing_tools_are_named_with_their_packages(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "arm-none-eabi-gcc" in missing_tools(TARGETS["cortex-m4"])
    assert "apt install gcc-arm-none-eabi" in missing_tools(TARGETS["cortex-m4"])
    assert "apt install gcc-riscv64-unknown-elf" in missing_tools(TARGETS["riscv32"])


def test_the_gates_judge_the_compiled_c(suites):
    arguments = [
        "suites", "-k", "retention or latency or chip or action_error", "-p", "no:cacheprovider",
        "--drlc-policy=trpo-hopper", "--drlc-variant=ptsq", "--drlc-max-episodes=4",
        "--drlc-inconclusive=skip", "--drlc-workers=1",
    ]  # fmt: skip
    plain = suites.runpytest(*arguments)
    in_c = suites.runpytest(
        *arguments, "--drlc-runtime=c", "--drlc-target=cortex-m4", "--drlc-max-flash=1KiB"
    )

    def line(result, gate):
        return next(t for t in result.outlines if t.startswith(f"{gate} trpo-hopper / ptsq:"))

    # the same actions, and so the same episodes
    assert line(in_c, "retention") == line(plain, "retention")
    assert line(in_c, "action error") == line(plain, "action error")
    if not REASON:
        assert "FAIL" in line(in_c, "chip")
        in_c.stdout.fnmatch_lines(["*actions are bit-equal to ONNX Runtime's*more than 1,024 B*"])


@TOOLS
def test_one_changed_bit_of_one_weight_turns_the_gate_red(suites, monkeypatch):
    arguments = [
        "suites/test_chip.py", "-p", "no:cacheprovider", "--drlc-policy=trpo-hopper",
        "--drlc-variant=ptsq", "--drlc-target=cortex-m4", "--drlc-workers=1",
    ]  # fmt: skip
    suites.runpytest(*arguments).assert_outcomes(passed=1)

    def planted(*args, **options):
        return with_one_bit_changed(generate(*args, **options))

    monkeypatch.setattr("pytest_drlcompress.measurement.chip.generate", planted)
    red = suites.runpytest(*arguments)
    red.assert_outcomes(failed=1)
    red.stdout.fnmatch_lines(["*of 40 actions*ONNX Runtime*"])


class TestExport:
    def test_a_recipe_becomes_checked_c(self, tmp_path, capsys, exporter):  # noqa: ARG002
        out = tmp_path / "c"
        code = main(["export", "trpo-hopper", "ptsq", "--out", str(out), "--vectors", "8",
                     "--name", "hop"])  # fmt: skip
        text = capsys.readouterr().out
        assert code == 0, text
        assert "8 of 8 actions bit-equal to ONNX Runtime" in text
        names = {path.name for path in out.iterdir()}
        assert names == {"hop.h", "hop.c", "hop_vectors.h", "hop_check.c"}

    def test_a_file_of_any_toolchain_too(self, tmp_path, capsys):
        path = tmp_path / "model.onnx"
        path.write_bytes(integer_network([5, 8, 2], 1, zeros=0.9))
        assert main(["export", str(path), "--out", str(tmp_path), "--layout", "csr"]) == 0
        assert "csr" in capsys.readouterr().out
        path.write_bytes(float_network([5, 8, 2], 1))
        assert main(["export", str(path), "--out", str(tmp_path), "--layout", "tree"]) == 2
