"""Lu et al.'s Tables 1 to 3 and the figures' costs in Markdown, ours beside theirs."""

from collections.abc import Callable, Mapping

from pytest_drlcompress.papers.measured import NOTHING, Measured, number, retention_text, table
from pytest_drlcompress.papers.published import pruned, quantized
from pytest_drlcompress.papers.targets import COST_POLICIES, COST_RECIPES, NORMS, QUANTIZED

_KEPT = (
    "What is kept: verdict, retention with its interval, episodes; in brackets their return as a"
    " share of their fp32 return, without subtracting a random policy's:"
)


def quantization_table(measured: Measured) -> list[str]:
    """Table 1: mean return (theirs: on v4), and the share that is kept."""
    rows, kept = [], []
    for policy, published in quantized().items():
        known = measured.returns(policy)
        ours = [number(None if known is None else known["baseline"])]
        ours += [
            number(measured.gained(policy, measured.estimate(policy, method)))
            for method in QUANTIZED
        ]
        theirs = [published.baseline, *(published.by_method[method] for method in QUANTIZED)]
        pairs = [f"{our} ({number(their)})" for our, their in zip(ours, theirs, strict=True)]
        rows.append([_name(measured, policy), *pairs])
        kept.append(
            [
                f"`{policy}`",
                *(
                    f"{measured.verdict_text(policy, method)}"
                    f" ({published.by_method[method] / published.baseline:.2f})"
                    for method in QUANTIZED
                ),
            ]
        )
    return [
        "Mean return, theirs in brackets:",
        "",
        *table(("policy", "fp32", *QUANTIZED), rows),
        "",
        _KEPT,
        "",
        *table(("policy", *QUANTIZED), kept),
    ]


def pruning_table(measured: Measured) -> list[str]:
    """Table 2: the largest share by each norm, and the return there."""
    rows = []
    for policy, published in pruned().items():
        cells = [_name(measured, policy)]
        for norm, their in zip(NORMS, (published.l1, published.l2), strict=True):
            cells += [_share(measured.most_pruning(policy, norm)), f"{their:.0%}"]
        cells += [_return_at_most(measured, policy), _stopped(measured, policy)]
        cells += [f"{number(published.baseline)} to {number(published.pruned)}"]
        rows.append(cells)
    return table(
        ("policy", "L1", "their L1", "L2", "their L2", "return", "what stopped L1, L2",
         "their return"),
        rows,
    )  # fmt: skip


def best_table(measured: Measured) -> list[str]:
    """Table 3: the norm and share that are best."""
    rows = []
    for policy, published in pruned().items():
        found = {norm: measured.most_pruning(policy, norm) for norm in NORMS}
        shares = [share for share in found.values() if share is not None]
        ours = NOTHING
        if shares and max(shares) == 0:
            ours = "none"
        elif shares:
            ours = ", ".join(n.upper() for n in NORMS if found[n] == max(shares))
            ours += f" {max(shares):.0%}"
        theirs = f"{published.norm.upper()} {published.percent}%"
        rows.append([_name(measured, policy), ours, theirs])
    return table(("policy", "ours", "theirs"), rows)


def cost_table(measured: Measured) -> list[str]:
    """Figures 1 to 3: time, memory and energy of one action."""
    rows = []
    for policy in COST_POLICIES:
        for recipe in COST_RECIPES:
            cell = measured.cell(policy, "costs", recipe)
            if cell is None:
                continue
            latency, energy = cell["latency"], cell["energy"]
            low, high = latency["interval"]
            joules = energy["ratio"]
            rows.append(
                [
                    f"`{policy}`",
                    recipe,
                    f"{latency['estimate']:.3f} [{low:.3f}, {high:.3f}]",
                    number(cell["bytes"]),
                    number(cell["weights"]),
                    number(cell["peak_activations"]),
                    energy["state"] if joules is None else f"{joules:.3f}",
                    f"{cell['estimated_uj']:.4g}",
                ]
            )
    headings = (
        "policy", "variant", "latency ratio", "file, bytes", "weights in memory, bytes",
        "peak activations, bytes", "energy ratio", "estimated uJ",
    )  # fmt: skip
    return table(headings, rows) if rows else []


TABLES: Mapping[str, Callable[[Measured], list[str]]] = {
    "lu-table1": quantization_table,
    "lu-table2": pruning_table,
    "lu-table3": best_table,
    "lu-figures": cost_table,
}
"""By the target that measures it."""


def _name(measured: Measured, policy: str) -> str:
    absent = measured.absent(policy)
    return f"`{policy}`" + (f" ({absent.split(':')[0]})" if absent else "")


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def _return_at_most(measured: Measured, policy: str) -> str:
    """The return before, and after the most pruning by either norm."""
    known = measured.returns(policy)
    points = [
        point
        for norm in NORMS
        if (sweep := measured.cell(policy, "sweeps", norm)) is not None
        for point in sweep["points"]
        if point["state"] == "PASS"
    ]
    if known is None:
        return NOTHING
    before = number(known["baseline"])
    if not points:
        return before
    best = max(points, key=lambda point: (point["ratio"], point["estimate"]))
    return f"{before} to {number(measured.gained(policy, best['estimate']))}"


def _stopped(measured: Measured, policy: str) -> str:
    """The first ratio of each norm that is not PASS."""
    texts = []
    for norm in NORMS:
        sweep = measured.cell(policy, "sweeps", norm)
        if sweep is None:
            return NOTHING
        last = sweep["points"][-1]
        text = retention_text({**last, "interval": None})
        texts.append(f"{last['ratio']:g} %: {text}" if last["state"] != "PASS" else "nothing")
    return "; ".join(texts)
