"""The result of a sweep: one row per configuration, averaged over its seeds."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from lamp_exp.results.display import tallied_remarks
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.schema import RunResult
from lamp_exp.storage.atomic import write_json
from lamp_exp.sweeps.plan import SweepPlan
from lamp_exp.sweeps.rules import describe
from lamp_exp.sweeps.slurm import cancel_command
from lamp_exp.sweeps.status import (
    REFUSED,
    SHOWN,
    Job,
    JobStatus,
    short_name,
    varying_keys,
)
from lamp_exp.wording import count_of

STATES = ("done", "there", "failed", "stopped")
UNUSUAL = (REFUSED, "running")
EXAMPLES = "examples.parquet"
TITLE = ("task", "split", "part", "mode", "retriever", "k", "augmentation", "model")
MIN_KEY_WIDTH = 10  # characters of a key's values that stay on one line on a narrow screen
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job, its final status, and the records of its run and of that run's baseline."""

    job: Job
    status: JobStatus
    result: RunResult | None
    baseline: RunResult | None

    @property
    def stale(self) -> str | None:
        """Why the run should not be compared with current ones, if so."""
        return self.result.stale if self.result else None


def _ended_job(job: Job, status: JobStatus) -> EndedJob:
    if not status.has_result:
        return EndedJob(job, status, None, None)
    result, baseline = (
        RunFolder(Path(folder)).finished_result() if folder else None
        for folder in (status.run, status.baseline)
    )
    return EndedJob(job, status, result, baseline)


# --- the digest as data -------------------------------------------------------------------------


def summarize(sweep: Path, plan: SweepPlan, statuses: Mapping[int, JobStatus]) -> dict[str, Any]:
    """The digest as data; `statuses` has the final status of each job by its number."""
    planned = sorted(plan.jobs, key=lambda job: job.planned_number)  # whatever the waves were
    jobs = [_ended_job(job, statuses[job.number]) for job in planned]
    states = Counter(job.status.state for job in jobs)
    counts = {**{state: states[state] for state in STATES}, "left_out": len(plan.excluded)}
    keys = varying_keys(planned)
    return {
        "sweep": str(sweep),
        "counts": counts | {state: states[state] for state in UNUSUAL if states[state]},
        "left_out": describe(plan.excluded),
        "keys": keys,
        "rows": [_row(group, keys) for group in _grouped(jobs, keys)],
        "failures": [_failure(job, plan.jobs) for job in jobs if job.status.state == "failed"],
        "not_run": [
            *plan.not_run,
            *(
                f"not run: {short_name(job.job, plan.jobs)}: {job.status.error}"
                for job in jobs
                if job.status.state == REFUSED
            ),
        ],
        "remarks": _remarks([job.result for job in jobs if job.result]),
        "next": _next_steps(sweep, states),
    }


def _grouped(jobs: Sequence[EndedJob], keys: Sequence[str]) -> list[list[EndedJob]]:
    """Jobs that differ only in the seed; stale runs are apart from the others."""
    groups: dict[tuple[object, ...], list[EndedJob]] = {}
    for job in jobs:
        values = job.job.values
        groups.setdefault((*(values.get(key) for key in keys), job.stale), []).append(job)
    return list(groups.values())


def _row(group: Sequence[EndedJob], keys: Sequence[str]) -> dict[str, Any]:
    values = group[0].job.values
    finished = [(job, job.result) for job in group if job.result]
    return {
        "keys": {key: values.get(key) for key in keys},
        "task": group[0].job.task,
        "common": _title_values(finished[0][1]) if finished else {},
        "stale": group[0].stale,
        "n": len(finished),
        "jobs": len(group),
        "questions": finished[0][1].counts["questions"] if finished else None,
        "metrics": _metrics([job for job, _ in finished]),
        "intervals": _intervals([job for job, _ in finished]),
        "seeds": [
            {"seed": result.seed, "run": job.status.run, "metrics": result.metrics}
            for job, result in finished
        ],
    }


def _title_values(result: RunResult) -> dict[str, str]:
    """What a table's title says of a run."""
    known = {**result.choices, "split": result.split, "part": result.part, "mode": result.mode}
    known["k"] = str(result.k)
    names = TITLE[: TITLE.index("k")] if result.mode == "rank" else TITLE
    return {name: str(known[name]) for name in names if name in known}


