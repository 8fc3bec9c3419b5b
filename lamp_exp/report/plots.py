"""Plots from plain numbers: drawn by matplotlib, for a page (`inline`) or as a file (`save`).

Every series has a colour, a marker and a line style, so that no colour is needed to tell it. The
same numbers make the same bytes.
"""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from lamp_exp.errors import InputError
from lamp_exp.report.coldstart import Bin
from lamp_exp.report.colours import LIGHT, ON_PAGE, SERIES, STEPS, Colours, to_variables
from lamp_exp.statistics import Interval

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH = 4.6  # inches, of 72 points: a phone shows it in about its own size
LEFT, ABOVE, BELOW = 0.8, 0.1, 0.48  # room around axes, for their labels
LINE, LETTER = 0.185, 0.078  # of a legend; the width of one in names
LEGEND = 48  # characters of a line of a legend
LABEL = 28  # characters of a line of a label
FAR = 5  # times as long as the median: intervals that an axis does not show whole
KINDS = (".svg", ".png", ".pdf")


class Drawing(Figure):
    """A figure that a notebook shows without pyplot, whose state it does not touch."""

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue()


@dataclass(frozen=True, slots=True)
class Point:
    """A number at a place, and the ends of its interval or spread where there is one.

    A `chosen` one has a ring, as a tuned k or the epoch that was used.
    """

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    chosen: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one label; `style` chooses colour and marker, `dashed` the line.

    One that is `aside` is of no system, such as a bound, and so on no frontier.
    """

    label: str
    points: tuple[Point, ...]
    style: int = 0
    dashed: bool = False
    aside: bool = False


Draw = Callable[[Colours], Drawing]  # draws in colours that are chosen later


def style(colours: Colours) -> Any:
    """Matplotlib's settings for drawings in these colours."""
    text = dict.fromkeys(("text.color", "axes.labelcolor", "legend.labelcolor"), colours["text"])
    muted = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), colours["muted"])
    return {
        **text, **muted, "xtick.labelcolor": colours["text"], "ytick.labelcolor": colours["text"],
        "figure.facecolor": colours["ground"], "axes.facecolor": "none",
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": colours["rule"],
        "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "legend.frameon": False, "legend.handlelength": 3, "hatch.linewidth": 1.2,
        "lines.markersize": 5, "lines.linewidth": 1.6, "font.family": "DejaVu Sans", "font.size": 9,
        "svg.fonttype": "none", "svg.hashsalt": "lamp_exp",
        "text.parse_math": False,  # in names of components, `$` is a letter
    }  # fmt: skip


def k_curves(
    curves: Sequence[Series],
    metric: str,
    higher: bool,
    baseline: float | None = None,
    band: tuple[float, float] | None = None,
    legend: bool = True,
) -> Draw:
    """The metric over the number of items (each value of k has the same room), a line a series.

    `baseline` is the same without a profile: a level line, with its interval as a `band`. Lines
    stand a little beside each other, so that their intervals can be told apart.
    """
    places = sorted({point.x for curve in curves for point in curve.points})
    apart = min(0.07, 0.5 / max(len(curves), 1))

    def draw(colours: Colours) -> Drawing:
        labels = [one.label for one in curves] + ["no profile"] * (baseline is not None)
        drawing, axes = _axes(2.0, legend=labels if legend else ())
        if band is not None:
            axes.axhspan(*band, color=colours["surface"], zorder=0)
        if baseline is not None:
            axes.axhline(baseline, color=colours["muted"], linestyle=":", label="no profile")
        for number, curve in enumerate(curves):
            aside = apart * (number - (len(curves) - 1) / 2)
            xs = [places.index(point.x) + aside for point in curve.points]
            _line(axes, curve, colours, xs)
        axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
        axes.set(xlim=(-0.35, len(places) - 0.65), xlabel="k: items shown")
        axes.set_ylabel(_metric(metric, higher))
        return _with_legend(drawing, axes, legend)

    return draw


