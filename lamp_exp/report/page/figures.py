"""The page's plots from the records: one for each task and set of comparable runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from lamp_exp.errors import InputError
from lamp_exp.report import plots
from lamp_exp.report.footers import system_words
from lamp_exp.report.loading import Record
from lamp_exp.report.metric_tables import DATA_VERSION, SEPARATE, data_versions, shared_words
from lamp_exp.report.page.content import Content, Plot
from lamp_exp.report.paired_examples import on_common_seeds
from lamp_exp.report.personal import gain_of
from lamp_exp.report.plots import Point, Series
from lamp_exp.report.selection import Group, differing, grouped, option_of, order, shown
from lamp_exp.report.table import Row, Table, number, plain

System = tuple[str, str]  # retriever and augmentation


@dataclass(frozen=True)
class ComparableSet:
    """Runs that may stand in one plot: those of a task that read items, and their baseline.

    All are on the same seeds, if they have any in common.

    `words` say what the runs share, `shared` what all sets share that were made together.
    """

    words: str
    shared: str
    groups: tuple[Group, ...]
    baseline: Group | None

    @property
    def metric(self) -> str:
        """The task's main metric."""
        return self.groups[0].first.main_metric

    @property
    def higher(self) -> bool:
        """Whether higher is better."""
        return self.groups[0].first.higher_is_better(self.metric)

    @property
    def task(self) -> str:
        """The option's name."""
        return self.groups[0].first.task

    @property
    def best(self) -> Group:
        """The best of those that read items; of equal ones the first."""
        sign = 1 if self.higher else -1
        return max(self.groups, key=lambda group: sign * group.mean(self.metric))


def comparable_sets(records: Sequence[Record]) -> list[ComparableSet]:
    """The sets, by task and all that must be equal. Raises InputError if no run reads items."""
    all_groups = grouped(records)
    versions = data_versions(list(all_groups.values()))
    keys = ("task", *SEPARATE)
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in all_groups.values():
        if group.first.personal:
            place = (*(shown(group.facet(key)) for key in keys), versions[group])
            found.setdefault(place, []).append(group)
    if not found:
        raise InputError("no run that reads profiles is among these")
    places = sorted(found, key=lambda place: list(map(order, place)))
    columns = zip((*keys, DATA_VERSION), zip(*places, strict=True), strict=True)
    common = {key for key, values in columns if key != "task" and len(set(values)) == 1}
    made = []
    for place in places:
        facets = dict(zip((*keys, DATA_VERSION), place, strict=True))
        own = {key: value for key, value in facets.items() if key not in common}
        shared = {key: value for key, value in facets.items() if key in common}
        words, shared_by_all = (", ".join(shared_words(part)) for part in (own, shared))
        baseline = _common_baseline(found[place], all_groups)
        same = on_common_seeds([*found[place], *([baseline] if baseline else [])])
        groups = tuple(same[group.configuration] for group in found[place])
        baseline = same[baseline.configuration] if baseline else None
        made.append(ComparableSet(words, shared_by_all, groups, baseline))
    return made


def _common_baseline(groups: Sequence[Group], others: Mapping[str, Group]) -> Group | None:
    """The baseline, if it is the same for all groups."""
    baselines = {group.first.baseline or "" for group in groups}
    return others.get(baselines.pop()) if len(baselines) == 1 else None


def _system(group: Group) -> System:
    return shown(group.facet("retriever")), shown(group.facet("augmentation"))


def _styles(groups: Iterable[Group]) -> dict[str, int]:
    """A colour and marker for each retriever, the same in all plots of the page."""
    names = sorted({_system(group)[0] for group in groups}, key=lambda name: (name == "none", name))
    return {name: n for n, name in enumerate(names)}


def _augmentations(groups: Iterable[Group]) -> list[str]:
    return sorted({_system(group)[1] for group in groups}, reverse=True)


# --- over k ------------------------------------------------------------------------------------


def k_curves(records: Sequence[Record]) -> Content:
    """The main metric over k, a line for each retriever and augmentation."""
    made, alone = [], 0
    styles = _styles(grouped(records).values())
    for runs in comparable_sets(records):
        curves = _curves(runs, styles)
        if any(len(curve.points) > 1 for curve in curves):
            made.append(_k_plot(runs, curves))
        else:
            alone += 1
    if not made:
        raise InputError("no runs differ in k alone")
    note = f"All: {runs.shared}. Bars: ± one standard deviation over seeds, if there are several."
    others = (f"{alone} more have one value of k only: no curve.",) if alone else ()
    return Content((note, *others), tuple(made))


