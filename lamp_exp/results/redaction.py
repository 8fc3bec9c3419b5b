"""Removes paths, addresses and keys from what leaves this machine.

A path keeps its last part, the home folder is `~`, an address keeps its scheme, and what a
secret environment variable holds is blotted out wherever it occurs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

BLOT = "***"
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s'\"]*", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w/.:~-])(?:~|\.\.)?/[^\s'\",;:()\[\]{}]*[^\s'\",;:.()\[\]{}]")


def scrubbed(value: Any) -> Any:
    """The same value, with every text in it made harmless; numbers stay as they are."""
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, Mapping):
        return {str(name): scrubbed(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(inner) for inner in value]
    return value


def harmless(text: str) -> str:
    """A text without what only this machine or its user should know."""
    for secret in _secrets():
        text = text.replace(secret, BLOT)
    text = _ADDRESS.sub(rf"\1://{BLOT}", text)
    if _leads_elsewhere(text):
        return _last_part(text)
    return _PATH.sub(lambda found: _last_part(found[0]), text.replace(_home(), "~"))


def _leads_elsewhere(text: str) -> bool:
    path = PurePath(text)
    return path.is_absolute() or text.startswith("~") or ".." in path.parts


def _last_part(path: str) -> str:
    """Of the home folder and above, nothing: the last part would be the user's name."""
    whole = Path(path).expanduser() if path.startswith("~/") else Path(path)
    home = Path(_home())
    if whole == home or whole in home.parents:
        return "~"
    return whole.name if whole.name != ".." else "~"


def _home() -> str:
    return str(Path.home())


def _secrets() -> list[str]:
    """What the environment holds under secret names; short values would blot out plain words."""
    named = [value for name, value in os.environ.items() if _SECRET.search(name)]
    return sorted({value for value in named if len(value) >= 8}, key=len, reverse=True)
