"""The sections that say what profiles gain: the answer, the matrix, the forest plot, users."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.report import plots
from lamp_exp.report.page.content import (
    DIRECTION,
    SHADES,
    Card,
    Content,
    Matrix,
    MatrixCell,
    Plot,
    Users,
    keys,
    series,
)
from lamp_exp.report.page.panels import Method, Panel
from lamp_exp.report.paired_examples import pair
from lamp_exp.report.personal import personal_tables, user_gains
from lamp_exp.report.plots import Point
from lamp_exp.report.selection import Group
from lamp_exp.report.table import Cell, Table, interval_cell, number, p_cell, worth_of
from lamp_exp.results.record import Record
from lamp_exp.statistics.paired import SIGNIFICANT
from lamp_exp.wording import count_of

MOST = 40  # rows of a forest plot
CORRECTED = (
    "the verdict corrects for the number of runs in the panel (Holm, 5%); the interval does not",
)
CHOSEN = (
    "the best run is chosen by the numbers that are shown, which flatters it a little: choose on "
    "dev, report on test"
)


# --- the answer --------------------------------------------------------------------------------


def answer(panels: Sequence[Panel], records: Sequence[Record]) -> Content:
    """A card for each panel."""
    footnotes = (
        "gain: the run's metric against the same run without a profile, on the same questions and "
        "seeds; above zero is better, whatever the metric's direction",
        CHOSEN,
        *CORRECTED,
        "users: by the mean gain of each user's questions",
    )
    notes = []
    if alone := sorted({r.task for r in records if not r.imported} - {p.task for p in panels}):
        notes.append(f"{', '.join(alone)}: only runs without a profile, so nothing to compare yet.")
    if barred := [panel.words for panel in panels if not panel.candidates]:
        notes.append(f"{'; '.join(barred)}: only controls or bounds, of which none is the best.")
    if imported := sum(record.imported for record in records):
        notes.append(
            f"In the tables below: {count_of(imported, 'run')} of predictions made elsewhere."
        )
    drawn = {group.configuration for panel in panels for group in panel.groups}
    if left := sum(record.personal and record.configuration not in drawn for record in records):
        runs = count_of(left, "run")
        notes.append(f"{runs} on train, from which others learn, stand in the tables only.")
    return Content(
        tuple(notes),
        cards=tuple(card(panel) for panel in panels if panel.candidates),
        footnotes=footnotes,
    )


def card(panel: Panel) -> Card:
    best = panel.best
    method, k, of = panel.method(best), best.shown("k"), len(panel.candidates)
    row = panel.gain(best)
    if row is None:
        return Card(panel, method, k, panel.value(best), of)
    ends = interval_cell(row["interval"], 3, sign=True).text
    return Card(
        panel, method, k, row["group"].mean(panel.metric), of, row["baseline"].mean(panel.metric),
        row["gain"], ends, row["verdict"], _users(row),
    )  # fmt: skip


def _users(row: Any) -> Users:
    number = row["comparison"].clusters
    helped, hurt = (round(row[name] * number) for name in ("helped", "hurt"))
    return Users(helped, number - helped - hurt, hurt)


# --- methods by tasks --------------------------------------------------------------------------


def matrix(panels: Sequence[Panel]) -> Matrix:
    """Methods by panels, each with its best k; the method that gains most at the top."""
    columns: dict[tuple[str, bool], list[Panel]] = {}
    for panel in panels:
        columns.setdefault((panel.setting, panel.made_up), []).append(panel)
    in_order = [panel for own in columns.values() for panel in own]
    cells = [_column(panel) for panel in in_order]
    methods = {method.label: method for column in cells for method in column}
    rows = []
    for method in methods.values():
        rows.append((method, [column.get(method) for column in cells]))
    rows.sort(key=lambda row: (bool(row[0].aside), -_mean_shade(row[1])))
    return Matrix([(*key, tuple(own)) for key, own in columns.items()], rows, _notes())


def _notes() -> tuple[str, ...]:
    return (
        "large: the gain over the same run without a profile; above zero is better, whatever the "
        "metric's direction; below it, the metric itself and the k that was best",
        "colours compare within a column: the larger a gain or a loss beside its interval and the "
        "others of the column, the stronger",
        f"*: p < {SIGNIFICANT:g} after Holm's correction over the runs of the column",
        "bold: the best of its column, as far as methods and k were run; –: not run",
        "control: with the profiles of other users; bound: with the golds in hand, an upper limit "
        "and no system; neither is ever the best",
    )


def _column(panel: Panel) -> dict[Method, MatrixCell]:
    """The best of each method; of a panel without a baseline, without gains."""
    by_method: dict[Method, list[Group]] = {}
    for group in panel.groups:
        by_method.setdefault(panel.method(group), []).append(group)
    best = {method: panel.best_of(groups) for method, groups in by_method.items()}
    rows = {method: panel.gain(group) for method, group in best.items()}
    reach = max((_reach(row) for row in rows.values() if row is not None), default=0.0)
    found = {}
    for method, group in best.items():
        row, value = rows[method], panel.value(group)
        top = len(panel.candidates) > 1 and group is panel.best
        if row is None:
            found[method] = MatrixCell(value, group.shown("k"), best=top)
            continue
        shade = round(row["gain"] / reach * SHADES) if reach else 0
        significant = row["p"] < SIGNIFICANT
        found[method] = MatrixCell(value, group.shown("k"), row["gain"], shade, significant, top)
    return found


def _reach(row: Any) -> float:
    """A gain as large as its interval is wide has the strongest colour if no other is larger."""
    one = row["interval"]
    width = float(one.high - one.low)
    return max(abs(float(row["gain"])), 0.0 if math.isnan(width) else width)


def _mean_shade(cells: Sequence[MatrixCell | None]) -> float:
    shades = [cell.shade for cell in cells if cell is not None and cell.shade is not None]
    return mean(shades) if shades else -SHADES


def methods(panels: Sequence[Panel]) -> Content:
    """The matrix."""
    return Content(matrix=matrix(panels))


# --- all gains ---------------------------------------------------------------------------------


def forest(panels: Sequence[Panel], records: Sequence[Record]) -> Content:
    """Each run's gain with its interval, sorted. Raises InputError if no baseline is there."""
    made = [_forest_plot(panel) for panel in panels if not panel.gains.empty]
    if not made:
        raise InputError(
            "no run has its baseline here, the same run without a profile (k=0) and with the same "
            "seed"
        )
    shown_panels = [plot.panel for plot in made]
    return Content(
        _without_baseline(panels, len(made)),
        keys=keys([p.method(g) for p in shown_panels for g in p.groups]),
        plots=tuple(made),
        tables=tuple(personal_tables(records)),
        footnotes=(
            "gain: against the same run without a profile; to the right of zero is better, "
            "whatever the metric's direction; bars: 95% intervals over questions",
            *CORRECTED,
        ),
    )


