"""Builders of experiments, and the ordinary runs that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lamp_exp.artefacts import Router
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.parts import Parts
from lamp_exp.experiment.run import FinishedRun, OnStart, own_folder, run
from lamp_exp.experiment.stages import load_parts, read_parts
from lamp_exp.experiment.tune import run_tuned, tuned_folder
from lamp_exp.results.folder import RunFolder


class Builder(Protocol):
    """Builds the experiments of one configuration; see `lamp_exp.config.ExperimentBuilder`."""

    @property
    def tuned_values(self) -> list[int]:
        """The values from which k is chosen; empty if k is given."""

    @property
    def routed(self) -> bool:
        """Whether a router chooses among the answers of several runs."""

    @property
    def configuration(self) -> Configuration:
        """The configuration alone; no component is built."""

    @property
    def candidates(self) -> Mapping[str, Mapping[str, Any]]:
        """What each candidate of the router changes, by name."""

    def build(
        self, k: int | None = None, part: str | None = None
    ) -> tuple[Experiment, Configuration]:
        """The experiment, with another k and part if they are given."""

    def build_baseline(self) -> tuple[Experiment, Configuration]:
        """The same experiment without any personal part."""

    def candidate(self, name: str) -> Builder:
        """The builder of a candidate's run."""

    def on_train(self, fold: int | None = None) -> Builder:
        """The builder of the same run on train, or on a fold of it."""

    def build_router(self) -> Router:
        """The chosen router."""


@dataclass(frozen=True)
class SingleRun:
    """An ordinary run, whether it is finished or not."""

    builder: Builder
    experiment: Experiment
    configuration: Configuration
    parts: Parts
    folder: RunFolder
    identity: Mapping[str, Any]

    @classmethod
    def of(cls, builder: Builder, output_dir: Path) -> SingleRun:
        """The data are read, and nothing else is loaded."""
        values = builder.tuned_values
        experiment, configuration = builder.build(values[0] if values else None)
        parts = read_parts(experiment)
        if values:
            where = (builder.build, experiment, configuration, parts, output_dir)
            folder, identity = tuned_folder(*where)
        else:
            folder, identity = own_folder(experiment, configuration, parts, output_dir)
        return cls(builder, experiment, configuration, parts, folder, identity)

    def validate(self) -> None:
        """Raises InputError for what cannot run, before any long work."""
        if not self.folder.finished:
            load_parts(self.experiment)


def run_one(
    builder: Builder,
    output_dir: Path,
    rerun: bool | str = False,
    sweep: str | None = None,
    on_start: OnStart = lambda folder, baseline: None,
) -> FinishedRun:
    """Runs an experiment with the given k, or with the best on dev; see `run`."""
    if values := builder.tuned_values:
        return run_tuned(builder.build, values, output_dir, rerun, sweep, on_start)
    return run(*builder.build(), output_dir, rerun, sweep, on_start)