def forest(rows: Sequence[Series], metric: str) -> Draw:
    """Gains with their intervals, a series of one point for each row, the first at the top.

    A gain is positive if the metric got better, whatever its direction. The number stands beside
    each row.
    """
    labels = [textwrap.fill(row.label, LABEL) for row in rows]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    left, right = LETTER * longest + 0.2, 0.62
    heights = [0.09 + 0.14 * (1 + label.count("\n")) for label in labels]
    high = sum(heights)
    middles = np.cumsum(heights) - np.array(heights) / 2

    def draw(colours: Colours) -> Drawing:
        below = BELOW + 0.02
        drawing = Drawing(figsize=(WIDTH, high + below + ABOVE))
        box = (left, below, WIDTH - left - right, high)
        whole = np.array([WIDTH, high + below + ABOVE] * 2)
        axes = drawing.add_axes(tuple(np.array(box) / whole), ylim=(high, 0))
        axes.axvline(0, color=colours["text"], linewidth=0.8)
        for place, row in zip(middles, rows, strict=True):
            (point,) = row.points
            colour, look = _look(row, colours)
            line = "--" if row.dashed else "-"
            axes.plot([point.low, point.high], [place, place], color=colour, linestyle=line)
            axes.plot([point.y], [place], color=colour, linestyle="none", **look)
            beside = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(1.03, place, f"{point.y:+.3f}", beside)
        axes.set_yticks(middles, labels)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(f"gain of {metric} (better to the right)")
        return drawing

    return draw


def training_curves(
    losses: Sequence[Series], scores: Sequence[Series], metric: str, higher: bool
) -> Draw:
    """The loss of each run over its epochs, and below it the metric on the questions to select."""

    def draw(colours: Colours) -> Drawing:
        drawing, (top, bottom) = _axes(3.2, rows=2, below=BELOW)
        for axes, lines in ((top, losses), (bottom, scores)):
            for line in lines:
                _line(axes, line, colours, [point.x for point in line.points])
        bottom.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        top.set_ylabel("training loss")
        bottom.set(xlabel="epoch", ylabel=_metric(metric, higher))
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
    left = LETTER * max(map(len, rows)) + 0.2
    wide = max(0.9, LETTER * max(map(len, columns)) + 0.1) * len(columns)
    high = 0.34 * len(rows)

    def draw(colours: Colours) -> Drawing:
        drawing = Drawing(figsize=(left + wide, high + 0.35))
        axes = drawing.add_axes(
            (left / (left + wide), 0.02, wide / (left + wide) * 0.99, high / (high + 0.35)),
            xlim=(0, len(columns)), ylim=(len(rows), 0),
        )  # fmt: skip
        for y, (row, up) in enumerate(zip(values, higher, strict=True)):
            for x, (value, step, bold) in enumerate(
                zip(row, steps(row, up), best(row, up), strict=True)
            ):
                text = {"color": colours["muted"], "ha": "center", "va": "center"}
                if step is not None:
                    cell = Rectangle((x + 0.02, y + 0.05), 0.96, 0.9, linewidth=0)
                    cell.set_facecolor(colours[f"heat{step}"])
                    axes.add_patch(cell)
                    text |= {"color": colours[f"onheat{step}"]}
                    text |= {"fontweight": "bold"} if bold else {}
                axes.text(x + 0.5, y + 0.5, "–" if value is None else f"{value:.3f}", text)
        axes.set_xticks([n + 0.5 for n in range(len(columns))], columns)
        axes.set_yticks([n + 0.5 for n in range(len(rows))], rows)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)
        return drawing

    return draw


