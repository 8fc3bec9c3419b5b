"""Arrow files that end with a checksum of their content.

A file is a stream of Arrow record batches, which any reader of Arrow can open, then eight bytes
that mark the end and the BLAKE2b digest of all before them. It is never changed in its place, so
that a process that has mapped it can go on reading, even after the file has been removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from lamp_exp.storage.atomic import Damaged, replacing

END, DIGEST = b"lamp_exp", 32
_digest = partial(hashlib.blake2b, digest_size=DIGEST)


@contextmanager
def write_checksummed(path: Path, schema: pa.Schema) -> Iterator[Callable[..., None]]:
    """Yields a function that writes its arguments, one array per column, as a record batch.

    What is known only at the end may be given as `notes` with the last batch. The file appears when
    the block ends without an error; see `replacing` for what is raised.
    """
    with replacing(path) as file:
        stream = pa.ipc.new_stream(file, schema)

        def write(*columns: pa.Array, notes: Mapping[bytes, bytes] | None = None) -> None:
            batch = pa.record_batch(list(columns), schema=schema)
            stream.write_batch(batch, custom_metadata=notes and dict(notes))

        yield write
        stream.close()
        file.seek(0)
        file.write(END + hashlib.file_digest(file, _digest).digest())


@dataclass(frozen=True)
class ChecksummedFile:
    """A file, mapped into memory."""

    path: Path
    buffer: pa.Buffer
    table: pa.Table
    notes: Mapping[bytes, bytes]  # of all batches together

    @classmethod
    def open(cls, path: Path, check: bool = True) -> ChecksummedFile:
        """Raises Damaged, or OSError; without `check`, only the structure is read."""
        with pa.memory_map(str(path)) as mapped:
            buffer = mapped.read_buffer()
        if not buffer.size:
            raise Damaged("it is empty")
        if buffer.size < len(END) + DIGEST or buffer[-DIGEST - len(END) : -DIGEST] != END:
            raise Damaged("it was cut off, or has another format")
        if check:
            _check(buffer)
        try:
            stream, batches, notes = pa.ipc.open_stream(buffer), [], dict[bytes, bytes]()
            for batch, more in stream.iter_batches_with_custom_metadata():
                batches.append(batch)
                notes.update(more or {})
            table = pa.Table.from_batches(batches, stream.schema)
            table.validate()
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"it cannot be read: {error}") from error
        return cls(path, buffer, table, notes)

    def check(self) -> None:
        """Raises Damaged if any byte has changed."""
        _check(self.buffer)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What the writer noted beside the columns."""
        return dict(self.table.schema.metadata or {})


def _check(buffer: pa.Buffer) -> None:
    content = memoryview(buffer)
    if _digest(content[: -DIGEST - len(END)]).digest() != bytes(content[-DIGEST:]):
        raise Damaged("its checksum is another: it has changed since it was written")
