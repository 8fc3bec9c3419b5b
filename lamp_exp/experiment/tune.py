"""`k=tune`: the number of items that does best on dev, then the run with it.

Each value is a run of its own, recorded as such and shared with every sweep over k. The tuned run
has a folder that holds the chosen run's files and, in its result, the whole curve.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.experiment.run import Placed, Ran, maker_of, run_plan, suffices, tuned_name, twin_of
from lamp_exp.experiment.stages import Material, Mode, Plan, gather
from lamp_exp.results.folder import LASTING, RunFolder

log = logging.getLogger("lamp_exp")
PlanOf = Callable[[int, str], Plan]  # the plan with that k, for that part


def run_tuned(
    plan_of: PlanOf,
    values: Sequence[int],
    part: str,
    output_dir: Path,
    rerun: bool | str = False,
    sweep: str | None = None,
    placed: Placed = lambda folder, twin: None,
) -> Ran:
    """Runs what is not there yet of `values` on dev, then the best of them on `part`.

    The task's main metric decides; of equal values, the smallest k. The rest is as `run_plan` has
    it.
    """
    plan = plan_of(values[0], part)
    material, maker = gather(plan), maker_of(plan)
    folder = tuned_folder(plan, material, plan_of(values[0], "dev"), values, output_dir)
    twin = twin_of(plan, material, output_dir)
    placed(folder, twin)
    if suffices(folder, maker, rerun):
        return Ran(folder, "there", twin.result() if twin and twin.finished else None)
    with folder.lock():
        curve = [_point(plan_of(k, "dev"), output_dir, rerun, sweep) for k in values]
        k = _best(curve, plan.task.main_metric.direction)
        chosen = run_plan(plan_of(k, part), output_dir, rerun and part != "dev", sweep)
        folder.start({**plan.settings, "k": "tune", "k_values": list(values)}, maker)
        _record(folder, chosen.folder, curve)
    return Ran(folder, "done", chosen.baseline)


def tuned_folder(
    plan: Plan, material: Material, on_dev: Plan, values: Sequence[int], output_dir: Path
) -> RunFolder:
    """Where it goes; refuses what cannot be tuned."""
    if plan.mode not in (Mode.finetune, Mode.zeroshot):
        raise InputError("k=tune needs scores: use mode=finetune or mode=zeroshot, or a number")
    dev = gather(on_dev)
    if not dev.asked.has_golds:
        raise InputError(f"k=tune needs golds for dev, but {dev.asked.source} has none beside it")
    return RunFolder(output_dir / tuned_name(plan, material, dev.asked.fingerprint, values))


def _point(plan: Plan, output_dir: Path, rerun: bool | str, sweep: str | None) -> dict[str, Any]:
    metric = plan.task.main_metric.name
    ran = run_plan(plan, output_dir, rerun, sweep)
    value = ran.folder.result()["metrics"][metric]
    log.info("k=%d on dev: %s %.4f", plan.k, metric, value)
    return {"k": plan.k, metric: value, "value": value, "run": ran.folder.name}


def _best(curve: Sequence[Mapping[str, Any]], direction: str) -> int:
    sign = -1 if direction == "max" else 1
    return int(min(curve, key=lambda point: (sign * point["value"], point["k"]))["k"])


def _record(folder: RunFolder, chosen: RunFolder, curve: list[dict[str, Any]]) -> None:
    """The chosen run's files and numbers, and how it was chosen."""
    for name in set(LASTING) - {"config.yaml"}:
        if (chosen.path / name).is_file():
            shutil.copyfile(chosen.path / name, folder.path / name)
    result = chosen.result()
    points = ", ".join(f"k={point['k']}: {point['value']:.4f}" for point in curve)
    note = f"k={result['k']} was chosen on dev by {result['monitor'][0]} ({points})"
    told = {"k": result["k"], "curve": curve, "run": chosen.name}
    folder.write_result(
        {**result, "run": folder.name, "tuned": told, "notes": [note, *result["notes"]]}
    )