def _without_baseline(panels: Sequence[Panel], with_plots: int) -> tuple[str, ...]:
    less = len(panels) - with_plots
    return (f"Without baseline or scores here: {count_of(less, 'panel')}.",) if less else ()


def _forest_plot(panel: Panel) -> Plot:
    rows = list(panel.gains.itertuples())
    drawn = rows if len(rows) <= MOST else [*rows[: MOST // 2], *rows[-MOST // 2 :]]
    lines = []
    for row in drawn:
        one = row.interval
        point = Point(0, one.value, one.low, one.high)
        lines.append(series(panel.method(row.group), [point], panel.named(row.group)))
    left_out = f" The {MOST // 2} best and worst are drawn." if len(drawn) < len(rows) else ""
    verdicts = list(panel.gains["verdict"])
    words = [f"{verdicts.count(v)} {v}" for v in ("better", "worse") if v in verdicts]
    rest = len(rows) - sum(verdicts.count(v) for v in ("better", "worse"))
    words += [f"{rest} without a clear difference"] if rest else []
    table = Table.of("Gains", ("method", "k"), _forest_rows(panel))
    runs = count_of(len(rows), "run")
    description = f"{runs}: {', '.join(words)}.{left_out}"
    return Plot(panel, plots.forest(lines, panel.metric), description, table)


def _forest_rows(panel: Panel) -> Iterator[tuple[Any, ...]]:
    for row in panel.gains.itertuples():
        worth = worth_of(row.verdict)
        cells = {
            f"{panel.metric} gain": number(row.gain, 3, sign=True, worth=worth),
            "95% interval": interval_cell(row.interval, 3, sign=True),
            "p": p_cell(row.p),
            "verdict": Cell(row.verdict, worth=worth),
        }
        yield (panel.method(row.group).label, row.group.shown("k")), cells


# --- by user -----------------------------------------------------------------------------------


def by_user(panels: Sequence[Panel]) -> Content:
    """How many users gain how much from the best run of each panel.

    Raises InputError without any baseline with scores.
    """
    made = [plot for panel in panels if panel.candidates and (plot := _users_plot(panel))]
    if not made:
        raise InputError("no run with scores of its examples has its baseline here")
    return Content(
        _without_baseline(panels, len(made)),
        plots=tuple(made),
        footnotes=("of each user, the mean gain over its questions and seeds; right is better",),
    )


def best_user_gains(panel: Panel) -> list[float]:
    """Each user's mean gain from the best run, over questions and shared seeds; positive: better.

    Empty without a baseline or scores.
    """
    best = panel.best
    baseline = panel.baselines.get(best.first.baseline or "")
    samples = pair(baseline, best, panel.metric) if baseline else None
    return user_gains(*samples).tolist() if samples else []


def _users_plot(panel: Panel) -> Plot | None:
    per_user = best_user_gains(panel)
    if not per_user:
        return None
    helped, hurt = sum(gain > 0 for gain in per_user), sum(gain < 0 for gain in per_user)
    counts = {"helped": helped, "unchanged": len(per_user) - helped - hurt, "hurt": hurt}
    description = (
        f"{panel.named(panel.best)}: {helped} of {count_of(len(per_user), 'user')} helped, "
        f"{counts['unchanged']} unchanged, {hurt} hurt; mean {mean(per_user):+.3f}."
    )
    rows = [((name,), {"number": count}) for name, count in counts.items()]
    table = Table.of("Gain by user", ("users",), rows)
    return Plot(panel, plots.gain_distribution(per_user, panel.metric), description, table)


__all__ = [
    "DIRECTION", "answer", "best_user_gains", "by_user", "card", "forest", "matrix", "methods",
]  # fmt: skip
