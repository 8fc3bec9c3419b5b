"""Reads one part question by question, however broken, and finds what is wrong or odd in it.

What loading would refuse at the first place is found here at all places. Of each question only
a short summary stays in memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from tqdm import tqdm

from lamp_exp.contracts import Task
from lamp_exp.data.dates import parse_date
from lamp_exp.data.findings import Findings
from lamp_exp.data.golds import is_blank, short, usable_golds, whole
from lamp_exp.data.leaks import own_items, same_text
from lamp_exp.data.parse import MISWORDED_SHARE, is_id, is_value
from lamp_exp.data.source import Files
from lamp_exp.data.stream import Hashing, read_objects
from lamp_exp.data.view import MISWORDED
from lamp_exp.errors import InputError
from lamp_exp.values import ProfileItem

Measure = Callable[[Sequence[str]], Sequence[int]]
Place = Mapping[str, str]
SHORT = 4  # a profile of fewer items is short


@dataclass(frozen=True, slots=True)
class Target:
    """A part to examine; `option` is the task's name as an option: the two LaMP_2 differ in it."""

    option: str
    task: Task
    split: str
    part: str
    files: Files


@dataclass(slots=True)
class Examined:
    """What was found, and what the parts of a split are compared by."""

    target: Target
    findings: Findings
    questions: int = 0
    whole: bool = True
    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    profiles: dict[str, array[int]] = field(default_factory=dict)  # hashes of items, rising


def examine(target: Target, measure: Measure) -> Examined:
    """Examines questions and golds; `measure` tells the length of each of several texts."""
    examined = Examined(target, Findings(task=target.task.name))
    golds = usable_golds(target.files, target.task, target.part, examined.findings)
    examiner = _Examiner(examined, golds, measure)
    path = target.files.questions_file
    try:
        rows = read_objects(path, Hashing(path))
        for row in tqdm(rows, f"check {target.files.name}", disable=None, leave=False):
            examiner.question(row)
    except InputError as error:
        examined.whole = False
        examined.findings.add("unreadable", error=short(error).removeprefix(f"{path} "))
    except OSError as error:
        examined.whole = False
        examined.findings.add("unreadable", error=short(f"cannot be read ({error})"))
    examiner.close()
    return examined


