"""The report as one HTML file that needs nothing else: no network, no script.

Static SVG by matplotlib rather than an interactive library: a page of some 100 KB instead of
4 MB, which a content security policy cannot break and a screen reader can read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pytest_drlcompress.core.version import __version__
from pytest_drlcompress.gates.kinds import GATE_KINDS, RETENTION, SPARSITY, GateKind
from pytest_drlcompress.reporting import plots
from pytest_drlcompress.reporting.plots import Plot
from pytest_drlcompress.reporting.report import Report
from pytest_drlcompress.reporting.table import (
    Row,
    counted,
    figure_text,
    gates_of,
    rows_of,
    state_text,
    tone,
)

FILMS_BYTES = 1_500_000
"""What films may take of a page: it stays one file that a browser opens at once."""


@dataclass(frozen=True)
class Section:
    """Figures of one kind; ``missing`` says why there are none, and what would make them."""

    id: str
    title: str
    plots: tuple[Plot, ...]
    missing: str


def html(report: Report) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = rows_of(report.judged)
    films, omitted = bounded(report.films)
    return environment.get_template("report.html.jinja").render(
        report=report,
        rows=rows,
        gates=gates_of(report.judged),
        counts=counted([j.verdict for j in report.judged]) or "no verdicts",
        sections=_sections(report, rows),
        films=films,
        omitted=omitted,
        improved=list(dict.fromkeys(j.message for j in report.judged if j.outcome == "improved")),
        state_text=state_text,
        figure_text=figure_text,
        tone=tone,
        safe=Markup,  # only for the SVG that reporting.svg made
        version=__version__,
        style=Markup(Path(__file__).with_name("report.css").read_text()),  # noqa: S704 (our own)
    )


def bounded(
    films: Sequence[Mapping[str, Any]], room: int = FILMS_BYTES
) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The films that fit into ``room`` bytes, and the names of those that do not.

    Clips are left out before filmstrips, the last first.
    """
    strips, omitted = [], []
    for film in films:
        size = sum(map(len, film.get("strip", ())))
        if size > room:
            omitted.append(f"{film['policy']} / {film['variant']}")
        else:
            room -= size
            strips.append(film)
    shown = []
    for film in strips:
        room -= len(film.get("clip", ""))
        shown.append(film if room >= 0 else {**film, "clip": ""})
    return shown, omitted


def _sections(report: Report, rows: Sequence[Row]) -> list[Section]:
    policies = {policy: list(mine) for policy, mine in groupby(rows, lambda row: row.policy)}

    def each(kind: str, draw: Callable[[str, str, Sequence[Row]], Plot | None]) -> tuple[Plot, ...]:
        drawn = [draw(f"{kind}{n}", p, mine) for n, (p, mine) in enumerate(policies.items())]
        return tuple(plot for plot in drawn if plot is not None)

    def frontier(kind: GateKind) -> Section:
        def draw(name: str, policy: str, mine: Sequence[Row]) -> Plot | None:
            return plots.frontier_plot(name, policy, mine, kind)

        return Section(
            kind.name, f"Return kept against {kind.frontier}", each(kind.name, draw),
            f"Not measured: needs the {RETENTION.name} and the {kind.name} of two variants.",
        )  # fmt: skip

    sweeps = [
        plot
        for number, (policy, mine) in enumerate(plots.sweeps_of(report.judged).items())
        for plot in plots.sweep_plots(f"sweep{number}", policy, mine)
    ]
    return [
        Section(
            RETENTION.name, "Return kept", each(RETENTION.name, plots.retention_plot),
            "Not measured: run suites/test_return_retention.py.",
        ),
        *(frontier(kind) for kind in GATE_KINDS if kind.frontier),
        Section(
            "sweeps", "Pruning sweeps", tuple(sweeps), "Not measured: run with --drlc-sweep."
        ),
        Section(
            SPARSITY.name, "Sparsity by layer", each(SPARSITY.name, plots.sparsity_plot),
            "Not measured: no sparsity gate ran.",
        ),
        Section(
            "attribution", "Where the action error comes from",
            each("attribution", plots.attribution_plot),
            "Not measured: run suites/test_quantization_error.py on a quantized variant.",
        ),
    ]  # fmt: skip
