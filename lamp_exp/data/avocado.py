"""`python -m lamp_exp.data avocado`: LaMP-6 completed from the Avocado corpus (LDC2015T03).

LaMP-6 as downloaded holds only the names of mails. Each is replaced by its mail's body, and the
mail's subject becomes the item's `title` or the question's gold; as in the benchmark, the parts
called test get no golds. The downloaded files are kept as `*.orig.json` beside the completed
ones; a repeated command reads these (remove them after downloading another version).

Mails go from the zips through a temporary database; nothing is unpacked. A part is replaced only
when it is complete: if a mail that it refers to is missing, or the subject of a question's own
mail, the part stays as it is and the exit code is 1, unless `--drop-missing` leaves those
questions and items out. A mail also counts as missing if it cannot be read, or if several
different ones have its name. `missing_mails.txt` in the folder `LaMP_6` lists them with the
reasons, as of the last run. Items without a subject and mails without a text stay, and are
counted.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data.arguments import PARTS, SPLITS, add_part_arguments
from lamp_exp.data.corpus import Corpus, Missing, find_zips
from lamp_exp.data.mail import Mail
from lamp_exp.data.official import QuestionReader, RaiseFaults, format_ids
from lamp_exp.data.source import part_folder
from lamp_exp.data.stream import read_objects
from lamp_exp.errors import InputError
from lamp_exp.progress import progress
from lamp_exp.storage.atomic import json_list, remove_leftovers, replacing, write_text
from lamp_exp.values import Example
from lamp_exp.wording import count_of

Json = Mapping[str, Any]

TASK = "LaMP_6"
INSTRUCTION = "Generate a subject for the following email:"  # as lamp_exp.tasks.lamp6 has it
MISSING = "missing_mails.txt"
COUNTED = {  # of a completed part: for one, for several
    "question": "questions",
    "item": "items",
    "question left out": "questions left out",
    "item left out": "items left out",
}
# One word with a digit, such as 026-003413-EM.txt; possibly below a folder.
NAME = re.compile(r"[\w./-]*\d[\w./-]*", re.ASCII)
LONGEST_NAME = 200


# --- the command ---


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where both halves lie, which parts to complete, and what to do without a mail."""
    add = parser.add_argument
    add("--avocado", type=Path, required=True, metavar="DIR", help="the LDC2015T03 folder")
    add("--data-dir", type=Path, required=True, metavar="DIR", help="where LaMP_6 was downloaded")
    add_part_arguments(parser, tasks=False)
    dropped = "leave out questions and items whose mail is missing, and count them"
    add("--drop-missing", action="store_true", help=dropped)


def run(options: argparse.Namespace, _tasks: Mapping[str, Task] | None = None) -> int:
    """Completes all parts asked for; 0 if each of them is complete in the end."""
    parts = find_parts(options.data_dir.expanduser(), options.split or (), options.part or ())
    try:
        return _run(parts, options.avocado.expanduser(), options.drop_missing)
    except (OSError, sqlite3.Error) as error:
        place = "the data folder, or the one for temporary files (TMPDIR)"
        raise InputError(f"{error}: check the rights and the room of {place}") from error


def _run(parts: Sequence[PartFiles], avocado: Path, drop: bool) -> int:
    wanted: set[str] = set()
    open_parts = []
    for part in parts:
        names = part.names()
        if names is None:
            print(f"{part.questions}: complete already")
        else:
            open_parts.append(part)
            wanted |= names
    if not open_parts:
        return 0
    with closing(Corpus(wanted)) as corpus:
        corpus.read(find_zips(avocado))
        print("\n".join(corpus.report()))
        works = [Completion(part, corpus, drop) for part in open_parts]
        complete = [work.write() for work in progress(works, len(works), "complete LaMP_6")]
    for work in works:
        print("\n".join(work.report()))
    list_missing(works)
    return 0 if all(complete) else 1


def list_missing(works: Sequence[Completion]) -> None:
    """Writes `missing_mails.txt` for each split, or removes that of an earlier run."""
    for folder in dict.fromkeys(work.part.folder.parent for work in works):
        here = [work for work in works if work.part.folder.parent == folder]
        lines = [
            f"{work.part.part}\t{name}\t{reason}\n"
            for work in here
            for name, reason in sorted(work.missing.items())
        ]
        (folder / MISSING).unlink(missing_ok=True)
        if lines:
            write_text(folder / MISSING, lines)
            print(f"all that is missing: {folder / MISSING}")


# --- the files of LaMP-6 ---


@dataclass(frozen=True, slots=True)
class PartFiles:
    """The files of one part, as downloaded and as completed."""

    split: str
    part: str
    folder: Path

    @property
    def questions(self) -> Path:
        """The questions file that is completed in place."""
        return self.folder / f"{self.part}_questions.json"

    @property
    def outputs(self) -> Path:
        return self.folder / f"{self.part}_outputs.json"

    @property
    def original(self) -> Path:
        """The questions as downloaded, once they have been completed."""
        return self.folder / f"{self.part}_questions.orig.json"

    @property
    def source(self) -> Path:
        """The questions as downloaded, wherever they lie."""
        return self.original if self.original.exists() else self.questions

    @property
    def has_golds(self) -> bool:
        """The benchmark publishes none for test."""
        return self.part != "test"

    def rows(self) -> Iterator[tuple[Json, Example]]:
        """The questions as downloaded, one by one and validated."""
        reader = QuestionReader(RaiseFaults(str(self.source)), fields=("text",))
        for row in read_objects(self.source):
            example = reader.question(row)
            assert example is not None, "RaiseFaults does not return from faults"
            yield row, example

    def names(self) -> set[str] | None:
        """The names of all mails that the part refers to; None if it holds the mails themselves.

        The inputs decide which it is, by majority: a whole mail may be one word with a digit.
        """
        names: set[str | None] = set()
        questions = named = 0
        fault: str | None = None
        for _, example in self.rows():
            questions += 1
            texts = [example.input, *(item.fields["text"] for item in example.profile)]
            of_question = list(map(mail_name, texts))
            if of_question[0] is not None:
                named += 1
                names.update(of_question)
            if None in of_question and fault is None:
                fault = f"question {questions} (id {example.id!r}) refers to what is no mail's name"
        if named * 2 > questions and fault is None:
            return {name for name in names if name is not None}
        if named * 2 > questions or self.source == self.original or not questions:
            fault = fault or "there are no questions"
            raise InputError(f"{self.source}: {fault}: download it again")
        return None

    def keep_originals(self) -> None:
        """Copies the downloaded files once, the questions last: then the copy is complete."""
        if not self.original.exists():
            if self.outputs.exists():
                _copy(self.outputs, self.folder / f"{self.part}_outputs.orig.json")
            _copy(self.questions, self.original)


