"""Both papers' tables: cells measured once, claims tested, page and data held together."""

import json
import re

import pytest
from baseline_copies import copy_baseline

from conftest import ROOT
from pytest_drlcompress.__main__ import main
from pytest_drlcompress.baselines.record import read_baseline_record
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.errors import ReportError
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.papers.claim import (
    CONFIRMED,
    CONSISTENT,
    CONTRADICTED,
    OPEN,
    above,
    same_share,
)
from pytest_drlcompress.papers.ivanov_claims import ivanov_claims
from pytest_drlcompress.papers.lu_claims import lu_claims
from pytest_drlcompress.papers.measure import measure
from pytest_drlcompress.papers.measured import EARLIER, Measured
from pytest_drlcompress.papers.page import between_marks
from pytest_drlcompress.papers.published import GRID, pruned, quantized
from pytest_drlcompress.papers.shares import Share
from pytest_drlcompress.papers.store import Store
from pytest_drlcompress.papers.targets import Cell
from pytest_drlcompress.workbench.workbench import Workbench

RESULTS = ROOT / "results"
PAGE = ROOT / "docs/results.md"


def test_the_page_is_what_the_data_says():
    measured = Measured(Store(RESULTS).read())
    content = PAGE.read_text("utf-8")
    assert between_marks(content, measured) == content, (
        "run: python -m pytest_drlcompress reproduce --show --page docs/results.md"
    )
    for figure in re.findall(r"!\[.*?\]\((.*?)\)", content):
        assert (PAGE.parent / figure).is_file(), figure


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_measured_is_of_todays_policies(path):
    data = json.loads(path.read_text())
    folder = ROOT / "baselines" / path.stem
    if "absent" in data:
        assert not (folder / "baseline.json").exists()
        return
    record = read_baseline_record(folder)
    assert data["policy_sha256"] == record.sha256


def test_the_published_tables():
    """The figures that the papers' text repeats follow from the tables as we have them."""
    assert len(quantized()) == len(pruned()) == len(GRID) == 25
    by_text = {claim.text: claim.theirs for claim in lu_claims(Measured({}))}
    assert by_text["PTDQ gives the best return in 40 % of the cells"] == "10 of 25 cells"
    assert by_text["40 % of the policies do not survive pruning of 5 %"] == "10 of 25"
    assert by_text["80 % of the policies do not survive pruning of 50 %"] == "20 of 25"


def head(policy, conditions="today"):
    returns = {"baseline": 1000.0, "random": 0.0, "zero": 10.0, "episodes": 2000}
    return {
        "policy": policy, "policy_sha256": "a", "bytes": 400_000, "conditions": conditions,
        "returns": returns,
    }  # fmt: skip


def variant(estimate, state="PASS", zeros=0.0, **more):
    sizes = dict.fromkeys(
        ("nnz_claim", "entropy_bound", "stripped_zstd", "artifact", "resident"), 1000
    )
    kept = {"state": state, "estimate": estimate, "interval": [0.9, 1.1], "sample_size": 46}
    facts = {"retention": kept, "sizes": sizes, "zeros": zeros, "cpu_seconds": 1.0}
    return {**facts, "conditions": "today", **more}


def grid(**shares):
    """Every cell of Lu et al. with these retentions."""
    return Measured(
        {p: {**head(p), "variants": {m: variant(v) for m, v in shares.items()}} for p in GRID}
    )


def verdicts(claims):
    return {claim.text: claim.verdict for claim in claims}


def test_claims_of_quantization_follow_from_the_cells():
    first = "PTDQ gives the best return in 40 % of the cells"
    second = "PTSQ gives the worst return of the three"
    third = "QAT gives the best return on HumanoidStandup"
    found = verdicts(lu_claims(grid(ptdq=1.0, ptsq=0.5, qat=0.9)))
    assert (found[first], found[second], found[third]) == (CONTRADICTED, CONFIRMED, OPEN)
    found = verdicts(lu_claims(grid(ptdq=0.9, ptsq=0.95, qat=1.0)))
    assert (found[first], found[second], found[third]) == (CONTRADICTED, CONTRADICTED, CONFIRMED)
    # a tie is nobody's best
    assert verdicts(lu_claims(grid(ptdq=1.0, ptsq=1.0, qat=1.0)))[first] == CONTRADICTED
    assert verdicts(lu_claims(Measured({})))[first].startswith("not measured: run `python -m")


