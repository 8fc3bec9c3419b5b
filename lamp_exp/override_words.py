"""Writes values in the grammar of Hydra's overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLAIN_WORD = re.compile(r"[A-Za-z_][\w./-]*")
_HYDRA_WORDS = {"null", "true", "false", "inf", "nan"}


def override(name: str, value: Any) -> str:
    """The override that sets an option to a Python value, in Hydra's grammar."""
    return name if name.startswith("~") else f"{name}={value_text(value)}"


def value_text(value: Any) -> str:
    """A Python value in Hydra's grammar of overrides."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        inner = ",".join(f"{value_text(key)}:{value_text(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    """In double quotes, unless it is a plain word: a backslash counts only before a quote."""
    if _PLAIN_WORD.fullmatch(text) and text.lower() not in _HYDRA_WORDS:
        return text
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text)
    return f'"{escaped}"'


def key_of(word: str) -> str:
    """The option or group that an override sets, without the signs `+` and `~`."""
    return word.lstrip("+~").partition("=")[0]