def steps(row: Sequence[float | None], higher: bool) -> list[int | None]:
    """Each number's colour, 0 for the worst; the middle one where there is nothing to compare."""
    known = [value for value in row if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    found: list[int | None] = []
    for value in row:
        share = 0.5 if low == high or value is None else (value - low) / (high - low)
        good = share if higher else 1 - share
        found.append(None if value is None else min(int(good * STEPS), STEPS - 1))
    return found


def best(row: Sequence[float | None], higher: bool) -> list[bool]:
    """Whether each number is the best of several; where all are equal, none is."""
    known = {value for value in row if value is not None}
    top = (max if higher else min)(known) if len(known) > 1 else math.nan
    return [value == top for value in row]


def gain_distribution(gains: Sequence[float], metric: str, bins: int = 10) -> Draw:
    """For how many users the profile changes the metric by how much; positive is better.

    There are `bins` on either side; users without any change have a thin bar of their own.
    """
    reach = max((abs(gain) for gain in gains), default=0.0) or 1.0
    width, changes = reach / bins, np.array(gains, dtype=float)
    sides = (("good", "", changes[changes > 0]), ("bad", "///", changes[changes < 0]))

    def draw(colours: Colours) -> Drawing:
        drawing, axes = _axes(1.9)
        edge = {"edgecolor": colours["ground"], "linewidth": 0.3}
        for name, hatch, own in sides:
            counts, ends = np.histogram(own, bins, (0, reach) if name == "good" else (-reach, 0))
            middles = (ends[1:] + ends[:-1]) / 2
            axes.bar(middles, counts, width * 0.9, color=colours[name], hatch=hatch, **edge)
        axes.axvline(0, color=colours["text"], linewidth=0.8)
        unchanged = int((changes == 0).sum())
        axes.bar([0], [unchanged], width * 0.35, color=colours["muted"], zorder=3, **edge)
        axes.set(xlabel=f"gain of {metric} (better to the right)", ylabel="users")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return drawing

    return draw


def cold_start(
    bins: Sequence[Bin], metric: str, higher: bool, by: str,
    style: int = 0, dashed: bool = False, legend: bool = True,
) -> Draw:  # fmt: skip
    """The metric with and without profile over kinds of questions, and below it the gain.

    `style` and `dashed` are the look of the run (see `Series`). Intervals that are far longer than
    the others end at the edge of the plot.
    """
    intervals: dict[str, list[Interval | None]] = {
        "with profile": [one.value for one in bins],
        "no profile": [one.baseline for one in bins],
        "gain": [one.gain for one in bins],
    }
    mine, baseline, gain = (
        Series(
            name, tuple(Point(n, i.value, i.low, i.high) for n, i in enumerate(own) if i), *look
        )
        for look, (name, own) in zip(
            ((style, dashed), (SERIES - 1, True), (style, dashed)), intervals.items(), strict=True
        )
    )  # fmt: skip

    def draw(colours: Colours) -> Drawing:
        labels = list(intervals)[:2] if legend else ()
        drawing, (top, bottom) = _axes(3.4, rows=2, legend=labels, below=0.64)
        bottom.axhline(0, color=colours["muted"], linestyle=":")
        for axes, series in ((top, mine), (top, baseline), (bottom, gain)):
            _line(axes, series, colours, [point.x for point in series.points])
        _limit(top, [mine, baseline])
        _limit(bottom, [gain])
        bottom.set_xticks(range(len(bins)), [f"{one.label}\nn={one.n}" for one in bins])
        top.set(ylabel=_metric(metric, higher), xlim=(-0.5, len(bins) - 0.5))
        bottom.set(xlabel=by, ylabel="gain (positive: better)")
        return _with_legend(drawing, top, legend)

    return draw


def cost_quality(
    spots: Sequence[Series], cost: str, metric: str, higher: bool, legend: bool = True
) -> Draw:
    """Each run by its cost and quality; a line joins those that none beats in both."""
    systems = [spot for spot in spots if not spot.aside]
    front = frontier([point for spot in systems for point in spot.points], higher)

    def draw(colours: Colours) -> Drawing:
        labels = [*(spot.label for spot in spots), "best for its cost"]
        drawing, axes = _axes(2.1, legend=labels if legend else ())
        axes.plot(
            [point.x for point in front], [point.y for point in front], color=colours["muted"],
            linestyle=":", drawstyle="steps-post", label="best for its cost", zorder=1,
        )  # fmt: skip
        for spot in spots:
            _line(axes, spot, colours, [point.x for point in spot.points], joined=False)
        axes.set(xlabel=cost, ylabel=_metric(metric, higher))
        axes.margins(0.08)
        return _with_legend(drawing, axes, legend)

    return draw


def frontier(points: Iterable[Point], higher: bool) -> list[Point]:
    """The points that no other equals or beats at the same or a lower cost, cheapest first."""
    sign = 1 if higher else -1
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -sign * p.y)):
        if not kept or sign * point.y > sign * kept[-1].y:
            kept.append(point)
    return kept


