"""Finished runs as one tidy pandas data frame: a row for each run and metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.options import GROUPS, OPTIONS, TUNE, only_personal, same_value
from lamp_exp.results.record import Record, UnusableRun, read_runs
from lamp_exp.results.schema import IMPORTED, SCHEMA_VERSION
from lamp_exp.statistics import Interval

FRESH, STALE, SUPERSEDED = "fresh", "stale", "superseded"
OLDER, NEWER = "older schema", "newer schema"
# The columns that every frame has; those of options, counts and seconds follow.
COLUMNS: Mapping[str, str] = {
    "run": "string", "task": "string", "split": "string", "part": "string", "mode": "string",
    "model": "string", "retriever": "string", "augmentation": "string", "k": "Int64",
    "tuned": "boolean", "seed": "Int64", "metric": "string", "value": "float64",
    "low": "float64", "high": "float64", "main": "boolean", "higher_is_better": "boolean",
    "questions": "Int64", "users": "Int64", "made_up": "boolean", "licence": "string",
    "state": "string", "stale": "string", "schema_version": "Int64",
    "started": "datetime64[us, UTC]", "configuration": "string", "baseline": "string",
    "folder": "string", "seconds": "float64", "peak_memory_mb": "Int64",
}  # fmt: skip
COMPONENTS = tuple(g.name for g in GROUPS.values() if g.changes_numbers and not g.by_values)
RUN = object()  # the key of a row's run, until its interval is known
DTYPES = {str: "string", int: "Int64", bool: "boolean", float: "float64"}


IntervalOf = Callable[[Record, str], Interval | None]  # given a run and the name of a metric


def results_frame(
    runs: Iterable[Path | Record | UnusableRun],
    where: Mapping[str, Any] = MappingProxyType({}),
    interval_of: IntervalOf = lambda run, metric: None,
) -> pd.DataFrame:
    """One row for each run and metric; a run without metrics has one row without a metric.

    A path stands for all runs in it (see `read_runs`). `where` chooses rows by columns, each with
    its value or a list of values; an option of profiles has its default where none is read.
    `interval_of` is asked for the interval of each metric, which becomes `low` and `high`.

    Columns are those of `COLUMNS`; then every option that decides the numbers of one of the runs,
    by its dotted name (`training.lr`), missing where it has no effect; then `counts.*` (of things)
    and `seconds.*` (by stage). `configuration` is equal for runs that differ in nothing but the
    seed, `baseline` is the configuration of the same run without a profile.

    No run is left out for its `state`: `fresh`; `stale` (made by other code or data; the column
    `stale` says why); `superseded` (the frame has a later run of the same configuration and seed);
    `older schema` or `newer schema` (recorded by another version of this program; of a newer one,
    only the folder is known).

    `attrs["licences"]` lists the licences of texts that may not be passed on, `attrs["unusable"]`
    the folders without a usable record, each with the reason. Raises InputError for a column in
    `where` that no run has.
    """
    rows: list[dict[Any, Any]] = []
    unusable: list[list[str]] = []
    for run in _each(runs):
        if not isinstance(run, UnusableRun):
            rows += _rows(run)
            continue
        unusable.append([str(run.folder), run.reason])
        if run.newer:
            rows.append({"run": run.folder.name, "folder": str(run.folder), "state": NEWER})
    _mark_superseded(rows)
    conditions = _conditions(where, rows)
    chosen = [row for row in rows if all(_meets(row, *one) for one in conditions)]
    for row in chosen:
        run, metric = row.pop(RUN, None), row.get("metric")
        if metric is not None and (interval := interval_of(run, metric)):
            row |= {"low": interval.low, "high": interval.high}
    frame = _typed(chosen)
    licences = sorted(set(frame["licence"].dropna()) - {""})
    frame.attrs.update(licences=licences, unusable=unusable)
    return frame


def _each(
    runs: Iterable[Path | Record | UnusableRun],
) -> Iterator[Record | UnusableRun]:
    for run in runs:
        if isinstance(run, Path):
            yield from read_runs([run])
        else:
            yield run


def _rows(run: Record) -> Iterator[dict[Any, Any]]:
    shared: dict[Any, Any] = {**_run_values(run), RUN: run}
    result = run.result
    if not result.metrics:
        yield shared
    for metric, value in (result.metrics or {}).items():
        yield shared | {
            "metric": metric,
            "value": value,
            "main": metric == result.main_metric,
            "higher_is_better": result.metric_facts[metric].higher_is_better,
        }


def _run_values(run: Record) -> dict[str, Any]:
    """What all rows of a run share."""
    result, options = run.result, run.options
    unused = None if result.mode == IMPORTED else "none"
    older = OLDER if result.schema_version < SCHEMA_VERSION else FRESH
    return {
        **options,
        **{name: options.get(name, unused) for name in COMPONENTS},
        "run": run.folder.name,
        "k": result.k,
        "tuned": options.get("k") == TUNE,
        "seed": result.seed,
        "questions": result.counts["questions"],
        "users": _users(run),
        "made_up": result.made_up_data,
        "licence": result.licence,
        "state": STALE if result.stale else older,
        "stale": result.stale,
        "schema_version": result.schema_version,
        "started": result.started,
        "configuration": _digest(run.configuration),
        "baseline": None if run.baseline is None else _digest(run.baseline),
        "folder": str(run.folder),
        "seconds": sum(result.seconds.values()),
        "peak_memory_mb": result.peak_memory_mb,
        **{f"counts.{name}": count for name, count in result.counts.items()},
        **{f"seconds.{stage}": seconds for stage, seconds in result.seconds.items()},
    }


def _digest(configuration: str) -> str:
    return hashlib.sha256(configuration.encode()).hexdigest()[:12]


def _users(run: Record) -> int | None:
    """The number of users who asked; None where examples were not recorded."""
    try:
        users = run.columns("user").get("user")
    except InputError:  # whoever reads the examples themselves is told
        return None
    return None if users is None else len(set(users))


def _typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The frame of these rows: `COLUMNS`, options in the order of their table, numbers."""
    plain = pd.DataFrame(rows, dtype=object)
    known = dict.fromkeys([*COLUMNS, *OPTIONS])
    names = [*known, *sorted(set(plain.columns) - known.keys(), key=_place)]
    kept = [name for name in names if name in plain.columns or name in COLUMNS]
    plain = plain.reindex(columns=kept)
    return pd.DataFrame({name: plain[name].astype(_dtype(name, plain[name])) for name in kept})


