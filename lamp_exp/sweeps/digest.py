"""What came of a sweep: a row for each configuration, over its seeds; as data and on screen."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from lamp_exp.results.display import warnings
from lamp_exp.results.folder import RunFolder, write_json
from lamp_exp.results.schema import RunResult
from lamp_exp.sweeps.rules import LeftOut, counted, told
from lamp_exp.sweeps.status import Job, Status, distinction, given, varying

STATES = ("done", "there", "failed", "stopped")
TITLE = ("task", "split", "part", "mode", "retriever", "k", "augmentation", "model")
KEY_WIDTH = 10  # characters of a key's values that a narrow screen shows in one line
Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """A job and what came of it; the record of its run, and of the same run without a profile."""

    job: Job
    status: Status
    result: Result | None
    baseline: Result | None

    @property
    def stale(self) -> str | None:
        """Why the record no longer holds, if so."""
        return self.result.get("stale") if self.result else None


def ended(jobs: Sequence[Job], statuses: Mapping[int, Status]) -> list[Ended]:
    """The jobs with what lies on disk of them."""
    made = []
    for job in jobs:
        status = statuses[job.num]
        finished = status.state in ("done", "there")
        result = _result(status.run) if finished else None
        made.append(Ended(job, status, result, _result(status.twin) if finished else None))
    return made


def _result(folder: str | None) -> Result | None:
    run = RunFolder(Path(folder)) if folder else None
    return run.result() if run and run.finished else None


def summarise(sweep: Path, jobs: Sequence[Ended], left: Sequence[LeftOut]) -> dict[str, Any]:
    """The digest as data, which is also written to `summary.json`."""
    all_jobs = [one.job for one in jobs]
    states = Counter(one.status.state for one in jobs)
    keys = varying(all_jobs)
    return {
        "sweep": str(sweep),
        "counts": {**{state: states[state] for state in STATES}, "left_out": len(left)},
        "left_out": told(left),
        "keys": keys,
        "rows": [_row(group, keys) for group in _grouped(jobs, keys)],
        "failures": [_failure(o, all_jobs) for o in jobs if o.status.state == "failed"],
        "remarks": _remarks([one.result for one in jobs if one.result]),
    }


def _grouped(jobs: Sequence[Ended], keys: Sequence[str]) -> list[list[Ended]]:
    """Jobs that differ in nothing but the seed; what is stale apart from what is fresh."""
    groups: dict[tuple[object, ...], list[Ended]] = {}
    for one in jobs:
        values = given(one.job)
        groups.setdefault((*(values.get(key) for key in keys), one.stale), []).append(one)
    return list(groups.values())


def _row(group: Sequence[Ended], keys: Sequence[str]) -> dict[str, Any]:
    values = given(group[0].job)
    finished = [one for one in group if one.result]
    return {
        "keys": {key: values.get(key) for key in keys},
        "task": group[0].job.task,
        "common": _common(finished),
        "stale": group[0].stale,
        "n": len(finished),
        "jobs": len(group),
        "metrics": _metrics(finished),
        "seeds": [_seed(one) for one in finished],
    }


def _common(finished: Sequence[Ended]) -> dict[str, str]:
    """What the finished runs have in common, for a table's title."""
    if not finished or finished[0].result is None:
        return {}
    result = finished[0].result
    known = {**result["choices"], **{key: result[key] for key in ("split", "part", "mode", "k")}}
    used = TITLE[: TITLE.index("k")] if result["mode"] == "rank" else TITLE
    return {key: str(known[key]) for key in used if key in known}


def _metrics(finished: Sequence[Ended]) -> dict[str, dict[str, float | None]]:
    """Mean, sample standard deviation, and mean difference to the runs without a profile."""
    scored = [one for one in finished if one.result and one.result["metrics"]]
    found: dict[str, dict[str, float | None]] = {}
    for name in scored[0].result["metrics"] if scored and scored[0].result else ():
        values = [float(one.result["metrics"][name]) for one in scored if one.result]
        bases = [float(one.baseline["metrics"][name]) for one in scored if one.baseline]
        found[name] = {
            "mean": mean(values),
            "sd": stdev(values) if len(values) > 1 else None,
            "difference": mean(values) - mean(bases) if len(bases) == len(values) else None,
        }
    return found


def _seed(one: Ended) -> dict[str, Any]:
    assert one.result, "only finished runs are listed"
    metrics = one.result["metrics"]
    return {"seed": one.result["seed"], "run": one.status.run, "metrics": metrics}


