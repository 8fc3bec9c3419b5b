"""A prepared part: Arrow files that open by memory map, items with one content kept once.

    items.arrow       the fields of the profile items
    questions.arrow   id, user, input, target, date, and which items (and under which ids)
    store.json        the sources, the fingerprint, the counts and the sizes of both; written last

A store is made in a folder beside its place and moved there whole, so that one that was killed in
the middle is never read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.ipc

from lamp_exp.data.dates import parse_date
from lamp_exp.values import Example, ProfileItem

FORMAT = 2  # of these files: another number, and older stores are made again
META = "store.json"
ITEMS, QUESTIONS = "items.arrow", "questions.arrow"
ITEMS_AT_ONCE, QUESTIONS_AT_ONCE = 20_000, 500  # rows of a record batch: memory while writing
REMEMBERED = 1 << 19  # contents, at least, among which a writer looks: up to 150 MB
_QUESTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("user", pa.string()),
        ("input", pa.string()),
        ("target", pa.string()),
        ("date", pa.string()),
        ("items", pa.list_(pa.int32())),
        ("item_ids", pa.list_(pa.string())),
    ]
)


class Damaged(Exception):
    """A store is not what its writer wrote."""


class Writer:
    """Writes examples as they come, in bounded memory."""

    def __init__(self, folder: Path, fields: Sequence[str]) -> None:
        """`fields` are those of the task's items; their dates are kept beside them."""
        self.folder = folder
        self.fields = (*fields, "date")
        schema = pa.schema([(name, pa.string()) for name in self.fields])
        self.items = _Table(folder / ITEMS, schema, ITEMS_AT_ONCE)
        self.questions = _Table(folder / QUESTIONS, _QUESTIONS, QUESTIONS_AT_ONCE)
        self.known = _Recent(REMEMBERED)

    def write(self, examples: Iterable[Example]) -> None:
        """All examples, in their order."""
        for example in examples:
            self.questions.append(
                (
                    example.id,
                    example.user,
                    example.input,
                    example.target,
                    _written(example.date),
                    [self._item(item) for item in example.profile],
                    [item.id for item in example.profile],
                )
            )

    def _item(self, item: ProfileItem) -> int:
        """The row of an item's content, which is written when it is first seen."""
        values = [item.fields.get(name) for name in self.fields]
        content = "".join("-" if v is None else f"{len(v)}:{v}" for v in values)
        key = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        row = self.known.get(key)
        if row is None:
            row = self.items.rows
            self.items.append(tuple(values))
        self.known.put(key, row)
        return row

    def close(self, meta: Mapping[str, Any]) -> None:
        """Finishes the files; `meta` is what a reader must know besides."""
        self.items.close()
        self.questions.close()
        sizes = {name: (self.folder / name).stat().st_size for name in (ITEMS, QUESTIONS)}
        content = {"format": FORMAT, "items": self.items.rows, "sizes": sizes, **meta}
        (self.folder / META).write_text(json.dumps(content), encoding="utf-8")


