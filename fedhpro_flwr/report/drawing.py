"""What all pictures of a report share: size, colours, and how a figure becomes inline SVG and a PNG.

The page is light or dark as its reader's system is, so the SVG's text and grid must take the page's colours: they are
drawn in `INK` and `GRID`, which are then replaced by `currentColor` and a CSS variable. The groups' colours become
variables too (style.css), a little lighter on a dark page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any

from fedhpro_flwr.runs.curves import without_glyphs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID = "#1b2530", "#d3dae1"
# Okabe and Ito's colours without black and yellow: colour-blind readers can tell them apart, on light and on dark.
ACCENTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STROKES = ("solid", (0, (4, 1.6)), (0, (1.2, 1.4)))  # of the first six groups, the next six, and so on
HATCHES = ("", "////", "....")
# Tol's "light" colours, for phases and records; groups have other colours.
PARTS = ("#77aadd", "#ee8866", "#eedd88", "#44bb99", "#ffaabb", "#99ddff", "#bbcc33", "#aaaa00", "#a0a8b0", "#cc88cc")
WIDTH, HEIGHT = 4.8, 3.2  # inches; at 96 pixels an inch a phone shows the text at about three quarters of its size


@dataclass(frozen=True)
class Picture:
    """One picture of the page."""

    name: str  # of the PNG, without its ending
    caption: str
    alt: str  # what it shows, for readers who cannot see it
    svg: str
    png: bytes
    wide: bool = False  # it takes the whole row, and scrolls in its box if the page is narrower


@dataclass(frozen=True)
class Look:
    """How a group is drawn in all pictures."""

    color: str
    stroke: Any
    hatch: str


def look(group: int) -> Look:
    """The look of the group with that number; 18 groups can be told apart."""
    turn = group // len(ACCENTS)
    return Look(ACCENTS[group % len(ACCENTS)], STROKES[turn % len(STROKES)], HATCHES[turn % len(HATCHES)])


def page_color(group: int) -> str:
    """The colour of the group with that number, by its name in the page's style sheet."""
    return f"var(--group-{group % len(ACCENTS) + 1})"


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure of one plot, in inches."""
    from matplotlib.figure import Figure  # imported here: only a report draws

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_color(GRID)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=INK, length=0)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.yaxis.get_offset_text().set_color(INK)
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def whole_numbers(axes: Axes) -> None:
    """Only whole numbers on the horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def legend_below(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Add a legend under the plot and make the figure higher by it; long names are wrapped."""
    columns = 2 if max(map(len, names)) <= 24 and len(names) > 1 else 1
    wrapped = [fill(name, 30 if columns == 2 else 56) for name in names]
    lines = -(-sum(name.count("\n") + 1 for name in wrapped) // columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * lines + 0.1)
    figure.legend(
        handles, wrapped, loc="outside lower left", ncols=columns, frameon=False, fontsize=9.5, labelcolor=INK
    )


def picture(figure: Figure, name: str, caption: str, alt: str, *, wide: bool = False) -> Picture:
    """The figure as SVG for the page and as PNG on white; the same figure gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a name with dollar signs is not a formula
    svg, png = io.StringIO(), io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), without_glyphs():
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return Picture(name, caption, alt, inline(svg.getvalue(), name, alt), png.getvalue(), wide)


def inline(svg: str, name: str, alt: str) -> str:
    """A figure's SVG as an element of the page: with unique ids, the page's colours, and an alternative text.

    Args:
        svg: as Matplotlib writes it.
        name: unique on the page.
        alt: what the picture shows.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.S)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'((?:xlink:)?href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r'(?<= d=")[^"]*', lambda path: _short_numbers(path.group()), svg)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    for number, color in enumerate(ACCENTS, start=1):
        svg = svg.replace(color, f"var(--group-{number})")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    opening = (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(alt)}" style="--natural:{float(width) * 4 / 3:.0f}px">'
    )
    return opening + svg[svg.index(">") + 1 :]


def _short_numbers(path: str) -> str:
    """A path with its numbers rounded to hundredths of a point, which is finer than any screen."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}", " ".join(path.split()))
