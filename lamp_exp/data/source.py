"""Where the questions of a part come from: official files, or the made-up sample."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from lamp_exp.contracts import Task
from lamp_exp.data import sample
from lamp_exp.data import vocabulary as words
from lamp_exp.data.arguments import chosen_parts
from lamp_exp.data.official import MADE_UP, RaiseFaults, read_json, read_outputs
from lamp_exp.data.stream import read_objects
from lamp_exp.errors import InputError


class Source(Protocol):
    """Questions as JSON objects, one by one, and their golds."""

    @property
    def name(self) -> str:
        """A file name for what is prepared from it, the same for the same source and task."""
        ...

    @property
    def where(self) -> str:
        """What errors and records call it."""
        ...

    def stamp(self) -> Any:
        """Changes (as JSON) when the source does, and costs nothing to ask for."""
        ...

    def golds(self, handler: RaiseFaults) -> Mapping[str, str] | None:
        """The golds by id; None where there are none. Full once all questions are read.

        `handler` counts what is odd in them.
        """
        ...

    def questions(self) -> Iterator[Any]:
        """The questions as the files have them."""
        ...

    def fingerprint(self) -> str:
        """Changes with the content; known once all questions are read."""
        ...


def find_source(data_dir: str | None, task: Task, split: str, part: str) -> Source:
    """The official files below `data_dir`, or without one the sample."""
    if data_dir is None:
        return Sample(task, split, part, sample.Size())
    return Files(data_dir, task, split, part)


class Files:
    """`{part}_questions.json`, and `{part}_outputs.json` if it is there."""

    def __init__(self, data_dir: str, task: Task, split: str, part: str) -> None:
        """Looks below `data_dir` as the official download lays files out."""
        self.task = task
        folder = _find_folder(Path(data_dir).expanduser(), task, split, part)
        self.questions_file = folder / f"{part}_questions.json"
        self.outputs_file = folder / f"{part}_outputs.json"
        self.where = str(self.questions_file)
        key = [str(self.questions_file.resolve()), task.fields]
        self.name = f"{task.name}-{split}-{part}-{_short_hash(json.dumps(key).encode())}"
        self._hashes: list[str] = []

    def stamp(self) -> Any:
        """Size and time of change of both files."""
        files = [self.questions_file, self.outputs_file]
        return [[s.st_size, s.st_mtime_ns] for s in (f.stat() for f in files if f.exists())]

    def golds(self, handler: RaiseFaults) -> Mapping[str, str] | None:
        """Read at once: an outputs file is small."""
        if not self.outputs_file.exists():
            return None
        own = replace(handler, where=f"the outputs beside {self.where}")
        outputs = read_outputs(read_json(self.outputs_file), own, self.task)
        self._hashes.append(hashlib.sha256(self.outputs_file.read_bytes()).hexdigest())
        return None if outputs is None else outputs.by_id

    def questions(self) -> Iterator[Any]:
        """One by one: a questions file may be larger than memory."""
        digest = hashlib.sha256()
        yield from read_objects(self.questions_file, digest)
        self._hashes.append(digest.hexdigest())

    def fingerprint(self) -> str:
        """Of the bytes of both files."""
        return _short_hash("".join(self._hashes).encode(), 16)


def parts_there(
    options: argparse.Namespace, tasks: Mapping[str, Task]
) -> list[tuple[str, str, str, Files]]:
    """The task, split and part of each part that is chosen and there, with its files.

    Raises InputError if none is, or for one that is missing though all three are named.
    """
    found = []
    for name, split, part in chosen_parts(options, tasks):
        try:
            found.append((name, split, part, Files(options.data_dir, tasks[name], split, part)))
        except InputError:  # not downloaded
            if options.task and options.split and options.part:
                raise
    if not found:
        where, fetch = options.data_dir, "python -m lamp_exp.data download fetches the files"
        if not Path(where).expanduser().is_dir():
            raise InputError(f"--data-dir {where}: there is no such folder: {fetch}")
        raise InputError(f"no part that was asked for is in {where}: {fetch}")
    return found


def part_folder(data_dir: Path, split: str, folder: str, part: str) -> Path:
    """Where the official download has a part of the task with that `folder`."""
    return data_dir / ("time" if split == "time" else "") / folder / part


def _find_folder(data_dir: Path, task: Task, split: str, part: str) -> Path:
    folders = [part_folder(data_dir, split, folder, part) for folder in task.folders]
    for folder in folders:
        if (folder / f"{part}_questions.json").is_file():
            return folder
    gone = "" if data_dir.is_dir() else f" (there is no folder {data_dir})"
    raise InputError(
        f"no questions at {folders[-1] / f'{part}_questions.json'}{gone}: data_dir must hold "
        "[time/]LaMP_n/{train,dev,test}/ as the official download does; without data_dir the "
        "made-up sample is used"
    )


class Sample:
    """The made-up sample, at any size."""

    where = "made-up sample"

    def __init__(self, task: Task, split: str, part: str, size: sample.Size) -> None:
        """`size` is that of this part."""
        self.rows = sample.rows(task, split, part, size)
        made_by = code_stamp(sample, words, type(task))
        self._stamp = _short_hash(f"{made_by} {json.dumps(asdict(size))}".encode(), 16)
        key = json.dumps([task.fields, task.fixed_text, asdict(size)]).encode()
        self.name = f"sample-{task.name}-{split}-{part}-{_short_hash(key)}"
        self._golds: dict[str, str] = {}
        self._digest = hashlib.sha256()

    def stamp(self) -> Any:
        """Of the code and the words that it is made from."""
        return self._stamp

    def golds(self, handler: RaiseFaults) -> Mapping[str, str]:
        """Filled as the questions are made."""
        return self._golds

    def questions(self) -> Iterator[Any]:
        for row, gold in self.rows:
            self._golds[row["id"]] = gold
            self._digest.update(json.dumps([row, gold]).encode())
            yield {MADE_UP: True, **row}

    def fingerprint(self) -> str:
        return self._digest.hexdigest()[:16]


def code_stamp(*objects: Any) -> str:
    """Changes with the source files of modules and classes."""
    return _short_hash(b"".join(Path(inspect.getfile(one)).read_bytes() for one in objects), 16)


def _short_hash(content: bytes, length: int = 8) -> str:
    return hashlib.sha256(content).hexdigest()[:length]
