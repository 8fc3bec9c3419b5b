"""The page's plots from the records: one for each task and ground on which runs can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from lamp_exp.errors import InputError
from lamp_exp.report import plots
from lamp_exp.report.build import DATA_VERSION, GROUND, data_versions, ground_words
from lamp_exp.report.loading import Record
from lamp_exp.report.page.content import Content, Plot
from lamp_exp.report.personal import gain_of
from lamp_exp.report.plots import Point, Series
from lamp_exp.report.selection import (
    Group,
    differing,
    grouped,
    order,
    part_of_identity,
    shown,
)
from lamp_exp.report.table import Row, Table, number, plain

System = tuple[str, str]  # retriever and augmentation


@dataclass(frozen=True)
class Ground:
    """Runs that may stand in one plot: those of a task that read items, and the one without."""

    words: str
    shared: str  # what is so of all grounds that were made with it
    groups: tuple[Group, ...]
    without: Group | None

    @property
    def metric(self) -> str:
        """The task's main one."""
        return str(self.groups[0].first.result["monitor"][0])

    @property
    def higher(self) -> bool:
        """Whether more of it is better."""
        return self.groups[0].first.direction(self.metric)

    @property
    def task(self) -> str:
        """The option's name."""
        return self.groups[0].first.task

    @property
    def best(self) -> Group:
        """The best of those that read items; of equal ones the first."""
        sign = 1 if self.higher else -1
        return max(self.groups, key=lambda group: sign * group.mean(self.metric))


def grounds(records: Sequence[Record], *inside: str) -> list[Ground]:
    """By task and all that must be equal, but for the properties `inside` the plot."""
    keys = [key for key in ("task", *GROUND) if key not in inside]
    all_groups = grouped(records)
    versions = data_versions(list(all_groups.values()))
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in all_groups.values():
        if group.first.twin is not None:
            place = (*(shown(group.facet(key)) for key in keys), versions[group])
            found.setdefault(place, []).append(group)
    if not found:
        raise InputError("no run that reads profiles is among these")
    places = sorted(found, key=lambda place: list(map(order, place)))
    keys = [*keys, DATA_VERSION]
    columns = zip(keys, zip(*places, strict=True), strict=True)
    common = {key for key, values in columns if key != "task" and len(set(values)) == 1}
    made = []
    for place in places:
        facets = dict(zip(keys, place, strict=True))
        own = {key: value for key, value in facets.items() if key not in common}
        shared = {key: value for key, value in facets.items() if key in common}
        words, common_words = (", ".join(ground_words(part)) for part in (own, shared))
        without = _without(found[place], all_groups)
        made.append(Ground(words, common_words, tuple(found[place]), without))
    return made


def _without(groups: Sequence[Group], others: Mapping[str, Group]) -> Group | None:
    """The run without a profile, if it is the same for all."""
    twins = {group.first.twin or "" for group in groups}
    return others.get(twins.pop()) if len(twins) == 1 else None


def _system(group: Group) -> System:
    return shown(group.facet("retriever")), shown(group.facet("augmentation"))


def told_system(group: Group) -> str:
    """Retriever, augmentation and k."""
    return f"{' '.join(_system(group))} k={group.facet('k')}"


def _styles(groups: Iterable[Group]) -> dict[str, int]:
    """A colour and marker for each retriever, the same in all plots of the page."""
    names = sorted({_system(group)[0] for group in groups}, key=lambda name: (name == "none", name))
    return {name: n for n, name in enumerate(names)}


def _augmentations(groups: Iterable[Group]) -> list[str]:
    return sorted({_system(group)[1] for group in groups}, reverse=True)


def k_curves(records: Sequence[Record]) -> Content:
    """The main metric over k, a line for each retriever and augmentation."""
    made, alone = [], 0
    styles = _styles(grouped(records).values())
    for ground in grounds(records):
        curves = _curves(ground, styles)
        if any(len(curve.points) > 1 for curve in curves):
            made.append(_k_plot(ground, curves))
        else:
            alone += 1
    if not made:
        raise InputError("no runs differ in k alone")
    words = (f"{alone} more have one value of k only: no curve.",) if alone else ()
    told = f"All: {ground.shared}. Bars: ± one standard deviation over seeds, if there are several."
    return Content((told, *words), tuple(made))


