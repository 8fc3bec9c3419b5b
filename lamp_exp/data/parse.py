"""From parsed JSON to examples: every field checked, every error with its place."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data.dates import parse_date
from lamp_exp.errors import InputError
from lamp_exp.values import Example, ProfileItem

Json = Mapping[str, Any]
_HALF = re.compile("[\ud800-\udfff]")
MISWORDED_SHARE = 0.02  # more than this share of unknown wording is no defect but another task


class Reader:
    """Reads the questions of one file; `counts` tells what was odd but usable."""

    def __init__(self, task: Task, where: str) -> None:
        """`where` names the source in errors."""
        self.task = task
        self.where = where
        self.counts: Counter[str] = Counter()
        self.numeric_ids: set[str] = set()

    def examples(
        self, questions: Iterable[object], golds: Mapping[str, str] | None
    ) -> Iterator[Example]:
        """The questions one by one, in file order; `golds` is None where there are none.

        What concerns the file as a whole is refused after the last one.
        """
        ids: list[str] = []
        misworded: list[str] = []
        for number, row in enumerate(questions, 1):
            example = self._example(row, number, golds)
            ids.append(example.id)
            if not self.task.follows_template(example.input):
                misworded.append(example.id)
            yield example
        self._refuse_repeated(ids)
        self._refuse_other_wording(misworded, len(ids))
        if golds is not None:
            self._refuse_wrong_golds(ids, golds)

    def _example(self, row: object, number: int, golds: Mapping[str, str] | None) -> Example:
        place = f"{self.where}: question {number}"
        question = _object(row, place)
        id = self._id(question, place)
        place = f"{place} (id {id!r})"
        profile = self._profile(question.get("profile"), place)
        self.counts["empty_profiles"] += not profile
        return Example(
            id=id,
            user=self._user(question, id),
            input=self._text(question, "input", place),
            profile=profile,
            target=None if golds is None else golds.get(id),
            date=_date(question, place),
        )

    def _user(self, question: Json, id: str) -> str:
        """Whose question it is; without a name (or with null), its own id stands for the user."""
        user = question.get("user_id")
        return id if user is None else self._whole(str(user))

    def _profile(self, rows: object, place: str) -> tuple[ProfileItem, ...]:
        if not isinstance(rows, list):
            raise InputError(f"{place}: its `profile` must be a list of items")
        items, seen = [], Counter[str]()
        for number, row in enumerate(rows, 1):
            item_place = f"{place}: profile item {number}"
            item = _object(row, item_place)
            id = self._id(item, item_place, remember=False)
            seen[id] += 1
            if seen[id] > 1:  # both are shown, under ids that tell them apart
                self.counts["repeated_item_ids"] += 1
                id = next(new for n in itertools.count(2) if (new := f"{id}#{n}") not in seen)
                seen[id] += 1
            items.append(self._item(item, id, f"{item_place} (id {id!r})"))
        return tuple(items)

    def _item(self, item: Json, id: str, place: str) -> ProfileItem:
        date = _date(item, place)
        missing = [name for name in self.task.fields if name not in item]
        if missing:
            raise InputError(
                f"{place} has no `{'`, `'.join(missing)}`, only {some(list(item), 9)}: these are "
                f"no items of {self.task.name} as chosen; is it another task's file, or the "
                "other LaMP-2 (task=lamp2 is movies, task=lamp2_news is news)?"
            )
        fields = {name: self._text(item, name, place) for name in self.task.fields}
        if date is not None:
            fields["date"] = str(item["date"])
        return ProfileItem(id, fields, date)

    def _text(self, row: Json, name: str, place: str) -> str:
        value = row.get(name)
        if value is None and name != "input":
            self.counts["null_fields"] += 1
            return ""
        if not is_value(value):
            raise InputError(f"{place}: `{name}` must be text, not {type(value).__name__}")
        return self._whole(str(value))

    def _whole(self, text: str) -> str:
        kept = whole(text)
        if kept != text:
            self.counts["texts_with_broken_characters"] += 1
        return kept

    def _id(self, row: Json, place: str, remember: bool = True) -> str:
        """Ids are joined as text: 2 and "2" are one id, "001" and "1" are two."""
        value = row.get("id")
        if not is_id(value):
            raise InputError(f"{place}: its `id` must be text or a whole number, not {value!r}")
        if remember and isinstance(value, int):
            self.numeric_ids.add(str(value))
        return self._whole(str(value))

    def _refuse_repeated(self, ids: Sequence[str]) -> None:
        repeated = [id for id, count in Counter(ids).items() if count > 1]
        if repeated:
            raise InputError(
                f"{self.where}: question ids must be unique, but {some(repeated)} "
                "occur more than once"
            )

    def _refuse_other_wording(self, odd: Sequence[str], questions: int) -> None:
        self.counts["misworded_inputs"] += len(odd)
        if len(odd) > MISWORDED_SHARE * questions:
            raise InputError(
                f"{self.where}: {len(odd)} of {questions} inputs do not follow the wording of "
                f"{self.task.name} as chosen (ids {some(odd)}): is it another task's file, or the "
                "other LaMP-2 (task=lamp2 is movies, task=lamp2_news is news)?"
            )

    def _refuse_wrong_golds(self, ids: Sequence[str], golds: Mapping[str, str]) -> None:
        """Every question needs its gold, every gold its question, and all must be possible."""
        missing = [id for id in ids if id not in golds]
        if missing:
            raise InputError(f"{self.where}: no gold for {len(missing)} questions: {some(missing)}")
        extra = sorted(golds.keys() - set(ids))
        if extra:
            raise InputError(f"{self.where}: golds without a question: {some(extra)}")
        odd = [id for id, output in golds.items() if not self.task.is_valid_output(output)]
        if odd:
            raise InputError(
                f"the outputs beside {self.where}: the golds of {some(odd)} are no answers to "
                f"{self.task.name}"
            )


def read_golds(content: object, where: str) -> tuple[str | None, dict[str, str]]:
    """The task's name and the output by id of an official outputs (or predictions) file."""
    if isinstance(content, list):
        raise InputError(
            f'{where}: a bare list; an outputs file is {{"task": "LaMP_n", "golds": [...]}}'
        )
    golds = _object(content, where).get("golds")
    if not isinstance(golds, list):
        raise InputError(
            f'{where}: no list `golds`; an outputs file is {{"task": "LaMP_n", "golds": [...]}}'
        )
    outputs: dict[str, str] = {}
    for number, row in enumerate(golds, 1):
        id, output = _gold(row, f"{where}: gold {number}")
        if id in outputs:
            raise InputError(f"{where}: id {id!r} occurs more than once")
        outputs[id] = output
    task = _object(content, where).get("task")
    name = None if task is None else " ".join(whole(str(task)).replace("-", "_").split())
    return name, outputs


def is_id(value: object) -> bool:
    """Whether it can be an id: text or a whole number."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def is_value(value: object) -> bool:
    """Whether it can stand for a text: text or a number."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def whole(text: str) -> str:
    """Halves of characters, which JSON can spell but no file can hold, are replaced."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def _gold(row: object, place: str) -> tuple[str, str]:
    gold = _object(row, place)
    id, output = gold.get("id"), gold.get("output")
    if not is_id(id):
        raise InputError(f"{place}: its `id` must be text or a whole number, not {id!r}")
    if not is_value(output):
        raise InputError(f"{place} (id {id!r}): its `output` must be text, not {output!r}")
    return whole(str(id)), whole(str(output))


def some(ids: Sequence[object], most: int = 5) -> str:
    """The first few of many ids, for an error's one line."""
    named = ", ".join(map(repr, ids[:most]))
    return f"{named} and {len(ids) - most} more" if len(ids) > most else named


def _object(row: object, place: str) -> Json:
    if not isinstance(row, dict):
        raise InputError(f"{place} must be a JSON object, not {type(row).__name__}")
    return row


def _date(row: Json, place: str) -> datetime | None:
    try:
        return parse_date(row.get("date"))
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error
