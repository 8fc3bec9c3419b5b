"""Files and folders that appear complete or not at all, and what happens to damaged ones.

A file is written beside its place, flushed to the disk, and moved. After a crash or a power cut,
its place holds the old content or the new content. `replacing` is the only way in which this
package replaces a file; files that grow (logs, journals, downloads) are appended to.

A damaged file (empty, cut off, full of NUL bytes, or with other content than its writer wrote)
counts as missing: it is named in a warning, moved aside, and written again.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

log = logging.getLogger("lamp_exp.storage")
TEMPORARY, DAMAGED = ".making-", ".damaged"  # parts of the names of files that must not be read


class Damaged(Exception):
    """A file does not hold what its writer wrote."""


def temporary(path: Path) -> Path:
    """A new name in the folder of `path` for what will take its place."""
    return path.with_name(f".{path.name}{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path; the file written there replaces `path` when the block ends well."""
    made = temporary(path)
    try:
        yield made
        _flush(made)
        made.replace(path)
        _flush(path.parent)
    finally:
        made.unlink(missing_ok=True)


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Replaces `path` by a UTF-8 file of all pieces, which may be larger than memory."""
    with replacing(path) as made, made.open("w", encoding="utf-8") as file:
        file.writelines(pieces)


def write_bytes(path: Path, pieces: Iterable[bytes]) -> None:
    """Replaces `path` by a file of all pieces."""
    with replacing(path) as made, made.open("wb") as file:
        file.writelines(pieces)


def write_json(path: Path, content: Any) -> None:
    """Replaces `path` by a JSON file."""
    write_text(path, [json.dumps(content, ensure_ascii=False, indent=1), "\n"])


def json_list(rows: Iterable[Any]) -> Iterator[str]:
    """The pieces of a JSON list, row by row: it may be larger than memory."""
    lead = "["
    for row in rows:
        yield lead + json.dumps(row, ensure_ascii=False)
        lead = ", "
    yield "]" if lead == ", " else "[]"


def replace_folder(made: Path, place: Path) -> None:
    """Moves a finished folder to `place`; an old folder there is removed after the move."""
    for path in [*made.rglob("*"), made]:
        if not path.is_symlink():
            _flush(path)
    old = temporary(place)
    with suppress(FileNotFoundError):
        place.rename(old)
    made.rename(place)
    _flush(place.parent)
    if old.exists():
        shutil.rmtree(old)


def touch(path: Path) -> None:
    """Records that a cached file was used now, unless the folder is read-only."""
    with suppress(OSError):
        os.utime(path)


# Old name, until all callers are converted.
write_whole = write_text


def set_aside(path: Path) -> None:
    """Renames a damaged file or folder so that nothing reads it; `cache prune` removes it."""
    place = path.with_name(f".{path.name}{DAMAGED}")
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    with suppress(FileNotFoundError):  # another process was faster
        path.replace(place)


def report_damage(path: Path, reason: object, log: logging.Logger = log) -> None:
    """Warns that a file is damaged, and moves it aside where the folder is not read-only."""
    log.warning("%s is damaged (%s); it counts as missing and is set aside", path, reason)
    try:
        set_aside(path)
    except OSError as error:
        log.warning("%s cannot be set aside (%s)", path, error.strerror or error)


def read_json_or_none(path: Path, log: logging.Logger = log, kind: type = dict) -> Any | None:
    """The content of a JSON file of `kind`; None if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:  # no JSON, or no UTF-8
        report_damage(path, _describe(path, error), log)
        return None
    if not isinstance(content, kind):
        report_damage(path, f"a JSON {kind.__name__} was expected", log)
        return None
    return content


def _describe(path: Path, error: ValueError) -> str:
    """Why a file could not be parsed, in words that a user can act on."""
    if path.stat().st_size == 0:
        return "it is empty"
    return "it holds NUL bytes" if b"\0" in path.read_bytes() else str(error)


def _flush(path: Path) -> None:
    """Waits until the disk holds a file's content or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)
