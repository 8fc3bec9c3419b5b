"""A cache of text vectors, one per distinct text and encoder.

    vectors/<encoder>-<hash>/encoder.json      the encoder and its settings
    vectors/<encoder>-<hash>/<random>.arrow    a shard: keys and vectors of up to 16,384 texts

Each shard has a name of its own, so that several processes can add shards at once; a text that is
in two of them does no harm. Vectors are stored in 16 bits a value; see `to_half`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamp_exp.contracts import TextTokens, TextVectors, VectorStore
from lamp_exp.storage.arrow import number_array
from lamp_exp.storage.atomic import (
    Damaged,
    Unwritable,
    read_json_or_none,
    report_damage,
    touch,
    write_text,
)
from lamp_exp.storage.checksummed import ChecksummedFile, write_checksummed
from lamp_exp.storage.contents import folder_fingerprint
from lamp_exp.storage.locks import shared

log = logging.getLogger("lamp_exp.storage")
FORMAT = 4  # increase it when the shards change: texts are then encoded again
SHARD = 16_384  # texts: what a kill loses at most, and what encoding holds in memory
ENCODER = "encoder.json"
KEY_BYTES = 16
_ROW_BITS = 32  # of a place: shard number above, row below
_NOWHERE = -1
_COLUMNS = ("key", "read", "exponent", "vector")
_HALF = np.finfo(np.float16)
_HALF_OVERFLOW = 65_520  # the smallest value that 16 bits round to infinity


class VectorCache(VectorStore):
    """Vectors of any encoders below a folder, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, encoder: Mapping[str, Any]) -> EncoderVectors:
        """The vectors of one encoder: `encoder` holds all that decides them, as JSON values.

        If its `name` is a local folder, the folder's content counts instead.
        """
        key = {"format": FORMAT, **encoder, "name": folder_fingerprint(str(encoder["name"]))}
        text = json.dumps(key, sort_keys=True)
        word = re.sub(r"[^\w-]", "_", Path(str(encoder["name"])).name)
        folder = self.folder / f"{word}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
        try:
            release = shared(folder)
            folder.mkdir(exist_ok=True)
            if read_json_or_none(folder / ENCODER) is None:
                write_text(folder / ENCODER, [text, "\n"])
            touch(folder / ENCODER)
        except OSError as error:
            log.warning("vectors are not kept: %s", error)
            return EncoderVectors(folder, writes=False)
        vectors = EncoderVectors(folder)
        weakref.finalize(vectors, release)
        return vectors


@dataclass
class _Shard:
    """Texts' keys and what belongs to them, mapped from a file or in memory."""

    keys: NDArray[np.bytes_]
    vectors: NDArray[np.float16]
    exponents: NDArray[np.int16]
    read: NDArray[np.int32]  # (texts, fields of TextTokens)
    used: NDArray[np.bool_]
    counted: NDArray[np.bool_]  # used since `take_counts` was called
    file: ChecksummedFile | None = None  # of a shard whose checksum has not been compared yet