def _curves(ground: Ground, styles: Mapping[str, int]) -> list[Series]:
    """Runs with a tuned k have no place on the axis."""
    numbered = [group for group in ground.groups if group.facet("k") != "tune"]
    dashed = set(_augmentations(ground.groups)[1:])
    lines: dict[tuple[System, str], list[Point]] = {}
    for group in sorted(numbered, key=lambda group: (_system(group), order(group.facet("k")))):
        place = (_system(group), _extra(group, numbered))
        lines.setdefault(place, []).append(_point(group, ground.metric))
    return [
        Series(" ".join([*system, extra]).strip(), tuple(points), styles[system[0]],
               system[1] in dashed)
        for (system, extra), points in lines.items()
    ]  # fmt: skip


def _extra(group: Group, groups: Sequence[Group]) -> str:
    """What tells a group from those of the same system and k; usually nothing."""
    same = [g for g in groups if _system(g) == _system(group) and g.facet("k") == group.facet("k")]
    if len(same) == 1:
        return ""
    return " ".join(f"{name}={part_of_identity(group, name)}" for name in differing(same))


def _point(group: Group, metric: str) -> Point:
    value, sd = group.mean(metric), group.sd(metric)
    k = float(group.facet("k"))
    return Point(k, value) if sd is None else Point(k, value, value - sd, value + sd)


def _k_plot(ground: Ground, curves: Sequence[Series]) -> Plot:
    without = ground.without.mean(ground.metric) if ground.without else None
    ks = sorted({point.x for curve in curves for point in curve.points})
    rows = [Row(("no profile",), tuple(number(without) for _ in ks))] if without is not None else []
    for curve in curves:
        at = {point.x: point.y for point in curve.points}
        rows.append(Row((curve.label,), tuple(number(at.get(k)) for k in ks)))
    table = Table(
        f"{ground.words}: {ground.metric}", ("system",), tuple(f"k={k:g}" for k in ks), tuple(rows)
    )
    draw = plots.k_curves(curves, ground.metric, ground.higher, without)
    return Plot(draw, ground.words, _k_description(ground, curves), table)


def _k_description(ground: Ground, curves: Sequence[Series]) -> str:
    ends = [(point.y, curve.label, point.x) for curve in curves for point in curve.points]
    value, label, k = (max if ground.higher else min)(ends)
    return f"Best {ground.metric}: {value:.3f}, {label} with k={k:g}."


def heat_maps(records: Sequence[Record]) -> Content:
    """Tasks by retrievers: the best number that each retriever leads to."""
    found: dict[str, list[Ground]] = {}
    for ground in grounds(records):
        rest = ground.words.removeprefix(ground.task).removeprefix(", ")
        found.setdefault(rest, []).append(ground)
    made = [_heat_plot(words or members[0].shared, members) for words, members in found.items()]
    told = (
        "Each number is the best over k and augmentations, so it flatters a little; which one it "
        "is stands in the numbers below each map. Colours compare within a task only."
    )
    shared = next(iter(found.values()))[0].shared
    return Content((f"All: {shared}. {told}",), tuple(made))


def _heat_plot(words: str, members: Sequence[Ground]) -> Plot:
    names = sorted({_system(group)[0] for ground in members for group in ground.groups})
    columns = ["no profile", *names]
    rows = [f"{ground.task} {ground.metric}" for ground in members]
    chosen = [[ground.without, *(_best_of(ground, name) for name in names)] for ground in members]
    values = [
        [group.mean(ground.metric) if group else None for group in row]
        for ground, row in zip(members, chosen, strict=True)
    ]
    table = Table(words, ("task",), tuple(columns), tuple(map(_heat_row, members, chosen)))
    draw = plots.heat_map(rows, columns, values, [ground.higher for ground in members])
    description = "The farther a colour is from the page's own, the better for that task."
    return Plot(draw, words, description, table, broad=True)


