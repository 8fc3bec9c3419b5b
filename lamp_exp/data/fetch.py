"""Downloads files over HTTP, completely or not at all, and resumes downloads.

A file grows under a `.part` name beside its final one. It gets its final name only when its size
is right and its content has been read to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import httpx2

from lamp_exp.data.completeness import check_complete, is_complete
from lamp_exp.data.partial import Origin, Partial
from lamp_exp.data.retry import Interrupted, Patience, Refused, seconds_asked
from lamp_exp.data.stream import Broken
from lamp_exp.progress import announce, as_bytes, progress_of_bytes
from lamp_exp.storage.locks import exclusive

T = TypeVar("T")
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file by its path, the same below the mirror as below the data folder.

    `optional` ones may be missing on the server; `changes` says that another command rewrites
    the file once it is here.
    """

    path: str
    optional: bool = False
    changes: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file: `state` is `downloaded`, `was there`, `not offered` or `failed`."""

    path: str
    state: str
    note: str = ""


class Fetcher:
    """Brings files from one mirror to one folder, politely."""

    def __init__(
        self, client: httpx2.Client, mirror: str, data_dir: Path, patience: Patience, force: bool
    ) -> None:
        self.client = client
        self.mirror = mirror
        self.data_dir = data_dir
        self.patience = patience
        self.force = force
        self.answered = self._gave_up = False  # the server ever; we, on a file, before it did

    def bring(self, wanted: Wanted) -> Outcome:
        """Never raises for what is wrong with one file: the others may be fine.

        If all tries for one file get no answer, each further file is tried once, until the server
        answers.
        """
        final = self.data_dir / wanted.path
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(final, waiting=announce):
                return self._bring(wanted, final)
        except Refused as error:
            state = "not offered" if error.missing and wanted.optional else "failed"
            return Outcome(wanted.path, state, str(error))
        except OSError as error:  # of the disk: those of the network come as Interrupted
            return Outcome(wanted.path, "failed", str(error))

    def _bring(self, wanted: Wanted, final: Path) -> Outcome:
        partial = Partial(final, f"{self.mirror}/{wanted.path}")
        if final.is_file() and not self.force:
            note = self._why_it_will_do(wanted, final, partial.address)
            if note is not None:
                partial.discard()
                return Outcome(wanted.path, "was there", note)
        self._until_done(wanted.path, lambda: self._attempt(partial, final), lambda: partial.size)
        size = as_bytes(final.stat().st_size)
        return Outcome(wanted.path, "downloaded", size)

    def _why_it_will_do(self, wanted: Wanted, final: Path, address: str) -> str | None:
        """A note for the report, often empty; None if the file there must be replaced."""
        try:
            total = self._until_done(wanted.path, lambda: self._length(address))
        except Refused as error:
            return f"not compared with the server ({error})" if is_complete(final) else None
        if total == final.stat().st_size:
            return ""
        if wanted.changes and is_complete(final):  # hours of the user's work may be in it
            return "kept, though it differs from the server's; --force downloads it again"
        return None

    def _until_done(
        self, what: str, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0
    ) -> T:
        once = self._gave_up and not self.answered
        patience = replace(self.patience, retries=0) if once else self.patience
        try:
            return patience.until_done(what, attempt, progress)
        except Refused:
            self._gave_up = True
            raise

    def _length(self, address: str) -> int:
        with self._answer("HEAD", address, {}) as response:
            _refuse_status(response)
            return Origin.of(address, response).total

    def _attempt(self, partial: Partial, final: Path) -> None:
        """One request for what is missing; a file that is whole then gets its name."""
        origin = partial.origin()
        if origin is None or partial.size < origin.total:
            self._receive(partial, origin)
        try:
            check_complete(partial.file)
        except Broken as error:
            resumed = partial.resumed
            partial.discard()
            if resumed:  # the joint may be to blame, and a fresh copy good
                raise Interrupted(f"broken after it was continued: {error}") from error
            raise Refused(f"broken as it came from the server: {error}") from error
        partial.finish(final)

    def _receive(self, partial: Partial, origin: Origin | None) -> None:
        headers, offset = {}, 0
        if origin is not None and origin.validator is not None:
            offset = partial.size
            headers = {"Range": f"bytes={offset}-", "If-Range": origin.validator}
        with self._answer("GET", partial.address, headers) as response:
            if origin is not None and response.status_code in (206, 416):
                if not origin.continued_by(response, offset):
                    partial.discard()
                    raise Interrupted("the server has another file than before: it is begun anew")
                partial.resumed = True
            else:
                _refuse_status(response)
                origin = Origin.of(partial.address, response)
                partial.start(origin)
            _write(response, partial, origin.total)

    @contextmanager
    def _answer(
        self, method: str, address: str, headers: dict[str, str]
    ) -> Iterator[httpx2.Response]:
        """The answer while its body is still to come; the network's errors come as ours."""
        try:
            with self.client.stream(method, address, headers=headers) as response:
                self.answered = True
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise Refused("the server sends it compressed, so its length says nothing")
                yield response
        except httpx2.TransportError as error:
            raise Interrupted(_words(error)) from error
        except httpx2.RequestError as error:
            raise Refused(_words(error)) from error


def _write(response: httpx2.Response, partial: Partial, total: int) -> None:
    """Appends the body as it comes, so that what has come survives whatever happens next."""
    bar = progress_of_bytes(partial.file.stem, total, partial.size)
    with bar as advance, partial.file.open("ab") as file:
        for chunk in response.iter_raw():
            file.write(chunk)
            file.flush()
            advance(len(chunk))
            if partial.size > total:
                break  # it need not ever end
    if partial.size > total:
        partial.discard()
        raise Interrupted(f"more came than the {total} bytes that the server told")
    if partial.size < total:
        raise Interrupted(f"broke off at {partial.size} of {total} bytes")


def _refuse_status(response: httpx2.Response) -> None:
    """Only a whole file will do."""
    status = response.status_code
    if status in TRY_AGAIN:
        after = seconds_asked(response.headers.get("Retry-After", ""))
        raise Interrupted(f"the server answered {status}", after)
    if status != 200:
        raise Refused(f"the server answered {status} at {response.url}", missing=status == 404)


def _words(error: httpx2.RequestError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
