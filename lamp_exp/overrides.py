"""Writes the command that repeats an experiment: what differs from the defaults."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import composition, hydra_messages
from lamp_exp.composition import compose_config, equal_values, is_interpolated, nested_overrides
from lamp_exp.errors import InputError
from lamp_exp.options import OPTIONS, TUNE, Usage, changes_numbers
from lamp_exp.override_words import override
from lamp_exp.results.schema import RunResult

# These say where and whether an experiment is run, not which one it is.
OUTSIDE = {"experiment", "logger", "output_dir", "rerun", "dry_run", "fail_fast"}
NamedValue = tuple[str, Any]
ANY_USAGE = Usage.full("finetune")
Clean = Callable[[Any], Any]


def requested_settings(result: RunResult) -> dict[str, Any]:
    """The settings that a run was asked for with: for a tuned run, `k=tune` and its values."""
    settings = dict(result.settings)
    if result.tuned:
        settings |= {"k": TUNE, "k_values": [point["k"] for point in result.tuned.curve]}
    return settings


def command_of(
    settings: Mapping[str, Any],
    choices: Mapping[str, str | None],
    clean: Clean = lambda v: v,
    config_dir: Path | None = None,
) -> str:
    """The whole command, quoted for a shell; `clean` makes values fit to be shown.

    `config_dir` is the folder of the user's YAMLs, if the run used one.
    """
    with composition.config_dir(config_dir):
        words = overrides_of(settings, choices, clean)
    place = [] if config_dir is None else ["--config-dir", str(config_dir)]
    return " ".join(["python -m lamp_exp", *map(shlex.quote, [*place, *words])])


def overrides_of(
    settings: Mapping[str, Any], choices: Mapping[str, str | None], clean: Clean = lambda v: v
) -> list[str]:
    """Hydra overrides that make these resolved settings from today's `conf/`.

    Raises InputError where a chosen option does not exist any more.
    """
    groups = _group_overrides(settings, choices)
    named: list[NamedValue] = []
    for resolve in (False, True):  # what follows from another value is first left to it
        made = _composed([*groups, *(override(*one) for one in named)], resolve)
        named += _differing(settings, made)
    return [*groups, *(override(*one) for one in clean(dict(named)).items())]


def _group_overrides(settings: Mapping[str, Any], choices: Mapping[str, str | None]) -> list[str]:
    """The task, each other group whose chosen option is not the default, nested components."""
    defaults = compose_config([], return_hydra_config=True).hydra.runtime.choices
    groups = [g for g in choices if isinstance(settings.get(g), Mapping) and g not in OUTSIDE]
    changed = sorted(g for g in groups if choices[g] != defaults.get(g) and g != "task")
    names = [*(["task"] if "task" in groups else []), *changed]
    return [*(f"{name}={choices[name]}" for name in names), *nested_overrides(choices)]


def _composed(words: list[str], resolve: bool) -> dict[str, Any]:
    try:
        cfg = compose_config(words)
        with open_dict(cfg):
            content = OmegaConf.to_container(cfg, resolve=resolve)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(
            f"today's conf/ cannot make it: {hydra_messages.explain(error)}"
        ) from error
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def _differing(
    wanted: Mapping[str, Any], made: Mapping[str, Any], prefix: str = ""
) -> Iterator[NamedValue]:
    """The options to be given, by dotted name: `+name` adds an option, `~name` removes it."""
    for key, value in wanted.items():
        name = f"{prefix}{key}"
        if name in OUTSIDE:
            continue
        if key not in made:
            yield f"+{name}", value
        elif isinstance(value, Mapping) and isinstance(made[key], Mapping):
            yield from _differing(value, made[key], f"{name}.")
        elif not is_interpolated(made[key]) and not equal_values(value, made[key]):
            yield name, value
    # Of a component; options of the table that an older record lacks, and names, are defaults.
    lacking = (f"{prefix}{key}" for key in made if key not in wanted)
    removed = (name for name in lacking if prefix and name not in OPTIONS)
    yield from ((f"~{name}", None) for name in removed if changes_numbers(name, ANY_USAGE))