class _Recent:
    """A map that forgets what has not been looked for among the last `size` keys or more."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.new: dict[bytes, int] = {}
        self.old: dict[bytes, int] = {}

    def get(self, key: bytes) -> int | None:
        return self.new.get(key, self.old.get(key))

    def put(self, key: bytes, value: int) -> None:
        self.new[key] = value
        if len(self.new) >= self.size:
            self.new, self.old = {}, self.new


class _Table:
    """An Arrow file that is written batch by batch."""

    def __init__(self, path: Path, schema: pa.Schema, at_once: int) -> None:
        self.sink = pa.OSFile(str(path), "wb")
        self.writer = pa.ipc.new_file(self.sink, schema)
        self.schema = schema
        self.at_once = at_once
        self.waiting: list[tuple[Any, ...]] = []
        self.rows = 0

    def append(self, row: tuple[Any, ...]) -> None:
        self.waiting.append(row)
        self.rows += 1
        if len(self.waiting) >= self.at_once:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            columns = zip(*self.waiting, strict=True)
            arrays = [
                pa.array(column, field.type)
                for column, field in zip(columns, self.schema, strict=True)
            ]
            self.writer.write_batch(pa.record_batch(arrays, schema=self.schema))
            self.waiting = []

    def close(self) -> None:
        self._flush()
        self.writer.close()
        self.sink.close()


@dataclass(frozen=True)
class Store:
    """A prepared part, opened by memory map: opening reads next to nothing."""

    folder: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What the writer knew at the end. Raises Damaged if it cannot be read."""
        path = self.folder / META
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise Damaged(f"{path} cannot be read ({error})") from error
        return content

    @cached_property
    def questions(self) -> pa.Table:
        """One row a question."""
        return _open(self.folder / QUESTIONS)

    @cached_property
    def items(self) -> pa.Table:
        """One row for each content, or some where items that share it lie far apart."""
        return _open(self.folder / ITEMS)

    def __len__(self) -> int:
        """The number of questions."""
        return int(self.questions.num_rows)

    def opened(self) -> Store:
        """Maps its files now, so that it can be read to the end even if it is removed meanwhile.

        Raises Damaged if one of them is missing, of another size, or no table.
        """
        for name, size in self.meta["sizes"].items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise Damaged(f"{path} is missing or was cut off")
        try:
            for table in (self.questions, self.items):
                table.validate()
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"a table of {self.folder} cannot be read ({error})") from error
        return self

    def column(self, name: str, rows: Sequence[int]) -> list[Any]:
        """One column of some questions."""
        values = self.questions.column(name).to_pylist()
        return [values[row] for row in rows]

    def user(self, row: int) -> str:
        """Whose question that is."""
        return str(self.questions.column("user")[row])

    def example(self, row: int) -> Example:
        """A question with its profile."""
        question = {name: column[0] for name, column in self._slice(row).items()}
        return Example(
            id=question["id"],
            user=question["user"],
            input=question["input"],
            profile=tuple(self._profile(question["items"], question["item_ids"])),
            target=question["target"],
            date=_read_date(question["date"]),
        )

    def _slice(self, row: int) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = self.questions.slice(row, 1).to_pydict()
        return columns

    def _profile(self, rows: Sequence[int], ids: Sequence[str]) -> Iterator[ProfileItem]:
        if not rows:
            return
        first, last = rows[0], rows[-1]
        run = last - first + 1 == len(rows) and all(b - a == 1 for a, b in pairwise(rows))
        table = self.items.slice(first, len(rows)) if run else self.items.take(list(rows))
        columns = table.to_pydict()
        names = list(columns)
        for id, values in zip(ids, zip(*columns.values(), strict=True), strict=True):
            fields = {n: v for n, v in zip(names, values, strict=True) if v is not None}
            yield ProfileItem(id, fields, _read_date(fields.get("date")))


def _open(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _written(date: datetime | None) -> str | None:
    return None if date is None else date.isoformat(sep=" ")


def _read_date(text: str | None) -> datetime | None:
    return None if text is None else parse_date(text)


class Examples(Sequence[Example]):
    """Some questions of a store, read (and seen through `view`) when they are looked at."""

    def __init__(
        self, store: Store, rows: Sequence[int], view: Callable[[Example], Example]
    ) -> None:
        """`rows` are the questions, in order; nothing is read yet."""
        self.store = store
        self.rows = rows
        self.view = view

    def __len__(self) -> int:
        """The number of questions."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """A question, or some."""
        if isinstance(index, slice):
            return [self._read(row) for row in self.rows[index]]
        return self._read(self.rows[index])

    def __iter__(self) -> Iterator[Example]:
        """The questions in file order."""
        return map(self._read, self.rows)

    def _read(self, row: int) -> Example:
        return self.view(self.store.example(row))

    def column(self, name: str) -> list[Any]:
        """`id`, `user` or `target` of all questions, without their profiles."""
        return self.store.column(name, self.rows)
