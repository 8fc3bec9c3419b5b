"""Expands a sweep's command line to jobs, without redundant combinations."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import components, composition
from lamp_exp.config import ExperimentBuilder
from lamp_exp.errors import InputError
from lamp_exp.experiment.builder import SingleRun
from lamp_exp.experiment.experiment import NO_PROFILE, Configuration
from lamp_exp.experiment.fold_readers import CHECKPOINT
from lamp_exp.experiment.identity import identity_options
from lamp_exp.options import GROUPS, SUMMARIES
from lamp_exp.override_words import key_of, override
from lamp_exp.progress import progress
from lamp_exp.results.folder import RunFolder, training_settings
from lamp_exp.sweeps.component_options import keep_own_options
from lamp_exp.sweeps.rows import Row, words_of
from lamp_exp.sweeps.rules import Excluded, JobFacts, select
from lamp_exp.sweeps.status import Job

PASSAGES = "multiple_passages"
WEIGHTS, READER = "model.name", "reader"


@dataclass(frozen=True, slots=True)
class JobConfig:
    """A composed configuration: `cfg` without Hydra's own node, and `hydra_only` with only that."""

    cfg: DictConfig
    hydra_only: DictConfig

    @classmethod
    def split(cls, composed: DictConfig) -> JobConfig:
        """The two parts of what Hydra composed."""
        keys = [str(key) for key in composed if key != "hydra"]
        masked = OmegaConf.masked_copy
        return cls(masked(composed, keys), masked(composed, "hydra"))

    @property
    def hydra(self) -> DictConfig:
        node: DictConfig = self.hydra_only.hydra
        return node

    @property
    def choices(self) -> dict[str, str]:
        """The names of the chosen options, by group."""
        return dict(self.hydra.runtime.choices)

    def activate(self) -> None:
        """Makes `${hydra:...}` in configurations refer to this job."""
        HydraConfig.instance().set_config(self.hydra_only)

    def configure(self) -> Configuration:
        self.activate()
        return composition.configure(self.cfg, self.choices)


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The jobs to run, with the configuration of each, and the excluded jobs.

    `readers` are the runs of the sweep whose weights the others use, by `model.name` of these.
    `not_run` are lines on rows that were left out by hand.
    """

    jobs: list[Job]
    configs: list[JobConfig]
    excluded: list[Excluded]
    readers: Mapping[str, RunFolder] = field(default_factory=dict)
    not_run: Sequence[str] = ()


@dataclass(frozen=True)
class Planner:
    """Expands and composes the jobs of a sweep.

    `master` is the configuration of the command; `params`, `rows` and `reader` are options of the
    sweeper (conf/hydra/sweeper/grid.yaml).
    """

    loader: ConfigLoader
    master: DictConfig
    params: Row
    rows: Sequence[Row] | Mapping[str, Row]
    reader: Row | None = None
    _composed: dict[tuple[str, ...], JobConfig] = field(default_factory=dict, init=False)

    def plan(self, arguments: list[str]) -> SweepPlan:
        """The jobs of the sweep. Raises InputError and Hydra's errors for what cannot be run."""
        named = self._named_jobs(arguments)
        choices, words = self.master.hydra.runtime.choices, [words for _, words in named]
        combinations = keep_own_options(words, choices, self._has_option)
        combinations, readers = self._with_readers(combinations, arguments)
        names = [*[READER] * (len(combinations) - len(named)), *(name for name, _ in named)]
        hidden = self._row_keys(arguments)
        configs = [
            self._compose(tuple(words))
            for words in progress(combinations, len(combinations), "compose")
        ]
        facts = [job_facts(composed, index) for index, composed in enumerate(configs)]
        facts = [
            replace(one, fine_tuned=one.fine_tuned or _weights_of(composed) in readers)
            for one, composed in zip(facts, configs, strict=True)
        ]
        kept, excluded = select(facts)
        jobs = [
            Job(
                number,
                tuple(combinations[index]),
                configs[index].choices["task"],
                names[index] if isinstance(self.rows, Mapping) else "",
                hidden,
            )
            for number, index in enumerate(kept)
        ]
        return SweepPlan(jobs, [configs[index] for index in kept], excluded, readers)

    def expand(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of each job: every combination of each row, with params and arguments."""
        return [words for _, words in self._named_jobs(arguments)]

    def _named_jobs(self, arguments: list[str]) -> list[tuple[str, list[str]]]:
        """The name of each job's row, empty if rows have none, and its overrides."""
        rows = self.rows
        named = rows.items() if isinstance(rows, Mapping) else [("", row) for row in rows]
        return [(name, words) for name, row in named for words in self._expand_row(row, arguments)]

    @property
    def _all_rows(self) -> list[Row]:
        return list(self.rows.values() if isinstance(self.rows, Mapping) else self.rows)

    def _row_keys(self, arguments: list[str]) -> frozenset[str]:
        """The options for which the name of a row stands: those with one value."""
        rows = [*self._all_rows, self.reader or {}]
        words = self._parse([word for row in rows for word in words_of(row)])
        apart = {o.key_or_group for o in words if o.is_sweep_override()}
        apart.update(map(key_of, arguments))
        return frozenset({WEIGHTS, *(key_of(o.get_key_element()) for o in words)} - apart)

    def _expand_row(self, row: Row, arguments: list[str]) -> list[list[str]]:
        overrides = self._parse([*words_of({**self.params, **row}), *arguments])
        if any(o.key_or_group == "sweep" and o.is_sweep_override() for o in overrides):
            raise InputError("one named sweep at a time: give +sweep one name")
        values = {o.get_key_element(): list(_words(o)) for o in overrides}
        return [list(words) for words in itertools.product(*values.values())]

    def _with_readers(
        self, combinations: list[list[str]], arguments: Sequence[str]
    ) -> tuple[list[list[str]], dict[str, RunFolder]]:
        """The jobs that fine-tune a reader, then the others, which use its weights.

        A reader has the params of a job and what the command line gives, but nothing of its row.
        """
        given = set(map(key_of, arguments))
        if self.reader is None or WEIGHTS in given:
            return combinations, {}
        of_rows = {key_of(word) for row in self._all_rows for word in words_of(row)} - given
        shared = ({*map(key_of, self.params)} | given) - of_rows
        own = [word for word in words_of(self.reader) if key_of(word) not in given]
        made: dict[tuple[str, ...], RunFolder] = {}
        with_weights = []
        for words in combinations:
            outer = [w for w in words if key_of(w) in shared and key_of(w) not in self.reader]
            reader = (*outer, *(w for w in words if key_of(w) in {*self.reader} & given), *own)
            if reader not in made:
                made[reader] = self._reader_run(reader)
            with_weights.append([*words, override(WEIGHTS, _checkpoint(made[reader]))])
        readers = {_checkpoint(folder): folder for folder in made.values()}
        return [*map(list, made), *with_weights], readers

    def _reader_run(self, words: tuple[str, ...]) -> RunFolder:
        composed = self._compose(words)
        composed.activate()
        if composed.cfg.seed is None:
            raise InputError(
                "seed=null: a sweep with hydra.sweeper.reader needs seeds that are given"
            )
        builder = ExperimentBuilder(composed.cfg, composed.choices, words=words)
        return SingleRun.of(builder, Path(composed.cfg.output_dir).expanduser()).folder

    def _has_option(self, group: str, component: str, option: str) -> bool:
        return option.split(".")[0] in self._compose((f"{group}={component}",)).cfg[group]

    def _parse(self, words: Sequence[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=self.loader)
        return parser.parse_overrides(list(words))

    def _compose(self, words: tuple[str, ...]) -> JobConfig:
        """The configuration of a job.

        Hydra takes a tenth of a second to compose one, so jobs that differ only in plain values of
        root keys (k, seed, split) share what Hydra composed.
        """
        plain = [word for word in words if word.partition("=")[0] in self._plain_keys]
        rest = tuple(word for word in words if word not in plain)
        if rest not in self._composed:
            self._composed[rest] = self._load(rest)
        shared = self._composed[rest]
        cfg = copy.deepcopy(shared.cfg)
        try:
            for override in self._parse(plain):
                OmegaConf.update(cfg, override.key_or_group, override.value())
        except OmegaConfBaseException:
            return self._load(words)  # which raises Hydra's error
        return JobConfig(cfg, shared.hydra_only)

    def _load(self, words: Sequence[str]) -> JobConfig:
        return JobConfig.split(self.loader.load_sweep_config(self.master, list(words)))

    @cached_property
    def _plain_keys(self) -> set[str]:
        """The root keys that are neither groups nor have inner keys."""
        groups = set(self.master.hydra.runtime.choices)
        keys = {str(key) for key in self.master} - groups
        return {key for key in keys if not OmegaConf.is_config(self.master[key])}


def _words(given: Override) -> Iterator[str]:
    """An override of several values as one override for each value."""
    key = given.get_key_element()
    if not given.is_sweep_override():
        yield f"{key}={given.get_value_element_as_str()}"
    elif given.is_discrete_sweep():
        yield from (f"{key}={value}" for value in given.sweep_string_iterator())
    else:
        raise InputError(f"{given.input_line}: an interval has no list of values; give a range")


def _checkpoint(reader: RunFolder) -> str:
    return str(reader.path / CHECKPOINT)


def job_facts(composed: JobConfig, index: int) -> JobFacts:
    """What the rules need; components are not imported, which takes seconds."""
    cfg, choices = composed.cfg, composed.choices
    value = partial(components.class_value, cfg)
    passages = cfg.mode not in ("rank", SUMMARIES) and value("augmentation", PASSAGES)
    answers = passages and cfg.mode != "prompts"
    return JobFacts(
        identity=_identity(composed, index),
        mode=cfg.mode,
        split=cfg.split,
        k=cfg.k,
        retriever=choices["retriever"],
        augmentation=choices["augmentation"],
        model=choices["model"],
        uses_profile=value("retriever", "uses_profile"),
        needs_dates=value("retriever", "needs_dates"),
        at_random=value("retriever", "at_random"),
        pool=cfg.profile.pool,
        multiple_passages=passages,
        model_takes_passages=not answers or value("model", PASSAGES),
        fine_tuned=bool(training_settings(_weights_of(composed))),
    )


def _weights_of(composed: JobConfig) -> str:
    return str(OmegaConf.select(composed.cfg, WEIGHTS))


def _identity(composed: JobConfig, index: int) -> str:
    """Equal for jobs that are the same run, as far as their options decide."""
    cfg, configuration = composed.cfg, composed.configure()
    usage = components.usage_of(cfg)
    identity = identity_options(configuration, usage, cfg.k if usage.retrieves else NO_PROFILE)
    drawn = index if cfg.seed is None else None  # each job draws its own seed
    if configuration.choices["router"] != GROUPS["router"].default:  # all that a candidate inherits
        identity = {**configuration.changed, **configuration.choices}
    places = [configuration.value(name) for name in ("data_dir", "output_dir")]
    return json.dumps([identity, drawn, *places], sort_keys=True, default=str)