class EncoderVectors(TextVectors):
    """One encoder's vectors, in memory or in the shards of a folder."""

    def __init__(self, folder: Path | None = None, writes: bool = True) -> None:
        """Without `folder`, vectors live as long as this object; without `writes`, new ones do."""
        self.folder = folder if writes else None
        self.encoded = 0
        self.shards: list[_Shard | None] = []
        for path in sorted(folder.glob("*.arrow")) if folder else ():
            try:
                self.shards.append(read_shard(ChecksummedFile.open(path, check=False)))
            except FileNotFoundError:
                continue  # set aside by another process meanwhile
            except (Damaged, OSError) as error:
                report_damage(path, error)
        self._index_shards()

    def keys(self, texts: Sequence[str]) -> NDArray[np.bytes_]:
        """What stands for each text."""
        return _array([text_key(text) for text in texts])

    def missing(self, texts: Sequence[str], keys: NDArray[np.bytes_] | None = None) -> list[str]:
        """The distinct texts that have no vector yet, in order."""
        places = self._find_undamaged(self.keys(texts) if keys is None else keys)
        for number, rows in _by_shard(places[places != _NOWHERE]):
            shard = self._shard(number)
            shard.used[rows] = shard.counted[rows] = True
        return list(
            dict.fromkeys(texts[row] for row in np.flatnonzero(places == _NOWHERE).tolist())
        )

    def add(
        self, texts: Sequence[str], vectors: NDArray[np.float32], read: Sequence[TextTokens]
    ) -> None:
        """Stores vectors (texts, dimensions), and what the encoder read of each text."""
        for start in range(0, len(texts), SHARD):
            part = slice(start, start + SHARD)
            halves, exponents = to_half(vectors[part])
            keys = self.keys(texts[part])
            used, counted = np.ones((2, len(keys)), bool)
            self.encoded += len(keys)
            shard = _Shard(keys, halves, exponents, np.array(read[part], np.int32), used, counted)
            self.shards.append(self._stored(shard))
            self.index.add({len(self.shards) - 1: self._shard(-1)})

    def rows(
        self, texts: Sequence[str], keys: NDArray[np.bytes_] | None = None
    ) -> NDArray[np.float32]:
        """The vectors of `texts` (texts, dimensions); KeyError for a text without one."""
        places = self.index.find(self.keys(texts) if keys is None else keys)
        if (places == _NOWHERE).any():
            raise KeyError(texts[int(np.argmax(places == _NOWHERE))])
        gathered: NDArray[np.float32] | None = None
        for number, rows in _by_shard(places):
            shard = self._shard(number)
            if gathered is None:
                gathered = np.empty((len(texts), shard.vectors.shape[1]), dtype=np.float32)
            gathered[places >> _ROW_BITS == number] = from_half(
                shard.vectors[rows], shard.exponents[rows]
            )
        return np.empty((0, 0), dtype=np.float32) if gathered is None else gathered

    def counts(self) -> dict[str, int]:
        """Distinct texts so far: encoded now, read from the cache."""
        used = sum(int(shard.used.sum()) for shard in self.shards if shard is not None)
        return {"texts_encoded": self.encoded, "texts_from_cache": used - self.encoded}

    def take_counts(self) -> dict[str, int]:
        """Of the distinct texts since the last call: those cut; and the tokens of all."""
        total = np.zeros(len(TextTokens._fields), np.int64)
        for shard in self.shards:
            if shard is not None:
                total += shard.read[shard.counted].sum(axis=0, dtype=np.int64)
                shard.counted[:] = False
        tokens, unknown, cut = map(int, total)
        return {"texts_cut": cut, "tokens_read": tokens, "unknown_tokens": unknown}

    def _shard(self, number: int) -> _Shard:
        shard = self.shards[number]
        assert shard is not None, "the index names no shard that has been dropped"
        return shard

    def _index_shards(self) -> None:
        self.index = _Index()
        self.index.add({n: shard for n, shard in enumerate(self.shards) if shard is not None})

    def _stored(self, shard: _Shard) -> _Shard:
        """The shard, mapped from a new file; as it is where no file can be written."""
        if self.folder is None:
            return shard
        path = self.folder / f"{secrets.token_hex(8)}.arrow"
        try:
            _write(path, shard)
        except Unwritable as error:
            self.folder = None
            log.warning("vectors are held in memory, not kept: %s", error)
            return shard
        mapped = read_shard(ChecksummedFile.open(path, check=False))
        return replace(mapped, used=shard.used, counted=shard.counted, file=None)

    def _find_undamaged(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """The place of each key; the checksum of a shard is compared when it is first used."""
        while True:
            places = self.index.find(keys)
            numbers = np.unique(places[places != _NOWHERE] >> _ROW_BITS).tolist()
            dropped = [number for number in numbers if self._is_damaged(self._shard(number))]
            if not dropped:
                return places
            for number in dropped:
                self.shards[number] = None
            self._index_shards()

    def _is_damaged(self, shard: _Shard) -> bool:
        file, shard.file = shard.file, None
        if file is None:
            return False
        try:
            file.check()
        except Damaged as error:
            report_damage(file.path, error)
            return True
        return False


def to_half(
    vectors: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.float16], NDArray[np.int16]]:
    """Vectors (texts, dimensions) divided by powers of two, in 16 bits; and the exponents (texts).

    The exponent is 0 for vectors that fit. Where the largest value would become infinite, or is
    so small that 16 bits lose digits of it, division brings that value near 2^15.
    """
    vectors = np.asarray(vectors, np.float32)
    largest = np.abs(vectors).max(axis=1, initial=0, where=np.isfinite(vectors))
    fits = (largest == 0) | ((largest >= _HALF.smallest_normal) & (largest < _HALF_OVERFLOW))
    exponents = np.where(fits, 0, np.frexp(largest)[1] - 15).astype(np.int16)
    return _scaled(vectors, -exponents).astype(np.float16), exponents


