"""Lists, checks and removes the files below `<output_dir>/.cache`.

A job that reads a file has mapped it, and goes on reading after its removal. A job that makes or
uses something holds its lock; what is locked is not removed.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from lamp_exp.storage import neighbours
from lamp_exp.storage.artefacts import BEGUN, UNITS, read_artefact
from lamp_exp.storage.atomic import DAMAGED, TEMPORARY, Damaged, read_json
from lamp_exp.storage.checksummed import ChecksummedFile
from lamp_exp.storage.locks import Locked, exclusive
from lamp_exp.storage.rankings import check_orders, read_key
from lamp_exp.storage.vectors import ENCODER, read_shard
from lamp_exp.values import ProfileOptions
from lamp_exp.wording import count_of

STORE = "store.json"  # of a prepared part; see lamp_exp/data/store.py


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of cached file or folder; both functions raise Damaged."""

    name: str
    pattern: str
    describe: Callable[[Path], str]
    check: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached file or folder."""

    kind: Kind
    path: Path

    @property
    def age(self) -> float:
        """Seconds since it was last used or written."""
        return seconds_since_use([self.path] if self.path.is_file() else [*self.path.glob("*")])

    def description(self) -> str:
        try:
            return self.kind.describe(self.path)
        except _FAULTS:
            return "damaged: its purpose cannot be read"

    def fault(self) -> str | None:
        """The damage in one line; None if there is none."""
        try:
            self.kind.check(self.path)
        except _FAULTS as error:
            message = " ".join(str(error).split())
            return message if str(self.path) in message else f"{self.path}: {message}"
        return None


def entries(cache: Path) -> list[Entry]:
    """Everything complete or damaged, but nothing that is still being written."""
    return [
        Entry(kind, path)
        for kind in KINDS
        for path in sorted(cache.glob(kind.pattern))
        if path.suffix != ".lock"
    ]


def leftovers(cache: Path) -> list[Path]:
    """What killed processes left, and what was set aside as damaged."""
    places = (".*", "*/.*", "vectors/*/.*", f"artefacts/*/{UNITS}/.*")
    hidden = [path for place in places for path in cache.glob(place)]
    return sorted(p for p in hidden if TEMPORARY in p.name or p.name.endswith(DAMAGED))


def unfinished(cache: Path) -> list[Path]:
    """The artefacts that were begun, from which the same command would go on."""
    return sorted(cache.glob(f"artefacts/.*{BEGUN}"))


def remove(path: Path) -> bool:
    """Removes an entry, a leftover or a shard; returns False if a process makes or uses it."""
    name = path.name.removeprefix(".").split(TEMPORARY)[0].removesuffix(DAMAGED)
    locked = path.with_name(name.removesuffix(BEGUN))
    if path.parent.parent.name == "vectors":
        locked = path.parent
    elif path.parent.name == UNITS:
        locked = path.parent.parent
    try:
        with exclusive(locked, wait=False):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except Locked:
        return False
    return True


def seconds_since_use(files: Iterable[Path]) -> float:
    """Seconds since any of the files was last used or written."""
    return max(0.0, time.time() - max((file.lstat().st_mtime for file in files), default=0.0))


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _describe_ranking(path: Path) -> str:
    file = ChecksummedFile.open(path, check=False)
    key = read_key(file)
    reading = key.get("reading", {})
    options = {n: v for n, v in key.get("retriever", {}).items() if n != "_target_"}
    words = [key.get("task_name"), reading.get("split"), reading.get("part")]
    words += [f"{name}={value}" for name, value in options.items()]
    words += ["document_dates"] if key.get("document_dates") else []
    words += [f"{name}={value}" for name, value in _unusual(reading).items()]
    return f"{' '.join(map(str, words))}: {count_of(file.table.num_rows, 'question')}"


def _unusual(reading: dict[str, Any]) -> dict[str, Any]:
    """What was done to a part, leaving out that nothing was."""
    usual = asdict(ProfileOptions())
    usual |= {"fixes": "none", "limit": None, "user_subset": None, "seed": None}
    done = {**reading, **reading.get("profile", {})}
    return {name: done[name] for name, value in usual.items() if done.get(name, value) != value}


def _check_ranking(path: Path) -> None:
    file = ChecksummedFile.open(path)
    read_key(file)
    check_orders(file)


def _describe_neighbours(path: Path) -> str:
    file = ChecksummedFile.open(path, check=False)
    key = neighbours.read_key(file)
    words = f"{key.get('task_name')} neighbours={key.get('count')}"
    return f"{words} by {key['encoder']['name']}: {count_of(file.table.num_rows, 'question')}"


def _check_neighbours(path: Path) -> None:
    neighbours.read_key(ChecksummedFile.open(path))


def _describe_vectors(folder: Path) -> str:
    encoder = read_json(folder / ENCODER)
    names = ("name", "max_length", "normalize", "dtype", "torch")
    shards = [ChecksummedFile.open(path, check=False) for path in _shards(folder)]
    count = sum(shard.table.num_rows for shard in shards)
    options = " ".join(f"{name}={encoder[name]}" for name in names if name in encoder)
    return f"{options}: {count_of(count, 'text')} in {count_of(len(shards), 'shard')}"


def _check_vectors(folder: Path) -> None:
    read_json(folder / ENCODER)
    faults = [f"{path}: {fault}" for path, fault in damaged_shards(folder).items()]
    if faults:
        raise Damaged("; ".join(faults))


def damaged_shards(folder: Path) -> dict[Path, str]:
    """The damage of each damaged shard of an encoder's vectors."""
    faults = {}
    for path in _shards(folder):
        try:
            read_shard(ChecksummedFile.open(path))
        except (Damaged, OSError) as error:
            faults[path] = " ".join(str(error).split())
    return faults


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.arrow"))


