"""Removes paths, addresses and keys from what leaves this machine.

A path keeps its last part, the home folder is `~`, an address keeps its scheme. What a secret
environment variable holds is blotted out: as a whole value always, within a text from 8 characters.
A relative path is known as one by its name in the settings, or because it is there: `a/b` may also
be the name of a model on the hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

BLOT = "***"
PATHS = {"data_dir", "output_dir", "source"}  # settings and facts of a record that are paths
SHORTEST = 8  # characters of a secret: a shorter one would blot out plain words of a text
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s'\"]*", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w/.:~-])(?:~|\.\.)?/[^\s'\",;:()\[\]{}]*[^\s'\",;:.()\[\]{}]")
_RELATIVE = re.compile(r"(?<![\w/.:~-])[^\s'\",;:()\[\]{}/]+/[^\s'\",;:()\[\]{}]*")


def scrubbed(value: Any, is_path: bool = False) -> Any:
    """The same value, with every text in it made harmless; numbers stay unless they are secrets."""
    if isinstance(value, str):
        return harmless(value, is_path)
    if isinstance(value, Mapping):
        return {str(name): scrubbed(inner, name in PATHS) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(inner) for inner in value]
    if isinstance(value, int | float) and len(str(value)) >= SHORTEST and str(value) in _secrets():
        return BLOT
    return value


def harmless(text: str, is_path: bool = False) -> str:
    """A text without what only this machine or its user should know."""
    secrets = _secrets()
    cleaned = text
    for secret in secrets:
        cleaned = cleaned.replace(secret, BLOT) if len(secret) >= SHORTEST else cleaned
    cleaned = _ADDRESS.sub(rf"\1://{BLOT}", cleaned)
    if is_path or _leads_elsewhere(cleaned) or os.path.exists(cleaned):
        cleaned = _last_part(cleaned)
    else:
        cleaned = _PATH.sub(lambda found: _last_part(found[0]), cleaned.replace(_home(), "~"))
        cleaned = _RELATIVE.sub(_last_part_if_there, cleaned)
    return BLOT if {text.strip(), cleaned.strip()} & set(secrets) else cleaned


def _last_part_if_there(found: re.Match[str]) -> str:
    return _last_part(found[0]) if os.path.exists(found[0]) else found[0]


def _leads_elsewhere(text: str) -> bool:
    path = PurePath(text)
    return path.is_absolute() or text.startswith("~") or ".." in path.parts


def _last_part(path: str) -> str:
    """Of the home folder and above, nothing: the last part would be the user's name."""
    whole = Path(path).expanduser() if path.startswith("~/") else Path(path)
    home = Path(_home())
    if whole == home or whole in home.parents:
        return "~"
    return "~" if whole.name == ".." else whole.name or path


def _home() -> str:
    return str(Path.home())


def _secrets() -> list[str]:
    """What the environment holds under secret names, the longest first."""
    named = {value.strip() for name, value in os.environ.items() if _SECRET.search(name)}
    return sorted(named - {""}, key=len, reverse=True)
