"""One job of a sweep: a run whose state is written to disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lamp_exp import components, composition, config
from lamp_exp.environment import is_interrupt
from lamp_exp.errors import InputError
from lamp_exp.progress import announce
from lamp_exp.results.folder import RunFolder
from lamp_exp.sweeps.status import (
    REFUSED,
    Job,
    JobStatus,
    StatusWriter,
    any_failed,
    one_line,
)
from lamp_exp.sweeps.watch import describe


def run_multirun_job(cfg: DictConfig) -> float | None:
    """Runs one job of Hydra's multirun: of a sweep (`grid`), or one trial of a search (`optuna`).

    A trial returns the main metric. Raises InputError for a trial that failed, and ends the
    command for any other sweeper: it would not show what failed.
    """
    sweeper = HydraConfig.get().runtime.choices["hydra/sweeper"]
    if sweeper == "grid":
        run_job(cfg)
        return None
    if sweeper != "optuna":
        _refuse(f"hydra/sweeper={sweeper} would not show which jobs failed: use grid, or optuna")
    return _run_trial(cfg)


def _refuse(line: str) -> NoReturn:
    """Ends the command: the sweeper would report an exception in many lines."""
    print(f"lamp_exp: {line}", file=sys.stderr)
    sys.exit(2)


def _run_trial(cfg: DictConfig) -> float:
    hydra = HydraConfig.get()
    if cfg.part != "dev":
        _refuse(f"part={cfg.part}: optuna chooses by its results, which is for dev")
    metric = components.build(cfg, "task").main_metric
    direction = "maximize" if metric.higher_is_better else "minimize"
    chosen = getattr(hydra.sweeper.direction, "name", hydra.sweeper.direction)
    if chosen != direction:
        _refuse(f"{metric.name} needs hydra.sweeper.direction={direction}")
    if hydra.job.num == 0:
        announce(f"the best values will be in {hydra.sweep.dir}/optimization_results.yaml")
    status = run_job(cfg)
    job = Job(int(hydra.job.num), status.overrides, hydra.runtime.choices["task"])
    announce(f"{' '.join(status.overrides)}: {describe(job, status, [job])}")
    result = RunFolder(Path(status.run)).read() if status.has_result and status.run else None
    if result is None or result.main_value is None:
        raise InputError(status.error or f"mode={cfg.mode} has no {metric.name}")
    return result.main_value


def run_job(cfg: DictConfig) -> JobStatus:
    """Runs one job of a sweep. It prints nothing, and a failure does not stop the other jobs."""
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    drawn = cfg.seed is None
    composition.draw_seed(cfg)
    folder, overrides = sweep / str(hydra.job.num), list(hydra.overrides.task)
    status = StatusWriter(folder, overrides, cfg.seed if drawn else None)
    if cfg.fail_fast and any_failed(sweep):
        status.update("stopped", error="another job had failed (fail_fast=true)")
        return status.status

    def on_start(run: RunFolder, baseline: RunFolder | None) -> None:
        baseline_path = baseline and str(baseline.path)
        status.update("running", run=str(run.path), baseline=baseline_path)

    try:
        status.start()
    except OSError as error:  # the disk is full: the state cannot tell it
        raise InputError(f"job {hydra.job.num} of {sweep} cannot start: {error}") from error
    try:
        finished = config.run_composed(cfg, hydra, sweep.name, on_start)
        status.update(finished.state)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if is_interrupt(error):
            status.update("stopped", error="interrupted")
            raise KeyboardInterrupt from error
        if isinstance(error, SystemExit) and type(error) is not SystemExit:
            status.update("stopped", error="terminated")  # Lightning's exception for SIGTERM
            raise
        if _is_refusal(error, status, hydra):
            status.update(REFUSED, error=one_line(error))
        else:
            status.fail(error)
    return status.status


def _is_refusal(error: BaseException, status: StatusWriter, hydra: HydraConf) -> bool:
    """Whether the sweep expects that some of its jobs cannot run, and this one was not begun."""
    expected = hydra.sweeper.get("skip_refused", False)
    return bool(expected) and isinstance(error, InputError) and not status.has_begun_work
