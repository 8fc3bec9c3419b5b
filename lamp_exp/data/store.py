"""A prepared part: Arrow files that open by memory map; items with equal fields are stored once.

items.arrow       the fields of the profile items
questions.arrow   the questions; for each item of their profiles the row of its fields, its id
                  and its date; and the positions of items that are the question's own
store.json        the source, the fingerprint, counts and the sizes of both; written last
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from lamp_exp.contracts import Task
from lamp_exp.data.leaks import own_positions
from lamp_exp.storage.arrow import flattened, lengths, number_array, numbers, strings, times
from lamp_exp.storage.atomic import Damaged, read_json, write_json
from lamp_exp.values import Example, ProfileItem

T = TypeVar("T")
FORMAT = 4  # stores with another number are made again
META = "store.json"
ITEMS, QUESTIONS = "items.arrow", "questions.arrow"
ITEMS_PER_BATCH, QUESTIONS_PER_BATCH = 20_000, 500
REMEMBERED = 1 << 19  # contents, at least, among which a writer looks: up to 150 MB
_TIME = pa.timestamp("us")
_QUESTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("user", pa.string()),
        ("input", pa.string()),
        ("target", pa.string()),
        ("date", _TIME),
        ("items", pa.list_(pa.int32())),
        ("item_ids", pa.list_(pa.string())),
        ("item_dates", pa.list_(_TIME)),
        ("own_items", pa.list_(pa.int32())),
    ]
)


# --- writing -----------------------------------------------------------------------------------


class Writer:
    """Writes examples as they come, in bounded memory."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.folder = folder
        self.task = task
        self.fields = (*task.fields, "date")  # the date as the file spells it
        schema = pa.schema([(name, pa.string()) for name in self.fields])
        self.items = _Table(folder / ITEMS, schema, ITEMS_PER_BATCH)
        self.questions = _Table(folder / QUESTIONS, _QUESTIONS, QUESTIONS_PER_BATCH)
        self.known = _Recent(REMEMBERED)

    def write(self, examples: Iterable[Example]) -> None:
        """Appends all examples, in their order."""
        for example in examples:
            self.questions.append(
                (
                    example.id,
                    example.user,
                    example.input,
                    example.target,
                    example.date,
                    [self._item(item) for item in example.profile],
                    [item.id for item in example.profile],
                    [item.date for item in example.profile],
                    own_positions(self.task, example.input, example.profile),
                )
            )

    def _item(self, item: ProfileItem) -> int:
        """The row of an item's fields, which are written when they are first seen."""
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
        """Finishes the files; `meta` is added to `store.json`."""
        self.items.close()
        self.questions.close()
        sizes = {name: (self.folder / name).stat().st_size for name in (ITEMS, QUESTIONS)}
        content = {"format": FORMAT, "items": self.items.rows, "sizes": sizes, **meta}
        write_json(self.folder / META, content)


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

    def __init__(self, path: Path, schema: pa.Schema, rows_per_batch: int) -> None:
        self.sink = pa.OSFile(str(path), "wb")
        self.writer = pa.ipc.new_file(self.sink, schema)
        self.schema = schema
        self.rows_per_batch = rows_per_batch
        self.waiting: list[tuple[Any, ...]] = []
        self.rows = 0

    def append(self, row: tuple[Any, ...]) -> None:
        self.waiting.append(row)
        self.rows += 1
        if len(self.waiting) >= self.rows_per_batch:
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