def _metrics(jobs: Sequence[EndedJob]) -> dict[str, dict[str, Any]]:
    """Per metric: the mean over seeds, its sample standard deviation, and the gain.

    `difference` is the mean minus that of the baselines; `gain` is the same, positive where it is
    better. Both are None unless every run has a finished baseline.
    """
    results = [job.result for job in jobs if job.result and job.result.metrics]
    baselines = [b.metrics for job in jobs if (b := job.baseline) and b.metrics]
    found = {}
    for name in results[0].metrics or () if results else ():
        facts = results[0].metric_facts[name]
        values = [result.metrics[name] for result in results if result.metrics]
        difference = None
        if len(baselines) == len(values):
            difference = mean(values) - mean(metrics[name] for metrics in baselines)
        sign = 1 if facts.higher_is_better else -1
        found[name] = {
            "higher_is_better": facts.higher_is_better,
            "mean": mean(values),
            "sd": stdev(values) if len(values) > 1 else None,
            "difference": difference,
            "gain": None if difference is None else sign * difference + 0.0,  # no -0.0
        }
    return found


def _intervals(jobs: Sequence[EndedJob]) -> dict[str, dict[str, Any]]:
    """Per metric: the 95% interval over questions, of the mean over seeds.

    Left out where scores are not recorded or damaged, or the seeds answered other questions.
    """
    from lamp_exp.statistics import interval, mean_over_seeds, metric_sample

    scored = [job for job in jobs if job.result and job.result.metrics]
    tables = [_examples(job) for job in scored]
    if not tables or any(t is None or t["id"] != tables[0]["id"] for t in tables):
        return {}
    found = {}
    for name, facts in scored[0].result.metric_facts.items() if scored[0].result else ():
        samples = [metric_sample(name, facts, partial(_column, table)) for table in tables]
        known = [sample for sample in samples if sample is not None]
        if len(known) == len(samples):
            one = interval(mean_over_seeds(known))
            found[name] = {
                "low": None if isnan(one.low) else one.low,
                "high": None if isnan(one.high) else one.high,
                "method": one.method, "users": one.users, "caution": one.caution,
            }  # fmt: skip
    return found


def _examples(job: EndedJob) -> Any:
    """The table of a run's examples; None if there is none, or it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(Path(job.status.run or "") / EXAMPLES)
    except (OSError, pa.ArrowException):
        return None


def _column(table: Any, name: str) -> list[Any] | None:
    return table[name].to_pylist() if name in table.column_names else None


def _failure(job: EndedJob, jobs: Sequence[Job]) -> dict[str, Any]:
    words = " ".join(map(shlex.quote, job.status.repeatable_overrides))
    return {
        "job": job.job.number,
        "name": short_name(job.job, jobs),
        "error": job.status.error,
        "traceback": job.status.traceback,
        "redo": f"python -m lamp_exp {words}",
    }


def _remarks(results: Sequence[RunResult]) -> list[str]:
    """What a reader must be careful about, and in how many runs."""
    runs = count_of(len(results), "run")
    lines = [f"{number} of {runs}: {line}" for line, number in tallied_remarks(results)]
    made_up = sum(result.made_up_data for result in results)
    return [f"{made_up} of {runs}: made-up sample, not LaMP", *lines] if made_up else lines


def _next_steps(sweep: Path, states: Mapping[str, int]) -> list[str]:
    """How to go on with a sweep that was stopped."""
    lines = []
    if states["running"]:
        jobs = count_of(states["running"], "job")
        lines.append(f"{jobs} go on without this command; to end them: {cancel_command(sweep)}")
    if states["running"] or states["stopped"]:
        lines.append("to go on, give the same command again: finished runs are not repeated")
    return lines


def write(sweep: Path, summary: Mapping[str, Any]) -> None:
    """Writes `summary.json` in the sweep's folder."""
    write_json(sweep / "summary.json", summary)


# --- the digest on screen -----------------------------------------------------------------------


def show(summary: Mapping[str, Any]) -> None:
    """Prints tables, counts, failures and remarks, and last the sweep's folder."""
    console = Console(soft_wrap=True, highlight=False)
    for rows in _same_metrics(summary["rows"]):
        for table in _fitting_tables(console, rows, summary["keys"]):
            console.print(table)
            console.print()
    console.print(_count_table(summary["counts"]))
    console.print()
    if line := _direction_line(summary["rows"]):
        console.print(line)
    for line in _interval_lines(summary["rows"]):
        console.print(line, markup=False)
    for line in (*summary["left_out"], *summary["not_run"]):
        console.print(line, markup=False)
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for failure in summary["failures"]:
        alike.setdefault(failure["error"], []).append(failure)
    for failures in alike.values():
        for line in _failure_lines(failures):
            console.print(line, style="red", markup=False)
    for line in summary["remarks"]:
        console.print(line, style="yellow", markup=False)
    for line in summary["next"]:
        console.print(line, markup=False)
    print(summary["sweep"], flush=True)


