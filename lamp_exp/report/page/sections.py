"""The sections of the page.

To add one, write a function from panels and records to Content, which raises InputError if no run
fits it, and name it in SECTIONS. Curves of other things that are learned belong to `training`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from lamp_exp.errors import InputError
from lamp_exp.report import plots
from lamp_exp.report.agreement import agreement_tables
from lamp_exp.report.coldstart import Bin, bins_of, coldstart_tables
from lamp_exp.report.cost import cost_table, read_prices, tokens_per_question
from lamp_exp.report.factors import factor_tables
from lamp_exp.report.layouts import LAYOUTS
from lamp_exp.report.methods import methods_tables
from lamp_exp.report.metric_tables import metric_tables
from lamp_exp.report.page import gains
from lamp_exp.report.page.content import Content, Plot, keys, series
from lamp_exp.report.page.panels import NO_PROFILE, Method, Panel
from lamp_exp.report.plots import Point, Series
from lamp_exp.report.selection import METHODS, NAMING, Group, facet, order, shared_words, shown
from lamp_exp.report.table import Cell, Table, interval_cell, number
from lamp_exp.results.record import Record
from lamp_exp.statistics import Interval
from lamp_exp.wording import count_of

QUARTERS = 4
TRAINED = 12  # runs whose curves are drawn in one plot
REWARD = "reward_of_first"
Run = tuple[Method, str, list[tuple[int, Mapping[str, float]]], int | None]  # k, epochs, kept one
INTERVALS = "bars: 95% intervals over questions, of the mean over seeds where there are several"


def _plots(
    panels: Iterable[Panel], make: Callable[[Panel], Plot | None], none: str, alone: str
) -> tuple[tuple[Plot, ...], tuple[str, ...]]:
    """A plot of each panel that has one, and a note on the others.

    Raises InputError (`none`) if there is no plot; `alone` says why others have none.
    """
    found = [make(panel) for panel in panels]
    made = tuple(plot for plot in found if plot is not None)
    if not made:
        raise InputError(none)
    less = len(found) - len(made)
    return made, (f"{less} more {alone}",) if less else ()


def _with_ends(one: Interval | None) -> Cell:
    cell, ends = number(one.value if one else None, 3), interval_cell(one, 3) if one else Cell()
    return replace(cell, text=f"{cell.text} {ends.text}".strip(), parts=ends.parts)


# --- over k ------------------------------------------------------------------------------------


def k_curves(panels: Sequence[Panel]) -> Content:
    """The main metric over k, a line for each method; runs whose k was tuned have a ring."""
    made, others = _plots(
        panels, _k_plot, "no runs differ in k alone", "have one value of k only: no curve."
    )
    drawn = [plot.panel for plot in made]
    level = "no profile" if any(panel.baseline for panel in drawn) else ""
    tuned = any(group.facet("k") == "tune" for panel in drawn for group in panel.groups)
    legend = keys([panel.method(g) for panel in drawn for g in panel.groups], level)
    return Content(
        others,
        keys=(*legend, *([(Markup(plots.ring_key()), "k tuned on dev")] if tuned else [])),
        plots=made,
        footnotes=(
            f"{INTERVALS}; those of the level without a profile are shaded",
            "a ring: the k that k=tune chose on dev, at the value of the tuned run",
        ),
    )


def curves(panel: Panel) -> list[Series]:
    """The line of each method; a tuned run is a point of it, at the k that it chose."""
    points: dict[Method, list[Point]] = {}
    for group in panel.groups:
        if group.first.result.routing is not None:  # its candidates have each a k of its own
            continue
        known = panel.interval(group)
        ends = (known.low, known.high) if known else (math.nan, math.nan)
        own = points.setdefault(panel.method(group), [])
        if group.facet("k") == "tune":
            for k in sorted({r.result.tuned.k for r in group.records if r.result.tuned}):
                own.append(Point(float(k), panel.value(group), *ends, chosen=True))
        else:
            own.append(Point(float(group.facet("k")), panel.value(group), *ends))
    return [
        series(method, sorted(own, key=lambda point: (point.x, point.chosen)))
        for method, own in points.items()
    ]


def _k_plot(panel: Panel) -> Plot | None:
    lines = curves(panel)
    if all(len({point.x for point in line.points}) < 2 for line in lines):
        return None
    baseline = panel.baseline
    without = panel.value(baseline) if baseline else None
    known = panel.interval(baseline) if baseline else None
    band = (known.low, known.high) if known and known.high == known.high else None
    ks = sorted({point.x for line in lines for point in line.points})
    rows = [(("no profile",), {f"k={k:g}": without for k in ks})] if baseline else []
    for line in lines:
        cells = {f"k={p.x:g}{' tuned' * p.chosen}": _point_cell(p) for p in line.points}
        rows.append(((line.label,), cells))  # type: ignore[arg-type]
    named = [f"k={k:g}" for k in ks]
    table = Table.of(f"{panel.metric} over k", ("method",), rows, columns=named)
    draw = plots.k_curves(lines, panel.metric, panel.higher, without, band, legend=False)
    rivals = [line for line in lines if not line.aside] or lines
    ends = [(point.y, line.label, point.x) for line in rivals for point in line.points]
    value, label, k = (max if panel.higher else min)(ends)
    description = f"Best {panel.metric}: {value:.3f}, {label} with k={k:g}."
    if len(ends) > 1 and len({f"{y:.3f}" for y, *_ in ends}) == 1:
        description = f"{panel.metric}: {value:.3f}, whatever k."
    return Plot(panel, draw, description, table)


def _point_cell(point: Point) -> Cell:
    cell = number(point.y, 3)
    if point.high != point.high:
        return cell
    parts = {"low": point.low, "high": point.high}
    return replace(cell, text=f"{cell.text} [{point.low:.3f}, {point.high:.3f}]", parts=parts)


# --- cold start --------------------------------------------------------------------------------


def cold_start(panels: Sequence[Panel], records: Sequence[Record]) -> Content:
    """With and without profile in quarters of the questions, by the size of their profiles."""
    made, others = _plots(
        [panel for panel in panels if panel.candidates],
        _cold_plot,
        "no run that has its baseline has profiles of several sizes",
        "have no baseline here, or no sizes to show.",
    )
    best = [plot.panel.method(plot.panel.best) for plot in made]
    return Content(
        others,
        keys=keys([*best, replace(NO_PROFILE, dashed=True)]),
        plots=made,
        tables=tuple(coldstart_tables(records, "size", 5, ())),
        footnotes=(
            "the best run of each panel, in quarters of the questions by the number of items in "
            f"the user's profile; above the metric, below the gain; {INTERVALS}",
            "an interval that is far longer than the others ends at the edge of the plot; the "
            "numbers below the plot have its ends",
        ),
    )


def cold_start_bins(panel: Panel) -> Sequence[Bin]:
    """Quarters of the questions by profile size, smallest first; fewer where sizes repeat."""
    best = panel.best
    baseline = panel.baselines.get(best.first.baseline or "")
    return bins_of(best, baseline, "size", QUARTERS) if baseline else []


def _cold_plot(panel: Panel) -> Plot | None:
    bins = cold_start_bins(panel)
    if len(bins) < 2:
        return None
    by = "profile items"
    rows = [
        ((one.label,),
         {"questions": one.n, f"{panel.metric} with profile": _with_ends(one.value),
          "no profile": _with_ends(one.baseline), "gain": _with_ends(one.gain)})
        for one in bins
    ]  # fmt: skip
    table = Table.of(f"{panel.metric} by {by}", (by,), rows)
    method = panel.method(panel.best)
    draw = plots.cold_start(
        bins, panel.metric, panel.higher, by, method.style, method.dashed, legend=False
    )
    gained = [one.gain.value for one in bins if one.gain]
    description = panel.named(panel.best)
    if gained:
        description += f": gain {gained[0]:+.3f} with few items, {gained[-1]:+.3f} with many"
    return Plot(panel, draw, f"{description}.", table)


# --- cost --------------------------------------------------------------------------------------


def cost(panels: Sequence[Panel], records: Sequence[Record]) -> Content:
    """The main metric against the tokens of a question."""
    made, _ = _plots(panels, _cost_plot, "no run that reads profiles is among these", "")
    methods = [panel.method(group) for panel in panels for group in panel.groups]
    return Content(
        keys=keys([*methods, NO_PROFILE], "best for its cost"),
        plots=made,
        tables=(cost_table(records, read_prices()),),
        footnotes=("tokens that the model reads and writes for a question, a point a run; the "
                   "dotted line joins the runs that no other beats at the same or a lower cost",),
    )  # fmt: skip


def _cost_plot(panel: Panel) -> Plot:
    groups = [*panel.baselines.values(), *panel.groups]
    points: dict[Method, list[Point]] = {}
    rows = []
    for group in groups:
        point = Point(tokens_per_question(group), panel.value(group))
        points.setdefault(panel.method(group), []).append(point)
        cells = {"tokens per question": number(point.x, 1), panel.metric: number(point.y, 3)}
        rows.append(((panel.method(group).label, group.shown("k")), cells))
    spots = [series(method, own) for method, own in points.items()]
    rivals = [own for method, own in points.items() if not method.aside]
    best = plots.frontier([point for own in rivals for point in own], panel.higher)
    words = "tokens per question"
    draw = plots.cost_quality(spots, words, panel.metric, panel.higher, legend=False)
    description = count_of(len(groups), "run")
    if len(best) == 1 < len(groups):
        description += f", one of them best for its cost: {best[0].y:.3f} at {best[0].x:.0f} tokens"
    elif best and len(groups) > 1:
        description += (
            f", {len(best)} of them best for their cost: from {best[0].y:.3f} at {best[0].x:.0f} "
            f"tokens to {best[-1].y:.3f} at {best[-1].x:.0f}"
        )
    table = Table.of(f"{panel.metric} and cost", ("method", "k"), rows)
    return Plot(panel, draw, f"{description}.", table)


# --- training ----------------------------------------------------------------------------------


def training(panels: Sequence[Panel]) -> Content:
    """Loss and quality over the epochs of fine-tuning, and of components that learn."""
    fine_tuned = [plot for panel in panels if (plot := _fine_tuning_plot(panel))]
    learned = [plot for panel in panels if (plot := _learning_plot(panel))]
    made = [*fine_tuned, *learned]
    if not made:
        raise InputError("no run here was fine-tuned, and no component of one has learned")
    less = len(panels) - len({plot.panel.words for plot in made})
    drawn = [p.method(g) for p in panels for g in _kept(p) if _epochs(g.first) or _curves(g.first)]
    return Content(
        (f"{less} more learned nothing: no curves.",) if less else (),
        keys=keys(drawn),
        plots=tuple(made),
        footnotes=(
            "fine-tuning: above the training loss, below the metric on the part by which epochs "
            "are chosen, usually dev",
            "a component that learns: above its loss, below the mean reward of users of train who "
            "are held out: of a retriever's first item, of the answers with an adapter",
            "a ring: the epoch whose weights were kept",
            f"a line for the first seed of each run; of more than {TRAINED} runs, the best",
        ),
    )


def _kept(panel: Panel) -> list[Group]:
    """The baselines and the runs, the best first."""
    sign = -1 if panel.higher else 1
    groups = [*panel.baselines.values(), *panel.groups]
    return sorted(groups, key=lambda group: sign * panel.value(group))


def _epochs(record: Record) -> Sequence[Mapping[str, float]]:
    """Loss and metrics of each epoch of fine-tuning, from the first."""
    return (record.result.training or {}).get("epochs") or ()


def _curves(record: Record) -> Mapping[str, Mapping[str, Any]]:
    """The facts of what components learned over epochs, by artefact."""
    return {str(one["artefact"]): one for one in record.result.learned if one.get("curve")}


def _fine_tuning_plot(panel: Panel) -> Plot | None:
    groups = [group for group in _kept(panel) if _epochs(group.first)][:TRAINED]
    runs = [
        (
            panel.method(group),
            group.shown("k"),
            list(enumerate(_epochs(group.first), 1)),
            (group.first.result.training or {}).get("best_epoch"),
        )
        for group in groups
    ]
    return _training_plot(panel, "Fine-tuning", runs, ("train_loss", panel.metric), panel.higher)


def _learning_plot(panel: Panel) -> Plot | None:
    """Each learned component once, whatever the number of runs that use it."""
    found: dict[str, Run] = {}
    for group in _kept(panel):
        for name, facts in _curves(group.first).items():
            epochs = [(int(row["epoch"]), _with_reward(row)) for row in facts["curve"]]
            run = (panel.method(group), group.shown("k"), epochs, facts.get("chosen_epoch"))
            found.setdefault(name, run)
    runs = list(found.values())[:TRAINED]
    return _training_plot(panel, "Components that learn", runs, ("loss", REWARD), higher=True)


def _with_reward(epoch: Mapping[str, float]) -> Mapping[str, float]:
    """The epoch of a component with the name of a retriever's reward for its own."""
    return {REWARD: epoch["reward"], **epoch} if "reward" in epoch else epoch


