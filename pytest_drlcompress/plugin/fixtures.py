"""The fixtures: a policy, a variant of it, its artifact, and the gates that judge it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_drlcompress.compression.recipe import variant_id
from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.gates.budgets import Budgets, read_budgets
from pytest_drlcompress.plugin.gate import VERDICT_PROPERTY, Gate
from pytest_drlcompress.plugin.session import RUN, Run

if TYPE_CHECKING:
    # these import torch and ONNX Runtime, which an unrelated run must not pay for
    from pytest_drlcompress.baselines.changes import Change
    from pytest_drlcompress.baselines.verdicts import Expectation
    from pytest_drlcompress.core.artifact import Artifact
    from pytest_drlcompress.policies.policy import Policy
    from pytest_drlcompress.workbench.workbench import Workbench

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Variant:
    """A recipe (or ONNX file) applied to a policy: ``policy`` and ``recipe`` as asked for."""

    policy: str
    recipe: str


@pytest.fixture(scope="session")
def _drlc_policy_text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def policy(request: pytest.FixtureRequest, _drlc_policy_text: str) -> "Policy":
    """The trained policy under test; parametrized over ``--drlc-policy`` or every baseline."""
    return _or_fail(lambda: _run(request).bench.load(_drlc_policy_text).policy)


@pytest.fixture(scope="session")
def variant(request: pytest.FixtureRequest, _drlc_policy_text: str) -> Variant:
    """The variant under test; parametrize it with recipes (``indirect=True``) for your own set."""
    return Variant(_drlc_policy_text, str(request.param))


@pytest.fixture(scope="session")
def artifact(request: pytest.FixtureRequest, variant: Variant) -> "Artifact":
    """The ONNX file that would be deployed: the variant, compressed."""
    return _or_fail(lambda: _run(request).bench.artifact(variant.policy, variant.recipe))


@pytest.fixture
def retention(request: pytest.FixtureRequest, variant: Variant) -> Gate:
    """Gate on the share of the baseline's return that the variant keeps."""
    from pytest_drlcompress.gates import retention as judgements

    return _gate(request, variant, "retention", judgements.judge_retention)


@pytest.fixture
def action_error(request: pytest.FixtureRequest, variant: Variant) -> Gate:
    """Gate on how far the variant's actions are from the fp32 artifact's."""
    from pytest_drlcompress.gates import retention as judgements

    return _gate(request, variant, "action error", judgements.judge_action_error)


@pytest.fixture
def latency(request: pytest.FixtureRequest, variant: Variant) -> Gate:
    """Gate on the time of one action, against the baseline's artifact.

    A test that also takes pytest-benchmark's ``benchmark`` records the artifact's own
    microseconds there.
    """
    from pytest_drlcompress.gates import latency as costs
    from pytest_drlcompress.plugin.benchmark import record_latency

    gate = _gate(request, variant, "latency", costs.judge_latency)
    if "benchmark" in request.fixturenames:
        bench = _run(request).bench
        return record_latency(gate, bench, variant.policy, variant.recipe, request)
    return gate


@pytest.fixture
def memory(request: pytest.FixtureRequest, variant: Variant) -> Gate:
    """Gate on the bytes of the artifact, on disk and while it runs."""
    from pytest_drlcompress.gates import latency as costs
    from pytest_drlcompress.plugin.benchmark import annotate

    return annotate(_gate(request, variant, "memory", costs.judge_memory), request)


@pytest.fixture
def energy(request: pytest.FixtureRequest, variant: Variant) -> Gate:
    """Gate on the joules of one action; NOT_MEASURED where no counter is readable."""
    from pytest_drlcompress.gates import latency as costs
    from pytest_drlcompress.plugin.benchmark import annotate

    return annotate(_gate(request, variant, "energy", costs.judge_energy), request)


@pytest.fixture
def sparsity(request: pytest.FixtureRequest, variant: Variant) -> Gate:
    """Gate on the zeros among the artifact's own weights, per layer and in total.

    Held to the marker's ``target_sparsity``, else to what a ``sparse@N`` recipe says.
    """
    from pytest_drlcompress.gates.sparsity import judge_sparsity

    return _gate(request, variant, "sparsity", judge_sparsity)