def find_parts(data_dir: Path, splits: Sequence[str], parts: Sequence[str]) -> list[PartFiles]:
    """The parts that are there, of those named or of all; each one named must be there."""
    wanted = [
        PartFiles(split, part, part_folder(data_dir, split, TASK, part))
        for split in SPLITS
        for part in PARTS
        if split in (splits or SPLITS) and part in (parts or PARTS)
    ]
    found = [files for files in wanted if files.source.is_file()]
    missing = set(splits) - {files.split for files in found}
    missing |= set(parts) - {files.part for files in found}
    if missing or not found:
        raise InputError(
            f"no questions of {' '.join([TASK, *sorted(missing)])} below {data_dir}: it must hold "
            f"[time/]{TASK}/{{train,dev,test}}/ as `python -m lamp_exp.data download` leaves them"
        )
    return found


def mail_name(text: str) -> str | None:
    """The name of the mail that an input or an item refers to, without folders."""
    words = text.removeprefix(INSTRUCTION).strip()
    if len(words) > LONGEST_NAME or not NAME.fullmatch(words):
        return None
    return words.rpartition("/")[2] or None


class _IncompleteError(Exception):
    """A part must not be replaced."""


class Completion:
    """The completion of one part; `drop` leaves out what is missing, else it is not written."""

    def __init__(self, part: PartFiles, corpus: Corpus, drop: bool) -> None:
        self.part = part
        self.corpus = corpus
        self.drop = drop
        self.complete = False
        self.missing: dict[str, str] = {}
        self.golds: list[Json] = []
        self.counts: Counter[str] = Counter()

    def write(self) -> bool:
        """Replaces the part's files if they can be complete; returns whether."""
        questions, outputs = self.part.questions, self.part.outputs
        remove_leftovers(questions)
        remove_leftovers(outputs)
        try:
            with replacing(questions) as file:
                file.writelines(piece.encode() for piece in json_list(self.rows()))
                if not self.counts["question"] or (self.missing and not self.drop):
                    raise _IncompleteError
                self.part.keep_originals()
                if self.part.has_golds:
                    golds = {"task": TASK, "golds": self.golds}
                    write_text(outputs, [json.dumps(golds, ensure_ascii=False)])
        except _IncompleteError:
            return False
        self.complete = True
        return True

    def rows(self) -> Iterator[Json]:
        """The completed questions, without those whose mail is missing."""
        for row, example in self.part.rows():
            pairs = zip(row["profile"], example.profile, strict=True)
            items = [self._item(item, read.fields["text"]) for item, read in pairs]
            found = [item for item in items if item is not None]
            mail = self._question_mail(example)
            if mail is None:
                self.counts["question left out"] += 1
                continue
            self.counts["question"] += 1
            self.counts["item"] += len(found)
            self.counts["item left out"] += len(items) - len(found)
            self.golds.append({"id": row["id"], "output": mail.subject})
            yield {**row, "input": f"{INSTRUCTION} {mail.body}", "profile": found}

    def _question_mail(self, example: Example) -> Mail | None:
        mail = self._find(example.input)
        if mail is not None and self.part.has_golds and not mail.subject:
            name = mail_name(example.input) or ""
            self.missing.setdefault(name, f"no subject, which is the gold of {example.id!r}")
            return None
        return mail

    def _item(self, item: Json, text: str) -> Json | None:
        mail = self._find(text)
        return None if mail is None else {**item, "text": mail.body, "title": mail.subject}

    def _find(self, text: str) -> Mail | None:
        name = mail_name(text) or ""  # names() has checked that it is one
        try:
            return self.corpus.find(name)
        except Missing as error:
            self.missing[name] = str(error)
            return None

    def report(self) -> list[str]:
        """Lines that say what became of the part."""
        lines = []
        if self.missing:
            names = format_ids(sorted(self.missing))
            mails = count_of(len(self.missing), "mail or subject", "mails or subjects")
            lines = [f"{self.part.source}: {mails} missing: {names}"]
        if self.complete:
            counts = ", ".join(
                count_of(self.counts[what], what, words)
                for what, words in COUNTED.items()
                if self.counts[what]
            )
            return [*lines, f"{self.part.questions}: completed: {counts}"]
        why = "nothing would be left" if self.drop else "--drop-missing would leave out"
        why += "" if self.drop else f" {self.counts['question left out']} of its questions"
        return [*lines, f"{self.part.questions}: not completed ({why})"]


def _copy(path: Path, to: Path) -> None:
    with path.open("rb") as source, replacing(to) as file:
        shutil.copyfileobj(source, file)
