"""A recorded run, made once more elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamp_exp import config
from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp as processes
from lamp_exp.experiment.run import Ran, run_plan
from lamp_exp.experiment.stages import Plan
from lamp_exp.experiment.tune import run_tuned
from lamp_exp.overrides import settings_of
from lamp_exp.results.folder import IMPORTED, RunFolder

UNTOLD = {"_target_": "lamp_exp.loggers.csv.csv_logger"}  # a repeat is for this machine alone


def run_again(result: Mapping[str, Any], output_dir: Path, allow_api: bool = False) -> RunFolder:
    """Repeats the run of this `result.json` below `output_dir`, whatever lies there.

    Nothing that the first one kept is used, neither rankings nor answers. Raises InputError for
    what cannot be repeated: imported predictions, data or weights that are gone, and models behind
    an API, which may cost, without `allow_api`.
    """
    if result["mode"] == IMPORTED:
        raise InputError(f"{result['run']} was imported: its predictions were made elsewhere")
    if _asks_an_api(result) and not allow_api:
        raise InputError(
            f"{result['run']} asks a model behind an API, which may cost, and may answer otherwise "
            "today: --allow-api to do it"
        )
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The `srun` command is available")
            return _carried_out(result, output_dir).folder
    finally:
        processes.tell(output_dir, processes.END)


def _asks_an_api(result: Mapping[str, Any]) -> bool:
    """Models behind an API are those that have an address."""
    answers = result["mode"] in ("finetune", "zeroshot")
    return answers and "base_url" in result["settings"]["model"]


def _carried_out(result: Mapping[str, Any], output_dir: Path) -> Ran:
    settings = {**settings_of(result), "output_dir": str(output_dir), "logger": UNTOLD}

    def plan_of(k: int, part: str) -> Plan:
        asked = {**settings, "k": k, "part": part}
        return config.plan_of(asked, {**result["choices"], "logger": "csv"})

    if settings["k"] == config.TUNE:
        values, part = settings["k_values"], settings["part"]
        return run_tuned(plan_of, values, part, output_dir, rerun=True)
    return run_plan(plan_of(settings["k"], settings["part"]), output_dir, rerun=True)
