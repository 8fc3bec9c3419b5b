"""`dry_run`: what would be run, what is finished, and about how long the rest takes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

from lamp_exp.experiment.builder import SingleRun
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.run import run
from lamp_exp.progress import progress
from lamp_exp.sweeps.estimates import NO_ESTIMATE, Estimate, Experience, Kind
from lamp_exp.sweeps.plan import JobConfig, SweepPlan
from lamp_exp.sweeps.requirements import THERE, UNKNOWN, Needs, Requirement
from lamp_exp.sweeps.schedule import Schedule
from lamp_exp.sweeps.status import Job, naming_keys, short_name
from lamp_exp.wording import count_of

MEASURE = "measure"  # as dry_run: time a few questions where no finished run tells the time
MAYBE_THERE = " (or there already: its encoder is not on this machine)"
SAMPLES = (4, 12)  # limits of the timed runs; the difference of their times has no fixed costs


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to do, or one that was started; `questions` counts all parts and all values of k."""

    folder: Path
    experiment: Experiment
    configuration: Configuration
    questions: int

    @classmethod
    def of(cls, run: SingleRun) -> PlannedRun:
        questions = sum(len(part.examples) for part in run.parts.by_name.values())
        times = max(len(run.builder.tuned_values), 1)
        return cls(run.folder.path, run.experiment, run.configuration, questions * times)

    @property
    def kind(self) -> Kind:
        """What its time per question depends on."""
        choices = self.configuration.choices
        return choices["task"], self.experiment.mode, choices["model"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A job with its wave, from 1, and what it needs."""

    job: Job
    wave: int
    needs: Needs

    @property
    def state(self) -> str:
        """On disk: `finished`, `begun`, `to do`, or `cannot run`."""
        if self.needs.error is not None or self.needs.run is None:
            return "cannot run"
        if self.needs.run.finished:
            return "finished"
        return "begun" if self.needs.run.path.is_dir() else "to do"

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to do for it."""
        return self.state in ("finished", "cannot run")

    @property
    def planned(self) -> list[PlannedRun]:
        """The runs to do: itself, or the candidates of a router."""
        if self.is_settled:
            return []
        singles = [self.needs.single, *(one.run for one in self.needs.missing)]
        return [PlannedRun.of(one) for one in singles if one is not None]


def show_dry_run(plan: SweepPlan) -> None:
    """Prints the states of a sweep's jobs wave by wave, what they need, and an estimate."""
    waves, needs = Schedule(plan).forecast()
    places = [(place, wave) for wave, members in enumerate(waves, 1) for place in members]
    forecasts = [
        Forecast(replace(plan.jobs[place], number=number), wave, needs[place])
        for number, (place, wave) in enumerate(places)
    ]
    _show(forecasts, plan.configs[0].cfg)


def show_dry_run_alone(cfg: DictConfig) -> None:
    """Prints the state of one experiment, what it needs, and an estimate."""
    hydra = HydraConfig.get()
    job = Job(0, tuple(hydra.overrides.task), hydra.runtime.choices["task"])
    composed = JobConfig(cfg, OmegaConf.create({"hydra": hydra}))
    _, (needs,) = Schedule(SweepPlan([job], [composed], [])).forecast()
    _show([Forecast(job, 1, needs)], cfg)


def _show(forecasts: Sequence[Forecast], cfg: DictConfig) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(_table(forecasts))
    for line in _refusals(forecasts):
        console.print(line, style="red", markup=False)
    experience = Experience.of(Path(cfg.output_dir).expanduser())
    made = _requirements(forecasts)
    costs = {one.key: _cost(one, experience) for one, _ in made if one.state != THERE}
    for line in _requirement_lines(made, costs, alone=len(forecasts) == 1):
        print(line)
    for line in _estimate(forecasts, experience, list(costs.values()), cfg.dry_run == MEASURE):
        print(line, flush=True)


def _refusals(forecasts: Sequence[Forecast]) -> list[str]:
    """A line for each reason why jobs cannot run, with all of these jobs."""
    jobs = [one.job for one in forecasts]
    reasons: dict[str, list[str]] = {}
    for one in forecasts:
        if one.needs.error:
            reasons.setdefault(one.needs.error, []).append(short_name(one.job, jobs))
    return [
        f"{names[0] if len(names) == 1 else count_of(len(names), 'job')} cannot run: {reason}"
        + (f" ({'; '.join(names)})" if len(names) > 1 else "")
        for reason, names in reasons.items()
    ]


def _requirements(forecasts: Sequence[Forecast]) -> list[tuple[Requirement, list[int]]]:
    """What jobs need, what is needed first, and the numbers of the jobs that need it."""
    found: dict[str, tuple[Requirement, list[int]]] = {}
    for one in forecasts:
        for requirement in one.needs.requires:
            found.setdefault(requirement.key, (requirement, []))[1].append(one.job.number)
    return list(found.values())


def _cost(requirement: Requirement, experience: Experience) -> Estimate | None:
    """What making it takes; None for runs, which are estimated apart."""
    if requirement.artefact is None:
        return Estimate() if requirement.run is None else None
    units = requirement.artefact.cost().units
    return experience.of_artefact(requirement.artefact.kind, units)


def _requirement_lines(
    made: Sequence[tuple[Requirement, Sequence[int]]],
    costs: Mapping[str, Estimate | None],
    alone: bool,
) -> list[str]:
    lines = []
    for one, numbers in made:
        jobs = "" if alone else f" (jobs {', '.join(map(str, numbers))})"
        if one.state == THERE:
            lines.append(f"there is {one.what}{jobs}")
            continue
        cost = costs[one.key]
        maybe = MAYBE_THERE if one.state == UNKNOWN else ""
        lines.append(f"first {one.what}{maybe}{jobs}{'' if cost is None else f': {cost}'}")
    return lines


def _table(forecasts: Sequence[Forecast]) -> Table:
    """One row per job, with the keys in which jobs differ; of a single job, the run's name."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    jobs = [one.job for one in forecasts]
    keys, in_waves = naming_keys(jobs), any(one.wave > 1 for one in forecasts)
    for name in ["job", *keys] if keys else ["run"]:
        table.add_column(name, overflow="fold")
    for name in [*(["wave"] if in_waves else []), "state"]:
        table.add_column(name, no_wrap=True)
    for one in forecasts:
        cells = [str(one.job.number), *(one.job.values.get(key, "") for key in keys)]
        name = one.needs.run.name if one.needs.run else "–"
        wave = [str(one.wave)] if in_waves else []
        table.add_row(*(cells if keys else [name]), *wave, one.state)
    return table


def _estimate(
    forecasts: Sequence[Forecast],
    experience: Experience,
    artefacts: Sequence[Estimate | None],
    measure: bool,
) -> list[str]:
    """A line for each kind of run that is to do, with its source, and the sum.

    The time comes from finished runs; with `measure`, a few questions are run where there are none.
    """
    kinds: dict[Kind, dict[Path, PlannedRun]] = {}
    for one in forecasts:
        for planned in one.planned:
            kinds.setdefault(planned.kind, {}).setdefault(planned.folder, planned)
    if all(one.is_settled for one in forecasts):
        refused = sum(one.needs.error is not None for one in forecasts)
        return [f"{count_of(refused, 'job')} cannot run" if refused else "nothing to do"]
    unnamed = sum(not (one.planned or one.is_settled) for one in forecasts)
    lines, found, missing = [], list[Estimate](), 0
    for kind, runs in progress(kinds.items(), len(kinds), "estimate"):
        cost, source = _cost_of_runs(list(runs.values()), kind, experience, measure)
        lines.append(f"{' '.join(kind)}: {count_of(len(runs), 'job')} to do, {cost} ({source})")
        found, missing = [*found, cost], missing + (cost.seconds is None)
    known = [one for one in (*found, *artefacts) if one is not None]
    if unnamed:
        lines.append(
            f"{count_of(unnamed, 'job')} of which other runs decide what is to do: {NO_ESTIMATE}"
        )
    if all(one.seconds is None for one in known):
        return lines
    total = Estimate(sum(o.seconds or 0 for o in known), sum(o.bytes or 0 for o in known))
    unknown = sum(one.seconds is None for one in known) + unnamed
    rest = f", and {count_of(unknown, 'part')} without an estimate" if unknown else ""
    return [*lines, f"an estimate, one job after another: {total}{rest}"]


def _cost_of_runs(
    runs: Sequence[PlannedRun], kind: Kind, experience: Experience, measure: bool
) -> tuple[Estimate, str]:
    """What all runs of one kind take, and where the numbers come from."""
    questions = sum(run.questions for run in runs)
    if rate := experience.runs.get(kind):
        number = count_of(rate.number, "finished run")
        return rate.of(questions), f"from {number} of this kind"
    if not measure:
        return Estimate(), "no finished run of this kind; dry_run=measure tries a few questions"
    try:
        fixed, seconds = measured(runs[0])
    except Exception as error:  # noqa: BLE001  (a real run, which may fail in any way)
        return Estimate(), f"the timed run failed: {type(error).__name__}: {error}"
    total = fixed * len(runs) + seconds * questions
    return Estimate(total), f"from timed runs with limit={SAMPLES[-1]}"


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
