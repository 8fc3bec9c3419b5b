"""One part of one task: from `data_dir`, or from the made-up sample where there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamp_exp.data import sample
from lamp_exp.data.parse import Reader, read_golds, some
from lamp_exp.types import Example, InputError, Task

PARTS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Part:
    """The examples of one part, in file order, and where they come from.

    `fingerprint` changes with the files' content; `numeric_ids` were JSON numbers in the file
    and are written as such again.
    """

    examples: tuple[Example, ...]
    source: str
    made_up: bool
    fingerprint: str
    has_golds: bool
    counts: Mapping[str, int] = field(default_factory=dict)
    numeric_ids: frozenset[str] = frozenset()

    def original_id(self, id: str) -> str | int:
        """An id as the file had it."""
        return int(id) if id in self.numeric_ids else id


def load(data_dir: str | None, task: Task, split: str, part: str, limit: int | None = None) -> Part:
    """Reads and checks a part; `limit` keeps its first questions only.

    Golds are optional, but an outputs file must hold one for every question. Raises InputError
    that names file and place of what is wrong.
    """
    if data_dir is None:
        made = sample.make(task, split, part, sample.Size())
        return _part(task, made.questions, made.outputs, sample.SOURCE, _hash(made), True, limit)
    files = PartFiles.find(data_dir, task, split, part)
    questions, outputs = read_json(files.questions), None
    digest = hashlib.sha256(files.questions.read_bytes())
    if files.outputs.exists():
        outputs = read_json(files.outputs)
        digest.update(files.outputs.read_bytes())
    source = str(files.questions)
    return _part(task, questions, outputs, source, digest.hexdigest()[:16], False, limit)


@dataclass(frozen=True, slots=True)
class PartFiles:
    """Where the two files of a part lie; the outputs file may be absent."""

    questions: Path
    outputs: Path

    @classmethod
    def find(cls, data_dir: str, task: Task, split: str, part: str) -> PartFiles:
        """Looks below `data_dir` as the official download lays files out."""
        base = Path(data_dir).expanduser() / ("time" if split == "time" else "") / task.folder
        folders = [base / "new" / part, base / part]
        for folder in folders:
            if (folder / f"{part}_questions.json").is_file():
                return cls(folder / f"{part}_questions.json", folder / f"{part}_outputs.json")
        raise InputError(
            f"no questions at {folders[-1] / f'{part}_questions.json'}: data_dir must hold "
            "[time/]LaMP_n/{train,dev,test}/ as the official download does; without data_dir the "
            "made-up sample is used"
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file, or an InputError that says where it is broken."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): download it again") from error


def _part(
    task: Task,
    questions: object,
    outputs: object | None,
    source: str,
    fingerprint: str,
    made_up: bool,
    limit: int | None,
) -> Part:
    golds = None if outputs is None else _golds(task, outputs, source)
    reader = Reader(task, source)
    examples = reader.examples(questions, golds)
    _refuse_wrong_golds(task, examples, golds, source)
    return Part(
        examples=tuple(examples[:limit]),
        source=source,
        made_up=made_up,
        fingerprint=fingerprint,
        has_golds=golds is not None,
        counts={name: count for name, count in reader.counts.items() if count},
        numeric_ids=frozenset(reader.numeric_ids),
    )


def _golds(task: Task, outputs: object, source: str) -> dict[str, str]:
    where = f"the outputs beside {source}"
    name, golds = read_golds(outputs, where)
    if name is not None and name != task.name:
        raise InputError(f"{where} are of task {name}, not {task.name}")
    return golds


def _refuse_wrong_golds(
    task: Task, examples: list[Example], golds: Mapping[str, str] | None, source: str
) -> None:
    """Every question needs its gold, every gold its question, and all must be possible."""
    if golds is None:
        return
    missing = [example.id for example in examples if example.target is None]
    if missing:
        raise InputError(f"{source}: no gold for {len(missing)} questions: {some(missing)}")
    extra = golds.keys() - {example.id for example in examples}
    if extra:
        raise InputError(f"{source}: golds without a question: {some(sorted(extra))}")
    odd = [id for id, output in golds.items() if not task.readable(output)]
    if odd:
        raise InputError(
            f"the outputs beside {source}: the golds of {some(odd)} are no answers to {task.name}"
        )


def _hash(made: sample.Made) -> str:
    content = json.dumps([made.questions, made.outputs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
