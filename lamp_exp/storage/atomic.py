"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_whole(path: Path, pieces: Iterable[str]) -> None:
    """Writes beside and renames, so that nobody reads half a file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
    beside.replace(path)


def json_list(rows: Iterable[Any]) -> Iterator[str]:
    """The pieces of a JSON list, row by row: it may be larger than memory."""
    lead = "["
    for row in rows:
        yield lead + json.dumps(row, ensure_ascii=False)
        lead = ", "
    yield "]" if lead == ", " else "[]"


def replace_folder(made: Path, place: Path) -> None:
    """Moves a finished folder to its place; what lay there goes only once it has been moved."""
    if place.exists():
        old = place.with_name(f".{place.name}.old-{os.getpid()}")
        place.rename(old)
        made.rename(place)
        shutil.rmtree(old)
    else:
        made.rename(place)


def touch(path: Path) -> None:
    """Notes that a kept file was used just now, where that can be noted."""
    with suppress(OSError):  # a folder that may only be read
        os.utime(path)