def figure(draw: Draw) -> Figure:
    """The drawing in the light colours."""
    with mpl.rc_context(style(LIGHT)):
        return draw(LIGHT)


def inline(draw: Draw, name: str, title: str, description: str) -> str:
    """An SVG element in the page's colours; `name` keeps its ids apart from other drawings'."""
    out = StringIO()
    with mpl.rc_context(style(ON_PAGE)):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw(ON_PAGE).savefig(out, format="svg", metadata=nothing, transparent=True)
    drawn = out.getvalue()
    head, _, inside = drawn[drawn.index("<svg") : drawn.rindex("</svg>")].partition(">")
    (box,) = re.findall(r'viewBox="([^"]*)"', head)
    # Its rules would apply to the whole page, which has neither its fonts nor its ids.
    inside = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"'DejaVu Sans'(, '?[\w -]+'?)*", "var(--font)", inside)
    inside = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", inside)
    return (
        f'<svg role="img" aria-labelledby="{name}-t" aria-describedby="{name}-d" '
        f'viewBox="{box}" style="--width: {round(float(box.split()[2]))}px">'
        f'<title id="{name}-t">{html.escape(title)}</title>'
        f'<desc id="{name}-d">{html.escape(description)}</desc>{to_variables(inside)}</svg>'
    )


def save(draw: Draw, path: Path) -> None:
    """Writes a file in the light colours. Raises InputError for an unknown kind of file."""
    if path.suffix not in KINDS:
        raise InputError(f"{path}: plots are written as {', '.join(KINDS)}")
    dateless = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    with mpl.rc_context(style(LIGHT)):
        draw(LIGHT).savefig(path, dpi=200, metadata=dateless)


