"""Composes `conf/` with Hydra: the schema of all options, and a configuration as plain values."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, make_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf

from lamp_exp.components import forget_classes
from lamp_exp.conf_files import conf_folder
from lamp_exp.errors import InputError
from lamp_exp.experiment.experiment import Configuration, flatten
from lamp_exp.options import GROUPS, OPTIONS, Option

SCHEMA = "schema"


# --- the schema ------------------------------------------------------------------------------


def register() -> None:
    """Makes the table of options known to Hydra as the schema that conf/config.yaml names."""
    known = ConfigStore.instance()
    if f"{SCHEMA}.yaml" not in known.list(""):  # storing it again takes a tenth of a composition
        known.store(name=SCHEMA, node=schema())


@lru_cache
def schema() -> type:
    """A dataclass with all groups and options, nested as their dotted names are."""
    groups = [(name, Any, MISSING) for name in GROUPS if name != "experiment"]
    nested: dict[str, list[tuple[str, Any, Any]]] = {}
    plain: list[tuple[str, Any, Any]] = []
    for option in OPTIONS.values():
        outer, _, last = option.name.rpartition(".")
        (nested.setdefault(outer, []) if outer else plain).append((last, *_typed(option)))
    inner = [
        (name, made, field(default_factory=made))
        for name, fields in nested.items()
        for made in [_importable_dataclass(f"{name.title()}Schema", fields)]
    ]
    fields = [*groups, ("experiment", Any, None), *plain, *inner]
    return _importable_dataclass("ExperimentSchema", fields)


def _importable_dataclass(name: str, fields: list[tuple[str, Any, Any]]) -> type:
    """A dataclass that pickle finds by its name: pickled by value, joblib would change it."""
    made = make_dataclass(name, fields, namespace={"__module__": __name__})
    globals()[name] = made
    return made


def _typed(option: Option) -> tuple[Any, Any]:
    """An option's type and default, as OmegaConf checks them."""
    if option.kind is list:
        return list[int], field(default_factory=lambda: list(option.default))
    kind = Any if option.kind is object else option.kind
    return (Optional[kind] if option.nullable else kind), option.default  # noqa: UP045


schema()  # made at import, so that another process can unpickle these classes


# --- composing -------------------------------------------------------------------------------


def compose_config(overrides: list[str], **options: Any) -> DictConfig:
    """Composes the present `conf/`; within a Hydra application, with its search path."""
    register()
    if GlobalHydra.instance().is_initialized():
        given = HydraConfig.get().overrides.hydra if HydraConfig.initialized() else []
        searched = [word for word in given if word.startswith("hydra.searchpath=")]
        return compose("config", [*overrides, *searched], **options)
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", [*overrides, *_added_search_path], **options)


_added_search_path: list[str] = []  # the override that adds the user's folder


def search_path(folder: Path) -> str:
    """The override that adds a folder of the user's YAMLs, as --config-dir does."""
    if not folder.is_dir():
        raise InputError(f"--config-dir {folder} is no folder")
    return f"hydra.searchpath=['file://{folder.absolute()}']"


@contextmanager
def config_dir(folder: Path | None) -> Iterator[None]:
    """Within the block, `compose_config` also finds the YAMLs of a folder, as --config-dir does.

    It has no effect within a Hydra application, which has its own search path.
    """
    outer = list(_added_search_path)
    _added_search_path[:] = [] if folder is None else [search_path(folder)]
    forget_defaults()
    try:
        yield
    finally:
        _added_search_path[:] = outer
        forget_defaults()


def forget_defaults() -> None:
    """Clears what is kept of the components' YAMLs and classes, so that they are read again."""
    for cached in (_nested_overrides, _flat_defaults):
        cached.cache_clear()
    forget_classes()


# --- the configuration as plain values -------------------------------------------------------


def configure(cfg: DictConfig, choices: Mapping[str, Any]) -> Configuration:
    """The configuration of one experiment; `choices` are Hydra's `runtime.choices`."""
    _refuse_emptied(cfg, choices)
    settings = _resolved(cfg)
    chosen = _flat(cfg)
    defaults = _flat_defaults(_roots(choices), _nested(choices))
    values = dict(flatten(settings))
    changed = {
        name: values.get(name)
        for name, value in chosen.items()
        if name not in defaults or not equal_values(value, defaults[name])
    }
    changed |= {f"~{name}": None for name in defaults if name not in chosen}
    changed |= dict(map(_named_component, nested_overrides(choices)))
    component_values = {
        name: values[name]
        for name, value in chosen.items()
        if name not in changed and _of_component(name) and not is_interpolated(value)
    }
    names = {str(group): choice for group, choice in choices.items()}
    return Configuration(names, settings, changed, component_values)