def _same_metrics(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows with the same metrics together; a row without any goes with its task's others."""
    rows = list(rows)
    metrics = {row["task"]: tuple(row["metrics"]) for row in rows if row["metrics"]}
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(metrics.get(row["task"], ()), []).append(row)
    return list(groups.values())


def _fitting_tables(console: Console, rows: Sequence[Row], keys: Sequence[str]) -> list[Table]:
    """One table, or one for each metric where the screen is too narrow."""
    names = next((list(row["metrics"]) for row in rows if row["metrics"]), [])
    table = _table(rows, keys, names)
    width = Measurement.get(console, console.options.update(width=10_000), table).maximum
    if len(names) < 2 or width <= console.width:
        return [table]
    return [_table(rows, keys, [name]) for name in names]


def _table(rows: Sequence[Row], keys: Sequence[str], names: Sequence[str]) -> Table:
    table = Table(
        title=_title(rows, keys), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        show_edge=False,
    )  # fmt: skip
    for key in keys:
        longest = max(len(str(row["keys"][key] or "")) for row in rows)
        table.add_column(key, overflow="fold", min_width=min(longest, MIN_KEY_WIDTH))
    table.add_column("questions", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    has_gains = any(m["gain"] is not None for row in rows for m in row["metrics"].values())
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
        if _has_interval(rows, name):
            table.add_column("95% interval", justify="right", no_wrap=True)
        if has_gains:
            table.add_column("gain", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, keys, names, has_gains, rows))
    return table


def _has_interval(rows: Sequence[Row], name: str) -> bool:
    return any(row["intervals"].get(name, {}).get("low") is not None for row in rows)


def _cells(
    row: Row, keys: Sequence[str], names: Sequence[str], has_gains: bool, rows: Sequence[Row]
) -> list[str]:
    seeds = str(row["n"]) if row["n"] == row["jobs"] else f"{row['n']} of {row['jobs']}"
    cells = [str(row["keys"][key] or "") for key in keys]
    cells.append(str(row["questions"] or ""))
    cells.append(f"stale, {seeds}" if row["stale"] else seeds)
    for name in names:
        metric = row["metrics"].get(name)
        cells.append(_value(metric))
        if _has_interval(rows, name):
            cells.append(_interval(row["intervals"].get(name)))
        if has_gains:
            gain = metric and metric["gain"]
            cells.append("" if gain is None else f"{gain:+.4f}")
    return cells


def _value(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "–"
    spread = "" if metric["sd"] is None else f" ± {metric['sd']:.4f}"
    return f"{metric['mean']:.4f}{spread}"


def _interval(one: Mapping[str, Any] | None) -> str:
    if one is None or one["low"] is None:
        return "–"
    return f"[{one['low']:.3f}, {one['high']:.3f}]{'°' if one['caution'] else ''}"


def _interval_lines(rows: Iterable[Row]) -> list[str]:
    """How the intervals were made, and why those with ° may cover less."""
    from lamp_exp.statistics import caution_notes

    found = [
        item for row in rows for item in row["intervals"].items() if item[1]["low"] is not None
    ]
    methods: dict[str, dict[str, None]] = {}
    for name, one in found:
        users = f" ({count_of(one['users'], 'user')})" if one["users"] else ""
        methods.setdefault(f"{one['method']}{users}", {})[name] = None
    lines = [f"95% interval over questions ({', '.join(n)}): {m}" for m, n in methods.items()]
    return [*lines, *caution_notes(one["caution"] for _, one in found)]


def _title(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """What all rows of a table have in common."""
    known = [row["common"] for row in rows if row["common"]]
    words = []
    for key in TITLE:
        values = {common.get(key) for common in known}
        if key not in keys and len(values) == 1 and None not in values:
            value = values.pop()
            words.append(f"k={value}" if key == "k" else str(value))
    return " ".join(words)


def _direction_line(rows: Iterable[Row]) -> str:
    """What `gain` means, if a table has it, and which metrics are errors."""
    metrics = [item for row in rows for item in row["metrics"].items()]
    if all(metric["gain"] is None for _, metric in metrics):
        return ""
    lower = dict.fromkeys(name for name, metric in metrics if not metric["higher_is_better"])
    errors = f" (lower is better: {', '.join(lower)})" if lower else ""
    return f"gain: over the run without a profile, positive where it is better{errors}"


def _count_table(counts: Mapping[str, int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name, number in counts.items():
        bad = name in ("failed", "stopped") and number
        shown = SHOWN.get(name, name).lower()
        table.add_column(shown, justify="right", style="red" if bad else "")
    table.add_row(*map(str, counts.values()))
    return table


def _failure_lines(alike: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines on failures with the same error, of which the first one stands for all."""
    first = alike[0]
    lines = [f"FAILED {first['name']}: {first['error']}"]
    if first["traceback"]:
        lines.append(f"  traceback: {first['traceback']}")
    lines.append(f"  redo: {first['redo']}")
    if others := [failure["name"] for failure in alike[1:]]:
        lines.append(
            f"  the same error in {count_of(len(others), 'more job')}: {'; '.join(others)}"
        )
    return lines
