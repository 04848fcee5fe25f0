"""The recipe grammar, the environment text, and the option text under both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_drlcompress.compression.recipe import Recipe, Step, parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.compression.step import Result, StepKind
from pytest_drlcompress.compression.variant import Variant
from pytest_drlcompress.core.errors import EnvironmentSpecError, OptionTextError, RecipeError
from pytest_drlcompress.core.key_values import format_options, parse_options
from pytest_drlcompress.environments.spec import EnvSpec

words = st.from_regex(r"[a-z][a-z_-]{0,8}", fullmatch=True).filter(
    lambda word: word not in ("true", "false", "inf", "nan", "infinity")
)
scalars = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), words
)
options = st.dictionaries(words, scalars, max_size=3)


@given(options.filter(bool))
def test_options_survive_their_text(given_options):
    read = parse_options(format_options(given_options))
    assert read == given_options
    assert [type(v) for v in sorted(map(str, read.values()))] == [str] * len(read)


@given(st.lists(st.builds(Step, words, st.none() | st.integers(1, 99), options), min_size=1))
def test_a_recipe_survives_its_text(steps):
    text = str(Recipe(tuple(steps)))
    if "+" in text.replace("+", "", len(steps) - 1):  # an exponent such as 1e+16 splits a step
        return
    assert str(parse_recipe(text)) == text


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=1,a=2", ""])
def test_unreadable_options(text):
    with pytest.raises(OptionTextError):
        parse_options(text)


@pytest.mark.parametrize("text", ["", "+ptdq", "l2@", "l2@x", "l2@nan", "l2@inf", "ptsq:equalize"])
def test_unreadable_recipes(text):
    with pytest.raises(RecipeError):
        parse_recipe(text)


def test_resolving_fills_in_every_option():
    step = builtin_registry().resolve(parse_recipe("ptsq:equalize=true")).steps[0]
    assert step.options == {
        "per_channel": False, "equalize": True, "samples": 2048, "method": "minmax",
    }  # fmt: skip


def test_a_user_can_add_a_step_but_not_replace_one():
    def half(model, step, observations):
        return Result(model)

    registry = builtin_registry()
    more = registry.with_kinds([StepKind("half", "graph", half, "", amount=(0, 1))])
    assert str(more.resolve(parse_recipe("half@0.5"))) == "half@0.5"
    with pytest.raises(RecipeError, match="already exists"):
        registry.with_kinds([StepKind("ptdq", "graph", half, "")])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "l2@30"}, "could not name it"),
        ({"level": "model"}, "level must be one of network, export, graph"),
        ({"default_amount": 8}, "does not lie strictly between"),
        ({"options": {"by": "row"}, "choices": {"by": ("column",)}}, "option 'by' is none of"),
    ],
)
def test_an_impossible_step_is_refused_where_it_is_made(wrong, message):
    right = {"name": "own", "level": "graph", "apply": lambda m, s, o: Result(m), "summary": ""}
    with pytest.raises(RecipeError, match=message):
        StepKind(**{**right, **wrong})


def test_added_steps_share_no_name_and_are_steps():
    kind = StepKind("own", "graph", lambda m, s, o: Result(m), "")
    with pytest.raises(RecipeError, match="already exists"):
        builtin_registry().with_kinds([kind, kind])
    with pytest.raises(RecipeError, match="must be a StepKind"):
        builtin_registry().with_kinds(["own"])


def test_network_steps_come_before_graph_steps():
    kind = StepKind("thinner", "network", lambda n, s, o: Result(n), "", amount=(0, 100))
    registry = builtin_registry().with_kinds([kind])
    registry.resolve(parse_recipe("thinner@30+ptsq"))
    with pytest.raises(RecipeError, match="must come before"):
        registry.resolve(parse_recipe("ptsq+thinner@30"))
    with pytest.raises(RecipeError, match="strictly between 0 and 100"):
        registry.resolve(parse_recipe("thinner@100"))
    with pytest.raises(RecipeError, match="needs an amount"):
        registry.resolve(parse_recipe("thinner"))


def test_variant_ids():
    assert Variant("ptsq:equalize=true").id == "ptsq:equalize=true"
    assert Variant("out/models/small.onnx").id == "small"


@pytest.mark.parametrize(
    "text",
    [
        "Hopper-v5",
        "ALE/Pong-v5",
        "package.module:Thing-v0",
        "Ant-v5:contact_cost_weight=0.0,include_cfrc_ext_in_observation=false,pad_observation=84",
        "package:Thing-v0:size=3,time_feature=1000",
    ],
)
def test_an_environment_survives_its_text(text):
    assert str(EnvSpec.parse(text)) == text


class TestEnvironment:
    def test_padding_and_time_feature_come_last_in_that_order(self):
        spec = EnvSpec.parse("Hopper-v5:pad_observation=3,time_feature=1000")
        assert spec.observation_shape == (11 + 3 + 1,)
        env = spec.make()
        first, _ = env.reset(seed=0)
        second = env.step(env.action_space.sample())[0]
        assert first[11:].tolist() == [0, 0, 0, 1]
        assert second[11:].tolist() == [0, 0, 0, 0.999]

    def test_a_time_feature_of_another_length_is_refused(self):
        with pytest.raises(EnvironmentSpecError, match="1000"):
            EnvSpec.parse("Hopper-v5:time_feature=500").make()

    def test_keyword_arguments_reach_gymnasium(self):
        spec = EnvSpec.parse("Ant-v5:include_cfrc_ext_in_observation=false")
        assert spec.observation_shape == (27,)

    @pytest.mark.parametrize("text", ["Nope-v0", "Hopper-v5:wings=2"])
    def test_what_cannot_be_used_is_one_clear_error(self, text):
        with pytest.raises(EnvironmentSpecError, match=text.partition(":")[0]) as caught:
            _ = EnvSpec.parse(text).spaces
        assert "\n" not in str(caught.value)
