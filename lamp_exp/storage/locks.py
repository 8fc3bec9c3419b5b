"""The lock for everything that several processes must not write at once.

The lock of `folder/name` is the file `folder/.locks/name.lock`. It belongs to a living process:
when the process ends, however it ends, the lock is free. Lock files stay, since another process
may be waiting for one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lamp_exp.storage.atomic import Unwritable

LOCKS = ".locks"


class Locked(Exception):
    """A lock is held by another process, or by another holder in this process."""


@contextmanager
def exclusive(
    path: Path, wait: bool = True, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Holds the lock of `path`, which excludes all other holders.

    While another has it, waits; `waiting` is called once with a line that says so. Raises Locked
    instead if `wait` is False, and Unwritable if the lock file cannot be made.
    """
    with _held(_main_file(path), path, wait, waiting):
        for user in list(_shared_folder(path).glob("*")):
            with _held(user, path, wait, waiting):  # of a holder that ended without releasing it
                user.unlink(missing_ok=True)
        yield


def shared(path: Path) -> Callable[[], None]:
    """Holds the lock of `path` beside other shared holders; returns the function that releases it.

    Each holder locks a file of its own, and `exclusive` waits for all of them.
    """
    with _held(_main_file(path), path):
        file = _shared_folder(path) / secrets.token_hex(8)
        file.parent.mkdir(exist_ok=True)
        own = FileLock(file, thread_local=False)
        own.acquire()

    def release() -> None:
        file.unlink(missing_ok=True)
        own.release()

    return release


def _main_file(path: Path) -> Path:
    return path.parent / LOCKS / f"{path.name}.lock"


def _shared_folder(path: Path) -> Path:
    return path.parent / LOCKS / f"{path.name}.shared"


@contextmanager
def _held(
    file: Path, path: Path, wait: bool = True, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Holds one lock file, on behalf of `path`."""
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        message = f"{path} is being written by another process"
        if not wait:
            raise Locked(message) from None
        if waiting is not None:
            waiting(f"{message}: waiting for it")
        lock.acquire()
    except OSError as error:
        raise Unwritable(path.parent, error) from error
    try:
        yield
    finally:
        lock.release()