def _refuse_emptied(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
    """Raises InputError for a nested component whose values were removed, but not its choice."""
    for group, name in _nested(choices):
        place = group.partition("@")[2]
        if not OmegaConf.is_config(OmegaConf.select(cfg, place)):
            raise InputError(f"{place} ({name}) is empty: to remove it, give '~{group}'")


def _of_component(name: str) -> bool:
    """Whether an option is one of a component's YAML."""
    places = (option.name for option in OPTIONS.values() if option.component)
    return name.partition(".")[0] in GROUPS or any(name.startswith(f"{one}.") for one in places)


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """The whole configuration as plain values, resolved; InputError for values that are missing."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        names = ", ".join(missing)
        raise InputError(f"{names} must be given: it has no default (see the YAML's comment)")
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def draw_seed(cfg: DictConfig) -> None:
    """`seed=null` draws a seed, so that the record can name it."""
    if cfg.seed is None:
        cfg.seed = random.SystemRandom().randrange(2**31)


Choices = tuple[tuple[str, str], ...]  # pairs of a group and the name of its option


def _roots(choices: Mapping[str, Any]) -> Choices:
    """The chosen component of each group, except `experiment`."""
    return tuple(
        (group, str(choice))
        for group, choice in sorted(choices.items())
        if group in GROUPS and group != "experiment"
    )


def _nested(choices: Mapping[str, Any]) -> Choices:
    """The components inside others, by group and place: `retriever@retriever.of.bm25`."""
    return tuple(
        (group, str(choice))
        for group, choice in sorted(choices.items())
        if "@" in group and choice is not None
    )


def nested_overrides(choices: Mapping[str, Any]) -> Sequence[str]:
    """The overrides that make the nested components, where they differ from the outer YAMLs."""
    return _nested_overrides(_roots(choices), _nested(choices))


@lru_cache(maxsize=1024)
def _nested_overrides(roots: Choices, nested: Choices) -> tuple[str, ...]:
    wanted, words = dict(nested), [f"{group}={name}" for group, name in roots]
    start = len(words)
    while wanted:
        chosen = compose_config(words, return_hydra_config=True).hydra.runtime.choices
        made = dict(_nested(chosen))
        missing = [
            *(f"~{group}" for group in made if group not in wanted),
            *(
                f"{group}={wanted[group]}"
                for group in made
                if made[group] != wanted.get(group, made[group])
            ),
            *(
                f"{'' if group in chosen else '+'}{group}={name}"
                for group, name in nested
                if group not in made
            ),
        ]
        if not missing:
            break
        words.append(min(missing, key=lambda word: word.count(".")))  # the outer ones first
    return tuple(words[start:])


def _named_component(override: str) -> tuple[str, str | None]:
    """The place and name of a nested component: `retriever.of.bm25`, `bm25_okapi`."""
    group, _, name = override.lstrip("+").partition("=")
    removed = "~" if group.startswith("~") else ""
    return f"{removed}{group.partition('@')[2]}", name or None


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """All values but the groups that change no number, unresolved, by dotted name."""
    content = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(content, dict)
    kept = {str(name): value for name, value in content.items() if name not in ("hydra", "logger")}
    return dict(flatten(kept))


@lru_cache(maxsize=1024)  # of a sweep's combinations
def _flat_defaults(roots: Choices, nested: Choices) -> Mapping[str, Any]:
    """The values of the chosen components' YAMLs and of all other options, unresolved.

    A group of which only values count (the trainer) has those of its default option.
    """
    words = [
        f"{group}={GROUPS[group].default if GROUPS[group].by_values else name}"
        for group, name in roots
    ]
    return _flat(compose_config([*words, *_nested_overrides(roots, nested)]))


def is_interpolated(value: Any) -> bool:
    """Whether an unresolved value follows from another one."""
    return isinstance(value, str) and "${" in value


def equal_values(one: Any, other: Any) -> bool:
    """Whether two values are equal; True is not 1."""
    return bool(one == other and isinstance(one, bool) == isinstance(other, bool))
