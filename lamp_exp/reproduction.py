"""Runs a recorded run again, in another output folder."""

from __future__ import annotations

import warnings
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import composition, hydra_messages
from lamp_exp.config import ExperimentBuilder
from lamp_exp.environment import ignore_known_warnings
from lamp_exp.errors import InputError
from lamp_exp.experiment import ddp
from lamp_exp.experiment.launch import launch
from lamp_exp.options import ANSWERING
from lamp_exp.overrides import requested_settings
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.schema import IMPORTED, RunResult

LOGGER = {"_target_": "lamp_exp.loggers.csv.csv_logger"}  # a repetition is for this machine alone


def run_again(
    result: RunResult, output_dir: Path, allow_api: bool = False, config_dir: Path | None = None
) -> RunFolder:
    """Repeats a run below `output_dir`, whatever is there.

    Nothing that the first run cached is used, neither rankings nor answers. Raises InputError for
    what cannot be repeated: imported predictions, data or weights that are gone, and models behind
    an API, which may cost money, without `allow_api`. `config_dir` is the folder of the user's
    YAMLs, if the run used one.
    """
    if result.mode == IMPORTED:
        raise InputError(f"{result.run} was imported: its predictions were made elsewhere")
    if _asks_an_api(result) and not allow_api:
        raise InputError(
            f"{result.run} asks a model behind an API, which may cost, and may answer otherwise "
            "today: --allow-api to do it"
        )
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        with composition.config_dir(config_dir), warnings.catch_warnings():
            ignore_known_warnings()
            return launch(_builder(result, output_dir), output_dir, rerun=True).folder
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(hydra_messages.explain(error)) from error
    finally:
        ddp.dismiss(output_dir)


def _asks_an_api(result: RunResult) -> bool:
    """Models behind an API are those that have an address."""
    return result.mode in ANSWERING and "base_url" in result.settings["model"]


def _builder(result: RunResult, output_dir: Path) -> ExperimentBuilder:
    """The recorded settings; options that are newer than the record have their defaults."""
    recorded = {**requested_settings(result), "output_dir": str(output_dir), "logger": LOGGER}
    cfg = OmegaConf.merge(OmegaConf.structured(composition.schema()), recorded)
    assert isinstance(cfg, DictConfig), "settings are a mapping"
    choices = {name: choice for name, choice in result.choices.items() if choice is not None}
    return ExperimentBuilder(cfg, {**choices, "logger": "csv"})
