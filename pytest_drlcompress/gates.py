"""Gates: what the fixtures hand to a test. ``measure()`` gives the verdict, ``check()`` judges."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from pytest_drlcompress.errors import DrlcError
from pytest_drlcompress.reporting.text import verdict_text
from pytest_drlcompress.verdict import State, Verdict

if TYPE_CHECKING:
    from pytest_drlcompress.records import Expectation

VERDICT_PROPERTY = "drlcompress_verdict"
"""The ``user_properties`` entry that carries a verdict to reports, JUnit and the controller."""

NEWS_PROPERTY = "drlcompress_news"


@dataclass(frozen=True, eq=False)
class Gate:
    """One quantity of one variant, judged at most once in a test.

    ``judge`` makes the verdict, ``inconclusive`` says what an INCONCLUSIVE one does, and
    ``expected`` what the baseline's record demands (``None``: the verdict alone decides).
    """

    item: pytest.Item
    judge: Callable[[], Verdict]
    inconclusive: str = "fail"
    expected: "Expectation | None" = None
    recording: bool = False

    @cached_property
    def _verdict(self) -> Verdict:
        try:
            verdict = self.judge()
        except DrlcError as error:
            pytest.fail(str(error), pytrace=False)
        self.item.user_properties.append((VERDICT_PROPERTY, verdict.to_json()))
        return verdict

    def measure(self) -> Verdict:
        """The verdict, without a judgement; it is in the reports all the same."""
        return self._verdict

    def check(self) -> Verdict:
        """Fail the test unless the verdict is PASS, or is the one that the record expects."""
        verdict = self._verdict
        text = verdict_text(verdict, self.item.nodeid)
        if self.recording:
            return verdict
        if self.expected is not None:
            outcome, reason = self.expected.outcome(verdict)
            if outcome == "fail":
                pytest.fail(f"{text}\n    {reason}", pytrace=False)
            if outcome == "xfail":
                pytest.xfail(f"{reason} {text}")
            if outcome == "news":
                self.item.user_properties.append((NEWS_PROPERTY, f"{text}\n    {reason}"))
            return verdict
        if verdict.state is State.PASS:
            return verdict
        if verdict.state is State.NOT_MEASURED or (
            verdict.state is State.INCONCLUSIVE and self.inconclusive == "skip"
        ):
            pytest.skip(text)
        if verdict.state is State.INCONCLUSIVE and self.inconclusive == "xfail":
            pytest.xfail(text)
        pytest.fail(text, pytrace=False)
