"""Checks one part question by question and collects every fault.

What loading would refuse at the first place is found here at all places. Of each question only
a short summary stays in memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data.findings import Findings
from lamp_exp.data.leaks import own_items, same_text
from lamp_exp.data.official import Place, QuestionReader, read_json, read_outputs
from lamp_exp.data.source import Files
from lamp_exp.data.stream import read_objects
from lamp_exp.data.view import known_defects
from lamp_exp.errors import InputError
from lamp_exp.progress import progress
from lamp_exp.values import Example, ProfileItem

Measure = Callable[[Sequence[str]], Sequence[int]]
LENGTHS = ("input", "item body", "items per profile")
SHORT_PROFILE = 4  # items: a profile of fewer is short
# The time split has dates and users, the user split has neither.
ODD_IN_SPLIT = {"items_undated": "time", "users_missing": "time", "items_dated": "user"}


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
    """What was found in a part, and what the parts of a split are compared by.

    `complete` is False if the questions could not be read to their end.
    """

    target: Target
    findings: Findings
    questions: int = 0
    complete: bool = True
    lengths: dict[str, Counter[int]] = field(
        default_factory=lambda: {name: Counter() for name in LENGTHS}
    )
    users: set[str] = field(default_factory=set)
    profiles: dict[str, array[int]] = field(default_factory=dict)  # hashes of items, rising


def examine(target: Target, measure: Measure) -> Examined:
    """Examines questions and golds; `measure` returns the length of each of several texts."""
    examined = Examined(target, Findings(task=target.task.name))
    collect = CollectFaults(examined.findings, target)
    golds = _golds(target, examined.findings, collect)
    examiner = _Examiner(examined, golds, measure, QuestionReader(collect, target.task))
    path = target.files.questions_file
    try:
        for row in progress(read_objects(path), None, f"check {target.files.name}"):
            examiner.question(row)
    except InputError as error:
        examined.complete = False
        examined.findings.add("unreadable", error=str(error).removeprefix(f"{path} "))
    examiner.close()
    return examined


class CollectFaults:
    """Adds faults and oddities of official files to findings."""

    def __init__(self, findings: Findings, target: Target) -> None:
        self.findings = findings
        self.split = target.split
        self.known_defects = known_defects(target.task, target.split, target.part)

    def fault(self, code: str, place: Place, message: str, **words: str) -> None:
        self.findings.add(code, 1, place.keys(), **words)

    def faults(self, code: str, ids: Sequence[str], message: str) -> None:
        kind = "gold" if code in ("golds_extra", "golds_impossible") else "question"
        for id in ids:
            self.findings.add(code, at={kind: id})

    def oddity(self, code: str, place: Place) -> None:
        """Adds it, if it is odd in this split; a known defect of the benchmark has its own code."""
        if ODD_IN_SPLIT.get(code, self.split) != self.split:
            return
        if code == "users_missing":
            code = "users_unknown"
        elif code == "inputs_oddly_worded" and place.id in self.known_defects:
            code = "known_defects"
        self.findings.add(code, at=place.keys())


def _golds(target: Target, findings: Findings, collect: CollectFaults) -> Mapping[str, str] | None:
    """The golds that can be read, by id; None where there are none."""
    file = target.files.outputs_file
    if not file.exists():
        code = "golds_not_public" if target.part == "test" else "golds_absent"
        findings.add(code, file=file.name)
        return None
    try:
        content = read_json(file)
    except InputError as error:
        findings.add("golds_unreadable", error=str(error).removeprefix(f"{file} "))
        return None
    outputs = read_outputs(content, collect, target.task)
    return None if outputs is None else outputs.by_id


class _Examiner:
    """Examines the questions of one file one by one."""

    def __init__(
        self,
        examined: Examined,
        golds: Mapping[str, str] | None,
        measure: Measure,
        reader: QuestionReader,
    ) -> None:
        self.examined, self.golds, self.measure, self.reader = examined, golds, measure, reader
        self.task, self.lengths = examined.target.task, examined.lengths
        self.add = examined.findings.add
        self.by_profile: dict[int, str] = {}  # hash of its items: the first question with it
        self.longest_body = 0

    def question(self, row: Mapping[str, Any]) -> None:
        self.examined.questions += 1
        example = self.reader.question(row)
        if example is None:
            return
        at, size = {"question": example.id}, len(example.profile)
        self.examined.users.add(example.user)
        self.lengths["items per profile"][size] += 1
        if 0 < size < SHORT_PROFILE:
            self.add("profiles_short", at=at)
        for item in example.profile:
            if example.date is not None and item.date is not None and item.date > example.date:
                self.add("items_later", at={**at, "item": item.id})
        self._leaks(example, at)
        if example.profile:
            self._contents(example.profile, at)
        self._lengths(example)

    def close(self) -> None:
        """Examines what concerns the file as a whole."""
        self.reader.check_ids()
        self.reader.check_wording()
        if self.lengths["item body"] and self.longest_body == 1:
            self.add("texts_single_words", count=self.lengths["item body"].total())
        if self.examined.complete:
            self.reader.check_golds(self.golds)
            if not self.examined.questions:
                self.add("no_questions")

    def _leaks(self, example: Example, at: Mapping[str, str]) -> None:
        own = own_items(self.task, example.input, example.profile)
        if own:
            self.add("own_items", at={**at, "item": own[0].id})
        gold = (self.golds or {}).get(example.id)
        if gold is None:
            return
        copies = (
            i for i in example.profile if same_text(gold, self.task.item_target_text(i) or "")
        )
        for item in list(copies)[:1]:
            self.add("golds_in_profile", at={**at, "item": item.id})

    def _contents(self, items: Sequence[ProfileItem], at: Mapping[str, str]) -> None:
        seen: set[int] = set()
        for item in items:
            content = _hash(repr((item.date, *(item.fields[name] for name in self.task.fields))))
            if content in seen:
                self.add("items_identical", at={**at, "item": item.id})
            seen.add(content)
            if not self.task.body(item).strip():
                self.add("items_blank", at={**at, "item": item.id})
        hashes = array("Q", sorted(seen))
        first = self.by_profile.setdefault(hash(hashes.tobytes()), at["question"])
        if first != at["question"]:
            self.add("profiles_repeated", at={**at, "earlier question": first})
        self.examined.profiles[at["question"]] = hashes

    def _lengths(self, example: Example) -> None:
        bodies = [self.task.body(item) for item in example.profile]
        of_input, *of_bodies = self.measure([example.input, *bodies])
        self.lengths["input"][of_input] += 1
        self.lengths["item body"].update(of_bodies)
        for body in bodies:
            self.longest_body = max(self.longest_body, len(body.split(maxsplit=2)))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
