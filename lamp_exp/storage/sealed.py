"""Arrow files that end with a checksum of themselves, and appear whole or not at all.

A file is a stream of Arrow record batches, which any reader of Arrow can open, then eight bytes
that mark the end and the BLAKE2b digest of all before them. It is never changed once it is in its
place, so that a process that has it mapped can go on reading, even after it has been removed.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.ipc

END, DIGEST = b"lamp_exp", 32
MAKING, DAMAGED = ".making-", ".damaged"  # in the names of files that are not, or no longer, whole


class Damaged(Exception):
    """A file is not what its writer wrote."""


class Unwritable(Exception):
    """A file could not be written: no room, no permission, …; it says which and why."""


class Writer:
    """Writes beside a path; the file takes its place when the `with` block ends well."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Raises Unwritable, as all that writes here does."""
        self.path = path
        self.schema = schema
        self.beside = path.with_name(f".{path.name}{MAKING}{os.getpid()}-{secrets.token_hex(4)}")
        with writing(path):
            self.file = _Hashed(self.beside)
        self.stream = pa.ipc.new_stream(self.file, schema)  # writes nothing yet

    def __enter__(self) -> Writer:
        return self

    def write(self, *columns: pa.Array) -> None:
        """One record batch."""
        with writing(self.path):
            self.stream.write_batch(pa.record_batch(list(columns), schema=self.schema))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with writing(self.path):
                    self.stream.close()
                    self.file.write(END + self.file.digest.digest())
                    self.beside.replace(self.path)
        finally:
            self.file.close()
            self.beside.unlink(missing_ok=True)


class _Hashed(io.RawIOBase):
    """A new file and the digest of what has been written to it."""

    def __init__(self, path: Path) -> None:
        self.digest = hashlib.blake2b(digest_size=DIGEST)
        self.inner = path.open("xb", buffering=0)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        self.digest.update(left)
        while left:  # a disk that fills takes a part first
            left = left[self.inner.write(left) :]
        return size

    def close(self) -> None:
        self.inner.close()
        super().close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses becomes Unwritable."""
    try:
        yield
    except OSError as error:
        raise Unwritable(f"{path.parent} cannot be written ({error.strerror or error})") from error


@dataclass(frozen=True)
class Sealed:
    """A file, mapped into memory; opening reads and checks its structure only."""

    path: Path
    buffer: pa.Buffer
    table: pa.Table

    @classmethod
    def open(cls, path: Path, check: bool = True) -> Sealed:
        """Raises Damaged; FileNotFoundError if there is none. `check` reads all of it."""
        with pa.memory_map(str(path)) as mapped:
            buffer = mapped.read_buffer()
        if buffer.size < len(END) + DIGEST or buffer[-DIGEST - len(END) : -DIGEST] != END:
            raise Damaged(f"{path} was cut off or is none of ours")
        if check:
            _check(path, buffer)
        try:
            table = pa.ipc.open_stream(buffer).read_all()
            table.validate()
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"{path} cannot be read ({error})") from error
        return cls(path, buffer, table)

    def check(self) -> None:
        """Raises Damaged if any byte has changed."""
        _check(self.path, self.buffer)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What the writer noted beside the columns."""
        return dict(self.table.schema.metadata or {})


def _check(path: Path, buffer: pa.Buffer) -> None:
    content = memoryview(buffer)
    found = hashlib.blake2b(content[: -DIGEST - len(END)], digest_size=DIGEST).digest()
    if found != bytes(content[-DIGEST:]):
        raise Damaged(f"{path} has changed since it was written: its checksum is another")


def set_aside(path: Path) -> None:
    """Out of the way of all readers; `prune` removes it. Raises Unwritable."""
    with writing(path):
        path.replace(path.with_name(f".{path.name}{DAMAGED}"))
