"""Writes files and folders atomically, and handles damaged ones.

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger("lamp_exp.storage")
T = TypeVar("T")
TEMPORARY, DAMAGED = ".making-", ".damaged"  # parts of the names of files that must not be read
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Damaged(Exception):
    """A file does not hold what its writer wrote; the message says why, without its name."""


class Unwritable(OSError):
    """A file cannot be written; the message says which one and why."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error), str(path))

    def __str__(self) -> str:
        return f"{self.filename} cannot be written ({self.strerror})"


def temporary(path: Path) -> Path:
    """A new name in the folder of `path` for what will take its place."""
    return path.with_name(f".{path.name}{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")


@contextmanager
def replacing(path: Path) -> Iterator[BufferedRandom]:
    """Yields a file, open for writing; it replaces `path` when the block ends without an error.

    Raises Unwritable if the file cannot be opened or moved, or the disk is full; other errors of
    the block are its own.
    """
    made = temporary(path)
    try:
        with made.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
        flush(path.parent)
    except OSError as error:
        if error.filename == str(made) or error.errno in _DISK_FULL:
            raise Unwritable(path, error) from error
        raise
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            made.unlink()


def remove_leftovers(path: Path) -> None:
    """Removes what killed writers of `path` left beside it; call it with the lock of `path`."""
    for left in path.parent.glob(f".{path.name}{TEMPORARY}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Replaces `path` by a UTF-8 file of all pieces, which may be larger than memory."""
    with replacing(path) as file:
        file.writelines(piece.encode() for piece in pieces)


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
    flush_tree(made)
    old = temporary(place)
    with suppress(FileNotFoundError):
        place.rename(old)
    made.rename(place)
    flush(place.parent)
    if old.exists():
        shutil.rmtree(old)


def flush_tree(folder: Path) -> None:
    """Waits until the disk holds all files below a folder, before a file that vouches for them."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir() or path.is_file():  # not a socket, nor a link to nowhere
            with suppress(FileNotFoundError):
                flush(path)


def flush(path: Path) -> None:
    """Waits until the disk holds a file's content or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def touch(path: Path) -> None:
    """Records that a cached file was used now, unless the folder is read-only."""
    with suppress(OSError):
        os.utime(path)


def append_text(path: Path, text: str) -> None:
    """Appends to a file, which is made if it is missing; on the disk when it returns."""
    is_new = not path.exists()
    with path.open("ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        flush(path.parent)


def set_aside(path: Path) -> Path:
    """Renames a damaged file or folder so that nothing reads it; `cache prune` removes it.

    Returns the new place.
    """
    place = path.with_name(f".{path.name}{DAMAGED}")
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    with suppress(FileNotFoundError):  # another process was faster
        path.replace(place)
    return place


def report_damage(path: Path, reason: object) -> None:
    """Warns that a file is damaged, and sets it aside where its folder is not read-only."""
    try:
        name = set_aside(path).name
    except OSError as error:
        left = f"it cannot be set aside ({error.strerror or error}), and is not read"
        log.warning("%s is damaged (%s): %s", path, reason, left)
    else:
        aside = f"it is set aside as {name}, and made again when needed"
        log.warning("%s is damaged (%s): %s", path, reason, aside)


def read_text(path: Path) -> str:
    """The content of a text file. Raises Damaged, or FileNotFoundError."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Damaged(str(error)) from error
    if not text or "\0" in text:
        raise Damaged("it holds NUL bytes" if text else "it is empty")
    return text


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object. Raises Damaged, or FileNotFoundError."""
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise Damaged(str(error)) from error
    if not isinstance(content, dict):
        raise Damaged(f"it holds a {type(content).__name__}, not an object")
    return content


def read_text_or_none(path: Path) -> str | None:
    """The content of a text file; None if it is missing or damaged."""
    return _undamaged(read_text, path)


def read_json_or_none(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file that holds an object; None if it is missing or damaged."""
    return _undamaged(read_json, path)


def _undamaged(read: Callable[[Path], T], path: Path) -> T | None:
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Damaged as error:
        report_damage(path, error)
        return None
