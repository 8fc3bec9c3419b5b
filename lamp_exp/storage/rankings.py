"""A cache of complete rankings with scores, shared by all jobs of a grid.

All k, augmentations and models use slices of the same ranking, so a grid ranks once per retriever.
Each file holds the rankings of one part, and is named by what decides them:

    rankings/BM25-LaMP_4-7f3a….arrow    one row a question: its id, item positions, scores
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

from lamp_exp.storage.arrow import flattened, lengths, list_array, numbers, string_array
from lamp_exp.storage.atomic import Damaged, Unwritable, remove_leftovers, report_damage, touch
from lamp_exp.storage.checksummed import ChecksummedFile, write_checksummed
from lamp_exp.storage.locks import exclusive

log = logging.getLogger("lamp_exp.storage")
FORMAT = 1  # increase it when the files change: older ones are then made again
KEY = b"lamp_exp.experiment.ranking"
COUNTS = b"lamp_exp.experiment.ranking.counts"  # of what the retriever read
QUESTIONS_PER_BATCH = 500
_COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("order", pa.list_(pa.int32())),  # positions in the profile, best first
        ("scores", pa.list_(pa.float64())),
    ]
)


class Order(NamedTuple):
    """The ranking of a profile: positions in it, best first, with their scores."""

    positions: Sequence[int]
    scores: Sequence[float]


class Orders(Sequence[Order]):
    """Rankings as record batches, which are read when they are looked at."""

    def __init__(self, batches: Sequence[pa.RecordBatch], counts: Mapping[str, Any]) -> None:
        """All batches but the last have `QUESTIONS_PER_BATCH` rows.

        `counts` are those of what the retriever read.
        """
        self.batches = batches
        self.counts = counts

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    @overload
    def __getitem__(self, index: int) -> Order: ...
    @overload
    def __getitem__(self, index: slice) -> list[Order]: ...
    def __getitem__(self, index: int | slice) -> Order | list[Order]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        batch, row = divmod(range(len(self))[index], QUESTIONS_PER_BATCH)
        positions, scores = (
            flattened(self.batches[batch].column(name).slice(row, 1))
            for name in ("order", "scores")
        )
        return Order(numbers(positions, np.int32).tolist(), numbers(scores, np.float64).tolist())

    def __iter__(self) -> Iterator[Order]:
        return map(self.__getitem__, range(len(self)))


class RankingCache:
    """Rankings below a folder, for several processes at once.

    A file that is damaged, or that ranks other questions, is set aside and made again. (That it
    ranks these profiles, its reader must check.) Where nothing can be written, a warning says so,
    and rankings are computed each time. `read` and `made` count the parts asked for so far;
    `counts` are those of what the retriever read to rank them, whenever that was, by their files.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self.folder = folder
        self.read = 0
        self.made = 0
        self.counts: dict[str, Mapping[str, Any]] = {}

    def rankings(
        self,
        key: Mapping[str, Any],
        ids: Sequence[str],
        compute: Callable[[], Iterable[Order]],
        take_counts: Callable[[], Mapping[str, Any]] = dict,
    ) -> Orders:
        """The ranking of each question, in order; `compute` makes all that are not stored yet.

        `take_counts` is called then, after the last ranking, for counts that are kept with them.
        `key` holds, as JSON values, all that decides them. All are computed before this returns;
        only where nothing can be written are they held in memory together.
        """
        orders = self._orders(key, ids, compute, take_counts)
        self.counts[file_name(key)] = orders.counts
        return orders

    def _orders(
        self,
        key: Mapping[str, Any],
        ids: Sequence[str],
        compute: Callable[[], Iterable[Order]],
        take_counts: Callable[[], Mapping[str, Any]],
    ) -> Orders:
        path = self.folder / file_name(key)
        stored = _open(path, key, ids)
        if stored is None:
            try:
                with exclusive(path):  # another process may make it meanwhile
                    stored = _open(path, key, ids)
                    if stored is None:
                        self.made += 1
                        remove_leftovers(path)
                        _write(path, key, ids, compute(), take_counts)
                        return _read(ChecksummedFile.open(path, check=False))
            except Unwritable as error:
                log.warning("rankings are not kept: %s", error)
                return Orders(list(_batches(ids, compute())), take_counts())
        self.read += 1
        touch(path)
        return _read(stored)

    def report(self) -> dict[str, int]:
        """The counts, for a run's record."""
        return {"read": self.read, "made": self.made}

    def all_counts(self) -> list[Mapping[str, Any]]:
        """The retriever's counts, for each part asked for so far."""
        return list(self.counts.values())


