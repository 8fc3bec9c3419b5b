"""Makes a part's store where there is none, or where its source has changed since."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from lamp_exp.data.parse import Reader
from lamp_exp.data.source import Source
from lamp_exp.data.store import FORMAT, META, Store, Writer, replace_folder
from lamp_exp.types import Example, Task


def prepared(task: Task, source: Source, cache_dir: Path) -> Store:
    """The part's store; made now if it is missing or of an older source.

    Safe when several processes ask at once (one makes it, the others wait), and when one is
    killed while it makes it (what it left is cleared away by the next).
    """
    place = cache_dir / "data" / source.name
    if not _is_current(place, source):
        with _alone(place):
            if not _is_current(place, source):
                _make(task, source, place)
    return Store(place)


def _is_current(place: Path, source: Source) -> bool:
    if not (place / META).is_file():
        return False
    meta = Store(place).meta
    return bool(meta.get("format") == FORMAT and meta.get("stamp") == source.stamp())


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f"{place.name}.lock")):
        for left in place.parent.glob(f"{place.name}.making-*"):
            shutil.rmtree(left)
        yield


def _make(task: Task, source: Source, place: Path) -> None:
    made = place.with_name(f"{place.name}.making-{os.getpid()}")
    made.mkdir()
    try:
        stamp = source.stamp()
        golds = source.golds()
        reader = Reader(task, source.where)
        writer = Writer(made, task.fields)
        undated = _Undated()
        rows = tqdm(source.questions(), f"prepare {source.name}", disable=None, leave=False)
        writer.write(undated.watch(reader.examples(rows, golds)))
        writer.close(
            {
                "stamp": stamp,
                "fingerprint": source.fingerprint(),
                "golds": golds is not None,
                "counts": {name: count for name, count in reader.counts.items() if count},
                "numeric_ids": sorted(reader.numeric_ids),
                "first_undated": undated.first,
            }
        )
        replace_folder(made, place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


class _Undated:
    """Remembers the first item without a date: retrieval by date must refuse it at once."""

    def __init__(self) -> None:
        self.first: tuple[int, str, str] | None = None

    def watch(self, examples: Iterable[Example]) -> Iterator[Example]:
        for row, example in enumerate(examples):
            if self.first is None:
                dateless = next((item.id for item in example.profile if item.date is None), None)
                self.first = None if dateless is None else (row, example.id, dateless)
            yield example