def _training_plot(
    panel: Panel, title: str, runs: Sequence[Run], columns: tuple[str, str], higher: bool
) -> Plot | None:
    """Two columns of the epochs: the loss, and the quality by which the epoch was chosen."""
    lines: tuple[list[Series], list[Series]] = ([], [])
    rows = []
    for method, k, epochs, kept in runs:
        for own, column in zip(lines, columns, strict=True):
            points = [
                Point(n, epoch[column], chosen=n == kept and own is lines[1])
                for n, epoch in epochs
                if column in epoch
            ]
            own.append(series(method, points))
        last = epochs[-1][1] if kept is None else dict(epochs)[kept]
        cells = {name: number(last.get(name), 3) for name in columns}
        rows.append(((method.label, k), {"epochs": len(epochs), "kept": kept, **cells}))
    if not rows:
        return None
    quality = columns[1].replace("_", " ") if columns[1] == REWARD else columns[1]
    draw = plots.training_curves(*lines, quality, higher)
    number_of = count_of(len(rows), "run")
    table = Table.of(title, ("method", "k"), rows)
    return Plot(panel, draw, f"{title}: {number_of}.", table)


# --- tables ------------------------------------------------------------------------------------


def factors(records: Sequence[Record]) -> Content:
    """Effects of retrieval, summary and adapter, where runs make a grid over them."""
    return Content(tables=tuple(factor_tables(records)), unfolded=True)


