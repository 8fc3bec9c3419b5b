"""The jobs of a sweep: one that runs, and what all would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lamp_exp import config
from lamp_exp.config import ExperimentBuilder
from lamp_exp.experiment import ddp
from lamp_exp.experiment.launch import launch, make_output_dir
from lamp_exp.progress import progress
from lamp_exp.results.folder import RunFolder
from lamp_exp.sweeps.status import Job, Report, any_failed


def run_job(cfg: DictConfig) -> None:
    """Runs one job of a sweep: its state goes to disk and nothing to the terminal."""
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    overrides = _overrides(cfg, list(hydra.overrides.task))
    report = Report(sweep / str(hydra.job.num), overrides)
    if cfg.fail_fast and any_failed(sweep):
        report.say("stopped", error="another job had failed (fail_fast=true)")
        return

    def on_start(folder: RunFolder, baseline: RunFolder | None) -> None:
        report.say("running", run=str(folder.path), twin=baseline and str(baseline.path))

    report.begin()
    try:
        output_dir = make_output_dir(cfg.output_dir)
        builder = ExperimentBuilder.of(cfg, hydra, output_dir)
        report.say(launch(builder, output_dir, cfg.rerun, sweep.name, on_start).state)
    except KeyboardInterrupt:
        report.say("stopped", error="interrupted")
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and type(error) is not SystemExit:
            report.say("stopped", error="terminated")  # Lightning's word for SIGTERM
            raise
        report.fail(error)
    finally:
        ddp.tell(Path(cfg.output_dir).expanduser(), ddp.END)


def _overrides(cfg: DictConfig, overrides: list[str]) -> list[str]:
    """The job's overrides; a drawn seed takes the place of null, so that it can be repeated."""
    if cfg.seed is not None:
        return overrides
    config.draw_seed(cfg)
    return [word for word in overrides if not word.startswith("seed=")] + [f"seed={cfg.seed}"]


def look_ahead(jobs: Sequence[Job], configs: Sequence[tuple[DictConfig, dict[str, str]]]) -> None:
    """A dry run of jobs, whose configurations come with the names of their choices."""
    from lamp_exp.sweeps.forecast import forecast, show

    forecasts = []
    for job, (cfg, choices) in progress(zip(jobs, configs, strict=True), len(jobs), "look"):
        config.draw_seed(cfg)
        output_dir = Path(cfg.output_dir).expanduser()
        forecasts.append(forecast(job, ExperimentBuilder(cfg, choices), output_dir))
    show(forecasts, Path(configs[0][0].output_dir).expanduser())


def look_ahead_alone(cfg: DictConfig) -> None:
    """A dry run of one experiment."""
    hydra = HydraConfig.get()
    job = Job(0, tuple(hydra.overrides.task), hydra.runtime.choices["task"])
    look_ahead([job], [(cfg, dict(hydra.runtime.choices))])