def _place(name: str) -> tuple[int, str]:
    """Options of components come first, then versions of data, counts, seconds."""
    return {"data": 1, "counts": 2, "seconds": 3}.get(name.partition(".")[0], 0), name


def _dtype(name: str, values: pd.Series) -> str:
    if name in COLUMNS:
        return COLUMNS[name]
    if name.startswith("counts."):
        return "Int64"
    if name.startswith("seconds."):
        return "float64"
    kinds = {OPTIONS[name].kind} if name in OPTIONS else {type(v) for v in values if not _empty(v)}
    if kinds == {int, float}:
        return "float64"
    return DTYPES.get(kinds.pop(), "object") if len(kinds) == 1 else "object"


def _empty(value: Any) -> bool:
    return value is None or value != value


def _mark_superseded(rows: Iterable[dict[Any, Any]]) -> None:
    """Marks runs that are not stale, but have a later one of their configuration and seed."""
    fresh = [row for row in rows if row["state"] in (FRESH, OLDER)]
    latest: dict[tuple[str, int], str] = {}
    for row in fresh:
        key = row["configuration"], row["seed"]
        latest[key] = max(latest.get(key, ""), row["started"])
    for row in fresh:
        if row["started"] < latest[row["configuration"], row["seed"]]:
            row["state"] = SUPERSEDED


def _conditions(
    where: Mapping[str, Any], rows: Iterable[Mapping[Any, Any]]
) -> list[tuple[str, list[Any]]]:
    """Columns, also named by the labels of options in reports, with the values that they may have.

    Raises InputError for a column that there is not.
    """
    known = {name for row in rows for name in row if name is not RUN} | {*COLUMNS, *OPTIONS}
    names = {option.label: option.name for option in OPTIONS.values()}
    found = []
    for key, value in where.items():
        name = key if key in known else names.get(key, key)
        if name not in known:
            raise InputError(f"{key} is no column of these runs{did_you_mean(key, known)}")
        several = isinstance(value, list | tuple | set | range)
        found.append((name, list(value) if several else [value]))
    return found


def _meets(row: Mapping[Any, Any], name: str, values: Iterable[Any]) -> bool:
    value = row.get(name)
    if name in OPTIONS and name not in row and "mode" in row:
        value = OPTIONS[name].default if only_personal(OPTIONS[name], row["mode"]) else value
    return any(same_value(value, wanted) for wanted in values)
