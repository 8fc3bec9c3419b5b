"""`python -m lamp_exp.data avocado`: LaMP-6 completed from the Avocado corpus (LDC2015T03).

LaMP-6 as downloaded holds only the names of mails. Each is replaced by its mail's body, and the
mail's subject becomes the item's `title` or the question's gold; as in the benchmark, the parts
called test get no golds. The downloaded files are kept as `*.orig.json` beside the completed
ones, and it is they that are read when the command is repeated (remove them after downloading
another version).

Mails go from the zips through a temporary database; nothing is unpacked. A part is replaced only
when it is whole: if a mail that it refers to is missing, or the subject of a question's own mail,
the part stays as it is and the exit code is 1, unless `--drop-missing` leaves those questions and
items out. A mail is missing, too, if it cannot be read, or if several different ones bear its
name. `missing_mails.txt` in the folder `LaMP_6` then lists them with the reasons, as of the last
run. Items without a subject and mails without a text stay, and are counted.
"""

from __future__ import annotations

import argparse
import codecs
import json
import os
import re
import shutil
import sqlite3
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.policy import EmailPolicy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lamp_exp.data.options import PARTS, SPLITS
from lamp_exp.data.parse import is_id, some
from lamp_exp.data.stream import Hashing, read_objects
from lamp_exp.files import json_list
from lamp_exp.types import InputError, Task

Json = Mapping[str, Any]

TASK = "LaMP_6"
INSTRUCTION = "Generate a subject for the following email:"  # as lamp_exp.tasks.lamp6 has it
MISSING = "missing_mails.txt"
# One word with a digit, such as 026-003413-EM.txt; possibly below a folder.
NAME = re.compile(r"[\w./-]*\d[\w./-]*", re.ASCII)
LONGEST_NAME = 200
SHOWN = 5  # places named of each kind of fault
EXTENSION = re.compile(r"\.[A-Za-z]\w{0,4}$", re.ASCII)
ZIPS = (  # where they may lie below the folder given, the surest place first
    "*/avocado-*/data/text",
    "avocado-*/data/text",
    "data/text",
    "text",
    ".",
)


