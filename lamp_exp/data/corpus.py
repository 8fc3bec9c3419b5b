"""The mails of the Avocado corpus (LDC2015T03), read from its zips; nothing is unpacked."""

from __future__ import annotations

import re
import sqlite3
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamp_exp.data.mail import UNREADABLE_MAIL, Mail, read_mail
from lamp_exp.data.official import format_ids
from lamp_exp.errors import InputError
from lamp_exp.progress import progress
from lamp_exp.wording import count_of

Kind = tuple[str, str]  # of fault: for one, for several
SHOWN = 5  # places named of each kind of fault
EXTENSION = re.compile(r"\.[A-Za-z]\w{0,4}$", re.ASCII)
ZIPS = (  # where they may lie below the folder given, the surest place first
    "*/avocado-*/data/text",
    "avocado-*/data/text",
    "data/text",
    "text",
    ".",
)


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
        self.faults: Counter[Kind] = Counter()
        self.places: dict[Kind, list[str]] = {}
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
        self.database.close()

    def read(self, zips: Sequence[Path]) -> None:
        """Reads what is wanted from each zip; what cannot be read is counted and named."""
        for path in progress(zips, len(zips), "read Avocado"):
            self.zips += 1
            try:
                with zipfile.ZipFile(path) as archive:
                    for info in archive.infolist():
                        self._read_member(archive, info, path.name)
            except UNREADABLE_ZIP as error:
                kind = "zip that cannot be read", "zips that cannot be read"
                self._fault(kind, f"{path.name} ({error})")

    def find(self, name: str) -> Mail:
        """The one mail of that name; with an extension, rather the one that has it, too."""
        query = "SELECT base, subject, body, zip FROM mail WHERE stem = ?"
        rows = self.database.execute(query, (stem(name),)).fetchall()
        rows = [row for row in rows if row[0] == name] or rows
        mails = {Mail(subject, body) for _, subject, body, _ in rows}
        if len(mails) > 1:
            zips = format_ids(sorted({row[3] for row in rows}))
            raise Missing(f"ambiguous: {len(mails)} different mails of that name in {zips}")
        if not mails:
            raise Missing(self.reasons.get(stem(name), "not in any zip"))
        return mails.pop()

    def report(self) -> list[str]:
        """What was read, and one line for each kind of fault."""
        distinct, count = self.database.execute(
            "SELECT count(DISTINCT stem), count(*) FROM mail"
        ).fetchone()
        wanted, zips = count_of(len(self.wanted), "mail"), count_of(self.zips, "zip")
        lines = [f"{distinct} of {wanted} found in {zips}"]
        told = [f"{count} {what}" for what, count in sorted(self.counts.items())]
        copies = count_of(count - distinct, "more copy", "more copies")
        told += [copies] if count > distinct else []
        lines += [f"of these: {', '.join(told)}"] if told else []
        for kind, number in sorted(self.faults.items()):
            first = ", ".join(map(repr, self.places[kind]))
            lines.append(f"{count_of(number, *kind)}: {first}{', …' if number > SHOWN else ''}")
        return lines

    def _read_member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, zip: str) -> None:
        base = info.filename.replace("\\", "/").rpartition("/")[2]
        place = f"{zip}: {info.filename}"
        if is_trick(info):
            kind = "member refused for its path", "members refused for their path"
            return self._fault(kind, place, stem(base))
        if stem(base) not in self.wanted or info.is_dir():
            return None
        refused = self._why_refused(info)
        if refused is not None:
            return self._fault(refused, place, stem(base))
        try:
            with archive.open(info) as file:
                content = file.read(self.limits.mail + 1)
        except UNREADABLE_ZIP as error:
            kind = "member that cannot be read", "members that cannot be read"
            return self._fault(kind, f"{place} ({error})", stem(base))
        self.bytes += len(content)
        if len(content) != info.file_size:  # whatever the zip declares
            return self._fault(_members("of another size than declared"), place, stem(base))
        return self._keep(content, base, zip, place)

    def _why_refused(self, info: zipfile.ZipInfo) -> Kind | None:
        """The kind of fault that a member's entry in the zip's directory shows."""
        limits = self.limits
        if info.flag_bits & 0x1:
            return "encrypted member", "encrypted members"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return _members("compressed by an unknown method")
        if info.file_size > limits.mail:
            return _members(f"larger than {limits.mail} bytes")
        if info.file_size >= max(limits.ratio_from, limits.ratio * info.compress_size):
            return _members(f"over {limits.ratio} times larger than compressed")
        if self.bytes + info.file_size > limits.total:
            return _members(f"beyond {limits.total} bytes in all")
        return None

    def _keep(self, content: bytes, base: str, zip: str, place: str) -> None:
        try:
            mail, notes = read_mail(content)
        except UNREADABLE_MAIL as error:
            kind = "mail that cannot be read", "mails that cannot be read"
            return self._fault(kind, f"{place} ({type(error).__name__}: {error})", stem(base))
        self.counts.update(notes)
        row = (stem(base), base, zip, mail.subject, mail.body)
        self.database.execute("INSERT INTO mail VALUES (?, ?, ?, ?, ?)", row)
        return None

    def _fault(self, kind: Kind, place: str, stem: str | None = None) -> None:
        self.faults[kind] += 1
        places = self.places.setdefault(kind, [])
        if len(places) < SHOWN:
            places.append(place)
        if stem in self.wanted:
            self.reasons.setdefault(stem, f"{kind[0]}: {place!r}")


def _members(what: str) -> Kind:
    return f"member {what}", f"members {what}"


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
