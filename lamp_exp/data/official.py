"""The only reader of official files: validates fields and reports faults.

RaiseFaults             the first fault raises InputError: loading, download, Avocado, scoring
examine.CollectFaults   faults become findings, and reading goes on: `data check`
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast

from lamp_exp.contracts import Task
from lamp_exp.data.dates import parse_date
from lamp_exp.data.stream import parse_json
from lamp_exp.errors import InputError
from lamp_exp.values import Example, ProfileItem
from lamp_exp.wording import count_of

Json = Mapping[str, Any]
MADE_UP = "made_up_data"  # the key of questions that this project wrote itself
MISWORDED_SHARE = 0.02  # more than this share of unknown wording is no defect but another task
ODDITIES = {  # what is odd but can be read: its finding, and its name among a part's counts
    "profiles_empty": "empty_profiles",
    "item_ids_repeated": "repeated_item_ids",
    "fields_null": "null_fields",
    "characters_broken": "texts_with_broken_characters",
    "inputs_oddly_worded": "misworded_inputs",
}
_OUTPUTS = 'an outputs file is {"task": "LaMP_n", "golds": [...]}'
_OTHER_TASK = (
    "is it another task's file, or the other LaMP-2 (task=lamp2 is movies, "
    "task=lamp2_news is news)?"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


# --- faults ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Place:
    """The question (or gold) that is being read, and the profile item; ids where they are known."""

    kind: str = "question"
    number: int = 0
    id: str | None = None
    item_number: int = 0
    item_id: str | None = None

    def __str__(self) -> str:
        if not self.number:
            return ""
        places = [(self.kind, self.number, self.id)]
        places += [("profile item", self.item_number, self.item_id)] if self.item_number else []
        return "".join(
            f": {kind} {number}" + (f" (id {id!r})" if id is not None else "")
            for kind, number, id in places
        )

    def keys(self) -> dict[str, str]:
        """The place by ids, or by numbers where there are none."""
        if self.id is None:
            return {f"{self.kind} number": str(self.number)} if self.number else {}
        own = {self.kind: self.id}
        if not self.item_number:
            return own
        if self.item_id is None:
            return {**own, "item number": str(self.item_number)}
        return {**own, "item": self.item_id}


class FaultHandler(Protocol):
    """Receives what is wrong or odd. `code` is that of a finding, and `words` fill its sentence.

    A `message` continues the place in a sentence.
    """

    def fault(self, code: str, place: Place, message: str, **words: str) -> None:
        """Something that cannot be read; if this returns, it is left out."""

    def faults(self, code: str, ids: Sequence[str], message: str) -> None:
        """All ids of one file that share a fault; `message` may hold {count} and {ids}."""

    def oddity(self, code: str, place: Place) -> None:
        """Something that is read all the same."""


@dataclass
class RaiseFaults:
    """Raises InputError at the first fault, and counts oddities. `where` names the file."""

    where: str
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, code: str, place: Place, message: str, **words: str) -> None:
        """Raises InputError."""
        raise InputError(f"{self.where}{place}{message}")

    def faults(self, code: str, ids: Sequence[str], message: str) -> None:
        """Raises InputError if there are any ids."""
        if ids:
            raise InputError(f"{self.where}: {message.format(count=len(ids), ids=format_ids(ids))}")

    def oddity(self, code: str, place: Place) -> None:
        """Adds one to the count of its kind."""
        if code in ODDITIES:
            self.counts[ODDITIES[code]] += 1


# --- questions ---------------------------------------------------------------------------------


class QuestionReader:
    """Reads the questions of one file, in order.

    Without a `task` any wording is right, and `fields` are required of each profile item.
    """

    def __init__(
        self, handler: FaultHandler, task: Task | None = None, fields: Sequence[str] = ()
    ) -> None:
        self.handler = handler
        self.task = task
        self.fields = fields if task is None else task.fields
        self.place = Place()
        self.ids: Counter[str] = Counter()
        self.numeric_ids: set[str] = set()  # ids that are JSON numbers in the file
        self.misworded: list[str] = []
        self.made_up = False  # whether a question says that it is
        self.first_undated: tuple[int, str, str] | None = None  # row, question and item

    def questions(
        self, rows: Iterable[object], golds: Mapping[str, str] | None = None
    ) -> Iterator[Example]:
        """All questions; what concerns the file as a whole is checked after the last one."""
        for row in rows:
            example = self.question(row, golds)
            if example is not None:
                yield example
        self.check_ids()
        self.check_wording()
        self.check_golds(golds)

    def question(self, row: object, golds: Mapping[str, str] | None = None) -> Example | None:
        """The next question, with its gold if `golds` has it; None if it has no proper id."""
        self.place = Place(number=self.place.number + 1)
        id = self._id(row, "question_ids_missing", "question_ids_missing")
        if id is None or not isinstance(row, dict):
            return None
        self.place.id = id
        self.ids[id] += 1
        if isinstance(row["id"], int):
            self.numeric_ids.add(id)
        if row.get(MADE_UP):
            self.made_up = True
            self.handler.oddity("questions_made_up", self.place)
        return Example(
            id=id,
            user=self._user(row.get("user_id"), id),
            input=self._input(row, id),
            date=self._date(row),
            profile=tuple(self._profile(row)),
            target=None if golds is None else golds.get(id),
        )

    def check_ids(self) -> None:
        repeated = [id for id, count in self.ids.items() if count > 1]
        message = "question ids must be unique, but {ids} occur more than once"
        self.handler.faults("question_ids_repeated", repeated, message)

    def check_wording(self) -> None:
        """A few inputs of unknown wording are read as they are; more of them are refused."""
        if len(self.misworded) > MISWORDED_SHARE * self.place.number:
            message = (
                f"{{count}} of {self.place.number} inputs do not follow the wording of "
                f"{self._task_name} as chosen (ids {{ids}}): {_OTHER_TASK}"
            )
            self.handler.faults("inputs_misworded", self.misworded, message)
        else:
            for id in self.misworded:
                self.handler.oddity("inputs_oddly_worded", Place(id=id))

    def check_golds(self, golds: Mapping[str, str] | None) -> None:
        """Every question needs its gold, and every gold its question."""
        if golds is not None:
            missing = [id for id in self.ids if id not in golds]
            extra = sorted(id for id in golds if id not in self.ids)
            message = f"no gold for {count_of(len(missing), 'question')}: {{ids}}"
            self.handler.faults("golds_missing", missing, message)
            self.handler.faults("golds_extra", extra, "golds without a question: {ids}")

    @property
    def _task_name(self) -> str:
        return "any task" if self.task is None else self.task.name

    def _fault(self, code: str, message: str, **words: str) -> None:
        self.handler.fault(code, self.place, message, **words)

    def _id(self, row: object, no_object: str, no_id: str) -> str | None:
        """Ids are joined as text: 2 and "2" are one id, "001" and "1" are two."""
        if not isinstance(row, dict):
            self._fault(no_object, f" must be a JSON object, not {type(row).__name__}")
        elif not is_id(row.get("id")):
            self._fault(no_id, _no_id(row))
        else:
            return self._text(row["id"])
        return None

    def _text(self, value: object) -> str:
        text = str(value)
        valid = replace_broken_characters(text)
        if valid != text:
            self.handler.oddity("characters_broken", self.place)
        return valid

    def _user(self, value: object, id: str) -> str:
        """Whose question it is; a question without a user is a user of its own."""
        if is_value(value):
            return self._text(value)
        self.handler.oddity("users_missing" if value is None else "users_unknown", self.place)
        return id

    def _input(self, row: Json, id: str) -> str:
        if not is_value(row.get("input")):
            message = f": `input` must be text, not {_kind(row.get('input'))}"
            self._fault("inputs_missing", message)
            return ""
        input = self._text(row["input"])
        if self.task is not None and not self.task.follows_template(input):
            self.misworded.append(id)
        return input

    def _date(self, row: Json) -> datetime | None:
        try:
            return parse_date(row.get("date"))
        except ValueError as error:
            self._fault("dates_unreadable", f": {error}", error=str(error))
            return None

    def _profile(self, question: Json) -> Iterator[ProfileItem]:
        rows, seen = question.get("profile"), Counter[str]()
        if not isinstance(rows, list):
            self._fault("profiles_missing", ": its `profile` must be a list of items")
            return
        if not rows:
            self.handler.oddity("profiles_empty", self.place)
        for number, row in enumerate(rows, 1):
            self.place.item_number, self.place.item_id = number, None
            item = self._item(row, seen)
            if item is not None:
                yield item
        self.place.item_number = 0

    def _item(self, row: object, seen: Counter[str]) -> ProfileItem | None:
        """An item that has all its fields; `seen` are the ids of its profile so far."""
        id = self._id(row, "items_malformed", "item_ids_missing")
        if not isinstance(row, dict):
            return None
        self.place.item_id = id
        date = self._date(row)
        has_date = bool(str(row.get("date") or "").strip())
        self.handler.oddity("items_dated" if has_date else "items_undated", self.place)
        missing = [name for name in self.fields if name not in row]
        if missing:
            message = (
                f" has no `{'`, `'.join(missing)}`, only {format_ids(list(row), 9)}: these are no "
                f"items of {self._task_name} as chosen; {_OTHER_TASK}"
            )
            self._fault("fields_missing", message, field=missing[0])
            return None
        fields = {name: self._field(row, name) for name in self.fields}
        if date is not None:
            fields["date"] = str(row["date"])
        if id is None or None in fields.values():
            return None
        id = self._unique(id, seen)
        if date is None and self.first_undated is None:
            self.first_undated = (self.place.number - 1, self.place.id or "", id)
        return ProfileItem(id, cast(dict[str, str], fields), date)

    def _unique(self, id: str, seen: Counter[str]) -> str:
        """Two items of one id are both read, under ids that tell them apart."""
        seen[id] += 1
        if seen[id] > 1:
            self.handler.oddity("item_ids_repeated", self.place)
            id = next(new for n in itertools.count(2) if (new := f"{id}#{n}") not in seen)
            seen[id] += 1
        return id

    def _field(self, row: Json, name: str) -> str | None:
        value = row[name]
        if value is None:
            self.handler.oddity("fields_null", self.place)
            return ""
        if not is_value(value):
            message = f": `{name}` must be text, not {_kind(value)}"
            self._fault("fields_malformed", message, field=name)
            return None
        return self._text(value)


# --- outputs -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outputs:
    """An outputs or predictions file: the task that it names, if any, and the output by id.

    `numeric_ids` are JSON numbers in the file.
    """

    task: str | None
    by_id: Mapping[str, str]
    numeric_ids: Collection[str]


def parse_outputs(content: object, where: str) -> Outputs:
    """The content of an outputs file; `where` names it in the InputError of the first fault."""
    outputs = read_outputs(content, RaiseFaults(where))
    assert outputs is not None, "RaiseFaults does not return from faults"
    return outputs


def read_outputs(
    content: object, handler: FaultHandler, task: Task | None = None
) -> Outputs | None:
    """None for what is no outputs file; with a `task`, the golds must be answers to it."""
    rows = content.get("golds") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(rows, list):
        error = f"must be {_OUTPUTS}"
        handler.fault("golds_unreadable", Place(), _no_outputs(content), error=error)
        return None
    named = content.get("task")
    name = None if named is None else _single_line(named)
    if task is not None and name not in (None, task.name):
        message = f" are of task {name}, not {task.name}"
        handler.fault("golds_of_other_task", Place(), message, named=repr(name))
    by_id: dict[str, str] = {}
    numeric_ids: set[str] = set()
    for number, row in enumerate(rows, 1):
        _read_output(row, Place("gold", number), handler, by_id, numeric_ids)
    if task is not None:
        impossible = [id for id, output in by_id.items() if not task.is_valid_output(output)]
        message = f"the golds of {{ids}} are no answers to {task.name}"
        handler.faults("golds_impossible", impossible, message)
    return Outputs(name, by_id, numeric_ids)


def _read_output(
    row: object, place: Place, handler: FaultHandler, by_id: dict[str, str], numeric: set[str]
) -> None:
    if not isinstance(row, dict):
        message = f" must be a JSON object, not {type(row).__name__}"
        return handler.fault("golds_malformed", place, message)
    if not is_id(row.get("id")):
        return handler.fault("golds_malformed", place, _no_id(row))
    id, output = replace_broken_characters(str(row["id"])), row.get("output")
    place.id = id
    if not is_value(output):
        return handler.fault(
            "golds_malformed", place, f": its `output` must be text, not {_kind(output)}"
        )
    if id in by_id:
        handler.fault("golds_repeated", place, f": id {id!r} occurs more than once")
    by_id[id] = replace_broken_characters(str(output))
    if by_id[id] != str(output):
        handler.oddity("characters_broken", place)
    if isinstance(row["id"], int):
        numeric.add(id)
    return None


def _no_outputs(content: object) -> str:
    if isinstance(content, list):
        return f": a bare list; {_OUTPUTS}"
    if isinstance(content, dict):
        return f": no list `golds`; {_OUTPUTS}"
    return f" must be a JSON object, not {type(content).__name__}; {_OUTPUTS}"


# --- values ------------------------------------------------------------------------------------


def is_id(value: object) -> bool:
    """Whether it can be an id: text or a whole number."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def is_value(value: object) -> bool:
    """Whether it can stand for a text: text or a number."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _kind(value: object) -> str:
    """What a value is, in the words of JSON where they differ from Python's."""
    return "null (or NaN)" if value is None else type(value).__name__


def replace_broken_characters(text: str) -> str:
    """Replaces halves of characters, which JSON can spell but no file can hold."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def format_ids(ids: Sequence[object], most: int = 5) -> str:
    """The first few of many ids, for the one line of an error."""
    named = ", ".join(map(repr, ids[:most]))
    return f"{named} and {len(ids) - most} more" if len(ids) > most else named


def read_json(path: Path) -> Any:
    """The content of a small JSON file, or an InputError that says where it is broken."""
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): download it again") from error


def _no_id(row: Json) -> str:
    return f": its `id` must be text or a whole number, not {row.get('id')!r}"


def _single_line(value: object) -> str:
    return " ".join(replace_broken_characters(str(value)).replace("-", "_").split())