# --- the command ---


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where both halves lie, which parts to complete, and what to do without a mail."""
    add = parser.add_argument
    add("--avocado", type=Path, required=True, metavar="DIR", help="the LDC2015T03 folder")
    add("--data-dir", type=Path, required=True, metavar="DIR", help="where LaMP_6 was downloaded")
    add("--split", action="append", choices=SPLITS, help="repeatable; default: all there")
    add("--part", action="append", choices=PARTS, help="repeatable; default: all there")
    dropped = "leave out questions and items whose mail is missing, and count them"
    add("--drop-missing", action="store_true", help=dropped)


def run(options: argparse.Namespace, _tasks: Mapping[str, Task] | None = None) -> int:
    """Completes all parts asked for; 0 if each of them is whole in the end."""
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
        whole = [work.write() for work in tqdm(works, "complete LaMP_6", disable=None)]
    for work in works:
        print("\n".join(work.report()))
    list_missing(works)
    return 0 if all(whole) else 1


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
            (folder / MISSING).write_text("".join(lines), encoding="utf-8")
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
        """The golds."""
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

    def rows(self) -> Iterator[Json]:
        """The questions as downloaded, one by one; InputError for what is none."""
        for number, row in enumerate(read_objects(self.source, Hashing(self.source)), 1):
            place = f"{self.source}: question {number}"
            if not is_id(row.get("id")):
                raise InputError(f"{place}: its `id` must be text or a whole number")
            _need_text(row, "input", place)
            if not isinstance(row.get("profile"), list):
                raise InputError(f"{place}: its `profile` must be a list of items")
            for item_number, item in enumerate(row["profile"], 1):
                _need_text(item, "text", f"{place}: profile item {item_number}")
            yield row

    def names(self) -> set[str] | None:
        """All mails that it refers to; None if it holds the mails themselves.

        The inputs decide which it is, by majority: a whole mail may be one word with a digit.
        """
        names: set[str] = set()
        questions = named = 0
        fault: str | None = None
        for row in self.rows():
            questions += 1
            found = [mail_name(row["input"]), *(mail_name(item["text"]) for item in row["profile"])]
            if found[0] is not None:
                named += 1
                names |= set(filter(None, found))
            if None in found and fault is None:
                fault = f"question {questions} (id {row['id']!r}) refers to what is no mail's name"
        if named * 2 > questions and fault is None:
            return names
        if named * 2 > questions or self.source == self.original or not questions:
            fault = fault or "there are no questions"
            raise InputError(f"{self.source}: {fault}: download it again")
        return None

    def keep_originals(self) -> None:
        """Copies what was downloaded, once; the questions last, since they tell that it is done."""
        if not self.original.exists():
            if self.outputs.exists():
                _copy(self.outputs, self.folder / f"{self.part}_outputs.orig.json")
            _copy(self.questions, self.original)


def find_parts(data_dir: Path, splits: Sequence[str], parts: Sequence[str]) -> list[PartFiles]:
    """The parts that are there, of those named or of all; each one named must be there."""
    found = [
        PartFiles(split, part, data_dir / ("time" if split == "time" else "") / TASK / part)
        for split in SPLITS
        for part in PARTS
        if split in (splits or SPLITS) and part in (parts or PARTS)
    ]
    there = [files for files in found if files.source.is_file()]
    lacking = set(splits) - {files.split for files in there}
    lacking |= set(parts) - {files.part for files in there}
    if lacking or not there:
        raise InputError(
            f"no questions of {' '.join([TASK, *sorted(lacking)])} below {data_dir}: it must hold "
            f"[time/]{TASK}/{{train,dev,test}}/ as `python -m lamp_exp.data download` leaves them"
        )
    return there


def mail_name(text: str) -> str | None:
    """The name of the mail that an input or an item refers to, without folders."""
    words = text.removeprefix(INSTRUCTION).strip()
    if len(words) > LONGEST_NAME or not NAME.fullmatch(words):
        return None
    return words.rpartition("/")[2] or None


def _need_text(row: object, name: str, place: str) -> None:
    if not isinstance(row, dict) or not isinstance(row.get(name), str):
        raise InputError(f"{place} must be a JSON object with a text `{name}`")


class Completion:
    """One part on its way from names to mails."""

    def __init__(self, part: PartFiles, corpus: Corpus, drop: bool) -> None:
        """`drop` leaves out what is missing; else the part is then not written."""
        self.part = part
        self.corpus = corpus
        self.drop = drop
        self.whole = False
        self.missing: dict[str, str] = {}
        self.golds: list[Json] = []
        self.counts: Counter[str] = Counter()

    def write(self) -> bool:
        """Replaces the part's files, if they can be whole; says whether."""
        with _beside(self.part.questions) as questions, _beside(self.part.outputs) as outputs:
            _write(questions, json_list(self.rows()))
            if not self.counts["questions"] or (self.missing and not self.drop):
                return False
            _write(outputs, [json.dumps({"task": TASK, "golds": self.golds}, ensure_ascii=False)])
            self.part.keep_originals()
            if self.part.has_golds:
                os.replace(outputs, self.part.outputs)
            os.replace(questions, self.part.questions)
        self.whole = True
        return True

    def rows(self) -> Iterator[Json]:
        """The completed questions, without those that cannot be."""
        for row in self.part.rows():
            items = [item for item in map(self._item, row["profile"]) if item is not None]
            mail = self._question_mail(row)
            if mail is None:
                self.counts["questions left out"] += 1
                continue
            self.counts["questions"] += 1
            self.counts["items"] += len(items)
            self.counts["items left out"] += len(row["profile"]) - len(items)
            self.golds.append({"id": row["id"], "output": mail.subject})
            yield {**row, "input": f"{INSTRUCTION} {mail.body}", "profile": items}

    def _question_mail(self, row: Json) -> Mail | None:
        mail = self._find(row["input"])
        if mail is not None and self.part.has_golds and not mail.subject:
            name = mail_name(row["input"]) or ""
            self.missing.setdefault(name, f"no subject, which is the gold of {row['id']!r}")
            return None
        return mail

    def _item(self, item: Json) -> Json | None:
        mail = self._find(item["text"])
        return None if mail is None else {**item, "text": mail.body, "title": mail.subject}

    def _find(self, text: str) -> Mail | None:
        name = mail_name(text) or ""  # which names() has made sure of
        try:
            return self.corpus.find(name)
        except Missing as error:
            self.missing[name] = str(error)
            return None

    def report(self) -> list[str]:
        """What became of it."""
        lines = []
        if self.missing:
            names = some(sorted(self.missing))
            lines = [f"{self.part.source}: {len(self.missing)} mails or subjects missing: {names}"]
        if self.whole:
            counts = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count)
            return [*lines, f"{self.part.questions}: completed: {counts}"]
        why = "nothing would be left" if self.drop else "--drop-missing would leave out"
        why += "" if self.drop else f" {self.counts['questions left out']} of its questions"
        return [*lines, f"{self.part.questions}: not completed ({why})"]


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place for what will replace `path`; what is still there afterwards is removed."""
    for left in path.parent.glob(f".{path.name}.making-*"):  # by a run that was killed
        left.unlink()
    made = path.with_name(f".{path.name}.making-{os.getpid()}")
    try:
        yield made
    finally:
        made.unlink(missing_ok=True)


def _write(path: Path, pieces: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _copy(path: Path, to: Path) -> None:
    with _beside(to) as made:
        shutil.copy2(path, made)
        os.replace(made, to)


# --- the corpus ---


class Missing(Exception):
    """No such mail, or none that can be used; says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is beyond them is no mail of the corpus but an accident or an attack.

    Bytes of one mail, bytes of all mails together, and how many times larger than compressed a
    mail of at least `ratio_from` bytes may be.
    """

    mail: int = 20 * 2**20
    total: int = 8 * 2**30
    ratio: int = 200
    ratio_from: int = 2**20


UNREADABLE_ZIP = (  # what zipfile raises for broken files, encryption and unknown methods
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError,
)  # fmt: skip


class Corpus:
    """The mails wanted, found once by name in all zips, and kept apart until they are used.

    `counts` tells what was read; `places` the first few places of each kind of fault.
    """

    def __init__(self, wanted: Iterable[str], limits: Limits | None = None) -> None:
        """`wanted` are names with or without extension."""
        self.wanted = {stem(name) for name in wanted}
        self.limits = limits or Limits()
        self.bytes = 0
        self.zips = 0
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}
        self.reasons: dict[str, str] = {}  # by stem: why a mail could not be used
        # Without a name, SQLite keeps it in memory as far as it is small, and else in a file
        # that is gone with the process: the corpus is licensed, and must not be left behind.
        self.database = sqlite3.connect("")
        self.database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE mail (stem TEXT, base TEXT, zip TEXT, subject TEXT, body TEXT);"
            "CREATE INDEX by_stem ON mail (stem);"
        )

    def close(self) -> None:
        """Forgets all mails."""
        self.database.close()

    def read(self, zips: Iterable[Path]) -> None:
        """Reads what is wanted from each zip; what cannot be read is counted and named."""
        for path in tqdm(list(zips), "read Avocado", disable=None):
            self.zips += 1
            try:
                with zipfile.ZipFile(path) as archive:
                    for info in archive.infolist():
                        self._read_member(archive, info, path.name)
            except UNREADABLE_ZIP as error:
                self._fault("zips that cannot be read", f"{path.name} ({error})")

    def find(self, name: str) -> Mail:
        """The one mail of that name; with an extension, rather the one that has it, too."""
        query = "SELECT base, subject, body, zip FROM mail WHERE stem = ?"
        rows = self.database.execute(query, (stem(name),)).fetchall()
        rows = [row for row in rows if row[0] == name] or rows
        mails = {Mail(subject, body) for _, subject, body, _ in rows}
        if len(mails) > 1:
            zips = some(sorted({row[3] for row in rows}))
            raise Missing(f"ambiguous: {len(mails)} different mails of that name in {zips}")
        if not mails:
            raise Missing(self.reasons.get(stem(name), "not in any zip"))
        return mails.pop()

    def report(self) -> list[str]:
        """What was read, and one line for each kind of fault."""
        distinct, count = self.database.execute(
            "SELECT count(DISTINCT stem), count(*) FROM mail"
        ).fetchone()
        lines = [f"{distinct} of {len(self.wanted)} mails found in {self.zips} zips"]
        told = [f"{count} {what}" for what, count in sorted(self.counts.items())]
        told += [f"{count - distinct} more copies"] if count > distinct else []
        lines += [f"of these: {', '.join(told)}"] if told else []
        for kind, number in sorted(self.faults.items()):
            first = ", ".join(map(repr, self.places[kind]))
            lines.append(f"{number} {kind}: {first}{', …' if number > SHOWN else ''}")
        return lines

    def _read_member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, zip: str) -> None:
        base = info.filename.replace("\\", "/").rpartition("/")[2]
        place = f"{zip}: {info.filename}"
        if is_trick(info):
            return self._fault("members refused for their path", place, stem(base))
        if stem(base) not in self.wanted or info.is_dir():
            return None
        refused = self._why_refused(info)
        if refused is not None:
            return self._fault(refused, place, stem(base))
        try:
            with archive.open(info) as file:
                content = file.read(self.limits.mail + 1)
        except UNREADABLE_ZIP as error:
            return self._fault("members that cannot be read", f"{place} ({error})", stem(base))
        self.bytes += len(content)
        if len(content) != info.file_size:  # whatever the zip declares
            return self._fault("members of another size than declared", place, stem(base))
        return self._keep(content, base, zip, place)

    def _why_refused(self, info: zipfile.ZipInfo) -> str | None:
        """The kind of fault that a member's entry in the zip's directory shows."""
        limits = self.limits
        if info.flag_bits & 0x1:
            return "encrypted members"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return "members compressed by an unknown method"
        if info.file_size > limits.mail:
            return f"members larger than {limits.mail} bytes"
        if info.file_size >= max(limits.ratio_from, limits.ratio * info.compress_size):
            return f"members over {limits.ratio} times larger than compressed"
        if self.bytes + info.file_size > limits.total:
            return f"members beyond {limits.total} bytes in all"
        return None

    def _keep(self, content: bytes, base: str, zip: str, place: str) -> None:
        try:
            mail, notes = read_mail(content)
        except UNREADABLE_MAIL as error:
            kind = "mails that cannot be read"
            return self._fault(kind, f"{place} ({type(error).__name__}: {error})", stem(base))
        self.counts.update(notes)
        row = (stem(base), base, zip, mail.subject, mail.body)
        self.database.execute("INSERT INTO mail VALUES (?, ?, ?, ?, ?)", row)
        return None

    def _fault(self, kind: str, place: str, stem: str | None = None) -> None:
        self.faults[kind] += 1
        places = self.places.setdefault(kind, [])
        if len(places) < SHOWN:
            places.append(place)
        if stem in self.wanted:
            self.reasons.setdefault(stem, f"{kind}: {place!r}")


def find_zips(avocado: Path) -> list[Path]:
    """The zips of the corpus below its folder, or in its folder `text`, in order of their names."""
    for folder in ZIPS:
        found = [path for path in avocado.glob(f"{folder}/*") if path.suffix.lower() == ".zip"]
        if found:
            return sorted(filter(Path.is_file, found))
    raise InputError(
        f"no zips in {avocado}: --avocado must be the folder of LDC2015T03, which holds "
        "avocado-1.0.2/data/text/*.zip"
    )


def stem(name: str) -> str:
    """A mail's name without its extension."""
    return EXTENSION.sub("", name)