def _curves(runs: ComparableSet, styles: Mapping[str, int]) -> list[Series]:
    """Lines over k; runs with a tuned k have no place on that axis."""
    numbered = [group for group in runs.groups if group.facet("k") != "tune"]
    dashed = set(_augmentations(runs.groups)[1:])
    lines: dict[tuple[System, str], list[Point]] = {}
    for group in sorted(numbered, key=lambda group: (_system(group), order(group.facet("k")))):
        place = (_system(group), _distinction(group, numbered))
        lines.setdefault(place, []).append(_point(group, runs.metric))
    return [
        Series(" ".join([*system, distinction]).strip(), tuple(points), styles[system[0]],
               system[1] in dashed)
        for (system, distinction), points in lines.items()
    ]  # fmt: skip


def _distinction(group: Group, groups: Sequence[Group]) -> str:
    """What tells a group apart from those of the same system and k; usually nothing."""
    same = [g for g in groups if _system(g) == _system(group) and g.facet("k") == group.facet("k")]
    if len(same) == 1:
        return ""
    return " ".join(f"{name}={option_of(group, name)}" for name in differing(same))


def _point(group: Group, metric: str) -> Point:
    value, sd = group.mean(metric), group.sd(metric)
    k = float(group.facet("k"))
    return Point(k, value) if sd is None else Point(k, value, value - sd, value + sd)


def _k_plot(runs: ComparableSet, curves: Sequence[Series]) -> Plot:
    baseline = runs.baseline.mean(runs.metric) if runs.baseline else None
    ks = sorted({point.x for curve in curves for point in curve.points})
    rows = []
    if baseline is not None:
        rows.append(Row(("no profile",), tuple(number(baseline) for _ in ks)))
    for curve in curves:
        at = {point.x: point.y for point in curve.points}
        rows.append(Row((curve.label,), tuple(number(at.get(k)) for k in ks)))
    columns = tuple(f"k={k:g}" for k in ks)
    table = Table(f"{runs.words}: {runs.metric}", ("system",), columns, tuple(rows))
    draw = plots.k_curves(curves, runs.metric, runs.higher, baseline)
    return Plot(draw, runs.words, _k_description(runs, curves), table)


def _k_description(runs: ComparableSet, curves: Sequence[Series]) -> str:
    ends = [(point.y, curve.label, point.x) for curve in curves for point in curve.points]
    value, label, k = (max if runs.higher else min)(ends)
    if len({f"{y:.3f}" for y, *_ in ends}) == 1:
        return f"{runs.metric}: {value:.3f}, whatever k."
    return f"Best {runs.metric}: {value:.3f}, {label} with k={k:g}."


# --- tasks and retrievers ----------------------------------------------------------------------


def heat_maps(records: Sequence[Record]) -> Content:
    """Tasks by retrievers: the best number that each retriever leads to."""
    found: dict[str, list[ComparableSet]] = {}
    for runs in comparable_sets(records):
        rest = runs.words.removeprefix(runs.task).removeprefix(", ")
        found.setdefault(rest, []).append(runs)
    made = [_heat_plot(words or members[0].shared, members) for words, members in found.items()]
    note = (
        "Each number is the best over k and augmentations, so it flatters a little; which one it "
        "is stands in the numbers below each map. Colours compare within a task only."
    )
    shared = next(iter(found.values()))[0].shared
    return Content((f"All: {shared}. {note}",), tuple(made))


def _heat_plot(words: str, members: Sequence[ComparableSet]) -> Plot:
    names = sorted({_system(group)[0] for runs in members for group in runs.groups})
    columns = ["no profile", *names]
    rows = [f"{runs.task} {runs.metric}" for runs in members]
    chosen = [[runs.baseline, *(_best_of(runs, name) for name in names)] for runs in members]
    values = [
        [group.mean(runs.metric) if group else None for group in row]
        for runs, row in zip(members, chosen, strict=True)
    ]
    table = Table(words, ("task",), tuple(columns), tuple(map(_heat_row, members, chosen)))
    draw = plots.heat_map(rows, columns, values, [runs.higher for runs in members])
    description = "The farther a colour is from the page's own, the better for that task."
    return Plot(draw, words, description, table, broad=True)


