"""Gates: what the fixtures hand to a test. ``measure()`` gives the verdict, ``check()`` judges."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.extras import missing_extra
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.reporting.properties import (
    ARTIFACT_PROPERTY,
    AS_RECORDED_PROPERTY,
    FILM_PROPERTY,
    IMPROVED_PROPERTY,
    NOTE_PROPERTY,
    VERDICT_PROPERTY,
)
from pytest_drlcompress.reporting.text import verdict_text

if TYPE_CHECKING:
    from pytest_drlcompress.baselines.changes import Change
    from pytest_drlcompress.baselines.verdicts import Expectation

_ELSEWHERE = (
    "some artifacts differ from the recorded ones as another processor or other library versions"
    " explain; their settings and action errors are as recorded"
)


@dataclass(frozen=True, eq=False)
class Gate:
    """One quantity of one variant, judged at most once in a test.

    ``judge`` makes the verdict, ``inconclusive`` and ``unmeasured`` say what an INCONCLUSIVE and
    a NOT_MEASURED one do, ``expected`` what the baseline's record demands (``None``: the verdict
    alone decides).
    ``recording`` lets everything pass that is about to be recorded. ``fingerprint`` describes
    the judged artifact, ``change`` says how it differs from the recorded one, and ``film`` makes
    pictures of what was judged for the report, where it is worth looking at.
    ``rerun`` is the command that runs the test alone.
    """

    item: pytest.Item
    judge: Callable[[], Verdict]
    inconclusive: str = "fail"
    unmeasured: str = "skip"
    expected: "Expectation | None" = None
    recording: bool = False
    fingerprint: Callable[[], Mapping[str, Any] | None] = lambda: None
    change: "Callable[[], Change | None]" = lambda: None
    rerun: str = ""
    film: Callable[[Verdict], Mapping[str, Any] | None] = lambda verdict: None

    @cached_property
    def _verdict(self) -> Verdict:
        problem: DrlcError | None = None
        try:
            verdict = self.judge()
        except DrlcError as error:
            problem = error
        except ImportError as error:
            problem = missing_extra(error)
            if problem is None:
                raise
        if problem is not None:  # out here: pytest would print what it was caused by once more
            pytest.fail(str(problem), pytrace=False)
        self.item.user_properties.append((VERDICT_PROPERTY, verdict.to_json()))
        facts = self.fingerprint()
        if facts is not None:
            self.item.user_properties.append((ARTIFACT_PROPERTY, dict(facts)))
        pictures = self.film(verdict)
        if pictures is not None:
            self.item.user_properties.append((FILM_PROPERTY, dict(pictures)))
        return verdict

    def measure(self) -> Verdict:
        """The verdict, without a judgement; it is in the reports all the same."""
        return self._verdict

    def check(self) -> Verdict:
        """Fail the test unless the verdict is PASS, or is the one that the record expects."""
        verdict = self._verdict
        text = verdict_text(verdict, self.rerun)
        if self.recording:
            return verdict
        if self.expected is not None:
            change = self.change()
            if change is not None and change.kind == "elsewhere":
                self.item.user_properties.append((NOTE_PROPERTY, _ELSEWHERE))
            outcome, reason = self.expected.outcome(verdict, change)
            if outcome == "fail":
                pytest.fail(f"{text}\n    {reason}", pytrace=False)
            if outcome == "xfail":
                self.item.user_properties.append((AS_RECORDED_PROPERTY, True))
                pytest.xfail(f"{reason} {text}")
            if outcome == "improved":
                self.item.user_properties.append((IMPROVED_PROPERTY, f"{text}\n    {reason}"))
            return verdict
        if verdict.state is State.PASS:
            return verdict
        skipped = {
            State.NOT_MEASURED: self.unmeasured == "skip",
            State.INCONCLUSIVE: self.inconclusive == "skip",
        }
        if skipped.get(verdict.state):
            pytest.skip(text)
        if verdict.state is State.INCONCLUSIVE and self.inconclusive == "xfail":
            pytest.xfail(text)
        pytest.fail(text, pytrace=False)