def is_trick(info: zipfile.ZipInfo) -> bool:
    """Whether an entry is one that no honest zip of mails holds: nothing is unpacked, but still."""
    name = info.orig_filename.replace("\\", "/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    return (
        name.startswith("/")
        or re.match(r"[A-Za-z]:", name) is not None
        or ".." in name.split("/")
        or "\0" in name
        or kind not in (0, stat.S_IFREG, stat.S_IFDIR)  # a symbolic link, a device
    )


# --- a mail ---


@dataclass(frozen=True, slots=True)
class Mail:
    """What LaMP-6 takes of a mail; either may be empty."""

    subject: str
    body: str


UNREADABLE_MAIL = (  # what email raises for broken mails; RecursionError is a RuntimeError
    ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError,
)  # fmt: skip
LONGEST_HEADER = 10_000  # characters; email takes quadratic time for some
DROPPED = {"script", "style", "title"}
LINES = {  # tags that begin and end a line
    "address", "blockquote", "br", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6",
    "hr", "li", "ol", "p", "pre", "table", "tr", "ul",
}  # fmt: skip
NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"}


def read_mail(content: bytes) -> tuple[Mail, list[str]]:
    """A mail's subject on one line and its stripped text, and what was odd about them."""
    content = content.removeprefix(codecs.BOM_UTF8)
    message = message_from_bytes(content, policy=Headers())
    reader = MailText()
    body = reader.text(message).strip()
    subject = _sound(" ".join(str(message["subject"] or "").split()))
    raw = next((value for name, value in message.raw_items() if name.lower() == "subject"), "")
    odd = {
        "with a wrong, unknown or missing charset": reader.guessed
        or not raw.isascii()
        or "\ufffd" in subject,
        "in HTML only": reader.html and not reader.plain,
        "without a subject": not subject,
        "without a text": not body,
    }
    return Mail(subject, body), [what for what, is_so in odd.items() if is_so]


