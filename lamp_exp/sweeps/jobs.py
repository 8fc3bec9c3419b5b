"""From a composed configuration to a finished run: alone, or as a job of a sweep."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lamp_exp import config
from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp as processes
from lamp_exp.experiment.ddp_worker import follow_run
from lamp_exp.experiment.run import Placed, Ran, run_plan
from lamp_exp.experiment.stages import Plan
from lamp_exp.experiment.tune import run_tuned
from lamp_exp.progress import progress
from lamp_exp.results.folder import RunFolder
from lamp_exp.storage.answers import DiskMap
from lamp_exp.sweeps.status import Job, Report, any_failed


def return_to_start() -> None:
    """Paths are meant from where the command was given, whatever `hydra.job.chdir` says."""
    os.chdir(HydraConfig.get().runtime.cwd)


def carry_out(
    cfg: DictConfig, sweep: str | None = None, placed: Placed = lambda folder, twin: None
) -> Ran:
    """Builds, runs and records one experiment, whose seed is known."""
    output_dir = made_folder(cfg.output_dir)
    answers = DiskMap(output_dir / ".cache" / "answers.sqlite")
    plan_of = partial(_plan_of, cfg, dict(HydraConfig.get().runtime.choices), answers)
    try:
        k, part, values = config.asked(cfg)
        if values and plan_of(values[0], part).retriever.uses_profile:
            return run_tuned(plan_of, values, part, output_dir, cfg.rerun, sweep, placed)
        return run_plan(plan_of(k, part), output_dir, cfg.rerun, sweep, placed)
    finally:
        processes.tell(output_dir, processes.END)


def _plan_of(cfg: DictConfig, choices: dict[str, str], answers: Any, k: int, part: str) -> Plan:
    return config.make_plan(config.with_k(cfg, k, part), choices, answers)


def follow_others(cfg: DictConfig) -> None:
    """What a process does that another one leads: all runs of its job, and no record of them."""
    for task in processes.tasks(made_folder(cfg.output_dir)):
        follow_run(task)


def made_folder(name: str) -> Path:
    """The folder for what is written, which must be possible before any work."""
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output_dir={name} cannot be made ({error})") from error
    return folder


def run_job(cfg: DictConfig) -> None:
    """One job of a sweep: tells its state on disk and nothing on screen, and lets others go on."""
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    overrides = _overrides(cfg, list(hydra.overrides.task))
    report = Report(sweep / str(hydra.job.num), overrides)
    if cfg.fail_fast and any_failed(sweep):
        report.say("stopped", error="another job had failed (fail_fast=true)")
        return

    def placed(folder: RunFolder, twin: RunFolder | None) -> None:
        report.say("running", run=str(folder.path), twin=twin and str(twin.path))

    report.begin()
    try:
        report.say(carry_out(cfg, sweep.name, placed).state)
    except KeyboardInterrupt:
        report.say("stopped", error="interrupted")
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and type(error) is not SystemExit:
            report.say("stopped", error="terminated")  # Lightning's word for SIGTERM
            raise
        report.fail(error)


def _overrides(cfg: DictConfig, overrides: list[str]) -> list[str]:
    """What was asked; a seed that is drawn takes the place of null, so that it can be redone."""
    if cfg.seed is not None:
        return overrides
    config.draw_seed(cfg)
    return [word for word in overrides if not word.startswith("seed=")] + [f"seed={cfg.seed}"]


def look_ahead(jobs: Sequence[Job], configs: Sequence[tuple[DictConfig, dict[str, str]]]) -> None:
    """A dry run of jobs, whose configurations come with the names of their choices."""
    from lamp_exp.sweeps.forecast import forecast, show

    seen = []
    for job, (cfg, choices) in progress(zip(jobs, configs, strict=True), len(jobs), "look"):
        config.draw_seed(cfg)
        build = partial(_plan_of, cfg, choices, {})
        seen.append(forecast(job, build, Path(cfg.output_dir).expanduser(), *config.asked(cfg)))
    show(seen, Path(configs[0][0].output_dir).expanduser())


def look_ahead_alone(cfg: DictConfig) -> None:
    """A dry run of one experiment."""
    hydra = HydraConfig.get()
    job = Job(0, tuple(hydra.overrides.task), hydra.runtime.choices["task"])
    look_ahead([job], [(cfg, dict(hydra.runtime.choices))])