def _open(path: Path, key: Mapping[str, Any], ids: Sequence[str]) -> ChecksummedFile | None:
    """The file; None if it is missing, damaged, or of other questions."""
    try:
        file = ChecksummedFile.open(path)
        if read_key(file) != json.loads(_canonical(key)):
            raise Damaged("it was made for other settings")
        if file.table.column("id").to_pylist() != list(ids):
            raise Damaged("it ranks other questions")
        check_orders(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (Damaged, OSError) as error:
        report_damage(path, error)
        return None
    return file


def file_name(key: Mapping[str, Any]) -> str:
    """Retriever and task for people, and a hash of the whole key."""
    retriever = str(key.get("retriever", {}).get("_target_", "ranking")).rpartition(".")[2]
    word = re.sub(r"[^\w-]", "_", f"{retriever}-{key.get('task_name', 'task')}")
    return f"{word}-{hashlib.sha256(_canonical(key)).hexdigest()[:20]}.arrow"


def read_key(file: ChecksummedFile) -> dict[str, Any]:
    """What a file was made for; raises Damaged if it is no ranking of this format."""
    try:
        content = json.loads(file.metadata[KEY])
    except (KeyError, ValueError) as error:
        raise Damaged("it is no ranking") from error
    if content.get("format") != FORMAT or not file.table.schema.equals(_COLUMNS):
        raise Damaged("it is a ranking of another format")
    key: dict[str, Any] = content["key"]
    return key


def check_orders(file: ChecksummedFile) -> None:
    """Raises Damaged unless each row ranks each position of its profile exactly once."""
    for batch in file.table.to_batches():
        order, sizes = batch.column("order"), lengths(batch.column("order"))
        positions = numbers(flattened(order), np.int32)
        places = np.repeat(np.cumsum(sizes) - sizes, sizes) + positions
        inside = (positions >= 0) & (positions < np.repeat(sizes, sizes))
        once = inside.all() and (np.bincount(places, minlength=len(places)) == 1).all()
        if not once or (lengths(batch.column("scores")) != sizes).any():
            raise Damaged("it does not rank each item of each profile once")


def _canonical(key: Mapping[str, Any]) -> bytes:
    return json.dumps(key, sort_keys=True, ensure_ascii=True).encode()


def _write(
    path: Path,
    key: Mapping[str, Any],
    ids: Sequence[str],
    orders: Iterable[Order],
    take_counts: Callable[[], Mapping[str, Any]],
) -> None:
    content = json.dumps({"format": FORMAT, "key": dict(key)})
    with write_checksummed(path, _COLUMNS.with_metadata({KEY: content})) as write:
        for batch in _batches(ids, orders):
            write(*batch.columns)
        if counts := dict(take_counts()):
            no_rows = pa.RecordBatch.from_pylist([], _COLUMNS)
            write(*no_rows.columns, notes={COUNTS: json.dumps(counts).encode()})


def _read(file: ChecksummedFile) -> Orders:
    counts = json.loads(file.notes.get(COUNTS, b"{}"))
    return Orders([batch for batch in file.table.to_batches() if batch.num_rows], counts)


def _batches(ids: Sequence[str], orders: Iterable[Order]) -> Iterator[pa.RecordBatch]:
    rows = zip(ids, orders, strict=True)
    while batch := list(islice(rows, QUESTIONS_PER_BATCH)):
        positions = list_array([order.positions for _, order in batch], np.int32)
        scores = list_array([order.scores for _, order in batch], np.float64)
        columns = [string_array([id for id, _ in batch]), positions, scores]
        yield pa.record_batch(columns, schema=_COLUMNS)
