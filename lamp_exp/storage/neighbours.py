"""A cache of the neighbours that were found for the questions of a part.

    neighbours/LaMP_4-7f3a….arrow    one row a question: its id, its neighbours, what is left out

Vectors made elsewhere differ by rounding, which may decide between users that are about equally
similar. All runs that share a cache use the neighbours that the first run found; rankings of a
neighbourhood are known by the table's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamp_exp.storage.arrow import flattened, lengths, list_array, numbers, string_array
from lamp_exp.storage.atomic import Damaged, Unwritable, remove_leftovers, report_damage, touch
from lamp_exp.storage.checksummed import ChecksummedFile, write_checksummed
from lamp_exp.storage.locks import exclusive

log = logging.getLogger("lamp_exp.storage")
FORMAT = 1  # increase it when the files change: older ones are then made again
KEY = b"lamp_exp.data.neighbours"
COUNTS = b"lamp_exp.data.neighbours.counts"  # of what the encoder read
_LIST = pa.list_(pa.int32())
_COLUMNS = pa.schema([("id", pa.string()), ("neighbours", _LIST), ("left_out", _LIST)])


class Neighbourhood(NamedTuple):
    """Of one question: the neighbours, the most similar first, each by a question of theirs, and
    the positions of what is left out among the neighbours' items, one profile after the other.
    """

    neighbours: Sequence[int]
    left_out: Sequence[int]


@dataclass(frozen=True)
class NeighbourTable:
    """The neighbourhoods of all questions of a part, and counts of what was read to find them."""

    table: pa.Table
    counts: Mapping[str, Any]

    def __getitem__(self, row: int) -> Neighbourhood:
        neighbours, left_out = (values[row].tolist() for values in self._lists)
        return Neighbourhood(neighbours, left_out)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the content."""
        digest = hashlib.sha256()
        for lists in self._lists:
            for values in lists:
                digest.update(len(values).to_bytes(4, "little") + values.tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def _lists(self) -> list[list[NDArray[np.int32]]]:
        columns = [self.table.column(name).combine_chunks() for name in _COLUMNS.names[1:]]
        return [
            np.split(numbers(flattened(column), np.int32), np.cumsum(lengths(column))[:-1])
            for column in columns
        ]


def neighbour_table(
    folder: Path,
    key: Mapping[str, Any],
    ids: Sequence[str],
    compute: Callable[[], Iterable[Neighbourhood]],
    take_counts: Callable[[], Mapping[str, Any]],
) -> NeighbourTable:
    """The neighbourhoods of the questions `ids`, which `compute` finds if they are not stored yet.

    `take_counts` is called then, for counts of what was read, which are kept with them. `key`
    holds, as JSON values, all that decides them. A damaged file is set aside and made again; where
    nothing can be written, a warning says so.
    """
    stored, path = stored_table(folder, key, ids), folder / file_name(key)
    if stored is None:
        try:
            with exclusive(path):  # another process may make it meanwhile
                stored = stored_table(folder, key, ids)
                if stored is None:
                    remove_leftovers(path)
                    found, counts = _batch(ids, compute()), dict(take_counts())
                    content = json.dumps({"format": FORMAT, "key": dict(key)})
                    with write_checksummed(path, _COLUMNS.with_metadata({KEY: content})) as write:
                        write(*found.columns, notes={COUNTS: json.dumps(counts).encode()})
                    return NeighbourTable(pa.Table.from_batches([found]), counts)
        except Unwritable as error:
            log.warning("neighbours are not kept: %s", error)
            table = pa.Table.from_batches([_batch(ids, compute())])
            return NeighbourTable(table, take_counts())
    touch(path)
    return stored


def stored_table(folder: Path, key: Mapping[str, Any], ids: Sequence[str]) -> NeighbourTable | None:
    """The neighbourhoods that are stored; None if there are none, or if they are damaged."""
    path = folder / file_name(key)
    try:
        file = ChecksummedFile.open(path)
        if read_key(file) != json.loads(json.dumps(key)):
            raise Damaged("it was made for other settings")
        if file.table.column("id").to_pylist() != list(ids):
            raise Damaged("it is of other questions")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (Damaged, OSError) as error:
        report_damage(path, error)
        return None
    return NeighbourTable(file.table, json.loads(file.notes.get(COUNTS, b"{}")))


def file_name(key: Mapping[str, Any]) -> str:
    """The task for people, and a hash of the whole key."""
    word = re.sub(r"[^\w-]", "_", str(key.get("task_name", "task")))
    content = json.dumps(key, sort_keys=True).encode()
    return f"{word}-{hashlib.sha256(content).hexdigest()[:20]}.arrow"


def read_key(file: ChecksummedFile) -> dict[str, Any]:
    """What a file was made for; raises Damaged if it holds no neighbours of this format."""
    try:
        content = json.loads(file.metadata[KEY])
    except (KeyError, ValueError) as error:
        raise Damaged("it holds no neighbours") from error
    if content.get("format") != FORMAT or not file.table.schema.equals(_COLUMNS):
        raise Damaged("it holds neighbours in another format")
    key: dict[str, Any] = content["key"]
    return key


def _batch(ids: Sequence[str], found: Iterable[Neighbourhood]) -> pa.RecordBatch:
    neighbours, left_out = zip(*found, strict=True) if ids else ((), ())
    lists = [list_array(column, np.int32) for column in (neighbours, left_out)]
    return pa.record_batch([string_array(list(ids)), *lists], schema=_COLUMNS)
