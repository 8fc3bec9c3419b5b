"""Checks of a composed configuration, before a model's libraries are imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lamp_exp import options
from lamp_exp.components import class_value, usage_of
from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.experiment.experiment import flatten
from lamp_exp.hub import check_reachable
from lamp_exp.models.generation import check_generation
from lamp_exp.options import ANSWERING, GROUPS, OPTIONS
from lamp_exp.results.folder import CHECKPOINT, RESULT


def check_launcher(hydra: HydraConf) -> None:
    """Raises InputError for a launcher or a named sweep that a single run would not use."""
    launcher, sweep = (hydra.runtime.choices.get(name) for name in ("hydra/launcher", "sweep"))
    if hydra.mode is RunMode.RUN and sweep is not None:
        raise InputError(f"+sweep={sweep} is of many runs: add -m")
    if hydra.mode is RunMode.RUN and launcher != "basic":
        raise InputError(f"hydra/launcher={launcher} is for sweeps: add -m, even for one run")


def check(cfg: DictConfig) -> None:
    """Raises InputError for unknown options, and for values that are not allowed or do nothing."""
    for group in ("experiment", "sweep"):
        if OmegaConf.is_config(OmegaConf.select(cfg, group)):
            raise InputError(
                f"the YAML of {group}= lacks its first line `# @package _global_`, without which "
                f"its values ({', '.join(map(str, cfg[group]))}) would not be used"
            )
    _refuse_unknown(cfg)
    for name, option in OPTIONS.items():
        options.check_value(name, OmegaConf.select(cfg, name))
        changed = OmegaConf.select(cfg, name) != option.default
        if option.needs and changed and not _is_given(cfg, option.needs):
            raise InputError(f"{name} has no effect without {option.needs}")
        if option.component:
            _check_component(name, option.component, OmegaConf.select(cfg, name))
    for option in options.COMPONENT_OPTIONS:
        option.check(OmegaConf.select(cfg, option.name))
    for name, reason in options.FIXED_TRAINER_OPTIONS.items():
        if OmegaConf.select(cfg, f"trainer.{name}") is not None:
            raise InputError(f"trainer.{name} cannot be set: {reason}")


def _is_given(cfg: DictConfig, need: str) -> bool:
    """Whether an option is not null, or has the value that `need` names (`name=value`)."""
    name, _, wanted = need.partition("=")
    value = OmegaConf.select(cfg, name)
    return options.as_text(value) == wanted if wanted else value is not None


def _check_component(name: str, group: str, value: Any) -> None:
    """Raises InputError for what is no component, such as its name alone."""
    if value is not None and not OmegaConf.is_config(value):
        raise InputError(f"{name}={value}: choose a component with {group}@{name}={value}")


def _refuse_unknown(cfg: DictConfig) -> None:
    """Refuses what `+name=value` added beside the options: nothing would read it."""
    outer = {name.partition(".")[0] for name in OPTIONS if "." in name}
    inner = [f"{name}.{last}" for name in sorted(outer) for last in cfg[name]]
    for name in [*map(str, cfg), *inner]:
        if name not in {*GROUPS, *OPTIONS, *outer, "hydra"}:
            raise InputError(f"{name} is no option{did_you_mean(name, [*GROUPS, *OPTIONS])}")


def check_hub(cfg: DictConfig) -> None:
    """Raises InputError for weights that only the hub has, if no hub answers.

    To be called before heavy imports. Components of other packages may mean something else by
    `name`, and so does a model behind an API; with `fresh`, no weights are read.
    """
    used = _used_components(cfg)
    for name, value in used.items():
        place, _, last = name.rpartition(".")
        ours = str(used.get(f"{place}._target_")).startswith("lamp_exp.")
        # Of a model, a name that is given has a tokenizer at least.
        fresh = place != "model" and any(other.startswith(f"{place}.fresh.") for other in used)
        has_weights = ours and not fresh and f"{place}.base_url" not in used
        of_weights = last == "name" and place != "summary"  # summary.name may be behind an API
        if has_weights and of_weights and isinstance(value, str):
            check_reachable(name, value, str(used.get(f"{place}.gguf_file")))


def _used_components(cfg: DictConfig) -> dict[str, Any]:
    """The options, by dotted name, of the components that have weights, if the mode uses them."""
    usage = usage_of(cfg)
    profile = usage.retrieves
    own_writer = usage.writes and cfg.summary.get("model") is None
    used = {
        "model": usage.makes_prompts or usage.reads or own_writer,
        "retriever": profile,
        "profile": profile,
        "reader": usage.reads,
        "summary": usage.writes,
        "adapter": usage.answers and "adapter" in usage.others,
    }
    content = {
        group: cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=True))
        for group in used
        if used[group] and not OmegaConf.missing_keys(cfg[group])
    }
    return dict(flatten(content))


def check_folders(cfg: DictConfig) -> None:
    """Raises InputError for a folder that holds no weights; see `refuse_wrong_folders`."""
    refuse_wrong_folders(_used_components(cfg))


def refuse_wrong_folders(values: Mapping[str, Any]) -> None:
    """Raises InputError for a folder of weights that does not exist, or is the folder of a run.

    `values` are options by dotted name.
    """
    for name, value in values.items():
        owner, _, last = name.rpartition(".")
        if last not in ("name", "tokenizer") or not isinstance(value, str):
            continue
        folder = Path(value).expanduser()
        if value.startswith(("/", "./", "../", "~")) and not folder.exists():
            raise InputError(f"{name}={value}: there is no such folder")
        if (folder / RESULT).is_file():
            hint = ", and has no such weights"
            if owner in ("model", "reader", "summary"):
                hint = f" that has no weights: choose one of mode=finetune, {name}=RUN/{CHECKPOINT}"
                if (folder / CHECKPOINT).is_dir():
                    hint = f": its weights are {name}={value.rstrip('/')}/{CHECKPOINT}"
            raise InputError(f"{name}={value} is a run{hint}")


def check_passages(cfg: DictConfig) -> None:
    """Raises InputError for several passages for a model that reads one."""
    if cfg.mode not in ANSWERING:
        return
    passages = [class_value(cfg, group, "multiple_passages") for group in ("augmentation", "model")]
    if passages == [True, False]:
        raise InputError(
            "augmentation=fid reads several passages apart, which only an encoder-decoder "
            "model can: use augmentation=ipa, or a model such as model=flan_t5_base"
        )


def check_generation_options(cfg: DictConfig) -> None:
    """Raises InputError for options of `model.generation` that no answer would obey."""
    if cfg.mode in ANSWERING and class_value(cfg, "model", "uses_generation_config"):
        given = OmegaConf.to_container(cfg.model, resolve=True)
        check_generation(cast(dict[str, Any], given).get("generation") or {})
