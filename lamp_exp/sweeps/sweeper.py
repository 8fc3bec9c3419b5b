"""Hydra's sweeper `grid`: runs the combinations that add something, and shows a digest of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lamp_exp.errors import InputError
from lamp_exp.override_words import override
from lamp_exp.progress import announce
from lamp_exp.results.folder import STATUS
from lamp_exp.storage.locks import Locked, exclusive
from lamp_exp.sweeps import digest
from lamp_exp.sweeps.plan import JobConfig, Planner, SweepPlan
from lamp_exp.sweeps.ray_jobs import SubmittedSweep, cluster_address, words_of_command
from lamp_exp.sweeps.rows import Row, rows_not_run, sweep_rows
from lamp_exp.sweeps.rules import describe
from lamp_exp.sweeps.schedule import Schedule
from lamp_exp.sweeps.slurm import cancel_command, wait_for_slurm
from lamp_exp.sweeps.status import Job, one_line, short_name
from lamp_exp.sweeps.watch import Watcher, wait_for_running
from lamp_exp.wording import count_of


class JobsFailed(Exception):
    """Some jobs of a sweep failed. `folder` is the sweep's; the digest has named them."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a sweep; its digest has said how to go on."""


class GridSweeper(Sweeper):
    """Every combination of the given values, without those that the rules exclude.

    `params` are overrides for all jobs (`seed: 0,1,2`); each of `rows` has more of them and is a
    grid of its own; rows that have names are changed by `changed_rows`. `reader` is the row of a
    run that is fine-tuned first, whose weights all others use. `max_batch_size` is the number of
    jobs that are launched together. With `skip_refused`, a job that cannot run counts as not run,
    and not as failed.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: Row | None = None,
        rows: Sequence[Row] | Mapping[str, Row | None] | None = None,
        changed_rows: Mapping[str, Row | str | None] | None = None,
        reader: Row | None = None,
        skip_refused: bool = False,
    ) -> None:
        self.max_batch_size = max_batch_size
        self.params = dict(params or {})
        self.rows = rows
        self.changed_rows = changed_rows
        self.reader = reader
        self.skip_refused = skip_refused  # which jobs read in the configuration
        self.config: DictConfig
        self.master: JobConfig
        self.planner: Planner
        self.launcher: Launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.master = JobConfig.split(config)
        self.master.activate()
        rows = sweep_rows(self.rows, self.changed_rows)
        self.planner = Planner(hydra_context.config_loader, config, self.params, rows, self.reader)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Path | None:
        """Runs the jobs; returns the sweep's folder. Raises JobsFailed at the end if any failed."""
        plan = replace(self.planner.plan(arguments), not_run=rows_not_run(self.changed_rows))
        self.master.activate()
        cluster = None if self.config.dry_run else cluster_address(self.config.hydra)
        for line in (*describe(plan.excluded), *plan.not_run) if cluster is None else ():
            announce(line)
        if not plan.jobs:
            raise InputError("this sweep has no job to run")
        for job, composed in zip(plan.jobs, plan.configs, strict=True):
            check_nodes(composed)
            if composed.hydra.launcher != self.master.hydra.launcher:
                raise InputError(
                    f"{short_name(job, plan.jobs)} chooses hydra.launcher, which would be lost "
                    "among several: give hydra/launcher and its options on the command line"
                )
        if self.config.dry_run:
            from lamp_exp.sweeps.dry_run import show_dry_run

            show_dry_run(plan)
            return None
        if cluster is not None:
            return self._submit(cluster, arguments)
        with self._folder() as folder:
            announce(f"{count_of(len(plan.jobs), 'job')}: {folder}")
            self._run(folder, plan)
        return folder

    def _submit(self, cluster: str, arguments: Sequence[str]) -> Path:
        """Runs the sweep as a job of a Ray cluster, and prints what it prints."""
        sweep = SubmittedSweep.prepare(cluster)
        folder, named = self._made_folder()
        given = [] if named else [override("hydra.sweep.dir", str(folder))]
        words = words_of_command(self.config.hydra, [*given, *arguments])
        announce(f"submitted to Ray as {sweep.id}; to cancel it: {sweep.command('stop')}")
        try:
            sweep.submit(words)
            failure = sweep.follow()
        except KeyboardInterrupt as interrupt:
            announce(
                f"interrupted: the sweep goes on in Ray. To cancel it: {sweep.command('stop')}; "
                f"to follow it again: {sweep.command('logs --follow')}"
            )
            raise Interrupted from interrupt
        if failure:
            announce(failure)
            raise JobsFailed(failure, folder)
        return folder

    def _run(self, folder: Path, plan: SweepPlan) -> None:
        interrupt: KeyboardInterrupt | None = None
        schedule = Schedule(plan)
        with Watcher(folder, plan.jobs, announce) as watcher:
            error = None
            try:
                error = self._run_waves(folder, schedule, watcher)
            except KeyboardInterrupt as raised:
                interrupt = raised
        if interrupt:
            watcher.stop(remote=cancel_command(folder) is not None)
        else:
            watcher.settle(error)
        plan = schedule.numbered
        summary = digest.summarize(folder, plan, watcher.ended)
        try:
            digest.write(folder, summary)
        except OSError as full:  # the digest on screen is what matters
            announce(f"summary.json could not be written: {full}")
        digest.show(summary)
        if interrupt:
            raise Interrupted from interrupt
        if failures := summary["failures"]:
            first = f"{failures[0]['name']}: {failures[0]['error']}"
            jobs = f"{len(failures)} of {count_of(len(plan.jobs), 'job')} failed"
            raise JobsFailed(f"{jobs}, the first of them {first} ({folder})", folder)

    def _run_waves(self, folder: Path, schedule: Schedule, watcher: Watcher) -> Exception | None:
        """Launches wave after wave; returns the launcher's last error."""
        last, number = None, 0
        while wave := schedule.next_wave():
            number += 1
            watcher.follow(schedule.numbered.jobs)
            if schedule.in_waves:
                announce(f"wave {number}: {count_of(len(wave), 'job')}")
            self.master.activate()
            if error := self._launch(wave):
                last = error
                announce(f"the launcher ended early: {one_line(error)}")
                wait_for_slurm(folder)
                wait_for_running(folder, wave)
            if schedule.waiting:
                watcher.settle(error, wave)
                schedule.note_failures(wave, watcher.ended)
        schedule.write_blocked(folder)
        watcher.follow(schedule.numbered.jobs)
        return last

    def _launch(self, jobs: list[Job]) -> Exception | None:
        """Launches the jobs; an error of the launcher is returned, since the states are on disk."""
        size, error = self.max_batch_size or len(jobs), None
        for start in range(0, len(jobs), size):
            batch = jobs[start : start + size]
            words = [list(job.overrides) for job in batch]
            try:
                for returned in self.launcher.launch(words, initial_job_idx=batch[0].number):
                    _ = returned.return_value  # raises what a job raised
            except Exception as raised:  # noqa: BLE001  (each launcher has its own)
                error = raised
        return error

    def _made_folder(self) -> tuple[Path, bool]:
        """The sweep's folder, which it makes, and whether the command names it."""
        hydra = self.config.hydra
        named = any(word.startswith("hydra.sweep.dir=") for word in hydra.overrides.hydra)
        return make_folder(Path(hydra.sweep.dir), named), named

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """The sweep's folder, locked: new, unless it was named.

        All jobs get it as `hydra.sweep.dir`, whatever their `output_dir` is.
        """
        hydra = self.config.hydra
        folder, _ = self._made_folder()
        try:
            with exclusive(folder / "sweep", wait=False):
                for status in folder.glob(f"[0-9]*/{STATUS}"):
                    status.unlink()  # of an earlier sweep
                with read_write(self.config), open_dict(self.config):
                    hydra.sweep.dir = str(folder)
                    hydra.overrides.hydra.append(override("hydra.sweep.dir", str(folder)))
                OmegaConf.save(self.config, folder / "multirun.yaml")
                yield folder
        except Locked as error:
            raise InputError(
                f"another sweep is running in {folder}: give another hydra.sweep.dir"
            ) from error


