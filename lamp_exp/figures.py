"""Figures of results, as matplotlib figures: of a frame of `load_results`, or of one run.

A figure shows one task on the same questions: choose its rows with `load_results(where=...)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lamp_exp.errors import InputError
from lamp_exp.python_interface import Run
from lamp_exp.report import plots
from lamp_exp.report.paired_examples import pair_of_runs
from lamp_exp.report.personal import user_gains as gains_of_users
from lamp_exp.report.plots import Point, Series
from lamp_exp.results.frame import NEWER, STALE, SUPERSEDED

ONE_VALUE = ("split", "part", "mode")  # in all rows of one figure
LIMITS = ("limit", "limit_sample")
SYSTEM = ("retriever", "augmentation")
MODEL = ("model", "model.name")


def k_curve(frame: pd.DataFrame, metric: str | None = None) -> Figure:
    """A metric (by default the main one) over k: a line for each method, one for the baseline.

    A point is the mean over seeds; its bar is the 95% interval over the questions, or the range
    of the seeds if there are several. Runs whose k was tuned are left out: their k is no choice.

    Raises InputError for rows that are not comparable, and if no run reads a profile.
    """
    rows = _comparable(frame, metric)
    name, higher = _metric_of(rows)
    personal = rows[(rows["k"] > 0) & ~rows["tuned"]]
    if personal.empty:
        raise InputError("no run with k > 0 is among these")
    baseline = _baseline_value(rows, personal)
    lines = [
        Series(label, tuple(_points(own, "k")), style, dashed)
        for label, own, style, dashed in _methods(personal)
    ]
    return plots.figure(plots.k_curves(lines, name, higher, baseline))


def cost_quality(frame: pd.DataFrame, cost: str = "tokens", metric: str | None = None) -> Figure:
    """A metric against a cost: `tokens` read and written per question, or any column with numbers.

    The dotted line joins the runs that no other beats in both. Raises InputError for rows that are
    not comparable, and for an unknown cost.
    """
    rows = _comparable(frame, metric)
    name, higher = _metric_of(rows)
    if cost == "tokens":
        read, written = (rows.get(f"counts.{n}_tokens", 0) for n in ("prompt", "output"))
        rows = rows.assign(tokens=(read + written).astype("float64") / rows["questions"])
    if cost not in rows or not pd.api.types.is_numeric_dtype(rows[cost]):
        raise InputError(f"{cost} is no column of numbers: use tokens, seconds or peak_memory_mb")
    spots = [
        Series(label, tuple(_points(own, cost)), style, dashed)
        for label, own, style, dashed in _methods(rows)
    ]
    words = "tokens per question" if cost == "tokens" else cost
    return plots.figure(plots.cost_quality(spots, words, name, higher))


def heat_map(frame: pd.DataFrame) -> Figure:
    """The main metric of each task (rows) and retriever (columns): the best over k and the rest.

    It flatters a little, as the best of several does. Colours compare within a task only.
    """
    rows = _usable(frame)
    rows = rows[rows["main"]]
    if rows.empty:
        raise InputError("no run with metrics is among these")
    _check_one_value(rows, ONE_VALUE)
    columns = sorted(set(rows["retriever"].dropna()), key=lambda name: (name != "none", name))
    heads, values, directions = [], [], []
    for (task, metric), own in rows.groupby(["task", "metric"], sort=True):
        higher = bool(own["higher_is_better"].iloc[0])
        means = own.groupby(["retriever", "configuration"])["value"].mean()
        best = means.groupby("retriever").agg("max" if higher else "min").to_dict()
        heads.append(f"{task} {metric}")
        values.append([best.get(name) for name in columns])
        directions.append(higher)
    names = ["no profile" if name == "none" else name for name in columns]
    return plots.figure(plots.heat_map(heads, names, values, directions))


def user_gains(run: Run, metric: str | None = None) -> Figure:
    """How many users gain how much from the profile: the run against its baseline.

    Raises InputError if the baseline is not there, or has no scores of its examples.
    """
    record, baseline = run.record, run.baseline
    if baseline is None:
        raise InputError(f"{run.name} has no finished baseline: run(..., baseline=True) makes it")
    name = metric or record.main_metric
    samples = pair_of_runs(baseline.record, record, name) if name in run.metrics else None
    if samples is None:
        raise InputError(f"{run.name} has no scores of {name}")
    return plots.figure(plots.gain_distribution(gains_of_users(*samples).tolist(), name))


# --- rows --------------------------------------------------------------------------------------


def _usable(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with numbers, without stale and superseded runs and those of a newer version."""
    kept = frame["metric"].notna() & ~frame["state"].isin([STALE, SUPERSEDED, NEWER])
    return frame[kept]


