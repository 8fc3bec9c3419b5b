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
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock

from lamp_exp.cache.sealed import MAKING, Damaged, Sealed, Unwritable, Writer, set_aside, writing
from lamp_exp.files import touch
from lamp_exp.types import Hit

log = logging.getLogger("lamp_exp.cache")
FORMAT = 1  # of the files: another number, and older ones are made again
KEY = b"lamp_exp.ranking"
AT_ONCE = 500  # questions of a record batch: memory while writing
LOCKS = ".locks"
_COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("order", pa.list_(pa.int32())),  # positions in the profile, best first
        ("scores", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class Profiles:
    """Each question's id and the ids of its items in order, as Arrow arrays and not as objects."""

    ids: list[str] = field(default_factory=list)
    items: list[pa.ListArray] = field(default_factory=list)

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, Sequence[str]]]) -> Profiles:
        """Reads all `pairs` of a question's id and its items' ids."""
        made, left = cls(), iter(pairs)
        while some := list(islice(left, AT_ONCE)):
            made.ids.extend(id for id, _ in some)
            made.items.append(pa.array([ids for _, ids in some], pa.list_(pa.string())))
        return made

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        """The questions, each with its items."""
        return zip(self.ids, (ids for some in self.items for ids in some.to_pylist()), strict=True)

    def lengths(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """How many items each question has."""
        return _lengths(pa.chunked_array(self.items, pa.list_(pa.string())))


class RankingCache:
    """Rankings below a folder, for several processes at once.

    A damaged file, or one that is not of these questions, is never used: it is told, set aside
    and made again. Where nothing can be written, that is told, and rankings are only computed.
    `read` and `made` count the rankings of parts that this object was asked for.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self.folder = folder
        self.read = 0
        self.made = 0

    def rankings(
        self,
        key: Mapping[str, Any],
        profiles: Profiles,
        compute: Callable[[], Iterable[list[Hit]]],
    ) -> Iterator[list[Hit]]:
        """The hits of each question, in order; `compute` makes them if no file has them.

        `key` holds, as plain JSON values, all that decides them. All are computed before the
        first is given, but never held in memory together.
        """
        path = self.folder / file_name(key)
        kept = self._kept(path, key, profiles)
        if kept is not None:
            self.read += 1
            touch(path)
        else:
            kept = self._made(path, key, profiles, compute)
        return iter(compute()) if kept is None else _hits(kept, profiles)

    def report(self) -> dict[str, int]:
        """For the record: how many parts' rankings were read, and how many made."""
        return {"read": self.read, "made": self.made}

    def _made(
        self,
        path: Path,
        key: Mapping[str, Any],
        profiles: Profiles,
        compute: Callable[[], Iterable[list[Hit]]],
    ) -> Sealed | None:
        """The file, made now, or by another process while we waited; None if it cannot be."""
        try:
            with _alone(path):
                kept = self._kept(path, key, profiles)
                if kept is not None:
                    self.read += 1
                    return kept
                self.made += 1
                _write(path, key, profiles, compute())
                return Sealed.open(path, check=False)
        except Unwritable as error:
            log.warning("rankings are not kept: %s", error)
            return None

    def _kept(self, path: Path, key: Mapping[str, Any], profiles: Profiles) -> Sealed | None:
        """The file if it is there, whole, and of these questions."""
        try:
            found = Sealed.open(path)
            _compare(found, key, profiles)
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


def check_orders(found: Sealed, lengths: np.ndarray[Any, Any] | None = None) -> None:
    """Raises Damaged unless each row ranks each position of its profile exactly once."""
    order, scores = found.table.column("order"), found.table.column("scores")
    ranked = _lengths(order)
    starts = np.cumsum(ranked) - ranked
    positions = order.combine_chunks().flatten().to_numpy() if len(order) else np.zeros(0, int)
    places = np.repeat(starts, ranked) + positions
    inside = (positions >= 0) & (positions < np.repeat(ranked, ranked))
    once = inside.all() and (np.bincount(places, minlength=len(places)) == 1).all()
    expected = ranked if lengths is None else lengths
    if not once or not np.array_equal(ranked, expected) or (_lengths(scores) != ranked).any():
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


def _compare(found: Sealed, key: Mapping[str, Any], profiles: Profiles) -> None:
    if read_key(found) != json.loads(_written(key)):
        raise Damaged(f"{found.path} was made for something else")
    if found.table.column("id").to_pylist() != profiles.ids:
        raise Damaged(f"{found.path} is of other questions")
    check_orders(found, profiles.lengths())


def _write(
    path: Path, key: Mapping[str, Any], profiles: Profiles, rankings: Iterable[list[Hit]]
) -> None:
    content = json.dumps({"format": FORMAT, "key": dict(key)})
    rows = (_row(profile, hits) for profile, hits in zip(profiles, rankings, strict=True))
    with Writer(path, _COLUMNS.with_metadata({KEY: content})) as writer:
        while some := list(islice(rows, AT_ONCE)):
            columns = zip(*some, strict=True)
            writer.write(*map(pa.array, columns, _COLUMNS.types))


def _row(profile: tuple[str, Sequence[str]], hits: list[Hit]) -> tuple[Any, ...]:
    """A question's id, and its hits as positions and scores."""
    id, items = profile
    position = {item: n for n, item in enumerate(items)}
    order = [position.get(hit.id, -1) for hit in hits]
    once = sorted(order) == list(range(len(items)))
    assert once, f"a retriever must rank each item once, but not so question {id!r}"
    return id, order, [hit.score for hit in hits]


def _hits(found: Sealed, profiles: Profiles) -> Iterator[list[Hit]]:
    rows = (row for batch in found.table.to_batches() for row in _orders(batch))
    for (_, items), (order, scores) in zip(profiles, rows, strict=True):
        yield [Hit(items[n], score) for n, score in zip(order, scores, strict=True)]


def _orders(batch: pa.RecordBatch) -> Iterator[tuple[list[int], list[float]]]:
    return zip(batch.column("order").to_pylist(), batch.column("scores").to_pylist(), strict=True)


def _lengths(lists: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    chunks = [np.diff(chunk.offsets.to_numpy()) for chunk in lists.chunks]
    return np.concatenate(chunks).astype(np.int64) if chunks else np.zeros(0, np.int64)