def check_nodes(composed: JobConfig) -> None:
    """Raises InputError for nodes that a job would hold unused, or wait for in vain."""
    held = OmegaConf.select(composed.hydra, "launcher.nodes")
    used = OmegaConf.select(composed.cfg, "trainer.num_nodes") or 1
    if held not in (None, used):
        raise InputError(
            f"hydra.launcher.nodes={held} and trainer.num_nodes={used} must be the same: "
            "a run on several nodes needs trainer=ddp and both"
        )


def make_folder(folder: Path, named: bool) -> Path:
    """Makes the folder; unless it was named, a number is added if it exists already."""
    path, number = folder, 1
    while True:
        try:
            path.mkdir(parents=True, exist_ok=named)
            return path
        except OSError as error:
            if named or not isinstance(error, FileExistsError):
                raise InputError(f"{folder} cannot be made ({error})") from error
            number += 1
            path = folder.with_name(f"{folder.name}-{number}")


def register() -> None:
    """Makes the sweeper one of Hydra's plugins, also where lamp_exp is not installed.

    Plugins are modules in folders `hydra_plugins` on Python's path.
    """
    folder = str(Path(__file__).parent / "plugins")
    if folder not in sys.path:
        sys.path.append(folder)
    Plugins.instance().register(import_module("hydra_plugins.lamp_exp_grid").Grid)