def all_methods(records: Sequence[Record]) -> Content:
    """Methods by tasks with gains, users and costs, bounds apart."""
    return Content(tables=tuple(methods_tables(records)), unfolded=True)


def all_numbers(records: Sequence[Record]) -> Content:
    """Every metric of every configuration over k, with intervals, tests and published numbers."""
    found = [
        table for own in _real_first(records) for table in metric_tables(own, LAYOUTS["ablation"])
    ]
    return Content(tables=tuple(found), unfolded=True)


def _real_first(records: Sequence[Record]) -> list[list[Record]]:
    """The runs on real data, and those on made-up data, without empty lists."""
    both = [[r for r in records if r.result.made_up_data == made_up] for made_up in (False, True)]
    return [own for own in both if own]


def agreement(records: Sequence[Record]) -> Content:
    """How far retrievers pick the same items."""
    found: list[Table] = []
    reason = InputError("no runs")
    for own in _real_first(records):
        try:
            found += agreement_tables(own)
        except InputError as error:
            reason = error
    if not found:
        raise reason
    return Content(tables=tuple(found), unfolded=True)


def runs(records: Sequence[Record]) -> Content:
    """All runs, with the choices in which they differ."""
    columns = (*NAMING, "seed")
    values = {key: {shown(facet(record, key)) for record in records} for key in columns}
    heads = tuple(key for key in columns if key in METHODS or len(values[key]) > 1)
    shared = shared_words({key: values[key].pop() for key in NAMING if key not in heads})
    metrics = sorted({name for record in records for name in record.metrics})
    by_heads = sorted(
        records,
        key=lambda r: (r.result.made_up_data, [order(facet(r, key)) for key in heads]),
    )
    rows = []
    for record in by_heads:
        stages = record.result.seconds.values()  # none of imported predictions
        cells = {
            **{name: record.metrics.get(name) for name in metrics},
            "questions": record.questions,
            "seconds": number(sum(map(float, stages)) if stages else None, 1),
            "run": record.name,
        }
        rows.append((tuple(shown(facet(record, key)) for key in heads), cells))
    notes = (f"All: {shared}.",) if shared else ()
    return Content(notes, tables=(Table.of("All runs", heads, rows),), unfolded=True)


Make = Callable[[Sequence[Panel], Sequence[Record]], Content]
# By the anchor: the name, and the content. `panels` is empty if no run reads profiles: then the
# sections that are made of them are not shown.
OF_PANELS: Mapping[str, tuple[str, Make]] = {
    "answer": ("Best runs", gains.answer),
    "methods": ("Methods and tasks", lambda panels, _: gains.methods(panels)),
    "gains": ("All gains", gains.forest),
    "k": ("Over k", lambda panels, _: k_curves(panels)),
    "users": ("Gain by user", lambda panels, _: gains.by_user(panels)),
    "coldstart": ("Cold start", cold_start),
    "cost": ("Cost and quality", cost),
    "training": ("Training", lambda panels, _: training(panels)),
}
OF_RECORDS: Mapping[str, tuple[str, Callable[[Sequence[Record]], Content]]] = {
    "field": ("Methods: gains, users, costs", all_methods),
    "factors": ("In the prompt, or inside the model", factors),
    "results": ("All numbers", all_numbers),
    "agreement": ("Agreement", agreement),
    "runs": ("Runs", runs),
}
