"""The claims of Lu et al. on quantization, pruning, time, memory and energy."""

from collections.abc import Iterator, Mapping, Sequence

from pytest_drlcompress.core.verdict import State
from pytest_drlcompress.papers.claim import Claim, above, same_share, unmeasured
from pytest_drlcompress.papers.measured import Figures, Measured
from pytest_drlcompress.papers.published import GRID, pruned, quantized
from pytest_drlcompress.papers.shares import Share
from pytest_drlcompress.papers.targets import COST_POLICIES, NORMS, QUANTIZED

CHANCE = 1 / 3
"""The share of cells in which one of three methods that do not differ is best, or worst."""

_STANDUP = "-humanoidstandup"
_COMPRESSED = ("ptdq", "ptsq", "l2@50")
_KEPT = 0.9

Values = Mapping[str, Mapping[str, float]]
"""Returns, or shares of them, by policy and method."""


def lu_claims(measured: Measured) -> list[Claim]:
    """Every claim, in the order of the paper."""
    return [*_quantization(measured), *_pruning(measured), *_costs(measured)]


def _quantization(measured: Measured) -> Iterator[Claim]:
    theirs: Values = {policy: row.by_method for policy, row in quantized().items()}
    ours = _estimates(measured)
    standing, their = (
        {policy: found for policy, found in values.items() if policy.endswith(_STANDUP)}
        for values in (ours, theirs)
    )
    best, worst, trained = (
        _share_of(ours, "ptdq", best=True),
        _share_of(ours, "ptsq", best=False),
        _share_of(standing, "qat", best=True),
    )
    lost = (
        f"{method} {sum(measured.state(policy, method) is not State.PASS for policy in ours)}"
        for method in QUANTIZED
    )
    yield _claim(
        "PTDQ gives the best return in 40 % of the cells",
        f"{_share_of(theirs, 'ptdq', best=True).counts} cells",
        best,
        f"{best} cells",
        same_share(best, 0.40),
        target="lu-table1",
    )
    yield _claim(
        "PTSQ gives the worst return of the three",
        f"{_share_of(theirs, 'ptsq', best=False).counts} cells",
        worst,
        f"{worst} cells; not PASS: {', '.join(lost)}",
        above(worst, CHANCE),
        target="lu-table1",
    )
    yield _claim(
        "QAT gives the best return on HumanoidStandup",
        f"{_share_of(their, 'qat', best=True).counts} algorithms",
        trained,
        f"{trained} algorithms",
        above(trained, CHANCE),
        target="lu-table1",
    )


def _claim(text: str, theirs: str, share: Share, ours: str, verdict: str, *, target: str) -> Claim:
    """``ours`` and ``verdict``, unless ``share`` is one of nothing."""
    if not share.of:
        return unmeasured(text, theirs, target)
    return Claim(text, theirs, ours, verdict, target)


def _estimates(measured: Measured) -> Values:
    """What each method keeps, where all three are measured."""
    found = {
        policy: {method: measured.estimate(policy, method) for method in QUANTIZED}
        for policy in measured.has(GRID, "variants", QUANTIZED)
    }
    return {
        policy: {method: value for method, value in values.items() if value is not None}
        for policy, values in found.items()
        if None not in values.values()
    }


def _share_of(values: Values, method: str, *, best: bool) -> Share:
    """The share of the cells where ``method`` is better, or worse, than both others."""
    sign = 1 if best else -1
    count = sum(
        all(sign * found[method] > sign * found[other] for other in found if other != method)
        for found in values.values()
    )
    return Share(count, len(values))


def _pruning(measured: Measured) -> Iterator[Claim]:
    published, most = pruned(), _most(measured)
    for per_cent, claimed, theirs in (
        (5, 40, sum(row.pruned < _KEPT * row.baseline for row in published.values())),
        (50, 80, sum(max(row.l1, row.l2) < 0.5 for row in published.values())),
    ):
        # shares are whole multiples of 5 %
        lost = sum(round(100 * max(both)) < per_cent for both in most.values())
        share = Share(lost, len(most))
        yield _claim(
            f"{claimed} % of the policies do not survive pruning of {per_cent} %",
            f"{theirs} of {len(published)}",
            share,
            f"{share} are not shown to, by either norm",
            same_share(share, claimed / 100),
            target="lu-table2",
        )
    text, theirs_of_norms = (
        "L2 keeps the return at more pruning than L1",
        _compared([(row.l1, row.l2) for row in published.values()]),
    )
    pairs = list(most.values())
    better = Share(sum(l2 > l1 for l1, l2 in pairs), sum(l2 != l1 for l1, l2 in pairs))
    ours = f"{_compared(pairs)} (sign test, p = {better.above(0.5):.2g})"
    yield _claim(
        text, theirs_of_norms, Share(0, len(pairs)), ours, above(better, 0.5), target="lu-table2"
    )


def _most(measured: Measured) -> dict[str, tuple[float, float]]:
    """The largest share that keeps the return, by L1 and by L2, where both are measured."""
    found = {}
    for policy in measured.has(GRID, "sweeps", NORMS):
        l1, l2 = (measured.most_pruning(policy, norm) for norm in NORMS)
        if l1 is not None and l2 is not None:
            found[policy] = (l1, l2)
    return found


def _compared(pairs: Sequence[tuple[float, float]]) -> str:
    better = sum(l2 > l1 for l1, l2 in pairs)
    worse = sum(l2 < l1 for l1, l2 in pairs)
    return f"L2 more in {better}, L1 in {worse}, equal in {len(pairs) - better - worse}"


def _costs(measured: Measured) -> Iterator[Claim]:
    target, theirs = "lu-figures", "Figures 1 to 3"
    policies = measured.has(COST_POLICIES, "costs", ["fp32", *_COMPRESSED])
    cells = {recipe: [_cost(measured, p, recipe) for p in policies] for recipe in _COMPRESSED}
    every = [cell for found in cells.values() for cell in found]
    for what, found in (
        ("Quantization", [*cells["ptdq"], *cells["ptsq"]]),
        ("Pruning half of the channels", cells["l2@50"]),
    ):
        faster = Share(sum(c["latency"]["interval"][1] < 1 for c in found), len(found))
        slower = sum(c["latency"]["interval"][0] > 1 for c in found)
        yield _claim(
            f"{what} generally does not make inference faster",
            theirs,
            faster,
            f"faster in {faster}, slower in {slower}",
            above(faster.rest, 0.5),
            target=target,
        )
    whole = {policy: _cost(measured, policy, "fp32")["bytes"] for policy in policies}
    smaller = Share(
        sum(_cost(measured, p, r)["bytes"] < whole[p] for p in policies for r in _COMPRESSED),
        len(every),
    )
    yield _claim(
        "Quantization and pruning make the model smaller",
        theirs,
        smaller,
        f"{smaller} files",
        above(smaller, 0.5),
        target=target,
    )
    yield _energy("They generally do not save energy", theirs, every, target)


def _cost(measured: Measured, policy: str, recipe: str) -> Figures:
    found = measured.cell(policy, "costs", recipe)
    assert found is not None, "``has`` found it"
    return found


def _energy(text: str, theirs: str, cells: Sequence[Figures], target: str) -> Claim:
    ratios = [c["energy"]["ratio"] for c in cells if c["energy"]["ratio"] is not None]
    if cells and not ratios:
        why = str(cells[0]["energy"]["reason"]).removesuffix(".")
        return unmeasured(text, theirs, target, why)
    less = Share(sum(ratio < 1 for ratio in ratios), len(ratios))
    return _claim(text, theirs, less, f"less in {less}", above(less.rest, 0.5), target=target)