class _Examiner:
    """Takes the questions of one file one by one."""

    def __init__(
        self, examined: Examined, golds: Mapping[str, str] | None, measure: Measure
    ) -> None:
        self.to, self.golds, self.measure = examined, golds, measure
        self.target, self.task = examined.target, examined.target.task
        self.add = examined.findings.add
        self.whole = partial(whole, findings=examined.findings)
        self.ids: set[str] = set()
        self.misworded: list[str] = []
        self.by_profile: dict[int, str] = {}  # hash of its items: the first question with it
        self.longest_body = 0
        self.lengths = {
            name: Counter[int]() for name in ("input", "item body", "items per profile")
        }

    def question(self, row: Mapping[str, Any]) -> None:
        """Examines the next question."""
        self.to.questions += 1
        id = row.get("id")
        if not is_id(id):
            self.add("question_ids_missing", at={"question number": str(self.to.questions)})
            return
        at = {"question": self.whole(str(id))}
        if at["question"] in self.ids:
            self.add("question_ids_repeated", at=at)
        self.ids.add(at["question"])
        self._user(row, at)
        input, date = self._input(row, at), self._date(row, at)
        items = self._profile(row, at)
        for item in items:
            if date is not None and item.date is not None and item.date > date:
                self.add("items_later", at={**at, "item": item.id})
        self._leaks(input, items, at)
        if items:
            self._contents(items, at)
        self._lengths(input, items)

    def close(self) -> None:
        """Examines what concerns the file as a whole."""
        self._wording()
        self.to.lengths = self.lengths
        if self.lengths["item body"] and self.longest_body == 1:
            self.add("texts_single_words", count=self.lengths["item body"].total())
        if not self.to.whole:
            return
        for code, ids in self._unmatched().items():
            for id in ids:
                self.add(code, at={"question" if code == "golds_missing" else "gold": id})
        if not self.to.questions:
            self.add("no_questions")

    def _user(self, row: Mapping[str, Any], at: Place) -> None:
        user = row.get("user_id")
        if not is_id(user) and (user is not None or self.target.split == "time"):
            self.add("users_unknown", at=at)
        self.to.users.add(self.whole(str(user)) if is_id(user) else at["question"])

    def _input(self, row: Mapping[str, Any], at: Place) -> str:
        value = row.get("input")
        if not is_value(value):
            self.add("inputs_missing", at=at)
            return ""
        if not self.task.follows_template(str(value)):
            self.misworded.append(at["question"])
        return self.whole(str(value))

    def _profile(self, row: Mapping[str, Any], at: Place) -> list[ProfileItem]:
        """The items that can be read."""
        rows = row.get("profile")
        if not isinstance(rows, list):
            self.add("profiles_missing", at=at)
            return []
        self.lengths["items per profile"][len(rows)] += 1
        if len(rows) < SHORT:
            self.add("profiles_short" if rows else "profiles_empty", at=at)
        seen: set[str] = set()
        found = (self._item(item, number, at, seen) for number, item in enumerate(rows, 1))
        return [item for item in found if item is not None]

    def _item(self, row: object, number: int, at: Place, seen: set[str]) -> ProfileItem | None:
        """An item if it has all its fields; `seen` are the ids of its profile so far."""
        by_number = {**at, "item number": str(number)}
        if not isinstance(row, dict):
            self.add("items_malformed", at=by_number)
            return None
        if not is_id(row.get("id")):
            self.add("item_ids_missing", at=by_number)
            at, id = by_number, ""
        else:
            id = self.whole(str(row["id"]))
            at = {**at, "item": id}
            if id in seen:
                self.add("item_ids_repeated", at=at)
            seen.add(id)
        texts = {name: self._text(row, name, at) for name in self.task.fields}
        date = self._date(row, at)
        if self.target.split == "time" and is_blank(row.get("date")):
            self.add("items_undated", at=at)
        if date is not None and self.target.split == "user":
            self.add("items_dated", at=at)
        fields = {name: text for name, text in texts.items() if text is not None}
        return ProfileItem(id, fields, date) if len(fields) == len(texts) else None

    def _text(self, row: Mapping[str, Any], name: str, at: Place) -> str | None:
        if name not in row:
            self.add("fields_missing", at=at, field=name)
            return None
        value = row[name]
        if value is None:
            self.add("fields_null", at=at)
            return ""
        if not is_value(value):
            self.add("fields_malformed", at=at, field=name)
            return None
        return self.whole(str(value))

    def _date(self, row: Mapping[str, Any], at: Place) -> datetime | None:
        value = row.get("date")
        if isinstance(value, list | dict):
            self.add("dates_unreadable", at=at, error=f"a {type(value).__name__}")
            return None
        try:
            return parse_date(value)
        except ValueError as error:
            self.add("dates_unreadable", at=at, error=short(error))
            return None

    def _leaks(self, input: str, items: Sequence[ProfileItem], at: Place) -> None:
        own = own_items(self.task, input, items)
        if own:
            self.add("own_items", at={**at, "item": own[0].id})
        gold = (self.golds or {}).get(at["question"])
        if gold is None:
            return
        same = [item for item in items if same_text(gold, self.task.item_target_text(item) or "")]
        if same:
            self.add("golds_in_profile", at={**at, "item": same[0].id})

    def _contents(self, items: Sequence[ProfileItem], at: Place) -> None:
        seen: set[int] = set()
        for item in items:
            content = _hash(repr((item.date, *item.fields.values())))
            if content in seen:
                self.add("items_identical", at={**at, "item": item.id})
            seen.add(content)
            if not self.task.body(item).strip():
                self.add("items_blank", at={**at, "item": item.id})
        hashes = array("Q", sorted(seen))
        first = self.by_profile.setdefault(hash(hashes.tobytes()), at["question"])
        if first != at["question"]:
            self.add("profiles_repeated", at={**at, "earlier question": first})
        self.to.profiles[at["question"]] = hashes

    def _lengths(self, input: str, items: Sequence[ProfileItem]) -> None:
        bodies = [self.task.body(item) for item in items]
        of_input, *of_bodies = self.measure([input, *bodies])
        self.lengths["input"][of_input] += 1
        self.lengths["item body"].update(of_bodies)
        for body in bodies:
            self.longest_body = max(self.longest_body, len(body.split(maxsplit=2)))

    def _wording(self) -> None:
        """A few oddly worded inputs are used as they are; more of them are refused."""
        many = len(self.misworded) > MISWORDED_SHARE * self.to.questions
        where = self.task.name, self.target.split, self.target.part
        for id in self.misworded:
            known = (*where, id) in MISWORDED
            code = "known_defects" if known else "inputs_oddly_worded"
            self.add("inputs_misworded" if many else code, at={"question": id})

    def _unmatched(self) -> dict[str, list[str]]:
        if self.golds is None:
            return {}
        missing, extra = self.ids - self.golds.keys(), self.golds.keys() - self.ids
        return {"golds_missing": sorted(missing), "golds_extra": sorted(extra)}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