def test_claims_of_pruning_follow_from_the_sweeps():
    def sweeps(l1, l2):
        return {n: {"most": m, "points": []} for n, m in (("l1", l1), ("l2", l2))}

    content = {p: {**head(p), "sweeps": sweeps(0.0, 0.0)} for p in GRID[:10]}
    content |= {p: {**head(p), "sweeps": sweeps(0.05, 0.15)} for p in GRID[10:20]}
    content |= {p: {**head(p), "sweeps": sweeps(0.55, 0.5)} for p in GRID[20:]}
    found = {claim.text: claim for claim in lu_claims(Measured(content))}
    five = found["40 % of the policies do not survive pruning of 5 %"]
    assert five.ours.startswith("10 of 25 ")
    assert five.verdict == CONSISTENT
    fifty = found["80 % of the policies do not survive pruning of 50 %"]
    assert fifty.ours.startswith("20 of 25 ")
    norms = found["L2 keeps the return at more pruning than L1"]
    assert norms.ours.startswith("L2 more in 10, L1 in 5, equal in 10")
    assert norms.verdict == OPEN


def test_claims_of_sparsity_follow_from_the_verdicts():
    content = {
        "sac-halfcheetah": {
            **head("sac-halfcheetah"),
            "variants": {"sparse@80+qat": variant(1.0, zeros=0.8)},
        },
        "sac-hopper": {
            **head("sac-hopper"),
            "variants": {"sparse@99+qat": variant(0.4, "FAIL", zeros=0.99, conditions="before")},
        },
        "dqn-pong-cnn": {"absent": "not trained"},
    }
    claims = {claim.text.split(" keeps")[0]: claim for claim in ivanov_claims(Measured(content))}
    assert claims["SAC HalfCheetah"].verdict == CONFIRMED
    assert "20x by their count, 400x as a compressed file" in claims["SAC HalfCheetah"].ours
    assert claims["SAC Hopper"].verdict == CONTRADICTED
    assert EARLIER in claims["SAC Hopper"].ours
    assert EARLIER not in claims["SAC HalfCheetah"].ours
    assert claims["SAC Ant"].verdict.startswith("not measured")


@pytest.mark.parametrize(
    ("share", "chance", "verdict"),
    [
        (Share(25, 25), 0.5, CONFIRMED),
        (Share(0, 25), 0.5, CONTRADICTED),
        (Share(13, 25), 0.5, OPEN),
        (Share(0, 0), 0.5, OPEN),
    ],
)
def test_a_share_is_tested_against_chance(share, chance, verdict):
    assert above(share, chance) == verdict


def test_a_share_has_an_exact_interval():
    low, high = Share(10, 25).interval
    assert (low, high) == (pytest.approx(0.2113, abs=1e-4), pytest.approx(0.6133, abs=1e-4))
    assert same_share(Share(10, 25), 0.62) == CONTRADICTED


@pytest.fixture
def project(tmp_path, monkeypatch):
    """One baseline, in a folder of its own."""
    copy_baseline("trpo-hopper", tmp_path / "baselines")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_from_scratch_and_again(project, capsys):
    arguments = ["reproduce", "lu-table2", "--policy", "trpo-hopper", "--max-episodes", "8"]
    assert main([*arguments, "--page", "page.md"]) == 0
    assert capsys.readouterr().out.count("trpo-hopper sweeps") == 2
    page = (project / "page.md").read_text()
    assert re.search(r"\| `trpo-hopper` \| 0% \| 15% \| 0% \| 45% \| 3,367 \| 5 %: INC", page)
    stored = json.loads((project / "results/trpo-hopper.json").read_text())
    assert [p["ratio"] for p in stored["sweeps"]["l2"]["points"]] == [5.0]
    assert stored["sweeps"]["l2"]["points"][0]["sample_size"] == 8
    # what is there is not measured again, and what was held to other rules is
    assert main([*arguments, "--page", "page.md"]) == 0
    assert "trpo-hopper sweeps" not in capsys.readouterr().out
    assert (project / "page.md").read_text() == page
    store, cell = Store(project / "results"), Cell("trpo-hopper", "sweeps", "l2")
    assert store.get(cell, stored) is not None
    assert store.get(cell, {**stored, "conditions": "other"}) is None
    assert store.get(cell, {**stored, "policy_sha256": "other"}) is None


