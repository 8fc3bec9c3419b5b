"""`dry_run`: what would be run, what is finished, and about how long the rest takes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from lamp_exp import config
from lamp_exp.config import ExperimentBuilder
from lamp_exp.errors import InputError
from lamp_exp.experiment.builder import SingleRun
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.learning import needed_artefacts
from lamp_exp.experiment.parts import Parts
from lamp_exp.experiment.routing import RoutedRun
from lamp_exp.experiment.run import run
from lamp_exp.progress import duration, progress
from lamp_exp.results.folder import RunFolder
from lamp_exp.sweeps.plan import SweepPlan
from lamp_exp.sweeps.status import Job, naming_keys, short_name
from lamp_exp.wording import count_of

MEASURE = "measure"  # as dry_run: time a few questions where no finished run tells the time
MAYBE_THERE = " (or there already: its encoder is not on this machine)"
SAMPLES = (4, 12)  # limits of the timed runs; the difference of their times has no fixed costs
Kind = tuple[str, str, str]  # task, mode, model: such runs take about equally long per question


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to do, or one that was started; `questions` counts all parts and all values of k."""

    experiment: Experiment
    configuration: Configuration
    questions: int

    @property
    def kind(self) -> Kind:
        """What its time per question depends on."""
        choices = self.configuration.choices
        return choices["task"], self.experiment.mode, choices["model"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A job as it is on disk: `finished`, `begun`, `to do`, or `cannot run` and why."""

    job: Job
    state: str
    run_name: str | None = None
    planned: tuple[PlannedRun, ...] = ()  # itself, or the candidates of a router
    error: str | None = None
    needs: tuple[str, ...] = ()  # what has to be made before, in order


def show_dry_run(plan: SweepPlan) -> None:
    """Prints the states of a sweep's jobs, and an estimate."""
    forecasts = []
    for job, one in progress(zip(plan.jobs, plan.configs, strict=True), len(plan.jobs), "look"):
        one.activate()
        forecasts.append(forecast(job, one.cfg, one.choices))
    _show(forecasts, plan.configs[0].cfg)


def show_dry_run_alone(cfg: DictConfig) -> None:
    """Prints the state of one experiment, and an estimate."""
    hydra = HydraConfig.get()
    job = Job(0, tuple(hydra.overrides.task), hydra.runtime.choices["task"])
    _show([forecast(job, cfg, dict(hydra.runtime.choices))], cfg)


def _show(forecasts: Sequence[Forecast], cfg: DictConfig) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(_table(forecasts))
    for one in forecasts:
        if one.error:
            name = short_name(one.job, [other.job for other in forecasts])
            console.print(f"{name} cannot run: {one.error}", style="red", markup=False)
    for line in _needs(forecasts):
        print(line)
    for line in estimate(forecasts, Path(cfg.output_dir).expanduser(), cfg.dry_run == MEASURE):
        print(line, flush=True)


def forecast(job: Job, cfg: DictConfig, choices: Mapping[str, str]) -> Forecast:
    """The state of a job on disk; its configuration may be refused."""
    config.draw_seed(cfg)
    output_dir = Path(cfg.output_dir).expanduser()
    builder = ExperimentBuilder(cfg, choices, words=job.overrides)
    try:
        if builder.routed:
            return _routed_forecast(job, RoutedRun.of(builder, output_dir))
        run = SingleRun.of(builder, output_dir)
    except InputError as error:
        return Forecast(job, "cannot run", error=str(error))
    if run.folder.finished:
        return Forecast(job, "finished", run.folder.name)
    return Forecast(
        job, _state(run.folder), run.folder.name, (_planned(run),), needs=_made_for(run)
    )


def _routed_forecast(job: Job, run: RoutedRun) -> Forecast:
    """A routed run needs the runs of its candidates, and all that these need."""
    if run.folder.finished:
        return Forecast(job, "finished", run.folder.name)
    missing = run.missing()
    needs = [line for one in missing.values() for line in _made_for(one)]
    needs += [*missing, *(["router: learns from the candidates"] if run.router.learns else [])]
    planned = tuple(map(_planned, missing.values()))
    return Forecast(job, _state(run.folder), run.folder.name, planned, needs=tuple(needs))


def _state(folder: RunFolder) -> str:
    return "begun" if folder.path.is_dir() else "to do"


def _planned(run: SingleRun) -> PlannedRun:
    questions = sum(len(part.examples) for part in run.parts.by_name.values())
    times = max(len(run.builder.tuned_values), 1)
    return PlannedRun(run.experiment, run.configuration, questions * times)


def _made_for(run: SingleRun) -> tuple[str, ...]:
    """What has to be made before a run, in order."""
    if lines := _unknown_neighbours(run.parts):  # on which artefacts may depend
        return lines
    return tuple(
        f"{artefact.kind}: {artefact.cost()}{MAYBE_THERE if state == 'unknown' else ''}"
        for artefact, state in needed_artefacts(run.experiment, run.configuration, run.parts)
        if state != "there"
    )


def _unknown_neighbours(parts: Parts) -> tuple[str, ...]:
    """A line for each part whose neighbours have not been found yet."""
    lines = []
    for part in [*parts.by_name.values(), *([parts.learning] if parts.learning else [])]:
        neighbours = part.examples.view.neighbours
        if neighbours is None:
            continue
        line = f"neighbours: {len(neighbours.store):,} profiles of {part.reading['part']} to encode"
        try:
            found = neighbours.are_found
        except InputError:
            found, line = False, f"{line}{MAYBE_THERE}"
        lines += [] if found else [line]
    return tuple(dict.fromkeys(lines))


def _needs(forecasts: Sequence[Forecast]) -> list[str]:
    """What has to be made before jobs can run, and which jobs need it."""
    jobs: dict[str, list[str]] = {}
    for one in forecasts:
        for line in one.needs:
            jobs.setdefault(line, []).append(str(one.job.number))
    alone = len(forecasts) == 1
    return [
        f"first {line}" if alone else f"first {line} (jobs {', '.join(numbers)})"
        for line, numbers in jobs.items()
    ]


def _table(forecasts: Sequence[Forecast]) -> Table:
    """One row per job, with the keys in which jobs differ; of a single job, the run's name."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    jobs = [one.job for one in forecasts]
    keys = naming_keys(jobs)
    for name in ["job", *keys] if keys else ["run"]:
        table.add_column(name, overflow="fold")
    table.add_column("state", no_wrap=True)
    for one in forecasts:
        cells = [str(one.job.number), *(one.job.values.get(key, "") for key in keys)]
        table.add_row(*(cells if keys else [one.run_name or "–"]), one.state)
    return table


def estimate(forecasts: Sequence[Forecast], output_dir: Path, measure: bool) -> list[str]:
    """A line for each kind of run that is to do, with its source, and the sum.

    The time comes from finished runs in `output_dir`; with `measure`, a few questions are run
    where there are none.
    """
    kinds: dict[Kind, list[PlannedRun]] = {}
    for one in forecasts:
        for planned in one.planned:
            kinds.setdefault(planned.kind, []).append(planned)
    if not kinds:
        refused = sum(one.error is not None for one in forecasts)
        return [f"{count_of(refused, 'job')} cannot run" if refused else "nothing is to do"]
    rates = finished_rates(output_dir)
    lines, total, missing = [], 0.0, 0
    for kind, runs in progress(kinds.items(), len(kinds), "estimate"):
        seconds, source = _seconds(runs, rates.get(kind), measure)
        time = "no estimate" if seconds is None else f"about {duration(seconds)}"
        lines.append(f"{' '.join(kind)}: {count_of(len(runs), 'job')} to do, {time} ({source})")
        total, missing = total + (seconds or 0), missing + (seconds is None)
    if missing == len(kinds):
        return lines
    rest = f", and {count_of(missing, 'kind')} of run without an estimate" if missing else ""
    return [*lines, f"an estimate, one job after another: about {duration(total)}{rest}"]


def finished_rates(output_dir: Path) -> dict[Kind, tuple[int, float]]:
    """Of each kind of finished run in `output_dir`: how many, and the seconds per question."""
    found: dict[Kind, list[tuple[float, int]]] = {}
    for folder in map(RunFolder, output_dir.glob("*")):
        if result := folder.finished_result():
            choices = result.choices
            kind = (str(choices["task"]), result.mode, str(choices["model"]))
            questions = sum(part.questions for part in result.data.values())
            found.setdefault(kind, []).append((sum(result.seconds.values()), questions))
    return {
        kind: (len(runs), sum(s for s, _ in runs) / max(sum(q for _, q in runs), 1))
        for kind, runs in found.items()
    }


def _seconds(
    runs: Sequence[PlannedRun], known: tuple[int, float] | None, measure: bool
) -> tuple[float | None, str]:
    """The seconds of all runs of one kind, and where the number comes from."""
    questions = sum(run.questions for run in runs)
    if known:
        number, rate = known
        return rate * questions, f"from {count_of(number, 'finished run')} of this kind"
    if not measure:
        return None, "no finished run of this kind; dry_run=measure tries a few questions"
    try:
        fixed, rate = measured(runs[0])
    except Exception as error:  # noqa: BLE001  (a real run, which may fail in any way)
        return None, f"the timed run failed: {type(error).__name__}: {error}"
    return fixed * len(runs) + rate * questions, f"from timed runs with limit={SAMPLES[-1]}"


def measured(run: PlannedRun) -> tuple[float, float]:
    """Runs a few questions in a temporary folder: fixed seconds, and seconds per question."""
    with tempfile.TemporaryDirectory() as folder:
        (few, first), (more, second) = (_timed(run, limit, Path(folder)) for limit in SAMPLES)
    rate = max((second - first) / (more - few), 0.0) if more > few else 0.0
    return max(second - rate * more, 0.0), rate


def _timed(planned: PlannedRun, limit: int, output_dir: Path) -> tuple[int, float]:
    """Questions and seconds of a run of the first questions."""
    from lamp_exp.loggers.csv import csv_logger

    experiment, configuration = planned.experiment, planned.configuration
    trainer = experiment.trainer
    if trainer is not None:
        trainer = replace(trainer, build=partial(trainer.build, enable_progress_bar=False))
    few = min(limit, experiment.data.limit or limit)
    small = replace(
        experiment,
        data=replace(experiment.data, limit=few),
        logger=csv_logger if experiment.logger else None,
        trainer=trainer,
    )
    changed = replace(configuration, changed={**configuration.changed, "limit": few})
    result = run(small, changed, output_dir).folder.read()
    questions = sum(part.questions for part in result.data.values())
    return questions, sum(result.seconds.values())
