"""All that is kept below `<output_dir>/.cache`: what it is for, whether it is whole, removing it.

A job that reads a file has it mapped, and goes on reading what has been removed. A job that makes
or uses something holds its lock; what is locked is not removed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from lamp_exp.storage.answers import DiskMap
from lamp_exp.storage.rankings import LOCKS, check_orders, read_key
from lamp_exp.storage.sealed import DAMAGED, MAKING, Damaged, Sealed
from lamp_exp.storage.vectors import ENCODER, read_shard

STORE = "store.json"  # of a prepared part; see lamp_exp/data/store.py


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is kept: a file or a folder."""

    kind: str
    path: Path
    lock: Path | None  # held by who makes or uses it
    what: Callable[[Path], str]
    check: Callable[[Path], None]  # raises Damaged

    @property
    def size(self) -> int:
        """In bytes."""
        return size(self.path)

    @property
    def age(self) -> float:
        """Seconds since it was last used or written."""
        files = [self.path] if self.path.is_file() else [*self.path.glob("*"), self.path]
        return max(0.0, time.time() - max(path.stat().st_mtime for path in files))

    def told(self) -> str:
        """What it is for, or that this cannot be read."""
        try:
            return self.what(self.path)
        except (Damaged, OSError, ValueError, KeyError):
            return "damaged: what it is for cannot be read"

    def fault(self) -> str | None:
        """What is damaged, in one line; None if it is whole."""
        try:
            self.check(self.path)
        except (Damaged, OSError, ValueError, KeyError, sqlite3.Error) as error:
            told = " ".join(str(error).split())
            return told if str(self.path) in told else f"{self.path}: {told}"
        return None


def entries(cache: Path) -> list[Entry]:
    """Everything whole or damaged, but nothing that is still being made."""
    found = [*_rankings(cache / "rankings"), *_vectors(cache / "vectors"), *_data(cache / "data")]
    answers = cache / "answers.sqlite"
    if answers.is_file():
        found.append(Entry("answers", answers, None, _answers_count, _check_answers))
    return found


def leftovers(cache: Path) -> list[tuple[Path, Path | None]]:
    """What killed processes left, and what was set aside as damaged; each with its lock."""
    found: list[tuple[Path, Path | None]] = []
    for path in _visible(cache / "rankings", f".*{MAKING}*", f".*{DAMAGED}"):
        name = path.name.removeprefix(".").split(MAKING)[0].removesuffix(DAMAGED)
        found.append((path, path.parent / LOCKS / f"{name}.lock"))
    for path in _visible(cache / "vectors", f"*/.*{MAKING}*", f"*/.*{DAMAGED}", f"*/.{ENCODER}.*"):
        found.append((path, path.parent.parent / LOCKS / f"{path.parent.name}.lock"))
    for path in _visible(cache / "data", "*.making-*", ".*.old-*"):
        name = path.name.removeprefix(".").split(".making-")[0].split(".old-")[0]
        found.append((path, path.parent / f"{name}.lock"))
    return found


def remove(path: Path, lock: Path | None) -> bool:
    """Removes a file or a folder, unless somebody holds its lock: whether it did."""
    with _free(lock) as free:
        if free and path.is_dir():
            shutil.rmtree(path)
        elif free:
            path.unlink(missing_ok=True)
    return free


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def _free(lock: Path | None) -> Iterator[bool]:
    """Whether nobody holds the lock, which is then held meanwhile."""
    if lock is None or not lock.parent.is_dir():
        yield True
        return
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _visible(folder: Path, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def _rankings(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.glob("[!.]*.arrow")):
        lock = folder / LOCKS / f"{path.name}.lock"
        yield Entry("ranking", path, lock, _ranking_of, _check_ranking)


def _ranking_of(path: Path) -> str:
    found = Sealed.open(path, check=False)
    key = read_key(found)
    reading = key.get("reading", {})
    options = {n: v for n, v in key.get("retriever", {}).items() if n != "_target_"}
    words = [key.get("task_name"), reading.get("split"), reading.get("part")]
    words += [f"{name}={value}" for name, value in options.items()]
    words += ["document_dates"] if key.get("document_dates") else []
    words += [f"{name}={value}" for name, value in _unusual(reading).items()]
    return f"{' '.join(map(str, words))}: {found.table.num_rows} questions"


def _unusual(reading: dict[str, Any]) -> dict[str, Any]:
    """What was done to a part, leaving out that nothing was."""
    usual = {"max_items": None, "keep": "newest", "before": None, "control": "none"}
    usual |= {
        "own_items": "keep",
        "fixes": "none",
        "limit": None,
        "user_subset": None,
        "seed": None,
    }
    done = {**reading, **reading.get("profile", {})}
    return {name: done[name] for name, value in usual.items() if done.get(name, value) != value}


def _check_ranking(path: Path) -> None:
    found = Sealed.open(path)
    read_key(found)
    check_orders(found)


def _vectors(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.glob("[!.]*")):
        lock = folder / LOCKS / f"{path.name}.lock"
        yield Entry("vectors", path, lock, _encoder_of, _check_vectors)


def _encoder_of(path: Path) -> str:
    encoder = json.loads((path / ENCODER).read_text(encoding="utf-8"))
    names = ("name", "max_length", "normalize", "dtype", "torch")
    shards = [Sealed.open(shard, check=False) for shard in sorted(path.glob("*.arrow"))]
    count = sum(shard.table.num_rows for shard in shards)
    told = " ".join(f"{name}={encoder[name]}" for name in names if name in encoder)
    return f"{told}: {count} texts in {len(shards)} shards"


def _check_vectors(path: Path) -> None:
    json.loads((path / ENCODER).read_text(encoding="utf-8"))
    faults = [fault for shard in sorted(path.glob("*.arrow")) if (fault := shard_fault(shard))]
    if faults:
        raise Damaged("; ".join(faults))


def shard_fault(path: Path) -> str | None:
    """What is damaged of a shard; None if it is whole."""
    try:
        read_shard(Sealed.open(path))
    except (Damaged, OSError) as error:
        return " ".join(str(error).split())
    return None


def _data(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.glob("[!.]*")):
        if path.is_dir() and ".making-" not in path.name:
            lock = folder / f"{path.name}.lock"
            yield Entry("data", path, lock, _part_of, _check_data)


def _part_of(path: Path) -> str:
    meta = json.loads((path / STORE).read_text(encoding="utf-8"))
    return f"a prepared part: {meta['items']} items, fingerprint {meta['fingerprint']}"


def _check_data(path: Path) -> None:
    """Stores hold no checksum: their structure is read, down to each text."""
    _part_of(path)
    for name in ("items.arrow", "questions.arrow"):
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path / name))).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"{path / name} cannot be read ({error})") from error


def _answers_count(path: Path) -> str:
    try:
        return f"{len(DiskMap(path))} answers of APIs"
    except sqlite3.Error as error:
        raise Damaged(f"{path}: {error}") from error


def _check_answers(path: Path) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (told,) = connection.execute("PRAGMA integrity_check").fetchone()
    if told != "ok":
        raise Damaged(f"{path}: {told}")