def test_figures_of_a_replaced_policy_are_left_out_and_named(project, capsys):
    show = ["reproduce", "lu-table1", "--show"]
    record = json.loads((project / "baselines/trpo-hopper/baseline.json").read_text())
    ours = {**head("trpo-hopper"), "variants": {"ptdq": variant(0.973)}}
    (project / "results").mkdir()
    path = project / "results/trpo-hopper.json"
    path.write_text(json.dumps({**ours, "policy_sha256": record["sha256"]}))
    assert main(show) == 0
    printed = capsys.readouterr()
    assert "0.973" in printed.out
    assert printed.err == ""
    for replaced in (ours, {"policy": "trpo-hopper", "policy_sha256": "", "absent": "not trained"}):
        path.write_text(json.dumps(replaced))
        assert main(show) == 0
        printed = capsys.readouterr()
        assert "| `trpo-hopper` | - " in printed.out
        assert "left out: results/trpo-hopper.json is of an earlier trpo-hopper" in printed.err
    # a baseline that is not here may have been measured elsewhere
    (project / "baselines/trpo-hopper/baseline.json").unlink()
    path.write_text(json.dumps(ours))
    assert main(show) == 0
    printed = capsys.readouterr()
    assert "0.973" in printed.out
    assert printed.err == ""


def test_recipes_of_a_table_are_chosen(project, capsys):
    arguments = ["reproduce", "lu-table1", "--policy", "trpo-hopper", "--max-episodes", "8"]
    assert main([*arguments, "--recipe", "ptsq", "--recipe", "ptdq"]) == 0
    assert capsys.readouterr().out.count("trpo-hopper variants") == 2
    stored = json.loads((project / "results/trpo-hopper.json").read_text())
    assert stored["variants"].keys() == {"ptdq", "ptsq"}


def test_variants_and_costs_come_from_the_gates(project):
    settings = default_settings(baselines=project / "baselines", max_episodes=8)
    bench = Workbench(settings, builtin_registry())
    found = measure(bench, Cell("trpo-hopper", "variants", "ptdq"), print)
    assert found["retention"]["sample_size"] == 8
    assert found["sizes"]["artifact"] < 10_000
    costs = measure(bench, Cell("trpo-hopper", "costs", "l2@50"), print)
    assert costs["bytes"] < 10_000
    assert costs["latency"]["interval"][0] < costs["latency"]["estimate"] < 2
    unknown = measure(bench, Cell("trpo-hopper", "costs", "l9@5"), print)
    assert "no compression step 'l9'" in unknown["error"]
    bench.close()


def test_a_baseline_that_did_not_learn_says_so(project, capsys):
    (project / "baselines/sac-ant").mkdir()
    reason = {"reason": "The baseline does not significantly beat the zero-action policy."}
    (project / "baselines/sac-ant/training.json").write_text(json.dumps(reason))
    assert main(["reproduce", "lu-table1", "--policy", "sac-ant"]) == 0
    assert "| `sac-ant` (did not learn its task) |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to make; known: lu-table1"),
        (["lu-table9"], "there is no lu-table9; known: lu-table1"),
        (["lu-table1", "--policy", "sac-walker2d"], "sac-walker2d is not in it; it has"),
        (["lu-table1", "--recipe", "sparse@95"], "sparse@95 is not in it; it has ptdq, ptsq, qat"),
        (["lu-table1", "--page", "README.md", "--show"], "must hold one '<!-- results: begin"),
    ],
)
def test_wrong_requests_are_one_line(project, capsys, arguments, message):
    (project / "README.md").write_text("no marks")
    assert main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_damaged_results_are_said_before_anything_runs(project, capsys):
    (project / "results").mkdir()
    (project / "results/trpo-hopper.json").write_text("{")
    assert main(["reproduce", "lu-table1"]) == 2
    assert "results/trpo-hopper.json cannot be read" in capsys.readouterr().err


def test_marks_are_needed_once():
    with pytest.raises(ReportError, match="must hold one"):
        between_marks("no marks", Measured({}))