def _failure(one: Ended, jobs: Sequence[Job]) -> dict[str, Any]:
    words = " ".join(map(shlex.quote, one.status.overrides))
    return {
        "job": one.job.num,
        "name": distinction(one.job, jobs),
        "error": one.status.error,
        "traceback": one.status.traceback,
        "redo": f"python -m lamp_exp {words}",
    }


def _remarks(results: Sequence[Result]) -> list[str]:
    """How many runs had what a reader must be wary of."""
    counts = Counter(
        line for result in results for line in set(warnings(RunResult.from_json(result)))
    )
    lines = [f"{number} of {counted(len(results), 'run')}: {line}" for line, number in
             sorted(counts.items(), key=lambda item: -item[1])]  # fmt: skip
    made_up = sum(bool(result["made_up_data"]) for result in results)
    told_first = f"{made_up} of {counted(len(results), 'run')}: made-up sample, not LaMP"
    return [told_first, *lines] if made_up else lines


def write(sweep: Path, summary: Mapping[str, Any]) -> None:
    """`summary.json` in the sweep's folder."""
    write_json(sweep / "summary.json", summary)


def show(summary: Mapping[str, Any]) -> None:
    """On screen: the tables, the counts, the failures, the remarks; last, the sweep's folder."""
    console = Console(soft_wrap=True, highlight=False)
    for rows in _tables(summary["rows"]):
        for table in _fitted(console, rows, summary["keys"]):
            console.print(table)
            console.print()
    console.print(_counts(summary["counts"]))
    console.print()
    for line in summary["left_out"]:
        console.print(line)
    for failure in summary["failures"]:
        for line in _told(failure):
            console.print(line, style="red", markup=False)
    for line in summary["remarks"]:
        console.print(line, style="yellow", markup=False)
    print(summary["sweep"], flush=True)


def _tables(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows with the same metrics together; where all seeds failed, with their task's others."""
    rows = list(rows)
    metrics = {row["task"]: tuple(row["metrics"]) for row in rows if row["metrics"]}
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(metrics.get(row["task"], ()), []).append(row)
    return list(groups.values())


def _fitted(
    console: Console, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[Table]:
    """One table, or one for each metric where the screen is too narrow for all."""
    names = next((list(row["metrics"]) for row in rows if row["metrics"]), [])
    whole = _table(rows, keys, names)
    wanted = Measurement.get(console, console.options.update(width=10_000), whole).maximum
    if len(names) < 2 or wanted <= console.width:
        return [whole]
    return [_table(rows, keys, [name]) for name in names]


def _table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], names: Sequence[str]) -> Table:
    title = _title(rows, keys)
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False
    )
    for key in keys:
        longest = max(len(str(row["keys"][key] or "")) for row in rows)
        table.add_column(key, overflow="fold", min_width=min(longest, KEY_WIDTH))
    table.add_column("n", justify="right", no_wrap=True)
    compared = any(m["difference"] is not None for row in rows for m in row["metrics"].values())
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
        if compared:
            table.add_column("vs k=0", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, keys, names, compared))
    return table


def _cells(
    row: Mapping[str, Any], keys: Sequence[str], names: Sequence[str], compared: bool
) -> list[str]:
    missing = row["n"] < row["jobs"]
    count = f"{row['n']} of {row['jobs']}" if missing else str(row["n"])
    cells = [str(row["keys"][key] or "") for key in keys]
    cells.append(f"stale, {count}" if row["stale"] else count)
    for name in names:
        metric = row["metrics"].get(name)
        cells.append(_value(metric))
        if compared:
            other = metric and metric["difference"]
            cells.append("" if other is None else f"{other:+.4f}")
    return cells


def _value(metric: Mapping[str, float | None] | None) -> str:
    if metric is None:
        return "–"
    spread = "" if metric["sd"] is None else f" ± {metric['sd']:.4f}"
    return f"{metric['mean']:.4f}{spread}"


def _title(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """What all rows of a table share."""
    known = [row["common"] for row in rows if row["common"]]
    words = []
    for key in TITLE:
        values = {common.get(key) for common in known}
        if key not in keys and len(values) == 1 and None not in values:
            value = values.pop()
            words.append(f"k={value}" if key == "k" else str(value))
    return " ".join(words)


def _counts(counts: Mapping[str, int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name, number in counts.items():
        bad = name in ("failed", "stopped") and number
        table.add_column(name.replace("_", " "), justify="right", style="red" if bad else "")
    table.add_row(*map(str, counts.values()))
    return table


def _told(failure: Mapping[str, Any]) -> list[str]:
    where = [f"  traceback: {failure['traceback']}"] if failure["traceback"] else []
    head = f"FAILED {failure['name']}: {failure['error']}"
    return [head, *where, f"  redo: {failure['redo']}"]