class Headers(EmailPolicy):
    """Python's default policy, with a limit, and 8-bit headers guessed instead of replaced."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """`value` has bytes beyond ASCII as lone surrogates."""
        if len(value) > LONGEST_HEADER:
            raise ValueError(f"its header {name} has {len(value)} characters")
        if not value.isascii():
            value = decoded(value.encode("utf-8", "surrogateescape"), None)[0]
        return super().header_fetch_parse(name, value)


class MailText:
    """The text of a mail's parts, plain where there is a choice; attachments are passed over."""

    def __init__(self) -> None:
        """The flags tell what has been met."""
        self.guessed = self.html = self.plain = False

    def text(self, part: Message[Any, Any], root: bool = True) -> str:
        """Of one part and those in it."""
        kind = part.get_content_type()
        if not root and (part.get_content_disposition() == "attachment" or part.get_filename()):
            return ""
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            parts = [inner for inner in part.get_payload() if isinstance(inner, Message)]
            return self._of_parts(parts, kind == "multipart/alternative")
        if kind == "text/html":
            self.html = True
            return html_text(self._decoded(part))
        if kind == "text/plain" or part.get_content_maintype() == "multipart":  # a broken one
            self.plain = True
            return self._decoded(part)
        return ""

    def _of_parts(self, parts: Sequence[Message[Any, Any]], alternative: bool) -> str:
        if not alternative:
            texts = [self.text(part, root=False).strip() for part in parts]
            return "\n".join(filter(None, texts))
        for part in sorted(parts, key=lambda part: part.get_content_type() != "text/plain"):
            text = self.text(part, root=False)
            if text.strip():
                return text
        return ""

    def _decoded(self, part: Message[Any, Any]) -> str:
        raw = part.get_payload(decode=True)
        assert isinstance(raw, bytes), "only parts without parts are decoded"
        text, right = decoded(raw, part.get_content_charset())
        self.guessed |= not right
        return text


