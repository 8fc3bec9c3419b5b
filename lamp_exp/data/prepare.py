"""Makes a part's store where there is none, or where its source has changed since."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data import leaks
from lamp_exp.data.arguments import add_part_arguments
from lamp_exp.data.official import QuestionReader, RaiseFaults
from lamp_exp.data.source import Source, code_stamp, parts_there
from lamp_exp.data.store import FORMAT, META, Store, Writer
from lamp_exp.errors import InputError
from lamp_exp.progress import progress
from lamp_exp.storage.atomic import Damaged, remove_leftovers, replace_folder, temporary, touch
from lamp_exp.storage.locks import exclusive
from lamp_exp.wording import count_of

log = logging.getLogger("lamp_exp.data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which parts, and where the stores lie."""
    parser.add_argument("--data-dir", required=True, help="where the official files lie")
    add_part_arguments(parser)
    kept = "where stores are kept, a run's output_dir/.cache (default: outputs/.cache)"
    parser.add_argument("--cache-dir", type=Path, default=Path("outputs/.cache"), help=kept)


def run(options: argparse.Namespace, tasks: Mapping[str, Task]) -> int:
    """Prepares what is there, and tells what it holds and how long that took."""
    done: set[str] = set()
    failed: dict[str, InputError] = {}
    for name, _, _, files in parts_there(options, tasks):
        start = time.perf_counter()
        try:
            store = prepared(tasks[name], files, options.cache_dir)
        except InputError as error:
            failed[files.where] = error
            continue
        done.add(files.where)
        seconds = time.perf_counter() - start
        counts = f"{count_of(len(store), 'question')}, {count_of(store.meta['items'], 'item')}"
        told = f"{counts} kept ({seconds:.1f} s)"
        print(f"{files.where}: {told}")
    # The two LaMP-2 may share a folder: what one of them can read is no failure of the other.
    faults = [error for where, error in failed.items() if where not in done]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def prepared(task: Task, source: Source, cache_dir: Path) -> Store:
    """The part's store; made now if it is missing or of an older source.

    Safe when several processes ask at once (one makes it, the others wait), and when one is
    killed while it makes it (what it left is cleared away by the next).
    """
    place = cache_dir / "data" / source.name
    stamp = _stamp(task, source)
    store = _current(place, stamp)
    if store is None:
        with exclusive(place):
            remove_leftovers(place)
            store = _current(place, stamp)
            if store is None:
                _make(task, source, place)
                store = Store(place).opened()
    touch(place / META)
    return store


def _stamp(task: Task, source: Source) -> Any:
    """Changes with the source, and with the code that decides which items are a question's own."""
    parents = [parent for parent in type(task).__mro__ if parent is not object]
    return [source.stamp(), type(task).__qualname__, code_stamp(leaks, *parents)]


def _current(place: Path, stamp: Any) -> Store | None:
    """The store if it is there and has this stamp; a damaged one is named, and made again."""
    if not (place / META).is_file():
        return None
    store = Store(place)
    try:
        known = (store.meta.get("format"), store.meta.get("stamp"))
        return store.opened() if known == (FORMAT, stamp) else None
    except Damaged as error:
        log.warning("%s is damaged (%s): it is not used, but made again", place, error)
        return None


def _make(task: Task, source: Source, place: Path) -> None:
    made = temporary(place)
    made.mkdir()
    try:
        stamp = _stamp(task, source)
        handler = RaiseFaults(source.where)
        golds = source.golds(handler)
        reader = QuestionReader(handler, task)
        writer = Writer(made, task)
        rows = progress(source.questions(), None, f"prepare {source.name}")
        writer.write(reader.questions(rows, golds))
        writer.close(
            {
                "stamp": stamp,
                "fingerprint": source.fingerprint(),
                "made_up": reader.made_up,
                "golds": golds is not None,
                "counts": dict(handler.counts),
                "numeric_ids": sorted(reader.numeric_ids),
                "first_undated": reader.first_undated,
            }
        )
        replace_folder(made, place)
    finally:
        shutil.rmtree(made, ignore_errors=True)