def _describe_part(folder: Path) -> str:
    meta = read_json(folder / STORE)
    return f"a prepared part: {count_of(meta['items'], 'item')}, fingerprint {meta['fingerprint']}"


def _check_part(folder: Path) -> None:
    """Reads the tables down to each text, as they have no checksums."""
    _describe_part(folder)
    for name in ("items.arrow", "questions.arrow"):
        try:
            table = pa.ipc.open_file(pa.memory_map(str(folder / name))).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"{folder / name} cannot be read ({error})") from error


def _describe_artefact(folder: Path) -> str:
    content = read_artefact(folder)
    facts = content["facts"]
    shown = {name: facts[name] for name in _ARTEFACT_FACTS if name in facts}
    words = [content["kind"], *(f"{name}={value}" for name, value in shown.items())]
    if (folder / UNITS).is_dir():
        words.append(f"{sum(1 for _ in (folder / UNITS).glob('[!.]*'))} units")
    return " ".join(words)


def _check_artefact(folder: Path) -> None:
    """Reads the checksums of its tables, and the sizes of all other files."""
    read_artefact(folder)
    for path in sorted(folder.rglob("*.arrow")):
        ChecksummedFile.open(path)


def _describe_answers(path: Path) -> str:
    return f"{_query(path, 'SELECT COUNT(*) FROM map')} answers of APIs"


def _check_answers(path: Path) -> None:
    message = _query(path, "PRAGMA integrity_check")
    if message != "ok":
        raise Damaged(str(message))


def _query(path: Path, statement: str) -> Any:
    """Asks without writing: damage is only reported."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (value,) = connection.execute(statement).fetchone()
    return value


KINDS = (
    Kind("ranking", "rankings/[!.]*", _describe_ranking, _check_ranking),
    Kind("neighbours", "neighbours/[!.]*", _describe_neighbours, _check_neighbours),
    Kind("vectors", "vectors/[!.]*", _describe_vectors, _check_vectors),
    Kind("data", "data/[!.]*", _describe_part, _check_part),
    Kind("artefact", "artefacts/[!.]*", _describe_artefact, _check_artefact),
    Kind("answers", "answers.sqlite", _describe_answers, _check_answers),
)
_ARTEFACT_FACTS = ("questions", "prompts", "mean_reward", "chosen_epoch", "seconds")
_FAULTS = (Damaged, OSError, ValueError, KeyError, TypeError, sqlite3.Error)
