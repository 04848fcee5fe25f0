"""The fixtures: a policy, a variant of it, its artifact, and the gates that judge it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.gates.budgets import Budgets, limits_of, read_budgets
from pytest_drlcompress.gates.kinds import GATE_KINDS, GateKind
from pytest_drlcompress.plugin.benchmarking import with_benchmark
from pytest_drlcompress.plugin.filming import filmed
from pytest_drlcompress.plugin.gate import Gate
from pytest_drlcompress.plugin.session import RUN, Run
from pytest_drlcompress.reporting.properties import VERDICT_PROPERTY

if TYPE_CHECKING:
    # these import torch and ONNX Runtime, which an unrelated run must not pay for
    from pytest_drlcompress.baselines.changes import Change
    from pytest_drlcompress.baselines.verdicts import Expectation
    from pytest_drlcompress.core.artifact import Artifact
    from pytest_drlcompress.gates.pruning import Point
    from pytest_drlcompress.policies.policy import Policy
    from pytest_drlcompress.workbench.candidate import Candidate

_Value = TypeVar("_Value")


@pytest.fixture(scope="session")
def _drlc_policy_text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def policy(request: pytest.FixtureRequest, _drlc_policy_text: str) -> "Policy":
    """The trained policy under test; parametrized over ``--drlc-policy`` or every baseline."""
    return _or_fail(lambda: _run(request).bench.load(_drlc_policy_text).policy)


@pytest.fixture(scope="session")
def variant(request: pytest.FixtureRequest, _drlc_policy_text: str) -> "Candidate":
    """The variant under test; parametrize it with recipes (``indirect=True``) for your own set."""
    return _or_fail(lambda: _run(request).bench.candidate(_drlc_policy_text, str(request.param)))


@pytest.fixture(scope="session")
def artifact(variant: "Candidate") -> "Artifact":
    """The ONNX file that would be deployed: the variant, compressed."""
    return _or_fail(lambda: variant.artifact)


def gate_fixtures() -> type:
    """A plugin with a fixture for each gate of the table.

    A class, not an instance: pytest looks for fixtures in types and modules.
    """
    makers = {"variant": _variant_gate, "policy": _policy_gate}
    return type("Gates", (), {kind.fixture: makers[kind.of](kind) for kind in GATE_KINDS})


def _variant_gate(kind: GateKind) -> Any:
    def gate(request: pytest.FixtureRequest, variant: "Candidate") -> Gate:
        run, budgets = _run(request), _budgets(request)

        def measure() -> Verdict:
            with _live(request.config):
                if run.cells is not None:
                    found = run.cells.verdict(variant, (kind.name, budgets))
                    if found is not None:
                        return found
                verdict: Verdict = kind.load_judge()(variant, budgets)
            return verdict

        expected = _or_fail(lambda: _expected(run, variant, kind, budgets))
        new = expected is not None and expected.recorded is None
        made = Gate(
            item=request.node,
            judge=measure,
            inconclusive=run.settings.inconclusive,
            unmeasured=run.settings.unmeasured,
            expected=expected,
            recording=expected is not None
            and (run.settings.record or (run.settings.record_new and new)),
            fingerprint=lambda: _or_none(lambda: variant.fingerprint),
            change=lambda: _change(variant, expected),
            rerun=run.rerun(request.node.nodeid),
            film=lambda verdict: filmed(verdict, variant),
        )
        return with_benchmark(made, kind, variant, request)

    return _fixture(kind, gate)


def _policy_gate(kind: GateKind) -> Any:
    """The judge gets the policy, a recipe without an amount, and whom to tell of each point."""

    def gate(request: pytest.FixtureRequest, _drlc_policy_text: str) -> Gate:
        run = _run(request)
        if not run.settings.sweep:
            pytest.skip("a pruning sweep takes minutes for each policy; run it with --drlc-sweep")
        budgets = _budgets(request)
        family = str(getattr(request, "param", "l2"))

        def report(point: "Point") -> None:
            if point.retention is not None:
                request.node.user_properties.append((VERDICT_PROPERTY, point.retention.to_json()))

        def measure() -> Verdict:
            loaded = run.bench.load(_drlc_policy_text)
            with _live(request.config):
                sweep = kind.load_judge()(loaded, family, budgets, on_point=report)
            verdict: Verdict = sweep.verdict
            return verdict

        return Gate(
            item=request.node,
            judge=measure,
            inconclusive=run.settings.inconclusive,
            rerun=run.rerun(request.node.nodeid),
        )

    return _fixture(kind, gate)


def _fixture(kind: GateKind, gate: Callable[..., Gate]) -> Any:
    gate.__name__ = gate.__qualname__ = kind.fixture
    gate.__doc__ = kind.summary
    return pytest.fixture(gate)


def _change(variant: "Candidate", expected: "Expectation | None") -> "Change | None":
    return None if expected is None else _or_none(lambda: variant.change_since(expected))


def _budgets(request: pytest.FixtureRequest) -> Budgets:
    try:
        return read_budgets(request.node)
    except ValueError as error:
        pytest.fail(str(error), pytrace=False)


def _expected(
    run: Run, variant: "Candidate", kind: GateKind, budgets: Budgets
) -> "Expectation | None":
    """The record decides for a baseline judged as it was recorded; otherwise the verdict does.

    Asking for variants, or for other limits than the recorded ones, is a question of its own,
    unless the answer is to be recorded.
    """
    from pytest_drlcompress.gates.records import expected_of

    settings, record = run.settings, variant.loaded.record
    recording = settings.record or settings.record_new
    if record is None or (settings.variants and not recording):
        return None
    expected = expected_of(kind, record.verdicts, variant.policy, variant.id)
    if expected is None or expected.recorded is None or settings.record:
        return expected
    limit = limits_of(variant, budgets)(kind.limit)
    return expected if expected.recorded.get("limit") == limit else None


def _or_fail(make: Callable[[], _Value]) -> _Value:
    try:
        return make()
    except DrlcError as error:
        pytest.fail(str(error), pytrace=False)


def _or_none(make: Callable[[], _Value]) -> _Value | None:
    try:
        return make()
    except DrlcError:  # there is no artifact, as the verdict says
        return None


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