def from_half(vectors: NDArray[np.float16], exponents: NDArray[np.int16]) -> NDArray[np.float32]:
    """The inverse of `to_half`, but for the digits that 16 bits do not hold."""
    return _scaled(vectors.astype(np.float32), exponents)


def _scaled(vectors: NDArray[np.float32], exponents: NDArray[np.int16]) -> NDArray[np.float32]:
    if not exponents.any():
        return vectors  # nearly always
    scaled: NDArray[np.float32] = np.ldexp(vectors, exponents[:, None])
    return scaled


class _Index:
    """The place of each key's vector, in sorted arrays: a dictionary of millions would be large."""

    def __init__(self) -> None:
        self.keys = _array([])
        self.places = np.zeros(0, np.int64)

    def add(self, shards: Mapping[int, _Shard]) -> None:
        """Adds the keys of shards, by the shards' numbers; known keys keep their place."""
        keys = np.concatenate([_array([]), *(shard.keys for shard in shards.values())])
        rows = [
            np.arange(len(shard.keys)) + (number << _ROW_BITS) for number, shard in shards.items()
        ]
        new, first = np.unique(keys, return_index=True)
        unknown = self.find(new) == _NOWHERE
        at = np.searchsorted(self.keys, new[unknown])
        places = np.concatenate([np.zeros(0, np.int64), *rows])[first[unknown]]
        self.keys = np.insert(self.keys, at, new[unknown])
        self.places = np.insert(self.places, at, places)

    def find(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """The place of each key; -1 for unknown keys."""
        if not len(self.keys):
            return np.full(len(keys), _NOWHERE, np.int64)
        near = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[near] == keys, self.places[near], _NOWHERE)


def text_key(text: str) -> bytes:
    """Sixteen bytes that stand for a text, also for one with lone surrogates."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def read_shard(file: ChecksummedFile) -> _Shard:
    """A file's columns, mapped; raises Damaged if it is no shard."""
    try:
        (batch,) = file.table.to_batches()
        keys, read, exponents, vectors = (batch.column(name) for name in _COLUMNS)
        size = vectors.type.list_size
        return _Shard(
            keys=np.frombuffer(keys.buffers()[1], f"S{keys.type.byte_width}", len(keys)),
            vectors=vectors.flatten().to_numpy(zero_copy_only=True).reshape(-1, size),
            exponents=exponents.to_numpy(zero_copy_only=True),
            read=read.flatten().to_numpy(zero_copy_only=True).reshape(-1, read.type.list_size),
            used=np.zeros(len(keys), bool),
            counted=np.zeros(len(keys), bool),
            file=file,
        )
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise Damaged("it is no shard of vectors") from error


def _write(path: Path, shard: _Shard) -> None:
    keys = [None, pa.py_buffer(shard.keys)]
    columns = [
        pa.Array.from_buffers(pa.binary(KEY_BYTES), len(shard.keys), keys),
        _rows(shard.read),
        number_array(shard.exponents),
        _rows(shard.vectors),
    ]
    schema = pa.schema([(n, column.type) for n, column in zip(_COLUMNS, columns, strict=True)])
    with write_checksummed(path, schema) as write:
        write(*columns)


def _rows(matrix: NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(number_array(matrix.reshape(-1)), matrix.shape[1])


def _by_shard(places: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    shards, rows = places >> _ROW_BITS, places & ((1 << _ROW_BITS) - 1)
    for shard in np.unique(shards):
        yield int(shard), rows[shards == shard]


def _array(keys: Sequence[bytes]) -> NDArray[np.bytes_]:
    return np.frombuffer(b"".join(keys), dtype=f"S{KEY_BYTES}")
