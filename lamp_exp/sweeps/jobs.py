"""One job of a sweep: a run whose state goes to disk."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lamp_exp import config
from lamp_exp.config import ExperimentBuilder
from lamp_exp.environment import is_interrupt
from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp
from lamp_exp.experiment.launch import launch, make_output_dir
from lamp_exp.results.folder import RunFolder
from lamp_exp.sweeps.status import StatusWriter, any_failed


def run_job(cfg: DictConfig) -> None:
    """Runs one job of a sweep. It prints nothing, and a failure does not stop the other jobs."""
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    drawn = cfg.seed is None
    config.draw_seed(cfg)
    folder, overrides = sweep / str(hydra.job.num), list(hydra.overrides.task)
    status = StatusWriter(folder, overrides, cfg.seed if drawn else None)
    if cfg.fail_fast and any_failed(sweep):
        status.update("stopped", error="another job had failed (fail_fast=true)")
        return

    def on_start(run: RunFolder, baseline: RunFolder | None) -> None:
        baseline_path = baseline and str(baseline.path)
        status.update("running", run=str(run.path), baseline=baseline_path)

    try:
        status.start()
    except OSError as error:  # the disk is full: the state cannot tell it
        raise InputError(f"job {hydra.job.num} of {sweep} cannot start: {error}") from error
    try:
        output_dir = make_output_dir(cfg.output_dir)
        builder = ExperimentBuilder.of(cfg, hydra, output_dir)
        finished = launch(builder, output_dir, cfg.rerun, sweep.name, on_start)
        status.update(finished.state)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if is_interrupt(error):
            status.update("stopped", error="interrupted")
            raise KeyboardInterrupt from error
        if isinstance(error, SystemExit) and type(error) is not SystemExit:
            status.update("stopped", error="terminated")  # Lightning's exception for SIGTERM
            raise
        status.fail(error)
    finally:
        ddp.dismiss(Path(cfg.output_dir).expanduser())
