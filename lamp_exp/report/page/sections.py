"""The sections of the page: plots of comparable runs, and tables.

To add one, write a function from records to Content, which raises InputError if no run fits it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from lamp_exp.errors import InputError
from lamp_exp.report import plots, selection
from lamp_exp.report.agreement import agreement_tables
from lamp_exp.report.coldstart import Bin, bins_of, coldstart_tables
from lamp_exp.report.cost import cost_table, read_prices, tokens_per_question
from lamp_exp.report.footers import system_words
from lamp_exp.report.layouts import LAYOUTS
from lamp_exp.report.metric_tables import metric_tables
from lamp_exp.report.paired_examples import on_common_seeds, pair
from lamp_exp.report.personal import personal_tables, user_gains
from lamp_exp.report.plots import Draw, Point, Series
from lamp_exp.report.selection import (
    METHODS,
    NAMING,
    SEPARATE,
    Group,
    differing,
    facet,
    grouped,
    order,
    shared_words,
    shown,
)
from lamp_exp.report.table import Cell, Table, interval_cell, number
from lamp_exp.results.record import Record
from lamp_exp.statistics import Interval

SYSTEM = ("retriever", "augmentation")
QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with a description and its numbers; a `broad` one has a row of its own."""

    draw: Draw
    title: str
    description: str
    numbers: Table
    broad: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What a section holds, in this order."""

    notes: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class ComparableSet:
    """Runs that may stand in one plot: those of a task that read items, and their baseline.

    All are on the same seeds, if they have any in common. `words` say what the runs share, `shared`
    what all sets share that were made together.
    """

    words: str
    shared: str
    groups: tuple[Group, ...]
    baseline: Group | None

    @property
    def metric(self) -> str:
        return self.groups[0].first.main_metric

    @property
    def higher(self) -> bool:
        return self.groups[0].first.higher_is_better(self.metric)

    @property
    def task(self) -> str:
        return self.groups[0].first.task

    @property
    def best(self) -> Group:
        """The best of those that read items; of equal ones the first."""
        sign = 1 if self.higher else -1
        return max(self.groups, key=lambda group: sign * group.mean(self.metric))

    def best_of(self, key: str, value: str) -> Group | None:
        """The best of those with this property; None without any."""
        own = tuple(group for group in self.groups if group.shown(key) == value)
        return replace(self, groups=own).best if own else None

    @property
    def dashed(self) -> set[str]:
        """The augmentations but the first, whose lines are dashed."""
        return set(sorted({group.shown("augmentation") for group in self.groups})[:-1])


def comparable_sets(records: Sequence[Record]) -> list[ComparableSet]:
    """The sets, by task and all that must be equal. Raises InputError if no run reads items."""
    all_groups = grouped(records)
    personal = [group for group in all_groups.values() if group.first.personal]
    if not personal:
        raise InputError("no run that reads profiles is among these")
    sets = selection.comparable_sets(personal, ("task", *SEPARATE))
    first = sets[0][0]
    common = {
        key: value
        for key, value in first.items()
        if key != "task" and all(shared[key] == value for shared, _ in sets)
    }
    made = []
    for shared, groups in sets:
        own = {key: value for key, value in shared.items() if key not in common}
        baselines = {group.first.baseline or "" for group in groups}
        baseline = all_groups.get(baselines.pop()) if len(baselines) == 1 else None
        same = on_common_seeds([*groups, *([baseline] if baseline else [])])
        reduced = tuple(same[group.configuration] for group in groups)
        baseline = same[baseline.configuration] if baseline else None
        made.append(ComparableSet(shared_words(own), shared_words(common), reduced, baseline))
    return made


def _styles(records: Sequence[Record]) -> dict[str, int]:
    """A colour and marker for each retriever, the same in all plots of the page."""
    names = {shown(facet(record, "retriever")) for record in records} - {"none"}
    return {name: n for n, name in enumerate(["none", *sorted(names)])}


def _plots(
    records: Sequence[Record],
    make: Callable[[ComparableSet], Plot | None],
    note: str,
    none: str = "",
    alone: str = "",
) -> Content:
    """A plot of each set that can be plotted. Raises InputError (`none`) if there is no such set.

    `alone` says why others cannot.
    """
    sets = comparable_sets(records)
    made = [plot for runs in sets if (plot := make(runs))]
    if not made:
        raise InputError(none)
    others = (f"{len(sets) - len(made)} more {alone}",) if len(made) < len(sets) else ()
    return Content((f"All: {sets[0].shared}. {note}", *others), tuple(made))


# --- results and runs --------------------------------------------------------------------------


def runs(records: Sequence[Record]) -> Content:
    columns = (*NAMING, "seed")
    values = {key: {shown(facet(record, key)) for record in records} for key in columns}
    heads = tuple(key for key in columns if key in METHODS or len(values[key]) > 1)
    shared = shared_words({key: values[key].pop() for key in columns if key not in heads})
    metrics = sorted({name for record in records for name in record.metrics})
    by_heads = sorted(records, key=lambda record: [order(facet(record, key)) for key in heads])
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
    return Content(notes, tables=(Table.of("All runs", heads, rows),))


# --- over k ------------------------------------------------------------------------------------


def k_curves(records: Sequence[Record]) -> Content:
    """The main metric over k, a line for each retriever and augmentation."""
    styles = _styles(records)
    return _plots(
        records,
        lambda runs: _k_plot(runs, _curves(runs, styles)),
        "Bars: ± one standard deviation over seeds, if there are several.",
        "no runs differ in k alone",
        "have one value of k only: no curve.",
    )


def _curves(runs: ComparableSet, styles: Mapping[str, int]) -> list[Series]:
    """Lines over k; runs with a tuned k have no place on that axis."""
    numbered = [group for group in runs.groups if group.facet("k") != "tune"]
    lines: dict[tuple[str, ...], list[Point]] = {}
    for group in sorted(numbered, key=lambda g: (g.place(SYSTEM), order(g.facet("k")))):
        value, sd = group.mean(runs.metric), group.sd(runs.metric)
        ends = () if sd is None else (value - sd, value + sd)
        place = (*group.place(SYSTEM), _distinction(group, numbered))
        lines.setdefault(place, []).append(Point(float(group.facet("k")), value, *ends))
    return [
        Series(" ".join(place).strip(), tuple(points), styles[place[0]], place[1] in runs.dashed)
        for place, points in lines.items()
    ]


def _distinction(group: Group, groups: Sequence[Group]) -> str:
    """What tells a group apart from those of the same system and k; usually nothing."""
    keys = (*SYSTEM, "k")
    same = [other for other in groups if other.place(keys) == group.place(keys)]
    return " ".join(f"{name}={shown(group.option(name))}" for name in differing(same))


def _k_plot(runs: ComparableSet, curves: Sequence[Series]) -> Plot | None:
    if all(len(curve.points) < 2 for curve in curves):
        return None
    baseline = runs.baseline.mean(runs.metric) if runs.baseline else None
    ks = sorted({point.x for curve in curves for point in curve.points})
    rows = [(("no profile",), {f"k={k:g}": baseline for k in ks})] if runs.baseline else []
    rows += [((curve.label,), {f"k={p.x:g}": p.y for p in curve.points}) for curve in curves]
    columns = [f"k={k:g}" for k in ks]
    title = f"{runs.words}: {runs.metric}"
    table = Table.of(title, ("system",), rows, columns=columns)
    draw = plots.k_curves(curves, runs.metric, runs.higher, baseline)
    ends = [(point.y, curve.label, point.x) for curve in curves for point in curve.points]
    value, label, k = (max if runs.higher else min)(ends)
    description = f"Best {runs.metric}: {value:.3f}, {label} with k={k:g}."
    if len({f"{y:.3f}" for y, *_ in ends}) == 1:
        description = f"{runs.metric}: {value:.3f}, whatever k."
    return Plot(draw, runs.words, description, table)


# --- tasks and retrievers ----------------------------------------------------------------------


def heat_maps(records: Sequence[Record]) -> Content:
    """Tasks by retrievers: the best number that each retriever leads to."""
    sets = comparable_sets(records)
    found: dict[str, list[ComparableSet]] = {}
    for one in sets:
        rest = one.words.removeprefix(one.task).removeprefix(", ")
        found.setdefault(rest or one.shared, []).append(one)
    note = (
        f"All: {sets[0].shared}. Each number is the best over k and augmentations, so it flatters "
        "a little; which one it is stands in the numbers below each map. Colours compare within a "
        "task only."
    )
    return Content((note,), tuple(_heat_plot(words, members) for words, members in found.items()))


def _heat_plot(words: str, members: Sequence[ComparableSet]) -> Plot:
    names = sorted({group.shown("retriever") for one in members for group in one.groups})
    rows = []
    for one in members:
        best = {name: one.best_of("retriever", name) for name in names}
        chosen = {"no profile": one.baseline} | best
        cells = {name: _heat_cell(one, group) for name, group in chosen.items()}
        rows.append(((f"{one.task} {one.metric}",), cells))
    table = Table.of(words, ("task",), rows)
    values = [[cell.value for cell in row.cells.values()] for row in table.rows]
    labels, higher = [head[0] for head, _ in rows], [one.higher for one in members]
    draw = plots.heat_map(labels, table.columns, values, higher)
    description = "The farther a colour is from the page's own, the better for that task."
    return Plot(draw, words, description, table, broad=True)


def _heat_cell(runs: ComparableSet, group: Group | None) -> Cell:
    cell = number(group.mean(runs.metric) if group else None, 3)
    if group is None or not group.first.personal:
        return cell
    how = f"({group.shown('augmentation')}, k={group.shown('k')})"
    return replace(cell, text=f"{cell.text} {how}")


# --- gains by user -----------------------------------------------------------------------------


def gain(records: Sequence[Record]) -> Content:
    """How many users gain how much over the baseline, for the best run of each set."""
    content = _plots(
        records,
        _gain_plot,
        "The best run of each, against the same run without a profile.",
        "no run with scores of its examples has its baseline here",
        "have no baseline here, or no scores.",
    )
    return replace(content, tables=tuple(personal_tables(records)))


def best_user_gains(runs: ComparableSet) -> list[float]:
    """Each user's mean gain from the best run, over questions and shared seeds; positive: better.

    Empty without a baseline or scores.
    """
    samples = pair(runs.baseline, runs.best, runs.metric) if runs.baseline else None
    return user_gains(*samples).tolist() if samples else []


def _gain_plot(runs: ComparableSet) -> Plot | None:
    per_user = best_user_gains(runs)
    if not per_user:
        return None
    helped, hurt = sum(gain > 0 for gain in per_user), sum(gain < 0 for gain in per_user)
    counts = {"helped": helped, "unchanged": len(per_user) - helped - hurt, "hurt": hurt}
    description = (
        f"{system_words(runs.best)}: {helped} of {len(per_user)} users helped, "
        f"{counts['unchanged']} unchanged, {hurt} hurt; mean {mean(per_user):+.3f}."
    )
    rows = [((name,), {"number": count}) for name, count in counts.items()]
    table = Table.of(f"{runs.words}: gain of {runs.metric}", ("users",), rows)
    draw = plots.gain_distribution(per_user, runs.metric)
    return Plot(draw, runs.words, description, table)


# --- cold start --------------------------------------------------------------------------------


def cold_start(records: Sequence[Record]) -> Content:
    """With and without profile in quarters of the questions, by the size of their profiles."""
    content = _plots(
        records,
        _cold_plot,
        "The best run of each, in quarters by the number of profile items; bars: 95% intervals.",
        "no run that has its baseline has profiles of several sizes",
        "have no baseline here, or no sizes to show.",
    )
    return replace(content, tables=tuple(coldstart_tables(records, "size", 5, ())))


def cold_start_bins(runs: ComparableSet) -> Sequence[Bin]:
    """Quarters of the questions by profile size, smallest first; fewer where sizes repeat."""
    return bins_of(runs.best, runs.baseline, "size", QUARTERS) if runs.baseline else []


def _cold_plot(runs: ComparableSet) -> Plot | None:
    bins = cold_start_bins(runs)
    if len(bins) < 2:
        return None
    by = "profile items"
    rows = [
        ((one.label,),
         {"questions": one.n, f"{runs.metric} with profile": _with_ends(one.value),
          "no profile": _with_ends(one.baseline), "gain": _with_ends(one.gain)})
        for one in bins
    ]  # fmt: skip
    table = Table.of(f"{runs.words}: by {by}", (by,), rows)
    draw = plots.cold_start(bins, runs.metric, runs.higher, by)
    description = f"{system_words(runs.best)}, in {len(bins)} parts."
    return Plot(draw, runs.words, description, table)


def _with_ends(one: Interval | None) -> Cell:
    cell, ends = number(one.value if one else None, 3), interval_cell(one, 3) if one else Cell()
    return replace(cell, text=f"{cell.text} {ends.text}".strip(), parts=ends.parts)


# --- cost and agreement ------------------------------------------------------------------------


def cost(records: Sequence[Record]) -> Content:
    """The main metric against the tokens of a question."""
    styles = _styles(records)
    note = "Tokens read and written; seconds are in the table of runs."
    content = _plots(records, lambda runs: _cost_plot(runs, styles), note)
    return replace(content, tables=(cost_table(records, read_prices()),))


def _cost_plot(runs: ComparableSet, styles: Mapping[str, int]) -> Plot:
    groups = [*([runs.baseline] if runs.baseline else []), *runs.groups]
    points: dict[tuple[str, ...], list[Point]] = {}
    rows = []
    for group in groups:
        point = Point(tokens_per_question(group), group.mean(runs.metric))
        points.setdefault(group.place(SYSTEM), []).append(point)
        cells = {"tokens per question": number(point.x, 1), runs.metric: point.y}
        rows.append((group.place((*SYSTEM, "k")), cells))
    series = [
        Series("no profile" if name == "none" else f"{name} {way}", tuple(own), styles[name],
               way in runs.dashed)
        for (name, way), own in points.items()
    ]  # fmt: skip
    table = Table.of(f"{runs.words}: cost", (*SYSTEM, "k"), rows)
    draw = plots.cost_quality(series, "tokens per question", runs.metric, runs.higher)
    note = f"{len(groups)} configurations; the dotted line joins those that none beats in both."
    return Plot(draw, runs.words, note, table)


def _only(tables: Sequence[Table]) -> Content:
    return Content(tables=tuple(tables))


# By the anchor: the name, and the content.
SECTIONS: Mapping[str, tuple[str, Callable[[Sequence[Record]], Content]]] = {
    "results": ("Results", lambda records: _only(metric_tables(records, LAYOUTS["ablation"]))),
    "retrievers": ("Tasks and retrievers", heat_maps),
    "k": ("Over k", k_curves),
    "gain": ("Gain by user", gain),
    "coldstart": ("Cold start", cold_start),
    "cost": ("Cost", cost),
    "agreement": ("Agreement of retrievers", lambda records: _only(agreement_tables(records))),
    "runs": ("Runs", runs),
}
