"""Our sweeper for Hydra's multirun: all combinations that mean something, and a digest of them."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra._internal import core_plugins
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from lamp_exp import config
from lamp_exp.errors import InputError
from lamp_exp.experiment.identity import identity_options
from lamp_exp.options import Usage
from lamp_exp.results.folder import STATUS, training_settings
from lamp_exp.sweeps import digest
from lamp_exp.sweeps.rules import Facts, LeftOut, counted, sift, told
from lamp_exp.sweeps.slurm import wait_for_the_queued
from lamp_exp.sweeps.status import Job, Watcher, one_line, wait_for_the_living


class SomeFailed(Exception):
    """Some jobs of a sweep failed; the digest has told which."""


class Grid(Sweeper):
    """As Hydra's own, with rows, rules, states on disk and a digest."""

    # Hydra builds plugins from its own namespaces only, and finds them by this name.
    __module__ = f"{core_plugins.__name__}.lamp_exp"

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: Mapping[str, str] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """See conf/hydra/sweeper/grid.yaml."""
        self.max_batch_size = max_batch_size
        self.params = dict(params or {})
        self.rows = list(rows or [{}])
        self.config: DictConfig
        self.hydra_context: HydraContext
        self.launcher: Launcher
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra calls it before `sweep`."""
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the jobs that mean something; raises SomeFailed at the end if any failed."""
        jobs, configs, left = self.planned(arguments)
        for line in told(left):
            say(line)
        if not jobs:
            raise InputError("no job of this sweep is left to run")
        for cfg in configs:
            check_nodes(cfg)
        if self.config.dry_run:
            return self._dry_run(jobs, configs)
        self._carry_out(jobs, left)

    def _dry_run(self, jobs: Sequence[Job], configs: Sequence[DictConfig]) -> None:
        from lamp_exp.sweeps.jobs import look_ahead

        with_choices = [(cfg, dict(cfg.hydra.runtime.choices)) for cfg in configs]
        for cfg in configs:
            with read_write(cfg), open_dict(cfg):
                del cfg["hydra"]
        look_ahead(jobs, with_choices)

    def planned(self, arguments: list[str]) -> tuple[list[Job], list[DictConfig], list[LeftOut]]:
        """The jobs to run with their configurations, and those left out."""
        combinations = self.expanded(arguments)
        bar = tqdm(combinations, "compose", disable=None, leave=False)
        configs = [self._composed(tuple(words)) for words in bar]
        kept, left = sift([facts(cfg, place) for place, cfg in enumerate(configs)])
        jobs = [
            Job(num, tuple(combinations[place]), configs[place].hydra.runtime.choices.task)
            for num, place in enumerate(kept)
        ]
        return jobs, [configs[place] for place in kept], left

    def _composed(self, words: tuple[str, ...]) -> DictConfig:
        """The configuration of a job. Hydra takes a tenth of a second to compose one, so jobs that
        differ in plain values of root keys (k, seed, split) share what Hydra composed.
        """
        plain = [word for word in words if word.partition("=")[0] in self._plain_keys]
        rest = tuple(word for word in words if word not in plain)
        if rest not in self._bases:
            self._bases[rest] = self._load(rest)
        made = copy.deepcopy(self._bases[rest])
        try:
            for override in self._parse(plain):
                OmegaConf.update(made, override.key_or_group, override.value())
        except OmegaConfBaseException:
            return self._load(words)  # Hydra says better what is wrong
        return made

    def _load(self, words: Sequence[str]) -> DictConfig:
        loader = self.hydra_context.config_loader
        return loader.load_sweep_config(self.config, list(words))

    def _parse(self, words: Sequence[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides(list(words))

    @cached_property
    def _plain_keys(self) -> set[str]:
        """The root keys that are neither groups nor hold others."""
        groups = set(self.config.hydra.runtime.choices)
        keys = {str(key) for key in self.config} - groups
        return {key for key in keys if not OmegaConf.is_config(self.config[key])}

    def expanded(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of each combination: of each row with params and the command line."""
        # Hydra runs the modules of its plugins anew while it looks for them: import it after that.
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        made: list[list[str]] = []
        for row in self.rows:
            words = [f"{key}={value}" for key, value in {**self.params, **row}.items()]
            overrides = self._parse([*words, *arguments])
            if any(o.key_or_group == "sweep" and o.is_sweep_override() for o in overrides):
                raise InputError("one named sweep at a time: give +sweep one name")
            (batch,) = BasicSweeper.split_arguments(overrides, None)
            made += batch
        return made

    def _carry_out(self, jobs: list[Job], left: list[LeftOut]) -> None:
        sweep = self._folder(jobs)
        say(f"{counted(len(jobs), 'job')}: {sweep}")
        interrupt: KeyboardInterrupt | None = None
        error = None
        with Watcher(sweep, jobs, say) as watcher:
            try:
                error = self._launch(jobs)
                if error:
                    say(f"the launcher ended early: {error}")
                    wait_for_the_queued(sweep)
                    wait_for_the_living(sweep, jobs)
            except KeyboardInterrupt as pressed:
                interrupt = pressed
        watcher.settle(error, interrupt is not None)
        summary = digest.summarise(sweep, digest.ended(jobs, watcher.ended), left)
        digest.write(sweep, summary)
        digest.show(summary)
        if interrupt:
            raise interrupt
        if summary["counts"]["failed"]:
            raise SomeFailed

    def _launch(self, jobs: list[Job]) -> str | None:
        """Launches the jobs; what a launcher raises is told, since all that counts is on disk."""
        size, error = self.max_batch_size or len(jobs), None
        for start in range(0, len(jobs), size):
            batch = [list(job.overrides) for job in jobs[start : start + size]]
            try:
                self.launcher.launch(batch, initial_job_idx=start)
            except Exception as raised:  # noqa: BLE001  (each launcher has its own)
                error = one_line(raised)
        return error

    def _folder(self, jobs: Sequence[Job]) -> Path:
        """The sweep's folder: new, unless it was named; the same for all jobs, whatever they say
        of `output_dir`.
        """
        hydra = self.config.hydra
        named = any(word.startswith("hydra.sweep.dir=") for word in hydra.overrides.hydra)
        folder = made_folder(Path(hydra.sweep.dir), named)
        for job in jobs if named else ():
            (folder / str(job.num) / STATUS).unlink(missing_ok=True)  # of an earlier sweep
        quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
        with read_write(self.config), open_dict(self.config):
            hydra.sweep.dir = str(folder)
            hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
        OmegaConf.save(self.config, folder / "multirun.yaml")
        return folder


def check_nodes(cfg: DictConfig) -> None:
    """Raises InputError for nodes that a job would hold and not use, or wait for in vain."""
    held = OmegaConf.select(cfg, "hydra.launcher.nodes")
    used = OmegaConf.select(cfg, "trainer.num_nodes") or 1
    if held not in (None, used):
        raise InputError(
            f"hydra.launcher.nodes={held} and trainer.num_nodes={used} must be the same: "
            "a run on several nodes needs trainer=ddp and both"
        )


def made_folder(folder: Path, named: bool) -> Path:
    """Makes the folder; one that nobody named must be new, and is numbered if it is not."""
    wanted, number = folder, 1
    while True:
        try:
            wanted.mkdir(parents=True, exist_ok=named)
        except FileExistsError:
            number += 1
            wanted = folder.with_name(f"{folder.name}-{number}")
        except OSError as error:
            raise InputError(f"{folder} cannot be made ({error})") from error
        else:
            return wanted


def say(line: str) -> None:
    """A line to the terminal that does not break a progress bar."""
    tqdm.write(line, file=sys.stderr)


def facts(cfg: DictConfig, place: int) -> Facts:
    """What the rules look at; a class is imported only where a rule asks for it."""
    choices, mode = cfg.hydra.runtime.choices, cfg.mode
    retriever = _class(cfg, "retriever")
    many = mode != "rank" and _class(cfg, "augmentation").multiple_passages
    model = _class(cfg, "model") if many and mode != "prompts" else None
    uses_profile = bool(retriever.uses_profile)
    return Facts(
        same=_same(cfg, uses_profile, place),
        mode=mode,
        split=cfg.split,
        k=cfg.k,
        retriever=choices.retriever,
        augmentation=choices.augmentation,
        model=choices.model,
        uses_profile=uses_profile,
        needs_dates=bool(retriever.needs_dates),
        many_passages=many,
        model_reads_passages=model is None or bool(model.multiple_passages),
        fine_tuned=bool(training_settings(str(OmegaConf.select(cfg, "model.name")))),
    )


def _class(cfg: DictConfig, group: str) -> Any:
    return get_class(cfg[group]._target_)


def _same(cfg: DictConfig, uses_profile: bool, place: int) -> str:
    """Equal for jobs that are one run: their identities are equal, as far as options decide."""
    plain = cfg.copy()
    with read_write(plain), open_dict(plain):
        del plain["hydra"]
    configuration = config.configure(plain, cfg.hydra.runtime.choices)
    personal = uses_profile and (cfg.mode == "rank" or cfg.k != 0)
    usage = Usage(cfg.mode, personal)
    identity = identity_options(configuration, usage, cfg.k if personal else 0)
    drawn = place if cfg.seed is None else None  # each draws its own
    where = [cfg.data_dir, cfg.output_dir]
    return json.dumps([identity, drawn, where], sort_keys=True, default=str)


def register() -> None:
    """Makes the sweeper known to Hydra, where it looks for plugins: by name, and by import."""
    setattr(core_plugins, "lamp_exp", sys.modules[__name__])  # noqa: B010  (unknown to its types)
    Plugins.instance().register(Grid)
