"""Builds a component from its YAML, and reads what its class says without importing it."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from lamp_exp.annotations import check_types
from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.options import PERSONAL_GROUPS, Usage

EXTRAS = {"openai": "openai", "gguf": "gguf", "peft": "lora"}  # package: our extra that brings it


def build(cfg: DictConfig, group: str, **given: Any) -> Any:
    """The component that a group's YAML describes, with objects that only Python can give."""
    return recipe(cfg, group)(**given)


def recipe(cfg: DictConfig, group: str, check_names: bool = True) -> partial[Any]:
    """A partial that builds a component.

    Options that the component does not have are refused, unless they are not looked at, and so are
    values that its annotations do not allow (see `check_types`).
    """
    try:
        node = OmegaConf.select(cfg, group)
        made: partial[Any] = instantiate(node, _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise _explained(error, group, str(node.get("_target_", ""))) from error
    if group == "model":
        made.keywords.pop("display_name", None)  # only reports read it
    parameters = inspect.signature(made.func).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in made.keywords if check_names else ():
        if name not in parameters and not takes_any:
            hint = did_you_mean(name, parameters)
            raise InputError(f"{group}.{name} is no option of {made.func.__qualname__}{hint}")
    check_types(made.func, made.keywords, group)
    _check_inner_types(OmegaConf.to_container(node, resolve=True), group)
    return made


def _check_inner_types(content: Any, place: str) -> None:
    """Checks the components inside a component, also in lists; see `check_types`."""
    inner = dict(content) if isinstance(content, Mapping) else {}
    if isinstance(content, list):
        inner = {str(number): one for number, one in enumerate(content)}
    for name, one in inner.items() if inner.get("_recursive_", True) else ():
        if isinstance(one, Mapping) and "_target_" in one:
            check_types(get_object(one["_target_"]), one, f"{place}.{name}")
        _check_inner_types(one, f"{place}.{name}")


def _explained(error: InstantiationException, group: str, target: str) -> InputError:
    """An import that failed names what to install or where to start; else what Hydra says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name in EXTRAS:
            extra = EXTRAS[cause.name]
            return InputError(f"{group} needs {cause.name}: pip install 'lamp-exp[{extra}]'")
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return InputError(f"{group}: {_missing_module(cause.name, target)}")
        cause = cause.__cause__
    text = re.sub(r",? ?set env var HYDRA_FULL_ERROR=1[^:]*:?", "", str(error))
    return InputError(f"{group}: {' '.join(text.split())}")


def _missing_module(name: str, target: str) -> str:
    """Why `target` cannot be imported; `name` is what Python did not find."""
    module, _, last = name.rpartition(".")
    package = target.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        return (
            f"there is no module {package}: start from the folder that contains it, or install it"
        )
    if name == target and importlib.util.find_spec(module) is not None:
        return f"{module} has no {last}"
    if target.startswith(f"{name}."):
        return f"there is no module {name}"
    return f"{target} needs {name}, which is not installed"


def class_value(cfg: DictConfig, group: str, name: str) -> Any:
    """A value of the chosen component's class, which is imported only if it must be.

    A literal in the body of the class or of one that it inherits from is read from the source,
    because to import the libraries of models and encoders takes seconds.
    """
    found = _literal(cfg[group]._target_, name)
    return getattr(recipe(cfg, group).func, name) if found is None else found


def usage_of(cfg: DictConfig) -> Usage:
    """What the experiment of a configuration does, by the classes of its components."""
    uses_profile, learns = (
        class_value(cfg, "retriever", name) for name in ("uses_profile", "learns")
    )
    writes = bool(class_value(cfg, "summary", "writes"))
    groups = {"others": personal_groups(cfg), "general": general_groups(cfg)}
    return Usage.of(cfg.mode, uses_profile, cfg.k, learns, writes=writes, **groups)


def personal_groups(cfg: DictConfig) -> frozenset[str]:
    """The groups whose chosen component is one that the baseline lacks, besides the retriever."""
    reading = frozenset(g for g in PERSONAL_GROUPS if class_value(cfg, g, "uses_profile"))
    return reading | general_groups(cfg)


def general_groups(cfg: DictConfig) -> frozenset[str]:
    """The personal groups without a profile: those of an adapter that only learns from train."""
    uses_profile, learns = (
        class_value(cfg, "adapter", name) for name in ("uses_profile", "learns_from_train")
    )
    return frozenset({"adapter"} if learns and not uses_profile else ())


@lru_cache(maxsize=1024)
def _literal(target: str, name: str) -> Any:
    """The literal that a class, given by its dotted name, or a base of it has for `name`.

    None if it is no literal, or the source is not found.
    """
    module, _, class_name = target.rpartition(".")
    tree = ast.parse(_source(module))
    made = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    defined = next((node for node in made if node.name == class_name), None)
    if defined is None:
        return None
    for line in defined.body:
        if isinstance(line, ast.FunctionDef) and line.name == name:
            return None
        names = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == name for one in names):
            with suppress(ValueError, TypeError):  # an expression, or no value
                return ast.literal_eval(line.value)  # type: ignore[attr-defined]
            return None
    places = {node.name: f"{module}.{node.name}" for node in made}
    for line in tree.body:
        if isinstance(line, ast.ImportFrom) and line.module and not line.level:
            places |= {one.asname or one.name: f"{line.module}.{one.name}" for one in line.names}
    base = defined.bases[0] if len(defined.bases) == 1 else None  # of several, Python finds it
    if isinstance(base, ast.Name) and base.id in places:
        return _literal(places[base.id], name)
    return None


def _source(module: str) -> bytes:
    """The source of a module, which is not imported; empty if there is none."""
    with suppress(ModuleNotFoundError, ValueError):  # `recipe` explains it
        spec = importlib.util.find_spec(module)
        if spec and spec.origin and spec.origin.endswith(".py"):
            return Path(spec.origin).read_bytes()
    return b""


def forget_classes() -> None:
    """Clears what is kept of the components' classes, so that they are read again."""
    _literal.cache_clear()
