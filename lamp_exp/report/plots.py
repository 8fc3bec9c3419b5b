"""Plots from plain numbers: drawn by matplotlib, for a page (`inline`) or as a file (`save`).

Every series has a colour, a marker and a line style, so that no colour is needed to tell it. The
same numbers make the same bytes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from lamp_exp.errors import InputError
from lamp_exp.report.colours import LIGHT, ON_PAGE, SERIES, STEPS, Colours, to_variables

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH = 4.6  # inches, of 72 points: a phone shows it in about its own size
LEFT, ABOVE, BELOW = 0.8, 0.1, 0.48  # room around axes, for their labels
LINE, LETTER = 0.185, 0.078  # of a legend; the width of one in names
KINDS = (".svg", ".png", ".pdf")
RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lamp_exp",
    "text.parse_math": False,  # in names of components, `$` is a letter
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 1.2,
}


class Drawing(Figure):
    """A figure that a notebook shows without pyplot, whose state it does not touch."""

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue()


@dataclass(frozen=True, slots=True)
class Point:
    """A number at a place, and the ends of its interval or spread where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one label; `style` chooses colour and marker, `dashed` the line."""

    label: str
    points: tuple[Point, ...]
    style: int = 0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Bin:
    """Questions of one kind: how many, a metric with and without profile, and the gain."""

    label: str
    n: int
    with_profile: Point
    baseline: Point | None = None
    gain: Point | None = None


Draw = Callable[[Colours], Drawing]  # draws in colours that are chosen later


def k_curves(
    curves: Sequence[Series], metric: str, higher: bool, baseline: float | None = None
) -> Draw:
    """The metric over the number of items (each value of k has the same room), a line a series.

    `baseline` is the same without a profile: a level line.
    """
    places = sorted({point.x for curve in curves for point in curve.points})

    def draw(colours: Colours) -> Drawing:
        drawing, axes = _axes(colours, 2.0, legend=len(curves) + (baseline is not None))
        if baseline is not None:
            axes.axhline(baseline, color=colours["muted"], linestyle=":", label="no profile")
        for curve in curves:
            _line(axes, curve, colours, places.index)
        axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
        axes.set_xlim(-0.3, len(places) - 0.7)
        axes.set(xlabel="k: items shown", ylabel=_metric(metric, higher))
        _legend(drawing, axes, colours)
        return drawing

    return draw


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    higher: Sequence[bool],
) -> Draw:
    """Numbers by row and column; a colour tells only which is better within its row.

    `higher`: for each row, whether higher is better. The best of a row is bold (several where they
    are equal).
    """

    def draw(colours: Colours) -> Drawing:
        drawing, axes = _heat_axes(colours, rows, columns)
        for y, (row, up) in enumerate(zip(values, higher, strict=True)):
            cells = zip(row, steps(row, up), best(row, up), strict=True)
            for x, (value, step, bold) in enumerate(cells):
                _heat_cell(axes, (x, y), value, step, bold, colours)
        axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
        axes.set_xticks([n + 0.5 for n in range(len(columns))], columns)
        axes.set_yticks([n + 0.5 for n in range(len(rows))], rows)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return drawing

    return draw


def steps(row: Sequence[float | None], higher: bool) -> list[int | None]:
    """Each number's colour, 0 for the worst; the middle one where there is nothing to compare."""
    known = [value for value in row if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if low == high:
        return [None if value is None else STEPS // 2 for value in row]
    shares = [None if value is None else (value - low) / (high - low) for value in row]
    good = [None if s is None else s if higher else 1 - s for s in shares]
    return [None if s is None else min(int(s * STEPS), STEPS - 1) for s in good]


def best(row: Sequence[float | None], higher: bool) -> list[bool]:
    """Whether each number is the best of several; where all are equal, none is."""
    known = [value for value in row if value is not None]
    if len(set(known)) < 2:
        return [False] * len(row)
    top = max(known) if higher else min(known)
    return [value == top for value in row]


def gain_distribution(gains: Sequence[float], metric: str, bins: int = 10) -> Draw:
    """For how many users the profile changes the metric by how much; positive is better.

    There are `bins` on either side; users without any change have a thin bar of their own.
    """
    reach = max((abs(gain) for gain in gains), default=0.0) or 1.0
    width = reach / bins
    helped = _histogram([gain for gain in gains if gain > 0], reach, bins)
    hurt = _histogram([-gain for gain in gains if gain < 0], reach, bins)
    unchanged = sum(gain == 0 for gain in gains)

    def draw(colours: Colours) -> Drawing:
        drawing, axes = _axes(colours, 1.9)
        edge = {"edgecolor": colours["ground"], "linewidth": 0.3}
        middles = [(n + 0.5) * width for n in range(bins)]
        axes.bar(middles, helped, width * 0.9, color=colours["good"], **edge)
        left = [-middle for middle in middles]
        axes.bar(left, hurt, width * 0.9, color=colours["bad"], hatch="///", **edge)
        axes.axvline(0, color=colours["text"], linewidth=0.8)
        axes.bar([0], [unchanged], width * 0.35, color=colours["muted"], **edge, zorder=3)
        axes.set(xlabel=f"gain of {metric} (better to the right)", ylabel="users")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return drawing

    return draw


def _histogram(sizes: Sequence[float], reach: float, bins: int) -> list[int]:
    """How many of `sizes`, in (0, reach], are in each of equal bins."""
    counts = [0] * bins
    for size in sizes:
        counts[min(int(size / reach * bins), bins - 1)] += 1
    return counts


def cold_start(bins: Sequence[Bin], metric: str, higher: bool, by: str) -> Draw:
    """The metric with and without profile over kinds of questions, and below it the gain."""

    def draw(colours: Colours) -> Drawing:
        drawing, axes = _axes(colours, 4.0, rows=2, legend=2, below=0.64)
        top, bottom = axes
        pairs = [("with profile", 0, False, [one.with_profile for one in bins])]
        pairs.append(("no profile", 6, True, [p for one in bins if (p := one.baseline)]))
        for label, style, dashed, points in pairs:
            _line(top, Series(label, tuple(points), style, dashed), colours)
        gains = tuple(point for one in bins if (point := one.gain))
        bottom.axhline(0, color=colours["muted"], linestyle=":")
        _line(bottom, Series("gain", gains, 2), colours)
        labels = [f"{one.label}\nn={one.n}" for one in bins]
        bottom.set_xticks(range(len(bins)), labels)
        top.set(ylabel=_metric(metric, higher), xlim=(-0.5, len(bins) - 0.5))
        bottom.set(xlabel=by, ylabel="gain (positive: better)")
        _legend(drawing, top, colours)
        return drawing

    return draw


def cost_quality(spots: Sequence[Series], cost: str, metric: str, higher: bool) -> Draw:
    """Each run by its cost and quality; a line joins those that none beats in both."""
    front = frontier([point for spot in spots for point in spot.points], higher)

    def draw(colours: Colours) -> Drawing:
        drawing, axes = _axes(colours, 2.1, legend=len(spots) + 1)
        axes.plot(
            [point.x for point in front], [point.y for point in front], color=colours["muted"],
            linestyle=":", drawstyle="steps-post", label="best for its cost", zorder=1,
        )  # fmt: skip
        for spot in spots:
            colour = colours[f"series{spot.style % SERIES}"]
            axes.scatter(
                [p.x for p in spot.points], [p.y for p in spot.points], s=34, label=spot.label,
                marker=MARKERS[spot.style % SERIES], edgecolors=colour, linewidths=1.4,
                facecolors="none" if spot.dashed else colour,
            )  # fmt: skip
        axes.set(xlabel=cost, ylabel=_metric(metric, higher))
        axes.margins(0.08)
        _legend(drawing, axes, colours)
        return drawing

    return draw


def frontier(points: Iterable[Point], higher: bool) -> list[Point]:
    """The points that no other equals or beats at the same or a lower cost, cheapest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y if higher else p.y)):
        if not kept or (point.y > kept[-1].y if higher else point.y < kept[-1].y):
            kept.append(point)
    return kept


def figure(draw: Draw) -> Figure:
    """The drawing in the light colours."""
    with mpl.rc_context(RC):
        return draw(LIGHT)


def inline(draw: Draw, name: str, title: str, description: str) -> str:
    """An SVG element in the page's colours; `name` keeps its ids apart from other drawings'."""
    out = StringIO()
    with mpl.rc_context(RC):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw(ON_PAGE).savefig(out, format="svg", metadata=nothing, transparent=True)
    drawn = out.getvalue()
    body = drawn[drawn.index("<svg") :]
    start, end = body.index(">") + 1, body.rindex("</svg>")
    box = re.search(r'viewBox="([^"]*)"', body[:start])
    inside = _own_ids(_without_defaults(body[start:end]), name)
    width = round(float(box[1].split()[2])) if box else 0
    return (
        f'<svg role="img" aria-labelledby="{name}-t" aria-describedby="{name}-d" '
        f'viewBox="{box[1] if box else ""}" style="--width: {width}px">'
        f'<title id="{name}-t">{html.escape(title)}</title>'
        f'<desc id="{name}-d">{html.escape(description)}</desc>{to_variables(inside)}</svg>'
    )


def save(draw: Draw, path: Path) -> None:
    """Writes a file in the light colours. Raises InputError for an unknown kind of file."""
    if path.suffix not in KINDS:
        raise InputError(f"{path}: plots are written as {', '.join(KINDS)}")
    dateless = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    with mpl.rc_context(RC):
        draw(LIGHT).savefig(path, dpi=200, metadata=dateless)


def _axes(
    colours: Colours, height: float, rows: int = 1, legend: int = 0, below: float = BELOW
) -> tuple[Drawing, Any]:
    """Axes of that height in inches, with room `below` for their labels and a legend.

    The margins are fixed: a layout engine takes longer to find them than the drawing itself.
    """
    bottom = below + LINE * -(-legend // 2) + (0.1 if legend else 0)
    whole = height + bottom + ABOVE
    drawing = Drawing(figsize=(WIDTH, whole), facecolor=colours["ground"])
    drawing.subplots_adjust(LEFT / WIDTH, bottom / whole, 1 - ABOVE / WIDTH, 1 - ABOVE / whole, 0)
    made = drawing.subplots(rows, 1, sharex=True, gridspec_kw={"hspace": 0.12})
    for axes in [made] if rows == 1 else made:
        _dress(axes, colours)
        axes.grid(axis="y", color=colours["rule"], linewidth=0.8)
    return drawing, made


def _heat_axes(
    colours: Colours, rows: Sequence[str], columns: Sequence[str]
) -> tuple[Drawing, Axes]:
    """As wide as the names need."""
    left = LETTER * max(map(len, rows)) + 0.2
    wide = max(0.9, LETTER * max(map(len, columns)) + 0.1) * len(columns)
    high = 0.34 * len(rows)
    drawing = Drawing(figsize=(left + wide, high + 0.35), facecolor=colours["ground"])
    area = (left / (left + wide), 0.02, wide / (left + wide) * 0.99, high / (high + 0.35))
    axes = drawing.add_axes(area)
    _dress(axes, colours)
    return drawing, axes


def _dress(axes: Axes, colours: Colours) -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=colours["muted"], labelcolor=colours["text"])
    for spine in axes.spines.values():
        spine.set_color(colours["muted"])
    axes.xaxis.label.set_color(colours["text"])
    axes.yaxis.label.set_color(colours["text"])


def _line(
    axes: Axes, series: Series, colours: Colours, place: Callable[[float], float] = float
) -> None:
    colour = colours[f"series{series.style % SERIES}"]
    xs = [place(point.x) for point in series.points]
    ys = [point.y for point in series.points]
    axes.plot(
        xs, ys, color=colour, marker=MARKERS[series.style % SERIES], markersize=5, linewidth=1.6,
        linestyle="--" if series.dashed else "-", label=series.label,
        markerfacecolor="none" if series.dashed else colour,
    )  # fmt: skip
    for x, point in zip(xs, series.points, strict=True):
        if point.low is not None and point.high is not None:
            axes.vlines(x, point.low, point.high, color=colour, linewidth=1)


def _heat_cell(
    axes: Axes,
    place: tuple[int, int],
    value: float | None,
    step: int | None,
    bold: bool,
    colours: Colours,
) -> None:
    x, y = place
    if value is None or step is None:
        axes.text(x + 0.5, y + 0.5, "–", ha="center", va="center", color=colours["muted"])
        return
    axes.add_patch(
        Rectangle((x + 0.02, y + 0.05), 0.96, 0.9, facecolor=colours[f"heat{step}"], linewidth=0)
    )
    axes.text(
        x + 0.5, y + 0.5, f"{value:.3f}", ha="center", va="center",
        color=colours[f"onheat{step}"], fontweight="bold" if bold else "normal",
    )  # fmt: skip


def _metric(name: str, higher: bool) -> str:
    return f"{name} ({'higher' if higher else 'lower'} is better)"


def _legend(drawing: Drawing, axes: Axes, colours: Colours) -> None:
    """Below the plot, so that it hides nothing."""
    if axes.get_legend_handles_labels()[0]:
        drawing.legend(
            *axes.get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, 0),
            borderaxespad=0.1, ncols=2, labelcolor=colours["text"], handlelength=3,
        )  # fmt: skip


def _without_defaults(inside: str) -> str:
    """The drawing without rules that would apply to the whole page, or fonts that it lacks."""
    inside = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", inside, flags=re.DOTALL)
    return re.sub(r"'DejaVu Sans'(, '?[\w -]+'?)*", "var(--font)", inside)


def _own_ids(inside: str, name: str) -> str:
    inside = re.sub(r'\bid="', f'id="{name}-', inside)
    return re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{name}-", inside)
