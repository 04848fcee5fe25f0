"""Figures as SVG that takes its colours from the page, so that light and dark both fit.

Matplotlib draws them with marker colours, which become CSS variables; the text stays text.
"""

import io
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.2
"""Inches: a figure is as wide as a phone, and a page shows several beside each other."""

INK, MUTED, GRID = "#010101", "#020202", "#030303"
PASS, FAIL, UNDECIDED = "#040404", "#050505", "#060606"
SERIES = ("#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c")
MARKERS = ("o", "s", "^", "D", "v", "P")

_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        INK: "--ink",
        MUTED: "--muted",
        GRID: "--grid",
        PASS: "--pass",
        FAIL: "--fail",
        UNDECIDED: "--undecided",
        **{color: f"--series-{number}" for number, color in enumerate(SERIES, 1)},
    }
)
_STYLE: Any = MappingProxyType(  # Matplotlib types its keys as literals
    {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    }
)


class Drawing:
    """One figure with one pair of axes, ``height`` inches high: draw on ``axes``, then ``svg``."""

    def __init__(self, height: float) -> None:
        with mpl.rc_context(dict(_STYLE)):
            self._figure = Figure(figsize=(WIDTH, height), layout="constrained")
            self.axes: Axes = self._figure.subplots()

    def legend(self) -> None:
        """A legend above the axes, where it covers nothing."""
        with mpl.rc_context(dict(_STYLE)):
            self._figure.legend(loc="outside upper left", ncols=3, handlelength=1.4)

    def svg(self, name: str, title: str) -> str:
        """The element; ``name`` (unique in the page) prefixes its ids, ``title`` is read out."""
        target = io.StringIO()
        with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
            self._figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
        return _for_page(target.getvalue(), name, title)


def _for_page(text: str, name: str, title: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would hold for the page
    text = re.sub(r" font-family: [^;\"]*;?", "", text)  # the page's own
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0]
    opening = (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-t"'
        ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-t">{_escaped(title)}</title>'
    )
    return re.sub(r"<svg[^>]*>", lambda match: opening, text, count=1)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