def _best_of(ground: Ground, retriever: str) -> Group | None:
    own = tuple(group for group in ground.groups if _system(group)[0] == retriever)
    return replace(ground, groups=own).best if own else None


def _heat_row(ground: Ground, row: Sequence[Group | None]) -> Row:
    cells = []
    for group in row:
        cell = number(group.mean(ground.metric) if group else None, 3)
        how = f" ({_system(group)[1]}, k={group.facet('k')})" if group and group.first.twin else ""
        cells.append(type(cell)(cell.text + how, cell.value))
    return Row((f"{ground.task} {ground.metric}",), tuple(cells))


def gains(records: Sequence[Record]) -> Content:
    """For the best run of each ground: how many users gain how much over no profile."""
    made, alone = [], 0
    for ground in grounds(records):
        per_user = user_gains(ground)
        if per_user:
            made.append(_gain_plot(ground, per_user))
        else:
            alone += 1
    if not made:
        raise InputError("no run with scores of its examples has its twin without a profile here")
    words = (f"{alone} more have no twin without a profile, or no scores.",) if alone else ()
    told = f"All: {ground.shared}. The best run of each, against the same run without a profile."
    return Content((told, *words), tuple(made))


def user_gains(ground: Ground) -> list[float]:
    """Each user's mean gain over questions and shared seeds, positive if better."""
    if ground.without is None:
        return []
    found = gain_of(ground.best, {ground.without.configuration: ground.without})
    return [] if found is None else found.per_user.tolist()


def _gain_plot(ground: Ground, per_user: Sequence[float]) -> Plot:
    helped, hurt = sum(gain > 0 for gain in per_user), sum(gain < 0 for gain in per_user)
    n = len(per_user)
    told = (
        f"{told_system(ground.best)}: {helped} of {n} users helped, {n - helped - hurt} unchanged, "
        f"{hurt} hurt; mean {mean(per_user):+.3f}."
    )
    rows = plain([["helped", helped], ["unchanged", n - helped - hurt], ["hurt", hurt]])
    table = Table(f"{ground.words}: gain of {ground.metric}", ("users",), ("number",), rows)
    return Plot(plots.gain_distribution(per_user, ground.metric), ground.words, told, table)


def costs(records: Sequence[Record]) -> Content:
    """The main metric against the tokens that a question takes."""
    styles = _styles(grouped(records).values())
    compared = grounds(records)
    made = [_cost_plot(ground, styles) for ground in compared]
    told = f"All: {compared[0].shared}. TokenCounter read and written; seconds are in the table of runs."
    return Content((told,), tuple(made))


def tokens_per_question(group: Group) -> float:
    """Read and written, over seeds."""
    counts = [record.result["counts"] for record in group.records]
    return float(
        mean((c["prompt_tokens"] + c["output_tokens"]) / max(c["questions"], 1) for c in counts)
    )


def _cost_plot(ground: Ground, styles: Mapping[str, int]) -> Plot:
    groups = [*([ground.without] if ground.without else []), *ground.groups]
    dashed = set(_augmentations(ground.groups)[1:])
    spots: dict[System, list[Point]] = {}
    for group in groups:
        point = Point(tokens_per_question(group), group.mean(ground.metric))
        spots.setdefault(_system(group), []).append(point)
    series = [
        Series("no profile" if system[0] == "none" else " ".join(system), tuple(points),
               styles[system[0]], system[1] in dashed)
        for system, points in spots.items()
    ]  # fmt: skip
    rows = [
        Row((*_system(group), shown(group.facet("k"))),
            (number(tokens_per_question(group), 1), number(group.mean(ground.metric))))
        for group in groups
    ]  # fmt: skip
    table = Table(f"{ground.words}: cost", ("retriever", "augmentation", "k"),
                  ("tokens per question", ground.metric), tuple(rows))  # fmt: skip
    draw = plots.cost_quality(series, "tokens per question", ground.metric, ground.higher)
    told = f"{len(groups)} configurations; the dotted line joins those that none beats in both."
    return Plot(draw, ground.words, told, table)
