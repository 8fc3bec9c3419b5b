"""Starts one experiment, with a given k, a k chosen on dev, or the candidates of a router."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lamp_exp.errors import InputError
from lamp_exp.experiment.builder import Builder, run_one
from lamp_exp.experiment.routing import run_routed
from lamp_exp.experiment.run import FinishedRun, OnStart, run


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
    if with_baseline and builder.build_baseline()[0].trainer is None:
        raise InputError("a baseline needs answers: use mode=finetune or mode=zeroshot")
    start = run_routed if builder.routed else run_one
    finished = start(builder, output_dir, rerun, sweep, on_start)
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