def _axes(
    height: float, rows: int = 1, legend: Sequence[str] = (), below: float = BELOW
) -> tuple[Drawing, Any]:
    """A drawing and its axes, of that height in inches, with room for a legend of these labels.

    The margins are fixed: a layout engine takes longer to find them than the drawing itself.
    """
    lines = sum(_folded(label).count("\n") + 1 for label in legend)
    bottom = below + LINE * -(-lines // _legend_columns(legend)) + (0.1 if legend else 0)
    whole = height + bottom + ABOVE
    drawing = Drawing(figsize=(WIDTH, whole))
    drawing.subplots_adjust(LEFT / WIDTH, bottom / whole, 1 - ABOVE / WIDTH, 1 - ABOVE / whole, 0)
    axes = drawing.subplots(rows, 1, sharex=True, gridspec_kw={"hspace": 0.12})
    for one in np.atleast_1d(axes):
        one.yaxis.set_major_locator(MaxNLocator(5))  # ticks take most of the time of a drawing
    return drawing, axes


def _line(
    axes: Axes, series: Series, colours: Colours, xs: Sequence[float], joined: bool = True
) -> None:
    """A line with its intervals, and a ring around the points that were chosen."""
    colour, look = _look(series, colours)
    line = ("--" if series.dashed else "-") if joined else "none"
    ys = [point.y for point in series.points]
    axes.plot(xs, ys, color=colour, linestyle=line, label=series.label, **look)
    spans = [(x, p.low, p.high) for x, p in zip(xs, series.points, strict=True) if p.high == p.high]
    if spans:
        axes.vlines(*zip(*spans, strict=True), color=colour, linewidth=1)
    rings = [(x, p.y) for x, p in zip(xs, series.points, strict=True) if p.chosen]
    if rings:
        axes.plot(
            [x for x, _ in rings], [y for _, y in rings], "o", color=colour, markersize=11,
            markerfacecolor="none", markeredgewidth=1.3,
        )  # fmt: skip


def _limit(axes: Axes, series: Sequence[Series]) -> None:
    """Cuts an axis where a few intervals, of few questions, are far longer than the others."""
    points = [p for one in series for p in one.points if p.high == p.high]
    spans = [p.high - p.low for p in points]
    if not spans or max(spans) <= FAR * float(np.median(spans)):
        return
    usual = [p for p, span in zip(points, spans, strict=True) if span <= FAR * np.median(spans)]
    low = min(min(p.low for p in usual), min(p.y for p in points))
    high = max(max(p.high for p in usual), max(p.y for p in points))
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))


def _look(series: Series, colours: Colours) -> tuple[str, dict[str, Any]]:
    """Colour and marker; after as many series as there are colours, the markers are others."""
    colour = colours[f"series{series.style % SERIES}"]
    face = "none" if series.dashed else colour
    return colour, {"marker": marker(series.style), "markerfacecolor": face}


def marker(style: int) -> str:
    return MARKERS[(style + style // SERIES) % len(MARKERS)]


def key(style: int, dashed: bool) -> str:
    """An SVG element with the line and marker of a series, for a legend in the page."""
    shape = MarkerStyle(marker(style))
    path = shape.get_path().transformed(shape.get_transform() + Affine2D().scale(8, -8))
    (corners, *_) = path.to_polygons()
    points = " ".join(f"{x + 14:.1f},{y + 7:.1f}" for x, y in np.asarray(corners))
    colour = f"var(--series{style % SERIES})"
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<svg class="key" viewBox="0 0 28 14" aria-hidden="true"><g stroke="{colour}" '
        f'stroke-width="1.6"><path d="M0 7H28"{dash} fill="none"/>'
        f'<polygon points="{points}" fill="{"var(--ground)" if dashed else colour}"/></g></svg>'
    )


def level_key() -> str:
    """The same of a dotted line."""
    return (
        '<svg class="key" viewBox="0 0 28 14" aria-hidden="true"><path d="M0 7H28" fill="none" '
        'stroke="var(--muted)" stroke-width="1.6" stroke-dasharray="2 2"/></svg>'
    )


def ring_key() -> str:
    """The same of the ring around a chosen point."""
    return (
        '<svg class="key" viewBox="0 0 28 14" aria-hidden="true"><circle cx="14" cy="7" r="6" '
        'fill="none" stroke="var(--text)" stroke-width="1.4"/></svg>'
    )


def _metric(name: str, higher: bool) -> str:
    return f"{name} ({'higher' if higher else 'lower'} is better)"


def _with_legend(drawing: Drawing, axes: Axes, wanted: bool = True) -> Drawing:
    """The drawing with a legend below the plot, so that it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles and wanted:
        drawing.legend(
            handles, list(map(_folded, labels)), loc="lower center", bbox_to_anchor=(0.5, 0),
            borderaxespad=0.1, ncols=_legend_columns(labels),
        )  # fmt: skip
    return drawing


def _legend_columns(labels: Sequence[str]) -> int:
    return 2 if all(len(label) <= LEGEND // 2 for label in labels) else 1


def _folded(label: str) -> str:
    return textwrap.fill(label, LEGEND)