def _comparable(frame: pd.DataFrame, metric: str | None) -> pd.DataFrame:
    """The rows of one metric. Raises InputError if they are of several tasks or questions."""
    if frame.empty:
        raise InputError("there is no run in this frame")
    rows = _usable(frame)
    rows = rows[rows["main"]] if metric is None else rows[rows["metric"] == metric]
    if rows.empty:
        raise InputError(f"no run with {metric or 'metrics'} is among these that is not stale")
    _check_one_value(rows, (*ONE_VALUE, "task", "data.asked", "metric"))
    _check_one_value(rows.assign(**_limits(rows)), LIMITS)
    return rows


def _limits(rows: pd.DataFrame) -> dict[str, pd.Series | str]:
    """Columns of the options that choose questions, with `null` where all are asked."""
    return {n: rows[n].astype("string").fillna("null") if n in rows else "null" for n in LIMITS}


def _check_one_value(rows: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        values = sorted(set(rows[name].dropna()) if name in rows else ())
        if len(values) > 1:
            raise InputError(
                f"a figure shows one {name}, and these are of {', '.join(map(str, values))}: "
                f"choose one by load_results(where={{{name!r}: ...}})"
            )


def _metric_of(rows: pd.DataFrame) -> tuple[str, bool]:
    first = rows.iloc[0]
    return str(first["metric"]), bool(first["higher_is_better"])


def _methods(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame, int, bool]]:
    """Label, rows, colour and dash of each method: runs that differ in k and seed alone.

    Retrievers have colours, and so has what differs in more; augmentations have dashes.
    """
    names = _telling(rows)
    retrievers = sorted(set(rows["retriever"].dropna()) - {"none"})
    styles: dict[tuple[str, ...], int] = {(name,): n for n, name in enumerate(retrievers)}
    augmentations = sorted(set(rows["augmentation"].dropna()) - {"none"}, reverse=True)
    found = []
    for values, own in rows.groupby(names, dropna=False, sort=True):
        said = dict(zip(names, values, strict=True))
        style = styles.setdefault((str(said["retriever"]), *_further(said)), len(styles))
        dashed = said["augmentation"] in augmentations[1:]
        found.append((_label(said), own, style, dashed))
    return found


def _telling(rows: pd.DataFrame) -> list[str]:
    """The columns by which methods are told apart: retriever, augmentation, and what differs."""
    first = rows.columns.get_loc("peak_memory_mb") + 1  # options follow, and then counts
    options = [
        name
        for name in (*MODEL, *rows.columns[first:])
        if name in rows and not name.startswith(("counts.", "seconds.", "data."))
    ]
    personal = rows[rows["k"] > 0]
    told = []
    for name in dict.fromkeys(options):
        if name not in SYSTEM and name != "k_values":
            values = {str(value) for value in personal[name].dropna()}
            told += [name] if len(values) > 1 else []
    return [*SYSTEM, *told]


def _label(values: Mapping[str, Any]) -> str:
    if values["retriever"] == "none":
        words = ["no profile"]
    else:
        words = [str(values[name]) for name in SYSTEM if not pd.isna(values[name])]
    return " ".join([*words, *_further(values)]) or "imported"


def _further(values: Mapping[str, Any]) -> list[str]:
    """What tells a method apart beyond retriever and augmentation."""
    return [f"{n}={v}" for n, v in values.items() if n not in SYSTEM and not pd.isna(v)]


def _points(rows: pd.DataFrame, x: str) -> list[Point]:
    """A point for each configuration: the mean over seeds, and an interval or range."""
    made = []
    for _, own in rows.groupby("configuration", sort=False):
        several = len(own) > 1
        low = own["value"].min() if several else own["low"].iloc[0]
        high = own["value"].max() if several else own["high"].iloc[0]
        made.append(Point(*map(float, (own[x].mean(), own["value"].mean(), low, high))))
    return sorted(made, key=lambda point: point.x)


def _baseline_value(rows: pd.DataFrame, personal: pd.DataFrame) -> float | None:
    """The mean of the baseline, if it is the same of all."""
    wanted = set(personal["baseline"].dropna())
    own = rows[rows["configuration"].isin(wanted)]
    return float(own["value"].mean()) if len(wanted) == 1 and len(own) else None
