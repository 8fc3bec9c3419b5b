"""Vectors of texts, made once for each distinct text and encoder.

    vectors/<encoder>-<hash>/encoder.json      what made them
    vectors/<encoder>-<hash>/<random>.arrow    a shard: up to 16,384 texts' keys and vectors

A shard is added whole under a name of its own, so that several processes can add at once; a text
that is in two of them is harmless.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamp_exp.contracts import TextVectors, VectorStore
from lamp_exp.storage.atomic import touch, write_whole
from lamp_exp.storage.contents import folder_fingerprint
from lamp_exp.storage.sealed import Damaged, Sealed, Unwritable, Writer, set_aside, writing

log = logging.getLogger("lamp_exp.storage")
FORMAT = 2  # of the shards: another number, and texts are encoded again
SHARD = 16_384  # texts: what a kill loses at most, and what encoding holds in memory
ENCODER = "encoder.json"
LOCKS = ".locks"
KEY_BYTES = 16
_ROW_BITS = 32  # of a place: shard number above, row below
_NOWHERE = -1


class VectorCache(VectorStore):
    """Vectors of any encoders below a folder, which need not exist."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read or made yet."""
        self.folder = folder

    def open(self, encoder: Mapping[str, Any]) -> EncoderVectors:
        """The vectors of one encoder: `encoder` holds all that decides them, as JSON values.

        Its `name` stands for the content, if it is a local folder.
        """
        key = {"format": FORMAT, **encoder, "name": folder_fingerprint(str(encoder["name"]))}
        text = json.dumps(key, sort_keys=True)
        word = re.sub(r"[^\w-]", "_", Path(str(encoder["name"])).name)
        folder = self.folder / f"{word}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
        try:
            return EncoderVectors(folder, text)
        except Unwritable as error:
            log.warning("vectors are not kept: %s", error)
            return EncoderVectors(folder, None)


@dataclass
class _Shard:
    """Texts' keys and what belongs to them, mapped from a file or in memory."""

    keys: NDArray[np.bytes_]
    vectors: NDArray[np.float16]
    cut: NDArray[np.bool_]
    used: NDArray[np.bool_]
    file: Sealed | None = None  # of one whose checksum has not been compared yet


class EncoderVectors(TextVectors):
    """One encoder's vectors. Each text is asked of `missing` before `rows` gives its vector."""

    def __init__(self, folder: Path, written: str | None) -> None:
        """`written` is what is noted of the encoder; None: nothing can be written there."""
        self.folder = folder
        self.writes = written is not None
        self.encoded = 0
        self.shards: list[_Shard | None] = []
        self.index = _Index()
        if written is not None:
            weakref.finalize(self, os.close, hold(folder))
            _note(folder, written)
        for path in sorted(folder.glob("*.arrow")):
            self._load(path)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Those that have no vector yet, each once, in their order."""
        keys = {text_key(text): text for text in texts}
        while True:
            places = self.index.find(list(keys))
            found = places[places != _NOWHERE]
            if not self._drop_damaged(set((found >> _ROW_BITS).tolist())):
                break
        for shard, rows in _by_shard(found):
            self._shard(shard).used[rows] = True
        return [
            text for text, place in zip(keys.values(), places, strict=True) if place == _NOWHERE
        ]

    def add(self, texts: Sequence[str], vectors: NDArray[np.float16], cut: Sequence[bool]) -> None:
        """Keeps vectors (texts x dimensions); `cut` says whose text was cut."""
        for start in range(0, len(texts), SHARD):
            some = slice(start, start + SHARD)
            self._add([text_key(text) for text in texts[some]], vectors[some], cut[some])

    def rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of `texts`, one a row; KeyError for a text without one."""
        places = self.index.find([text_key(text) for text in texts])
        if (places == _NOWHERE).any():
            raise KeyError(texts[int(np.argmax(places == _NOWHERE))])
        gathered: NDArray[np.float32] | None = None
        for shard, rows in _by_shard(places):
            vectors = self._shard(shard).vectors
            if gathered is None:
                gathered = np.empty((len(texts), vectors.shape[1]), dtype=np.float32)
            gathered[places >> _ROW_BITS == shard] = vectors[rows]
        return np.empty((0, 0), dtype=np.float32) if gathered is None else gathered

    def counts(self) -> dict[str, int]:
        """How many distinct texts were asked for: encoded now, or there already; and cut."""
        shards = [shard for shard in self.shards if shard is not None]
        used = sum(int(shard.used.sum()) for shard in shards)
        return {
            "texts_encoded": self.encoded,
            "texts_from_cache": used - self.encoded,
            "texts_cut": sum(int((shard.used & shard.cut).sum()) for shard in shards),
        }

    def _shard(self, number: int) -> _Shard:
        shard = self.shards[number]
        assert shard is not None, "the index names no shard that has been dropped"
        return shard

    def _load(self, path: Path) -> None:
        try:
            self._join(read_shard(Sealed.open(path, check=False)))
        except FileNotFoundError:
            return  # set aside by another process meanwhile
        except (Damaged, OSError) as error:
            self._lost(path, error)

    def _join(self, shard: _Shard) -> None:
        self.index.add(shard.keys, len(self.shards) << _ROW_BITS)
        self.shards.append(shard)

    def _add(self, keys: list[bytes], vectors: NDArray[np.float16], cut: Sequence[bool]) -> None:
        vectors = np.ascontiguousarray(vectors, dtype=np.float16)
        made = _Shard(_array(keys), vectors, np.array(cut, bool), np.ones(len(keys), bool))
        self.encoded += len(keys)
        if self.writes:
            try:
                kept = read_shard(_write(self.folder / f"{secrets.token_hex(8)}.arrow", made))
                made = _Shard(kept.keys, kept.vectors, kept.cut, made.used)
            except Unwritable as error:
                self.writes = False
                log.warning("vectors are held in memory, not kept: %s", error)
        self._join(made)

    def _drop_damaged(self, numbers: set[int]) -> bool:
        """Compares the checksums of shards that are used for the first time."""
        dropped = False
        for number in numbers:
            file, self._shard(number).file = self._shard(number).file, None
            if file is None:
                continue
            try:
                file.check()
            except Damaged as error:
                self._lost(file.path, error)
                self.shards[number] = None
                dropped = True
        if dropped:
            self._index_anew()
        return dropped

    def _index_anew(self) -> None:
        self.index = _Index()
        for number, shard in enumerate(self.shards):
            if shard is not None:
                self.index.add(shard.keys, number << _ROW_BITS)

    def _lost(self, path: Path, error: Exception) -> None:
        log.warning("%s; it is set aside, and its texts are encoded again", error)
        with suppress(Unwritable):  # it is not used, wherever it lies
            set_aside(path)