def decoded(raw: bytes, charset: str | None) -> tuple[str, bool]:
    """The text of `raw`, and whether it was what `charset` (or its absence: ASCII) promised.

    Else it is taken for UTF-8, or what is no UTF-8 for Windows-1252, as old mail mostly was.
    """
    promised = charset or "us-ascii"
    for name in (promised, "utf-8"):
        try:
            if codecs.lookup(name).name not in NO_CHARSETS:
                return _sound(raw.decode(name)), name == promised
        except (LookupError, ValueError):
            continue  # the next one is tried, and the caller told
    return _sound(raw.decode("windows-1252", "replace")), False


def _sound(text: str) -> str:
    """With one kind of line ends, and without lone surrogates, which no file can hold."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-8", "replace").decode("utf-8")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.dropping: str | None = None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if self.dropping is None and tag in DROPPED:
            self.dropping = tag
        self._end_line(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == self.dropping:
            self.dropping = None
        self._end_line(tag)

    def handle_data(self, data: str) -> None:
        if self.dropping is None:
            self.pieces.append(re.sub(r"\s+", " ", data))

    def _end_line(self, tag: str) -> None:
        if tag in LINES:
            self.pieces.append("\n")


def html_text(html: str) -> str:
    """What a reader would see, one line for each block."""
    parser = _Text()
    parser.feed(_bare(html))
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.pieces).split("\n"))
    return "\n".join(filter(None, lines))


def _bare(html: str) -> str:
    """Without comments, declarations and attributes, and no `<` that does not open a tag.

    HTMLParser takes quadratic time for broken ones, and gives up at unknown declarations.
    """
    first, *others = html.split("<!--")
    html = first + "".join(other.partition("-->")[2] for other in others)
    html = re.sub(r"<[!?][^<>]*+>", "", html)
    html = re.sub(r"<(/?[A-Za-z][\w:-]*+)(?:[\s/][^<>]*+)?>", r"<\1>", html)
    return re.sub(r"<(?!/?[A-Za-z][\w:-]*+>)", "&lt;", html)