# --- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Profiles:
    """The profiles of some questions, item after item, as columns.

    Question `n` has `lengths[n]` items. `rows` are the rows of their fields in the store, `dates`
    have the unit microsecond (NaT without a date), and `own` marks items that are the question's
    own.
    """

    lengths: NDArray[np.int64]
    rows: NDArray[np.int32]
    ids: pa.StringArray
    dates: NDArray[np.datetime64]
    own: NDArray[np.bool_]

    @property
    def questions(self) -> NDArray[np.int64]:
        """For each item the number of its question."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """For each question the number of its first item."""
        return np.cumsum(self.lengths) - self.lengths

    def keep(self, mask: NDArray[np.bool_]) -> Profiles:
        """The items where `mask` is true."""
        if mask.all():
            return self
        lengths = np.bincount(self.questions[mask], minlength=len(self.lengths))
        ids = self.ids.take(number_array(np.flatnonzero(mask)))
        return Profiles(lengths, self.rows[mask], ids, self.dates[mask], self.own[mask])

    def split(self, values: Sequence[T]) -> list[Sequence[T]]:
        """One value per item, as one sequence per question."""
        ends = np.cumsum(self.lengths).tolist()
        return [values[start:end] for start, end in pairwise([0, *ends])]


@dataclass(frozen=True)
class Store:
    """A prepared part, opened by memory map: opening reads next to nothing."""

    folder: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The content of `store.json`. Raises Damaged if it cannot be read."""
        return read_json(self.folder / META)

    @cached_property
    def questions(self) -> pa.Table:
        """One row per question."""
        return _open(self.folder / QUESTIONS)

    @cached_property
    def items(self) -> pa.Table:
        """One row per content; several where items with equal fields lie far apart."""
        return _open(self.folder / ITEMS)

    @cached_property
    def item_ends(self) -> NDArray[np.int64]:
        """For each question the number of profile items up to its last one, over all questions."""
        sizes = [lengths(chunk) for chunk in self.questions.column("items").chunks]
        return np.cumsum(np.concatenate([np.zeros(0, np.int64), *sizes]))

    @cached_property
    def _flat_items(self) -> dict[str, pa.ChunkedArray]:
        """The profile items of all questions one after the other, as columns."""
        names = {"items": pa.int32(), "item_ids": pa.string(), "item_dates": _TIME}
        return {
            name: pa.chunked_array([flattened(c) for c in self.questions.column(name).chunks], kind)
            for name, kind in names.items()
        }

    def item_numbers(self, row: int) -> NDArray[np.int64]:
        """The numbers of a question's profile items among all items of the part."""
        start = int(self.item_ends[row - 1]) if row else 0
        return np.arange(start, int(self.item_ends[row]))

    def picked_items(
        self, picks: Sequence[NDArray[np.int64]]
    ) -> tuple[Profiles, NDArray[np.int64]]:
        """Profiles of any items of the part, and for each item the question that it is from.

        `picks` has for each profile the numbers of its items among all items of the part. An
        item's id gets its user before it: `user/item`. No item is marked as own.
        """
        sizes = np.array([len(pick) for pick in picks], np.int64)
        picked = np.concatenate([np.zeros(0, np.int64), *picks])
        rows, ids, dates = (
            pa.concat_arrays(column.take(number_array(picked)).chunks or [pa.nulls(0, column.type)])
            for column in self._flat_items.values()
        )
        owners = np.searchsorted(self.item_ends, picked, side="right")
        pairs = zip(owners, strings(ids), strict=True)
        named = pa.array([f"{self.users[owner]}/{id}" for owner, id in pairs], pa.string())
        own = np.zeros(len(picked), np.bool_)
        return Profiles(sizes, numbers(rows, np.int32), named, times(dates), own), owners

    @cached_property
    def users(self) -> list[str]:
        return self.column("user", range(len(self)))

    def __len__(self) -> int:
        return int(self.questions.num_rows)

    def opened(self) -> Store:
        """Maps the files now, so that they can be read to the end even if they are removed.

        Raises Damaged if one of them is missing, of another size, or no table.
        """
        for name, size in self.meta["sizes"].items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise Damaged(f"its {name} is missing or was cut off")
        try:
            for table in (self.questions, self.items):
                table.validate()
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"a table cannot be read: {error}") from error
        return self

    def column(self, name: str, rows: Sequence[int]) -> list[Any]:
        """`id`, `user`, `input` or `target` of some questions."""
        return strings(_select(self.questions.column(name), rows))

    def dates(self, rows: Sequence[int]) -> NDArray[np.datetime64]:
        """The dates of some questions, in microseconds; NaT where there is none."""
        return times(_select(self.questions.column("date"), rows))

    def profiles(self, rows: Sequence[int]) -> Profiles:
        items, ids, dates, own = (
            _select(self.questions.column(name), rows)
            for name in ("items", "item_ids", "item_dates", "own_items")
        )
        sizes = lengths(items)
        is_own = np.zeros(int(sizes.sum()), np.bool_)
        starts = np.repeat(np.cumsum(sizes) - sizes, lengths(own))
        is_own[starts + numbers(flattened(own), np.int32)] = True
        item_rows = numbers(flattened(items), np.int32)
        return Profiles(sizes, item_rows, flattened(ids), times(flattened(dates)), is_own)

    def profile_items(self, profiles: Profiles) -> Iterator[ProfileItem]:
        """All items of some profiles, one after the other."""
        fields: list[dict[str, str]] = [{} for _ in profiles.rows]
        for name, column in zip(self.items.column_names, self.items.columns, strict=True):
            values = _select(column, profiles.rows)
            if values.null_count < len(values):  # an undated item has no field `date`
                for row, value in zip(fields, strings(values), strict=True):
                    if value is not None:
                        row[name] = value
        return map(ProfileItem, strings(profiles.ids), fields, profiles.dates.tolist())


def _open(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _select(column: pa.ChunkedArray, rows: Sequence[int] | NDArray[np.int32]) -> pa.Array:
    """Some rows of a column; without a copy where they follow each other in one chunk."""
    numbers = np.asarray(rows, np.int64)
    if not len(numbers):
        return pa.nulls(0, column.type)
    first = int(numbers[0])
    if (np.diff(numbers) == 1).all():
        chunks = column.slice(first, len(numbers)).chunks
    else:
        chunks = column.take(number_array(numbers)).chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
