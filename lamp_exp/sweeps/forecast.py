"""A dry run: what would be run, what is there already, and about how long the rest takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from lamp_exp.errors import InputError
from lamp_exp.experiment.run import folder_name, run_plan
from lamp_exp.experiment.stages import Plan, gather
from lamp_exp.experiment.tune import PlanOf, tuned_folder
from lamp_exp.progress import progress
from lamp_exp.results.folder import RunFolder
from lamp_exp.sweeps.rules import counted
from lamp_exp.sweeps.status import Job, distinction, given, varying

PROBES = (4, 12)  # questions of each part; the difference of their times leaves out what is fixed
Kind = tuple[str, str, str]  # task, mode, model


@dataclass(frozen=True, slots=True)
class Forecast:
    """A job as it would be: `there`, `begun`, `to do`, or `cannot run` and why."""

    job: Job
    state: str
    run: str | None = None
    plan: Plan | None = None
    questions: int = 0
    error: str | None = None


def forecast(
    job: Job, plan_of: PlanOf, output_dir: Path, k: int, part: str, values: Sequence[int]
) -> Forecast:
    """What lies on disk of a job; `plan_of` makes its plan, which may be refused.

    With `values`, k is to be tuned: about as many runs as there are values.
    """
    try:
        plan = plan_of(values[0] if values else k, part)
        material = gather(plan)
        folder = RunFolder(output_dir / folder_name(plan, material))
        tuned = values if plan.retriever.uses_profile else ()
        if tuned:
            folder = tuned_folder(plan, material, plan_of(values[0], "dev"), values, output_dir)
    except InputError as error:
        return Forecast(job, "cannot run", error=str(error))
    begun = "begun" if folder.path.is_dir() else "to do"
    questions = sum(len(part.examples) for part in material.parts.values()) * max(len(tuned), 1)
    return Forecast(job, "there" if folder.finished else begun, folder.path.name, plan, questions)


def kind(plan: Plan) -> Kind:
    """Runs of one kind take about equally long for each question."""
    return plan.choices["task"], plan.mode.value, plan.choices["model"]


def show(jobs: Sequence[Forecast], output_dir: Path) -> None:
    """The table of jobs, and the estimate as the last line."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(_table(jobs))
    for one in jobs:
        if one.error:
            name = distinction(one.job, [other.job for other in jobs])
            console.print(f"{name} cannot run: {one.error}", style="red", markup=False)
    for line in estimate(jobs, output_dir):
        print(line, flush=True)


def _table(jobs: Sequence[Forecast]) -> Table:
    """By the keys that vary; a single job by its run's name."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    planned = [one.job for one in jobs]
    seeds = {given(job).get("seed") for job in planned}
    keys = [*varying(planned), *(["seed"] if len(seeds) > 1 else [])]
    for name in ["job", *keys] if keys else ["run"]:
        table.add_column(name, overflow="fold")
    table.add_column("state", no_wrap=True)
    for one in jobs:
        values = given(one.job)
        told = [str(one.job.num), *(values.get(key, "") for key in keys)]
        table.add_row(*(told if keys else [one.run or "–"]), one.state)
    return table


def estimate(jobs: Iterable[Forecast], output_dir: Path) -> list[str]:
    """A line for each kind of run that is to do, with what it was estimated from, and the sum."""
    kinds: dict[Kind, list[Forecast]] = {}
    for one in jobs:
        if one.state in ("begun", "to do") and one.plan:
            kinds.setdefault(kind(one.plan), []).append(one)
    if not kinds:
        return ["nothing is to do"]
    known = recorded(output_dir)
    lines, total, missing = [], 0.0, 0
    for which, todo in progress(kinds.items(), len(kinds), "probe"):
        seconds, source = _seconds(todo, known.get(which))
        told = "?" if seconds is None else f"about {duration(seconds)}"
        lines.append(f"{' '.join(which)}: {counted(len(todo), 'job')} to do, {told} ({source})")
        total, missing = total + (seconds or 0), missing + (seconds is None)
    rest = f", and {counted(missing, 'kind')} of run that could not be estimated" if missing else ""
    return [*lines, f"an estimate, one job after another: about {duration(total)}{rest}"]


def recorded(output_dir: Path) -> dict[Kind, tuple[int, float]]:
    """Of each kind of run that is finished there: how many, and seconds for each question."""
    found: dict[Kind, list[tuple[float, int]]] = {}
    for folder in map(RunFolder, output_dir.glob("*")):
        if folder.finished:
            result = folder.result()
            names = result["choices"]
            questions = sum(part["questions"] for part in result["data"].values())
            which = (names["task"], result["mode"], names["model"])
            found.setdefault(which, []).append((sum(result["seconds"].values()), questions))
    return {
        which: (len(runs), sum(s for s, _ in runs) / max(sum(q for _, q in runs), 1))
        for which, runs in found.items()
    }


def _seconds(todo: Sequence[Forecast], known: tuple[int, float] | None) -> tuple[float | None, str]:
    """For all jobs of one kind together, and from what that was estimated."""
    questions = sum(one.questions for one in todo)
    if known:
        runs, rate = known
        return rate * questions, f"from {counted(runs, 'finished run')} of this kind"
    plan = todo[0].plan
    assert plan, "what is to do has a plan"
    try:
        fixed, rate = probe(plan)
    except Exception as error:  # noqa: BLE001  (the probe is a real run: whatever it says is told)
        return None, f"the probe failed: {type(error).__name__}: {error}"
    return fixed * len(todo) + rate * questions, f"from probes with limit={PROBES[-1]}"


def probe(plan: Plan) -> tuple[float, float]:
    """Really runs a few questions, elsewhere: fixed seconds, and seconds for each question."""
    with tempfile.TemporaryDirectory() as elsewhere:
        (few, first), (more, second) = (_timed(plan, limit, Path(elsewhere)) for limit in PROBES)
    rate = max((second - first) / (more - few), 0.0) if more > few else 0.0
    return max(second - rate * more, 0.0), rate


def _timed(plan: Plan, limit: int, output_dir: Path) -> tuple[int, float]:
    """Questions and seconds of a run of the first few questions; its curves are not kept."""
    from lamp_exp.loggers.csv import csv_logger

    logger = csv_logger if plan.logger else None
    trainer = partial(plan.trainer, enable_progress_bar=False) if plan.trainer else None
    small = replace(plan, limit=min(limit, plan.limit or limit), logger=logger, trainer=trainer)
    result = run_plan(small, output_dir).folder.result()
    questions = sum(part["questions"] for part in result["data"].values())
    return questions, sum(result["seconds"].values())


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2 days 4 h`."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"