class _Index:
    """Where each key's vector is: sorted arrays, as a dictionary of millions would be large.

    What was added lately waits in a dictionary, and is merged when it has grown in proportion.
    """

    def __init__(self) -> None:
        self.keys = _array([])
        self.places = np.zeros(0, np.int64)
        self.late: dict[bytes, int] = {}

    def add(self, keys: NDArray[np.bytes_], first: int) -> None:
        """The keys of a shard, whose places count up from `first`; a key's first place stays."""
        for n, key in enumerate(_bytes(keys)):
            self.late.setdefault(key, first + n)
        if len(self.late) > max(2 * SHARD, len(self.keys) // 2):
            self._merge()

    def find(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """The place of each key; -1 for those that are unknown."""
        wanted = _array(keys)
        places = np.full(len(keys), _NOWHERE, np.int64)
        if len(self.keys):
            near = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            known = self.keys[near] == wanted
            places[known] = self.places[near[known]]
        for n in np.flatnonzero(places == _NOWHERE).tolist():
            places[n] = self.late.get(keys[n], _NOWHERE)
        return places

    def _merge(self) -> None:
        keys = np.concatenate([self.keys, _array(list(self.late))])
        places = np.concatenate([self.places, np.fromiter(self.late.values(), np.int64)])
        self.keys, first = np.unique(keys, return_index=True)
        self.places, self.late = places[first], {}


def text_key(text: str) -> bytes:
    """Sixteen bytes that stand for a text, whatever characters it holds."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def read_shard(file: Sealed) -> _Shard:
    """A file's columns, mapped; raises Damaged if it is no shard."""
    table = file.table
    try:
        (batch,) = table.to_batches()
        keys, cut, vectors = (batch.column(name) for name in ("key", "cut", "vector"))
        size = vectors.type.list_size
        return _Shard(
            keys=np.frombuffer(keys.buffers()[1], f"S{keys.type.byte_width}", len(keys)),
            vectors=vectors.flatten().to_numpy(zero_copy_only=True).reshape(-1, size),
            cut=cut.to_numpy(zero_copy_only=False),
            used=np.zeros(len(keys), bool),
            file=file,
        )
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise Damaged(f"{file.path} is no shard of vectors") from error


def _write(path: Path, shard: _Shard) -> Sealed:
    keys = _arrow(pa.binary(KEY_BYTES), shard.keys)
    flat = _arrow(pa.float16(), shard.vectors.reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, shard.vectors.shape[1])
    columns = {"key": keys, "cut": pa.array(shard.cut.tolist()), "vector": vectors}
    with Writer(path, pa.schema([(name, one.type) for name, one in columns.items()])) as writer:
        writer.write(*columns.values())
    with writing(path):
        return Sealed.open(path, check=False)


def _arrow(type: pa.DataType, values: NDArray[Any]) -> pa.Array:
    """The same memory as an Arrow array; `pa.array` of one of numpy's would import pandas."""
    return pa.Array.from_buffers(type, len(values), [None, pa.py_buffer(values)])


def hold(folder: Path) -> int:
    """A lock shared by all who use a folder, until the file descriptor returned is closed.

    It is the system's own (flock), as those who use a folder do not exclude each other.
    """
    lock = folder.parent / LOCKS / f"{folder.name}.lock"
    with writing(folder):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _note(folder: Path, written: str) -> None:
    with writing(folder / ENCODER):
        folder.mkdir(exist_ok=True)
        if not (folder / ENCODER).is_file():
            write_whole(folder / ENCODER, [written, "\n"])
        touch(folder / ENCODER)


def _by_shard(places: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    shards, rows = places >> _ROW_BITS, places & ((1 << _ROW_BITS) - 1)
    for shard in np.unique(shards):
        yield int(shard), rows[shards == shard]


def _array(keys: Sequence[bytes]) -> NDArray[np.bytes_]:
    return np.frombuffer(b"".join(keys), dtype=f"S{KEY_BYTES}")


def _bytes(keys: NDArray[np.bytes_]) -> list[bytes]:
    """Whole keys: numpy's own bytes lose zeros at the end."""
    content = keys.tobytes()
    return [content[n : n + KEY_BYTES] for n in range(0, len(content), KEY_BYTES)]
