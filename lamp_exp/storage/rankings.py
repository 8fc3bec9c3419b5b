"""Whole rankings with their scores, made once for all jobs of a grid.

k, augmentation and model are slices of the same ranking, so a grid ranks once per retriever.
One file a ranking of one part, named from what decides it:

    rankings/BM25-LaMP_4-7f3a….arrow    one row a question: its id, item positions, scores
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from filelock import FileLock

from lamp_exp.storage.atomic import touch
from lamp_exp.storage.sealed import MAKING, Damaged, Sealed, Unwritable, Writer, set_aside, writing

log = logging.getLogger("lamp_exp.storage")
FORMAT = 1  # of the files: another number, and older ones are made again
KEY = b"lamp_exp.experiment.ranking"
AT_ONCE = 500  # questions of a record batch: memory while writing
LOCKS = ".locks"
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


class RankingCache:
    """Rankings below a folder, for several processes at once.

    A damaged file, or one that is not of these questions, is never used: it is told, set aside
    and made again. (That it is of these profiles, its reader must see.) Where nothing can be
    written, that is told, and rankings are only computed. `read` and `made` count the rankings of
    parts that this object was asked for.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self.folder = folder
        self.read = 0
        self.made = 0

    def rankings(
        self,
        key: Mapping[str, Any],
        ids: Sequence[str],
        compute: Callable[[], Iterable[Order]],
    ) -> Iterator[Order]:
        """The ranking of each question; `compute` makes them all, in order, if none are kept.

        `key` holds, as plain JSON values, all that decides them. All are computed before the
        first is given, but never held in memory together.
        """
        path = self.folder / file_name(key)
        kept = self._kept(path, key, ids)
        if kept is not None:
            self.read += 1
            touch(path)
        else:
            kept = self._made(path, key, ids, compute)
        return iter(compute()) if kept is None else _orders(kept)

    def report(self) -> dict[str, int]:
        """For the record: how many parts' rankings were read, and how many made."""
        return {"read": self.read, "made": self.made}

    def _made(
        self,
        path: Path,
        key: Mapping[str, Any],
        ids: Sequence[str],
        compute: Callable[[], Iterable[Order]],
    ) -> Sealed | None:
        """The file, made now, or by another process while we waited; None if it cannot be."""
        try:
            with _alone(path):
                kept = self._kept(path, key, ids)
                if kept is not None:
                    self.read += 1
                    return kept
                self.made += 1
                _write(path, key, ids, compute())
                return Sealed.open(path, check=False)
        except Unwritable as error:
            log.warning("rankings are not kept: %s", error)
            return None

    def _kept(self, path: Path, key: Mapping[str, Any], ids: Sequence[str]) -> Sealed | None:
        """The file if it is there, whole, and of these questions."""
        try:
            found = Sealed.open(path)
            _compare(found, key, ids)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (Damaged, OSError) as error:
            log.warning("%s; it is not used, but made again", error)
            with suppress(Unwritable):  # told when the new one cannot be written either
                set_aside(path)
            return None
        return found


def file_name(key: Mapping[str, Any]) -> str:
    """Retriever and task for the reader, and a hash of the whole key."""
    retriever = str(key.get("retriever", {}).get("_target_", "ranking")).rpartition(".")[2]
    word = re.sub(r"[^\w-]", "_", f"{retriever}-{key.get('task_name', 'task')}")
    return f"{word}-{hashlib.sha256(_written(key)).hexdigest()[:20]}.arrow"


def read_key(found: Sealed) -> dict[str, Any]:
    """What a file was made for; raises Damaged if it is no ranking of this format."""
    try:
        content = json.loads(found.metadata[KEY])
    except (KeyError, ValueError) as error:
        raise Damaged(f"{found.path} is no ranking") from error
    if content.get("format") != FORMAT or not found.table.schema.equals(_COLUMNS):
        raise Damaged(f"{found.path} is a ranking of another format")
    key: dict[str, Any] = content["key"]
    return key


def check_orders(found: Sealed) -> None:
    """Raises Damaged unless each row ranks each position of its profile exactly once."""
    order, scores = found.table.column("order"), found.table.column("scores")
    ranked = _lengths(order)
    starts = np.cumsum(ranked) - ranked
    positions = order.combine_chunks().flatten().to_numpy() if len(order) else np.zeros(0, int)
    places = np.repeat(starts, ranked) + positions
    inside = (positions >= 0) & (positions < np.repeat(ranked, ranked))
    once = inside.all() and (np.bincount(places, minlength=len(places)) == 1).all()
    if not once or (_lengths(scores) != ranked).any():
        raise Damaged(f"{found.path} does not rank each item of each profile once")


def _written(key: Mapping[str, Any]) -> bytes:
    return json.dumps(key, sort_keys=True, ensure_ascii=True).encode()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; what a killed one left of this file is cleared away."""
    with writing(path):
        lock = FileLock(path.parent / LOCKS / f"{path.name}.lock")
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        with writing(path):
            for left in path.parent.glob(f".{path.name}{MAKING}*"):
                left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _compare(found: Sealed, key: Mapping[str, Any], ids: Sequence[str]) -> None:
    if read_key(found) != json.loads(_written(key)):
        raise Damaged(f"{found.path} was made for something else")
    if found.table.column("id").to_pylist() != list(ids):
        raise Damaged(f"{found.path} is of other questions")
    check_orders(found)


def _write(path: Path, key: Mapping[str, Any], ids: Sequence[str], orders: Iterable[Order]) -> None:
    content = json.dumps({"format": FORMAT, "key": dict(key)})
    rows = ((id, *order) for id, order in zip(ids, orders, strict=True))
    with Writer(path, _COLUMNS.with_metadata({KEY: content})) as writer:
        while some := list(islice(rows, AT_ONCE)):
            columns = zip(*some, strict=True)
            writer.write(*map(pa.array, columns, _COLUMNS.types))


def _orders(found: Sealed) -> Iterator[Order]:
    for batch in found.table.to_batches():
        columns = (batch.column(name).to_pylist() for name in ("order", "scores"))
        yield from map(Order, *columns)


def _lengths(lists: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    chunks = [np.diff(chunk.offsets.to_numpy()) for chunk in lists.chunks]
    return np.concatenate(chunks).astype(np.int64) if chunks else np.zeros(0, np.int64)
