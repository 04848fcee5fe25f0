"""What is in flight when a gate has decided is lost: no more is begun than is likely needed."""

from contextlib import closing
from itertools import islice

import pytest

from conftest import ROOT
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.retention import judge_retention
from pytest_drlcompress.workbench.workbench import Workbench

LENGTH = 1000
"""Steps of every episode of TRPO Hopper."""


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def bench(request):
    settings = default_settings(
        baselines=ROOT / "baselines", policies=("trpo-hopper",), workers=request.param, cache=False
    )
    with closing(Workbench(settings, builtin_registry())) as made:
        yield made


def played(bench, wanted, likely):
    """The totals of the first ``wanted`` of 40 episodes, and the steps that were made for them."""
    loaded, steps = bench.load("trpo-hopper"), []
    episodes = loaded.episodes(loaded.exported, range(40), on_steps=steps.append, likely=likely)
    with closing(episodes):
        totals = [episode.total for episode in islice(episodes, wanted)]
    return totals, sum(steps)


def test_no_other_is_begun_before_the_likely_ones_are_over(bench):
    totals, steps = played(bench, wanted=5, likely=5)
    assert steps == 5 * LENGTH
    more, steps_of_more = played(bench, wanted=8, likely=5)
    assert more[:5] == totals
    assert steps_of_more > 8 * LENGTH
    assert more == played(bench, wanted=8, likely=None)[0]


def test_a_gate_plays_what_was_recorded_of_it_and_little_more(bench, monkeypatch):
    asked = []
    loaded = bench.load("trpo-hopper")
    right = type(loaded).episodes

    def episodes(self, *arguments, likely=None, **more):
        asked.append(likely)
        return right(self, *arguments, likely=likely, **more)

    monkeypatch.setattr(type(loaded), "episodes", episodes)
    candidate = bench.candidate("trpo-hopper", "ptsq")
    verdict = judge_retention(candidate, Budgets())
    assert verdict.state.value == "PASS"
    recorded = loaded.record.verdicts["ptsq"]["retention"]["sample_size"]
    assert asked == [recorded + 2]
    assert verdict.sample_size <= asked[0]
