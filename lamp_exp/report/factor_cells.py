"""The cells of a grid of runs: their gains, for whom, by the size of the profile, and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lamp_exp.report.coldstart import bins_of
from lamp_exp.report.factor_grid import BASELINE, FACTORS, Cell, Grid
from lamp_exp.report.footers import group_table, interval_footers
from lamp_exp.report.personal import as_gain, gains
from lamp_exp.report.published import (
    caveats,
    closest_published,
    published_cell,
    published_footers,
)
from lamp_exp.report.selection import Group, naming
from lamp_exp.report.table import Table, interval_cell, number, p_cell, percent, worth_of
from lamp_exp.report.user_cost import COST_NOTES, summary_seconds, user_cost
from lamp_exp.results.record import Record
from lamp_exp.statistics import Interval, compare

# What tells cells of a grid apart, and is named by their levels.
OF_CELLS = {
    "retriever", "augmentation", "k", "skip", "document_dates", "summary", "adapter", "pool",
}  # fmt: skip


def grid_table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    notes: Sequence[str],
    found: Sequence[Grid],
    remarks: bool = False,
) -> Table:
    """A table of rows (last group of a grid, further heads, cells), named by what grids differ in.

    With `remarks`, footers say what was unusual in the runs.
    """
    groups = [g for grid in found for cells in (grid.cells, grid.controls) for g in cells.values()]
    records = [record for group in groups for record in group.records]
    return group_table(title, heads, rows, notes, OF_CELLS, records, remarks)


def grid_names(found: Sequence[Grid]) -> list[str]:
    """The task of each grid, and what else grids differ in."""
    _, heads = naming([grid.last for grid in found], OF_CELLS)
    return [" ".join(heads[grid.last.configuration]) for grid in found]


def cells_frame(grid: Grid) -> pd.DataFrame:
    """A row for each cell but the baseline, in their order: `cell`, and the columns of `gains`.

    `over_control` is the gain over the same run with the profiles of other users, None without it.
    """
    groups = {cell: group for cell, group in grid.cells.items() if cell != BASELINE}
    others = [grid.baseline, *grid.controls.values()]
    found = gains(*([r for g in some for r in g.records] for some in (groups.values(), others)))
    if found.empty:
        return found
    cells = {group.configuration: cell for cell, group in groups.items()}
    found["cell"] = [cells[group.configuration] for group in found["group"]]
    found["over_control"] = [_over_control(grid, cell) for cell in found["cell"]]
    return found


def _over_control(grid: Grid, cell: Cell) -> Interval | None:
    if cell not in grid.control_samples or cell not in grid.samples:
        return None
    found = compare(grid.control_samples[cell], grid.samples[cell], thorough=False)
    return as_gain(found.difference, grid.higher_is_better)


def cells_table(found: Sequence[Grid]) -> Table:
    rows: list[Any] = []
    shown: list[Interval] = []
    published = []
    for grid in found:
        rows.append((grid.last, (grid.metric, *BASELINE), _value_cells(grid, grid.baseline)))
        for one in cells_frame(grid).itertuples():
            cells = {**_value_cells(grid, one.group), **_gain_cells(one)}
            rows.append((grid.last, (grid.metric, *one.cell), cells))
            shown += [one.interval, *([one.over_control] if one.over_control else [])]
        for group in grid.cells.values():
            if number_beside := closest_published(group.first, grid.metric):
                published.append((group.first, grid.metric, number_beside))
    notes = [
        "gain: over the baseline, the run without retrieval, summary and adapter; above zero is "
        "better, whatever the metric's direction; p as in the verb personal, not corrected",
        "users: by the mean gain of their questions; by another's: the gain with the profiles of "
        "other users; over another's: the gain over that run, what is the user's own",
        *interval_footers(shown),
        *published_footers(published),
    ]
    heads = ("metric", *FACTORS)
    return grid_table("Gain of each combination", heads, rows, notes, found)


def _value_cells(grid: Grid, group: Group) -> dict[str, Any]:
    published = closest_published(group.first, grid.metric)
    cells: dict[str, Any] = {"value": group.mean(grid.metric)}
    if published:
        cells["published"] = published_cell(published, list(caveats(group.first, published)))
    return cells


def _gain_cells(one: Any) -> dict[str, Any]:
    worth = worth_of(one.comparison.verdict)
    own = one.over_control
    return {
        "gain": number(one.gain, sign=True, worth=worth),
        "95% interval": interval_cell(one.interval, sign=True),
        "p": p_cell(one.comparison.decisive.p),
        "helped": percent(one.helped),
        "unchanged": percent(one.unchanged),
        "hurt": percent(one.hurt),
        "by another's": number(one.control, sign=True),
        "over another's": number(own.value if own else None, sign=True),
        "its interval": interval_cell(own, sign=True) if own else None,
    }


# --- by profile size ---------------------------------------------------------------------------


def size_table(found: Sequence[Grid], quantiles: int) -> list[Table]:
    """The gain of each cell in groups of questions by profile size; none where that is unknown."""
    rows: list[Any] = []
    shown: list[Interval] = []
    ranges = []
    for grid, name in zip(found, grid_names(found), strict=True):
        sizes: dict[str, str] = {}
        for cell, group in grid.cells.items():
            bins = bins_of(group, grid.baseline, "size", quantiles) if cell != BASELINE else []
            columns = {f"group {n}": one for n, one in enumerate(bins, 1) if one.gain}
            gained = {column: one.gain for column, one in columns.items() if one.gain}
            if gained:
                head = (grid.metric, *cell)
                values = {n: number(gain.value, sign=True) for n, gain in gained.items()}
                ends = {n: interval_cell(gain, sign=True) for n, gain in gained.items()}
                rows += [(grid.last, head, values), (grid.last, head, ends, "interval")]
                shown += gained.values()
                sizes |= {n: f"{n}: {one.label} ({one.n})" for n, one in columns.items()}
        ranges += [f"{name}: {', '.join(sizes.values())}"] if sizes else []
    if not rows:
        return []
    notes = [
        "gain over the baseline in groups of questions by the number of items in the profile, the "
        "fewest first; not corrected for the number of groups",
        *(f"items (questions), {one}" for one in ranges),
        *interval_footers(shown),
    ]
    return [grid_table("Gain by profile size", ("metric", *FACTORS), rows, notes, found)]


# --- cost --------------------------------------------------------------------------------------


def cost_table(found: Sequence[Grid], records: Sequence[Record]) -> Table:
    seconds = summary_seconds(records)
    rows = []
    for grid in found:
        base = grid.baseline.mean(grid.metric)
        sign = 1 if grid.higher_is_better else -1
        for cell, group in grid.cells.items():
            gain = None if cell == BASELINE else sign * (group.mean(grid.metric) - base)
            costs = user_cost(group, seconds)
            digits = {"bytes a user": 0, "tokens a user": 1}
            cells = {name: number(value, digits.get(name, 3)) for name, value in costs.items()}
            rows.append(
                (grid.last, (grid.metric, *cell), {"gain": number(gain, sign=True)} | cells)
            )
    return grid_table("Gain and cost of a user", ("metric", *FACTORS), rows, COST_NOTES, found)
