"""Starts one experiment, with a given k or with the k chosen on dev."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lamp_exp.errors import InputError
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.run import FinishedRun, OnStart, run
from lamp_exp.experiment.tune import run_tuned


class Builder(Protocol):
    """Builds the experiments of one configuration; see `lamp_exp.config.ExperimentBuilder`."""

    @property
    def tuned_values(self) -> list[int]:
        """The values from which k is chosen; empty if k is given."""

    def build(
        self, k: int | None = None, part: str | None = None
    ) -> tuple[Experiment, Configuration]:
        """The experiment, with another k and part if they are given."""

    def build_baseline(self) -> tuple[Experiment, Configuration]:
        """The same experiment without any personal part."""


def launch(
    builder: Builder,
    output_dir: Path,
    rerun: bool | str = False,
    sweep: str | None = None,
    on_start: OnStart = lambda folder, baseline: None,
    with_baseline: bool = False,
) -> FinishedRun:
    """Runs and records the experiment, unless it is finished already. See `run`.

    With `with_baseline`, then also runs its baseline: the same without any personal part.
    """
    values = builder.tuned_values
    if with_baseline and builder.build_baseline()[0].trainer is None:
        raise InputError("a baseline needs answers: use mode=finetune or mode=zeroshot")
    if values:
        finished = run_tuned(builder.build, values, output_dir, rerun, sweep, on_start)
    else:
        finished = run(*builder.build(), output_dir, rerun, sweep, on_start)
    if with_baseline:
        other = run(*builder.build_baseline(), output_dir, rerun, sweep).folder
        if other != finished.folder:
            return replace(finished, baseline=other.finished_result())
    return finished


def make_output_dir(name: str) -> Path:
    """The folder for what is written; InputError if it cannot be made."""
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output_dir={name} cannot be made ({error})") from error
    return folder
