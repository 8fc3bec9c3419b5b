"""The verb router: what routers chose, and what choosing was worth."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, left_out
from lamp_exp.report.footers import group_table, interval_footers
from lamp_exp.report.loading import find
from lamp_exp.report.paired_examples import pair
from lamp_exp.report.personal import as_gain
from lamp_exp.report.selection import Group, grouped, select
from lamp_exp.report.table import Cell, Table, number, p_cell, percent, worth_of
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.record import Record
from lamp_exp.results.schema import Routing
from lamp_exp.statistics import Comparison, compare, holm

NOTES = (
    "best single: the candidate that is best on these questions, so it is chosen with their golds",
    "gain: over the best single candidate, paired; above zero is better, whatever the metric's "
    "direction; p after Holm over the rows",
    "regret: how far below the best choices (oracle); headroom: gain / (oracle - best single)",
    "success: questions for which no candidate did better than the chosen one",
)

add_options = add_runs


def tables(arguments: argparse.Namespace) -> list[Table]:
    found = find(arguments.runs, arguments.stale)
    records = [r for r in select(found.records, arguments.where) if r.result.routing is not None]
    if not records:
        reasons = left_out(found, arguments.where)
        because = f" ({'; '.join(reasons)})" if reasons else ""
        raise InputError(f"no run with a router: make one, with router=rspg_pre{because}")
    groups = list(grouped(records).values())
    judged = [group for group in groups if group.first.metrics]
    made = [_worth_table(judged)] if judged else []
    return [*made, _choices_table(groups)]


def routing_frame(groups: Sequence[Group]) -> pd.DataFrame:
    """A row for each routed configuration with golds, by the main metric, means over its seeds.

    `comparison` is from the best single candidate to the routed run, None if runs of that
    candidate are not there any more; `gain`, `regret` and `headroom` are positive if better, or
    farther from the best choices.
    """
    return pd.DataFrame([_row(group) for group in groups])


def _row(group: Group) -> dict[str, Any]:
    metric = group.first.main_metric
    sign = 1 if group.first.higher_is_better(metric) else -1
    routings = _routings(group)
    singles = {
        name: fmean(values)
        for name in (one.name for one in routings[0].candidates)
        if len(values := _values(routings, name)) == len(routings)
    }
    best = max(singles, key=lambda name: sign * singles[name])
    value = group.mean(metric)
    oracle, worst, success = (
        fmean(getattr(one, name) for one in routings)
        for name in ("oracle", "worst", "success_rate")
    )
    room = sign * (oracle - singles[best])
    return {
        "group": group,
        "metric": metric,
        "value": value,
        "best_single": best,
        "best_value": singles[best],
        "comparison": _comparison(group, best, metric),
        "gain": sign * (value - singles[best]),
        "oracle": oracle,
        "worst": worst,
        "regret": sign * (oracle - value),
        "headroom": sign * (value - singles[best]) / room if room > 0 else float("nan"),
        "success": success,
    }


def _routings(group: Group) -> list[Routing]:
    return [record.result.routing for record in group.records if record.result.routing is not None]


def _values(routings: Sequence[Routing], name: str) -> list[float]:
    """The main metric of a candidate in each of the runs."""
    each = (one.value for routing in routings for one in routing.candidates if one.name == name)
    return [value for value in each if value is not None]


def _comparison(group: Group, candidate: str, metric: str) -> Comparison | None:
    records = []
    for record, routing in zip(group.records, _routings(group), strict=True):
        (run,) = (one.run for one in routing.candidates if one.name == candidate)
        folder = RunFolder(record.folder.parent / run)
        if (result := folder.finished_result()) is None:
            return None
        records.append(Record(folder.path, result))
    samples = pair(Group(tuple(records)), group, metric)
    return None if samples is None else compare(*samples)


def _worth_table(groups: Sequence[Group]) -> Table:
    frame = routing_frame(groups)
    known = [one for one in frame["comparison"] if one is not None]
    corrected = dict(zip(map(id, known), holm([one.decisive.p for one in known]), strict=True))
    rows, intervals = [], []
    for row in frame.to_dict("records"):
        group, comparison = row["group"], row["comparison"]
        gain = None
        if comparison is not None:
            higher = group.first.higher_is_better(row["metric"])
            gain = as_gain(comparison.difference, higher)
            intervals.append(gain)
        verdict = comparison.verdict if comparison is not None else ""
        cells = {
            "value": row["value"],
            "best single": Cell(row["best_single"]),
            "its value": row["best_value"],
            "gain": number(row["gain"], sign=True, worth=worth_of(verdict)),
            "gain's interval": gain,
            "p": None if comparison is None else p_cell(corrected[id(comparison)]),
            "oracle": row["oracle"],
            "regret": row["regret"],
            "headroom": percent(row["headroom"]),
            "worst": row["worst"],
            "success": percent(row["success"]),
        }
        rows.append((group, (row["metric"],), cells))
    notes = [*NOTES, *interval_footers(intervals)]
    if missing := len(frame) - len(known):
        notes.append(f"{missing} of {len(frame)} rows without tests: runs of candidates are gone")
    return group_table("Routers", ("metric",), rows, notes)


def _choices_table(groups: Sequence[Group]) -> Table:
    rows = []
    for group in groups:
        routings = _routings(group)
        for name in (one.name for one in routings[0].candidates):
            chosen = [one.chosen for r in routings for one in r.candidates if one.name == name]
            total = sum(one.chosen for r in routings for one in r.candidates)
            values = _values(routings, name)
            cells = {
                "share": percent(sum(chosen) / total),
                "its value": fmean(values) if values else None,
            }
            rows.append((group, (name,), cells))
    return group_table("What routers chose", ("candidate",), rows, [])