@pytest.fixture
def pruning_sweep(request: pytest.FixtureRequest, _drlc_policy_text: str) -> Gate:
    """Gate on the most pruning that keeps the return; needs ``--drlc-sweep``.

    Parametrize it (``indirect=True``) with recipes without an amount: ``l1``, ``l2+ptdq``. The
    retention verdict of each ratio is in the reports as well.
    """
    run = _run(request)
    if not run.settings.sweep:
        pytest.skip("a pruning sweep takes minutes for each policy; run it with --drlc-sweep")
    from pytest_drlcompress.gates.pruning import Point, run_sweep

    budgets = _budgets(request)
    family = str(getattr(request, "param", "l2"))

    def report(point: Point) -> None:
        if point.retention is not None:
            request.node.user_properties.append((VERDICT_PROPERTY, point.retention.to_json()))

    def measure() -> Verdict:
        with _live(request.config):
            sweep = run_sweep(run.bench, _drlc_policy_text, family, budgets, on_point=report)
            return sweep.verdict

    return Gate(item=request.node, judge=measure, inconclusive=run.settings.inconclusive)


def _gate(
    request: pytest.FixtureRequest,
    variant: Variant,
    name: str,
    judge: "Callable[[Workbench, str, str, Budgets], Verdict]",
) -> Gate:
    run = _run(request)
    budgets = _budgets(request)

    def measure() -> Verdict:
        with _live(request.config):
            return judge(run.bench, variant.policy, variant.recipe, budgets)

    expected = _or_fail(lambda: _expected(run, variant, name, budgets))
    new = expected is not None and expected.recorded is None
    return Gate(
        item=request.node,
        judge=measure,
        inconclusive=run.settings.inconclusive,
        unmeasured=run.settings.unmeasured,
        expected=expected,
        recording=expected is not None
        and (run.settings.record or (run.settings.record_new and new)),
        fingerprint=lambda: _fingerprint(run, variant),
        change=lambda: _change(run, variant, expected),
    )


def _fingerprint(run: Run, variant: Variant) -> "dict[str, Any] | None":
    from pytest_drlcompress.baselines.fingerprint import fingerprint

    try:
        return fingerprint(run.bench, variant.policy, variant.recipe)
    except DrlcError:  # there is no artifact, as the verdict says
        return None


def _change(run: Run, variant: Variant, expected: "Expectation | None") -> "Change | None":
    from pytest_drlcompress.baselines.fingerprint import change_since

    if expected is None:
        return None
    try:
        return change_since(run.bench, variant.policy, variant.recipe, expected)
    except DrlcError:
        return None


def _budgets(request: pytest.FixtureRequest) -> Budgets:
    try:
        return read_budgets(request.node)
    except ValueError as error:
        pytest.fail(str(error), pytrace=False)


def _expected(run: Run, variant: Variant, name: str, budgets: Budgets) -> "Expectation | None":
    """The record decides for a baseline judged as it was recorded; otherwise the verdict does.

    Asking for variants, or for other limits than the recorded ones, is a question of its own,
    unless the answer is to be recorded.
    """
    from pytest_drlcompress.baselines.verdicts import expectation

    settings, loaded = run.settings, run.bench.load(variant.policy)
    recording = settings.record or settings.record_new
    if loaded.record is None or (settings.variants and not recording):
        return None
    expected = expectation(
        loaded.record.verdicts, loaded.policy.id, variant_id(variant.recipe), name
    )
    if expected is None or expected.recorded is None or settings.record:
        return expected
    limits = {
        "retention": budgets.retention(settings),
        "action error": budgets.action_error(
            settings, run.bench.recorded_budgets(variant.policy, variant.recipe)
        ),
    }
    return expected if expected.recorded.get("limit") == limits[name] else None


def _or_fail(make: Callable[[], _Value]) -> _Value:
    try:
        return make()
    except DrlcError as error:
        pytest.fail(str(error), pytrace=False)


def _run(request: pytest.FixtureRequest) -> Run:
    return request.config.stash[RUN]


@contextlib.contextmanager
def _live(config: pytest.Config) -> Iterator[None]:
    """Let progress reach the terminal, whose output pytest captures during a test."""
    capture = config.pluginmanager.getplugin("capturemanager")
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if capture is None or reporter is None or not reporter.isatty:
        yield
        return
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        yield
