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

from lamp_exp.config import ExperimentBuilder
from lamp_exp.errors import InputError
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.identity import run_name
from lamp_exp.experiment.run import run, run_identity
from lamp_exp.experiment.stages import load_parts
from lamp_exp.experiment.tune import tuned_folder
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
    experiment: Experiment | None = None
    configuration: Configuration | None = None
    questions: int = 0
    error: str | None = None


def forecast(job: Job, builder: ExperimentBuilder, output_dir: Path) -> Forecast:
    """The state of a job on disk; its configuration may be refused.

    If k is to be tuned, it counts as as many runs as there are values.
    """
    try:
        values = builder.tuned_values
        experiment, configuration = builder.build(values[0] if values else None)
        parts = load_parts(experiment)
        if values:
            folder, _ = tuned_folder(builder.build, experiment, configuration, parts, output_dir)
        else:
            identity = run_identity(experiment, configuration, parts)
            name = run_name(identity, experiment.usage, configuration.choices)
            folder = RunFolder(output_dir / name)
    except InputError as error:
        return Forecast(job, "cannot run", error=str(error))
    begun = "begun" if folder.path.is_dir() else "to do"
    questions = sum(len(part.examples) for part in parts.by_name.values()) * max(len(values), 1)
    state = "there" if folder.finished else begun
    return Forecast(job, state, folder.path.name, experiment, configuration, questions)


def kind(configuration: Configuration) -> Kind:
    """Runs of one kind take about equally long per question."""
    choices = configuration.choices
    return choices["task"], str(configuration.value("mode")), choices["model"]


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
        if one.state in ("begun", "to do") and one.configuration:
            kinds.setdefault(kind(one.configuration), []).append(one)
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
    experiment, configuration = todo[0].experiment, todo[0].configuration
    assert experiment and configuration, "what is to do has both"
    try:
        fixed, rate = probe(experiment, configuration)
    except Exception as error:  # noqa: BLE001  (the probe is a real run: whatever it says is told)
        return None, f"the probe failed: {type(error).__name__}: {error}"
    return fixed * len(todo) + rate * questions, f"from probes with limit={PROBES[-1]}"


def probe(experiment: Experiment, configuration: Configuration) -> tuple[float, float]:
    """Really runs a few questions, elsewhere: fixed seconds, and seconds per question."""

    def timed(limit: int) -> tuple[int, float]:
        return _timed(experiment, configuration, limit, Path(elsewhere))

    with tempfile.TemporaryDirectory() as elsewhere:
        (few, first), (more, second) = map(timed, PROBES)
    rate = max((second - first) / (more - few), 0.0) if more > few else 0.0
    return max(second - rate * more, 0.0), rate


def _timed(
    experiment: Experiment, configuration: Configuration, limit: int, output_dir: Path
) -> tuple[int, float]:
    """Questions and seconds of a run of the first few questions; its curves are not kept."""
    from lamp_exp.loggers.csv import csv_logger

    trainer = experiment.trainer
    if trainer is not None:
        quiet = partial(trainer.build, enable_progress_bar=False)
        trainer = replace(trainer, build=quiet)
    few = min(limit, experiment.data.limit or limit)
    small = replace(
        experiment,
        data=replace(experiment.data, limit=few),
        logger=csv_logger if experiment.logger else None,
        trainer=trainer,
    )
    small_configuration = replace(configuration, changed={**configuration.changed, "limit": few})
    result = run(small, small_configuration, output_dir).folder.read()
    questions = sum(part.questions for part in result.data.values())
    return questions, sum(result.seconds.values())


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
