"""A partly downloaded file, with a note of the server's version of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2  # what huggingface_hub speaks HTTP with

from lamp_exp.data.retry import Refused
from lamp_exp.storage.atomic import flush, write_text


@dataclass(frozen=True, slots=True)
class Origin:
    """Which version of which file on the server a partial file is a part of."""

    address: str
    total: int
    etag: str | None
    last_modified: str | None

    @classmethod
    def of(cls, address: str, response: httpx2.Response) -> Origin:
        """As the answer to a request for the whole file tells."""
        length = response.headers.get("Content-Length")
        if length is None:
            raise Refused("the server tells no length, so nothing shows whether a file is whole")
        etag, modified = (response.headers.get(name) for name in ("ETag", "Last-Modified"))
        return cls(address, int(length), etag, modified)

    @property
    def validator(self) -> str | None:
        """What If-Range takes: a weak ETag does not vouch for every byte."""
        weak = self.etag is None or self.etag.startswith("W/")
        return self.last_modified if weak else self.etag

    def continued_by(self, response: httpx2.Response, offset: int) -> bool:
        """Whether a partial answer is of this version, and goes on at `offset`.

        If-Range should make sure of it, but not every server or cache on the way knows it.
        """
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        return (
            response.status_code == 206
            and told is not None
            and (int(told[1]), int(told[2])) == (offset, self.total)
            and response.headers.get("ETag") == self.etag
            and response.headers.get("Last-Modified", self.last_modified) == self.last_modified
        )


class Partial:
    """A file that is not whole yet, and the note beside it of where it comes from.

    At no moment, whenever the process is killed, does the note describe other bytes than those
    in the file: it goes first and comes before them.
    """

    def __init__(self, final: Path, address: str) -> None:
        self.file = final.with_name(f"{final.name}.part")
        self.note = final.with_name(f"{final.name}.part.origin")
        self.address = address
        self.resumed = self.size > 0  # whether more than one answer went into it

    @property
    def size(self) -> int:
        """In bytes; 0 where there is none."""
        return self.file.stat().st_size if self.file.exists() else 0

    def origin(self) -> Origin | None:
        """None where the bytes that are there, if any, cannot be gone on with."""
        try:
            origin = Origin(**json.loads(self.note.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # no note, or one that was being written when the process was killed
        usable = origin.address == self.address and 0 < self.size <= origin.total
        return origin if usable and origin.validator else None

    def start(self, origin: Origin) -> None:
        """Anew, with nothing."""
        self.discard()
        write_text(self.note, [json.dumps(asdict(origin))])

    def discard(self) -> None:
        """Note first: bytes without a note are not used."""
        self.note.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)
        self.resumed = False

    def finish(self, final: Path) -> None:
        """Gives the whole file its final name, for good."""
        flush(self.file)
        self.file.replace(final)
        flush(final.parent)
        self.discard()
