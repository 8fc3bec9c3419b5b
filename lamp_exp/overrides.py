"""The command line that makes an experiment: only what differs from the defaults of `conf/`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lamp_exp import config
from lamp_exp.errors import InputError

# These say where and whether a run is made, and not what it is.
ABOUT = {"experiment", "logger", "output_dir", "rerun", "dry_run", "fail_fast"}
_BARE = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS_OF_HYDRA = {"null", "true", "false", "inf", "nan"}
Named = tuple[str, Any]


def settings_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run's record was asked for with: a tuned run's tell the k it found."""
    settings = dict(result["settings"])
    if "tuned" in result:
        settings |= {
            "k": config.TUNE,
            "k_values": [point["k"] for point in result["tuned"]["curve"]],
        }
    return settings


def command_of(
    settings: Mapping[str, Any],
    choices: Mapping[str, str],
    clean: Callable[[Any], Any] = lambda value: value,
) -> str:
    """The whole command, fit for a shell; `clean` makes values fit to be shown."""
    words = overrides_of(settings, choices, clean)
    return " ".join(["python -m lamp_exp", *map(shlex.quote, words)])


def overrides_of(
    settings: Mapping[str, Any],
    choices: Mapping[str, str],
    clean: Callable[[Any], Any] = lambda value: value,
) -> list[str]:
    """What makes these resolved settings of today's `conf/`, as Hydra's overrides.

    Raises InputError where an option that was chosen is not there any more.
    """
    config.register()
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        groups = _chosen(settings, choices)
        named: list[Named] = []
        for resolved in (False, True):  # what follows from another value is first left to it
            made = _composed([*groups, *(_word(*one) for one in named)], resolved)
            named += _differing(settings, made)
    return [*groups, *(_word(name, clean(value)) for name, value in named)]


def _chosen(settings: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """The task, and each other group whose option is not the usual one."""
    usual = compose("config", return_hydra_config=True).hydra.runtime.choices
    groups = [g for g in choices if isinstance(settings.get(g), Mapping) and g not in ABOUT]
    changed = [group for group in groups if choices[group] != usual.get(group)]
    first = ["task"] if "task" in groups else []
    names = [*first, *(group for group in sorted(changed) if group != "task")]
    return [f"{name}={choices[name]}" for name in names]


def _composed(words: list[str], resolved: bool) -> dict[str, Any]:
    try:
        cfg: DictConfig = compose("config", words)
        with open_dict(cfg):
            content = OmegaConf.to_container(cfg, resolve=resolved, enum_to_str=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"today's conf/ cannot make it: {config.explain(error)}") from error
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def _differing(
    asked: Mapping[str, Any], made: Mapping[str, Any], prefix: str = ""
) -> Iterator[Named]:
    """The options to be given, by their dotted names: `+name` adds one, `~name` takes one away."""
    for key, value in asked.items():
        name = f"{prefix}{key}"
        if name in ABOUT:
            continue
        if key not in made:
            yield f"+{name}", value
        elif isinstance(value, Mapping) and isinstance(made[key], Mapping):
            yield from _differing(value, made[key], f"{name}.")
        elif not _follows(made[key]) and _unlike(value, made[key]):
            yield name, value
    if prefix:  # a root key that an older record lacks has its default
        yield from ((f"~{prefix}{key}", None) for key in made if key not in asked)


def _follows(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _unlike(one: Any, other: Any) -> bool:
    return bool(one != other or isinstance(one, bool) != isinstance(other, bool))


def _word(name: str, value: Any) -> str:
    return name if name.startswith("~") else f"{name}={_text(value)}"


def _text(value: Any) -> str:
    """A value in Hydra's grammar of overrides."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{{_joined(f'{_text(key)}:{_text(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{_joined(map(_text, value))}]"
    return _quoted(str(value))


def _joined(pieces: Iterable[str]) -> str:
    return ",".join(pieces)


def _quoted(text: str) -> str:
    """In double quotes, unless it is a plain word: a backslash counts only before a quote."""
    if _BARE.fullmatch(text) and text.lower() not in _WORDS_OF_HYDRA:
        return text
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text)
    return f'"{escaped}"'
