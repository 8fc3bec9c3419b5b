"""Checks the plain values of a YAML against the annotations of the component that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lamp_exp.errors import InputError
from lamp_exp.options import KINDS, as_text


def check_types(made: Callable[..., Any], given: Mapping[str, Any], place: str) -> None:
    """Raises InputError for a number, text, true, false or null that an annotation does not allow.

    `made` is the class or function that takes `given` by name; `place` is its dotted name in the
    configuration. Null is allowed where it is the default. Other values, and annotations that
    cannot be read, are not judged.
    """
    parameters = inspect.signature(made).parameters
    for name, hint in _annotations(made).items():
        if name not in given or name not in parameters:
            continue
        value = given[name]
        usual = value is None and parameters[name].default is None
        kinds = list(_alternatives(hint))
        if usual or any(_fits(value, kind) for kind in kinds):
            continue
        option = f"{place}.{name}"
        quotes = ""
        if str in kinds and isinstance(value, int | float):
            quotes = f": with quotes inside quotes, '{option}=\"{as_text(value)}\"'"
        raise InputError(f"{option}={as_text(value)} must be {_in_words(kinds)}{quotes}")


def _annotations(made: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    except Exception:  # noqa: BLE001  (an annotation is any expression, of any names)
        return {}


def _alternatives(hint: Any) -> Iterator[Any]:
    """The annotations of which one must fit."""
    if get_origin(hint) in (Union, UnionType):
        for one in get_args(hint):
            yield from _alternatives(one)
    else:
        yield hint


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value may be what an annotation says; True for what is not judged."""
    if isinstance(value, Mapping) and "_target_" in value:
        return True  # it describes an object
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return True
    plain = isinstance(kind, type) and (kind in KINDS or kind is NoneType)
    return type(value) is kind if plain else True


def _in_words(kinds: list[Any]) -> str:
    named = [as_text(value) for kind in kinds if get_origin(kind) is Literal
             for value in get_args(kind)]  # fmt: skip
    words = [f"one of {', '.join(dict.fromkeys(named))}"] if named else []
    words += [words_of for kind, words_of in KINDS.items() if kind in kinds]
    words += ["null"] if NoneType in kinds else []
    return ", or ".join(words)