def _best_of(runs: ComparableSet, retriever: str) -> Group | None:
    own = tuple(group for group in runs.groups if _system(group)[0] == retriever)
    return replace(runs, groups=own).best if own else None


def _heat_row(runs: ComparableSet, row: Sequence[Group | None]) -> Row:
    cells = []
    for group in row:
        cell = number(group.mean(runs.metric) if group else None, 3)
        personal = group is not None and group.first.personal
        how = f" ({_system(group)[1]}, k={group.facet('k')})" if group and personal else ""
        cells.append(replace(cell, text=cell.text + how))
    return Row((f"{runs.task} {runs.metric}",), tuple(cells))


# --- gains by user -----------------------------------------------------------------------------


def gains(records: Sequence[Record]) -> Content:
    """How many users gain how much over the baseline, for the best run of each set."""
    made, alone = [], 0
    for runs in comparable_sets(records):
        per_user = best_user_gains(runs)
        if per_user:
            made.append(_gain_plot(runs, per_user))
        else:
            alone += 1
    if not made:
        raise InputError("no run with scores of its examples has its baseline here")
    others = (f"{alone} more have no baseline here, or no scores.",) if alone else ()
    note = f"All: {runs.shared}. The best run of each, against the same run without a profile."
    return Content((note, *others), tuple(made))


def best_user_gains(runs: ComparableSet) -> list[float]:
    """Each user's mean gain from the best run, over questions and shared seeds; positive: better.

    Empty without a baseline or scores.
    """
    if runs.baseline is None:
        return []
    found = gain_of(runs.best, {runs.baseline.configuration: runs.baseline})
    return [] if found is None else found.per_user.tolist()


def _gain_plot(runs: ComparableSet, per_user: Sequence[float]) -> Plot:
    helped, hurt = sum(gain > 0 for gain in per_user), sum(gain < 0 for gain in per_user)
    n = len(per_user)
    description = (
        f"{system_words(runs.best)}: {helped} of {n} users helped, {n - helped - hurt} unchanged, "
        f"{hurt} hurt; mean {mean(per_user):+.3f}."
    )
    rows = plain([["helped", helped], ["unchanged", n - helped - hurt], ["hurt", hurt]])
    table = Table(f"{runs.words}: gain of {runs.metric}", ("users",), ("number",), rows)
    draw = plots.gain_distribution(per_user, runs.metric)
    return Plot(draw, runs.words, description, table)


# --- cost --------------------------------------------------------------------------------------


def costs(records: Sequence[Record]) -> Content:
    """The main metric against the tokens of a question."""
    styles = _styles(grouped(records).values())
    sets = comparable_sets(records)
    note = f"All: {sets[0].shared}. Tokens read and written; seconds are in the table of runs."
    return Content((note,), tuple(_cost_plot(runs, styles) for runs in sets))


def tokens_per_question(group: Group) -> float:
    """Tokens read and written per question, the mean over seeds."""
    counts = [record.result.counts for record in group.records]
    return float(
        mean((c["prompt_tokens"] + c["output_tokens"]) / max(c["questions"], 1) for c in counts)
    )


def _cost_plot(runs: ComparableSet, styles: Mapping[str, int]) -> Plot:
    groups = [*([runs.baseline] if runs.baseline else []), *runs.groups]
    dashed = set(_augmentations(runs.groups)[1:])
    points: dict[System, list[Point]] = {}
    for group in groups:
        point = Point(tokens_per_question(group), group.mean(runs.metric))
        points.setdefault(_system(group), []).append(point)
    series = [
        Series("no profile" if system[0] == "none" else " ".join(system), tuple(own),
               styles[system[0]], system[1] in dashed)
        for system, own in points.items()
    ]  # fmt: skip
    rows = [
        Row((*_system(group), shown(group.facet("k"))),
            (number(tokens_per_question(group), 1), number(group.mean(runs.metric))))
        for group in groups
    ]  # fmt: skip
    heads, columns = ("retriever", "augmentation", "k"), ("tokens per question", runs.metric)
    table = Table(f"{runs.words}: cost", heads, columns, tuple(rows))
    draw = plots.cost_quality(series, "tokens per question", runs.metric, runs.higher)
    note = f"{len(groups)} configurations; the dotted line joins those that none beats in both."
    return Plot(draw, runs.words, note, table)
