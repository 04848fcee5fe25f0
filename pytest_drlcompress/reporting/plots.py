"""The figures of the HTML report: each drawn from verdicts, with its data as a table beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, groupby
from typing import Any

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.gates.kinds import (
    ACTION_ERROR,
    RETENTION,
    SPARSITY,
    GateKind,
    kind_of,
)
from pytest_drlcompress.reporting.results import Judged
from pytest_drlcompress.reporting.svg import (
    FAIL,
    INK,
    MARKERS,
    MUTED,
    PASS,
    SERIES,
    UNDECIDED,
    Drawing,
)
from pytest_drlcompress.reporting.table import Row, figure_text

_STATES: Mapping[State, tuple[str, str]] = {State.PASS: (PASS, "o"), State.FAIL: (FAIL, "X")}
_OTHER = (UNDECIDED, "s")
_NAMED = 8
"""How many quantizers or layers a figure shows; its table has them all."""


@dataclass(frozen=True)
class Plot:
    """One figure: ``svg`` is the element, ``headings`` and ``rows`` the same data as text."""

    title: str
    note: str
    svg: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def retention_plot(name: str, policy: str, rows: Sequence[Row]) -> Plot | None:
    """Retention of each variant with its interval, against the limit."""
    found = [
        (row.variant, judged.verdict)
        for row in rows
        for gate, judged in row.cells.items()
        if kind_of(gate) is RETENTION and judged.verdict.estimate is not None
    ]
    if not found:
        return None
    drawing = Drawing(0.75 + 0.27 * len(found))
    for height, (_, verdict) in enumerate(found):
        color, marker = _STATES.get(verdict.state, _OTHER)
        assert verdict.estimate is not None
        if verdict.interval is not None:
            drawing.axes.plot(verdict.interval, [height] * 2, color=color, linewidth=2)
        drawing.axes.plot([verdict.estimate], [height], marker, color=color, markersize=7)
    for limit in {verdict.limit for _, verdict in found if verdict.limit is not None}:
        drawing.axes.axvline(limit, color=INK, linewidth=1, linestyle="--")
    drawing.axes.set_yticks(range(len(found)), [variant for variant, _ in found])
    drawing.axes.set_ylim(len(found) - 0.4, -0.6)
    drawing.axes.set_xlabel("share of the baseline's return kept")
    title = f"{policy}: retention"
    return Plot(
        title,
        "circle: PASS, cross: FAIL, square: undecided; bar: interval, dashed: limit",
        drawing.svg(name, title),
        ("variant", "verdict", RETENTION.name, "interval", "limit"),
        tuple(
            (
                variant,
                v.state.value,
                figure_text(v),
                _interval(v),
                f"{v.limit:g}" if v.limit else "",
            )
            for variant, v in found
        ),
    )


def frontier_plot(name: str, policy: str, rows: Sequence[Row], kind: GateKind) -> Plot | None:
    """Retention against the figure of ``kind`` (less is better), with the Pareto front."""
    points, what = [], kind.frontier
    for row in rows:
        kept, cost = row.cells.get(RETENTION.name), row.cells.get(kind.name)
        if (
            kept
            and cost
            and kept.verdict.estimate is not None
            and cost.verdict.estimate is not None
        ):
            points.append((row.variant, cost.verdict, kept.verdict))
    if len(points) < 2:
        return None
    drawing = Drawing(2.5)
    drawing.axes.margins(0.12)
    coordinates = [(_number(cost), _number(kept)) for _, cost, kept in points]
    front = pareto_front(coordinates)
    drawing.axes.plot(
        *zip(*[coordinates[i] for i in front], strict=True),
        color=MUTED, linewidth=1, drawstyle="steps-post",
    )  # fmt: skip
    offsets = cycle([(6, 4), (6, -10), (-6, 4), (-6, -10)])
    for number, (place, (_, _, verdict)) in enumerate(zip(coordinates, points, strict=True), 1):
        color, marker = _STATES.get(verdict.state, _OTHER)
        x, y = next(offsets)
        drawing.axes.plot(*place, marker, color=color, markersize=7)
        drawing.axes.annotate(
            str(number),
            place,
            (x, y),
            color=INK,
            textcoords="offset points",
            ha="left" if x > 0 else "right",
        )
    if points[0][2].limit is not None:
        drawing.axes.axhline(points[0][2].limit, color=INK, linewidth=1, linestyle="--")
    drawing.axes.locator_params(axis="x", nbins=5)
    if kind.cell.startswith(","):
        drawing.axes.xaxis.set_major_formatter(_thousands)
    drawing.axes.set_xlabel(what)
    drawing.axes.set_ylabel(RETENTION.name)
    title = f"{policy}: {RETENTION.name} against {what}"
    return Plot(
        title,
        "; ".join(f"{n} {variant}" for n, (variant, _, _) in enumerate(points, 1))
        + "; the line joins the variants that no other beats in both",
        drawing.svg(name, title),
        ("number", "variant", RETENTION.name, what, "on the front"),
        tuple(
            (str(n), variant, figure_text(kept), figure_text(cost), "yes" if n - 1 in front else "")
            for n, (variant, cost, kept) in enumerate(points, 1)
        ),
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats with a lower first and a higher second figure."""
    front, best = [], float("-inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front


def sweep_plots(
    name: str, policy: str, sweeps: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
) -> Iterator[Plot]:
    """Retention, latency and bytes against the pruned share (Lu et al., Figs. 2 and 3)."""
    panels = (
        ("retention", "share of the return kept"),
        ("latency", "latency ratio"),
        ("bytes", "artifact, bytes"),
    )
    for figure, what in panels:
        shown = [
            (family, [p for p in points if p.get(figure) is not None]) for family, points in sweeps
        ]
        shown = [(family, points) for family, points in shown if points]
        if not shown:
            continue
        drawing = Drawing(2.4)
        for (family, points), color, marker in zip(shown, cycle(SERIES), cycle(MARKERS)):
            ratios = [p["ratio"] for p in points]
            drawing.axes.plot(
                ratios, [p[figure] for p in points], color=color, marker=marker, markersize=5,
                label=family,
            )  # fmt: skip
            if figure == "retention":
                low = [p["retention"] if p["low"] is None else p["low"] for p in points]
                high = [p["retention"] if p["high"] is None else p["high"] for p in points]
                drawing.axes.fill_between(ratios, low, high, color=color, alpha=0.15, linewidth=0)
        if figure != "retention":
            drawing.axes.set_ylim(0, 1.08 * max(p[figure] for _, ps in shown for p in ps))
        if figure == "bytes":
            drawing.axes.yaxis.set_major_formatter(_thousands)
        drawing.axes.set_xlabel("channels pruned, per cent")
        drawing.axes.set_ylabel(what)
        drawing.legend()
        title = f"{policy}: {what} against pruning"
        yield Plot(
            title,
            "the band is the interval of the retention" if figure == "retention" else "",
            drawing.svg(f"{name}-{figure}", title),
            ("recipe", "pruned", what, "verdict"),
            tuple(
                (str(p["recipe"]), f"{p['ratio']:g} %", f"{p[figure]:.4g}", str(p["state"] or ""))
                for _, points in shown
                for p in points
            ),
        )


def sparsity_plot(name: str, policy: str, rows: Sequence[Row]) -> Plot | None:
    """Share of zeros in each layer of each variant."""
    found = {}
    for row in rows:
        judged = row.cells.get(SPARSITY.name)
        layers = judged.verdict.details.get("by_layer") if judged else None
        if isinstance(layers, Mapping) and layers:
            found[row.variant] = {str(k): float(v) for k, v in layers.items() if _is_number(v)}
    return _dots(
        name, f"{policy}: sparsity by layer", found, "share of the layer's weights that are zero",
        limit=None,
    )  # fmt: skip


def attribution_plot(name: str, policy: str, rows: Sequence[Row]) -> Plot | None:
    """The action error that each quantizer alone makes, the largest first."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        judged = row.cells.get(ACTION_ERROR.name)
        parts = judged.verdict.details.get("attribution") if judged else None
        if parts:
            found[row.variant] = {_quantizer(p): float(p["error"]) for p in parts}
    return _dots(
        name, f"{policy}: where the action error comes from", found,
        "mean action error of one quantizer alone", limit=_NAMED,
    )  # fmt: skip


def _dots(
    name: str,
    title: str,
    found: Mapping[str, Mapping[str, float]],
    what: str,
    *,
    limit: int | None,
) -> Plot | None:
    """A row for each part (layer, quantizer), a mark in it for each variant; figures are shares."""
    largest: dict[str, float] = {}
    for parts in found.values():
        for part, value in parts.items():
            largest[part] = max(value, largest.get(part, value))
    if not largest:
        return None
    order = sorted(largest, key=lambda part: -largest[part]) if limit else list(largest)
    shown = order[:limit]
    drawing = Drawing(0.95 + 0.25 * len(shown) + 0.17 * (len(found) // 3))
    for (variant, parts), color, marker in zip(found.items(), cycle(SERIES), cycle(MARKERS)):
        places = [(parts[part], height) for height, part in enumerate(shown) if part in parts]
        if places:
            xs, ys = zip(*places, strict=True)
            drawing.axes.plot(
                xs, ys, marker, color=color, markersize=6, alpha=0.85, label=variant, clip_on=False
            )
    drawing.axes.set_yticks(range(len(shown)), shown)
    drawing.axes.set_ylim(len(shown) - 0.4, -0.6)
    drawing.axes.set_xlim(left=0)
    drawing.axes.locator_params(axis="x", nbins=5)
    drawing.axes.margins(x=0.08)
    drawing.axes.xaxis.set_major_formatter(lambda x, position: f"{100 * x:.3g} %")
    drawing.axes.set_xlabel(what)
    drawing.legend()
    return Plot(
        title,
        f"the {limit} largest of {len(order)}" if limit and len(order) > limit else "",
        drawing.svg(name, title),
        ("part", *found),
        tuple(
            (part, *(f"{p[part]:.2%}" if part in p else "" for p in found.values()))
            for part in order
        ),
    )


def _quantizer(part: Mapping[str, Any]) -> str:
    """As ``measurement.attribution.Contribution`` says it, without the figures."""
    if part["part"] == "all weights":
        return "weights, all layers"
    if part["part"] == "weight":
        return f"weights, layer {part['layer']}"
    return "observation" if part["layer"] == 1 else f"input, layer {part['layer']}"


def sweeps_of(judged: Sequence[Judged]) -> dict[str, list[tuple[str, list[Mapping[str, Any]]]]]:
    """By policy, the family and points of each pruning sweep."""
    by_policy: Callable[[Judged], str] = lambda j: j.verdict.policy  # noqa: E731
    found = [j for j in judged if j.verdict.details.get("points")]
    return {
        policy: [(j.verdict.variant, list(j.verdict.details["points"])) for j in mine]
        for policy, mine in groupby(sorted(found, key=by_policy), by_policy)
    }


def _interval(verdict: Verdict) -> str:
    return "" if verdict.interval is None else "{:.3f} to {:.3f}".format(*verdict.interval)


def _number(verdict: Verdict) -> float:
    assert verdict.estimate is not None
    return verdict.estimate


def _thousands(value: float, position: float | None, /) -> str:  # noqa: ARG001 (Matplotlib's)
    return f"{value:,.0f}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
