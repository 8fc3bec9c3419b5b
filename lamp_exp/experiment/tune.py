"""`k=tune`: chooses the number of items on dev, then runs with it.

Each value is a run of its own, recorded as such and shared with every sweep over k. The tuned run
has a folder with the chosen run's files and, in its record, the whole curve.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamp_exp.contracts import Metric
from lamp_exp.errors import InputError
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.identity import run_name
from lamp_exp.experiment.parts import Parts
from lamp_exp.experiment.run import (
    FinishedRun,
    OnStart,
    baseline_folder,
    is_up_to_date,
    provenance_of,
    run,
    tuned_identity,
)
from lamp_exp.experiment.stages import load_parts, read_parts
from lamp_exp.options import TUNE
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.schema import TunedK

log = logging.getLogger("lamp_exp")
Build = Callable[[int | None, str | None], tuple[Experiment, Configuration]]  # with k, for a part


def run_tuned(
    build: Build,
    values: Sequence[int],
    output_dir: Path,
    rerun: bool | str = False,
    sweep: str | None = None,
    on_start: OnStart = lambda folder, baseline: None,
) -> FinishedRun:
    """Runs each of `values` on dev, then the best of them on the part that is asked for.

    The task's main metric decides; of equal values, the smallest k. All else is as in `run`.
    """
    experiment, configuration = build(values[0], None)
    parts, provenance = load_parts(experiment), provenance_of(experiment)
    folder, identity = tuned_folder(build, experiment, configuration, parts, output_dir)
    baseline = baseline_folder(experiment, configuration, parts, output_dir)
    on_start(folder, baseline)
    if is_up_to_date(folder, configuration, provenance, rerun):
        return FinishedRun(folder, "there", baseline.finished_result() if baseline else None)
    with folder.lock():
        metric, curve = experiment.task.main_metric, []
        for k in values:
            finished = run(*build(k, "dev"), output_dir, rerun, sweep)
            curve.append(_point(k, metric, finished.folder))
        k = _best(curve, metric)
        again = rerun if experiment.data.part != "dev" else False
        chosen = run(*build(k, None), output_dir, again, sweep)
        settings = {**configuration.settings, "k": TUNE, "k_values": list(values)}
        folder.start(settings, {"code": provenance.code, "versions": provenance.versions})
        _record(folder, chosen.folder, curve, identity, settings)
    return FinishedRun(folder, "done", chosen.baseline)


def tuned_folder(
    build: Build,
    experiment: Experiment,
    configuration: Configuration,
    parts: Parts,
    output_dir: Path,
) -> tuple[RunFolder, dict[str, Any]]:
    """The folder of the tuned run, and its identity. Raises InputError for what has no scores."""
    if experiment.trainer is None:
        raise InputError("k=tune needs scores: use mode=finetune or mode=zeroshot, or a number")
    dev = parts.asked
    if experiment.data.part != "dev":
        on_dev, _ = build(configuration.value("k"), "dev")
        dev = read_parts(on_dev).asked
    if not dev.has_golds:
        raise InputError(f"k=tune needs golds for dev, but {dev.source} has none beside it")
    identity = tuned_identity(experiment, configuration, parts, dev.fingerprint)
    name = run_name(identity, experiment.usage, configuration.choices)
    return RunFolder(output_dir / name), identity


def _point(k: int, metric: Metric, folder: RunFolder) -> dict[str, Any]:
    value = folder.read().main_value
    assert value is not None, "dev has targets"
    log.info("k=%d on dev: %s %.4f", k, metric.name, value)
    return {"k": k, metric.name: value, "value": value, "run": folder.name}


def _best(curve: Sequence[Mapping[str, Any]], metric: Metric) -> int:
    sign = -1 if metric.higher_is_better else 1
    return int(min(curve, key=lambda point: (sign * point["value"], point["k"]))["k"])


def _record(
    folder: RunFolder,
    chosen: RunFolder,
    curve: list[dict[str, Any]],
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """The chosen run's files and numbers, and how it was chosen."""
    folder.copy_files(chosen)
    result = chosen.read()
    assert result.k is not None, "it is a run of our own"
    points = ", ".join(f"k={point['k']}: {point['value']:.4f}" for point in curve)
    note = f"k={result.k} was chosen on dev by {result.main_metric} ({points})"
    folder.write_result(
        replace(
            result,
            run=folder.name,
            notes=(note, *result.notes),
            tuned=TunedK(result.k, tuple(curve), chosen.name),
            identity=identity,
            settings=settings,
            stale=None,
        )
    )
