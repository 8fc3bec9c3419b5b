"""A server on the loopback that does everything wrong on demand, and the command against it."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lamp_exp.data import download
from lamp_exp.tasks import all_tasks
from lamp_exp.values import SampleText

TASKS = all_tasks()
DEV = "LaMP_3/dev/dev_questions.json"
GOLDS = "LaMP_3/dev/dev_outputs.json"
MODIFIED = "Tue, 04 Feb 2025 10:00:00 GMT"
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@dataclass(frozen=True)
class Trick:
    """What the server does to one GET; without anything set, it is honest."""

    status: int | None = None
    retry_after: str | None = None
    body: bytes | None = None  # instead of the file's
    stop: int | None = None  # breaks off after so many bytes
    lie: int = 0  # added to Content-Length
    deaf: bool = False  # to Range
    blind: bool = False  # to If-Range
    mute: bool = False  # tells no length
    short: int | None = None  # so many bytes of the range asked for, which is allowed
    hang: bool = False
    pause: float = 0.0  # seconds between two small pieces


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    range: str | None
    if_range: str | None
    agent: str | None


class Server(ThreadingHTTPServer):
    """Serves `files`; each GET takes the next of `tricks`, then `usual`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.tricks: list[Trick] = []
        self.usual = Trick()
        self.head_status = 200
        self.asked: list[Asked] = []
        self.sent = 0
        self.etag: Callable[[bytes], str | None] = lambda body: (
            f'"{hashlib.sha256(body).hexdigest()[:12]}"'
        )
        self.modified: str | None = MODIFIED
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/LaMP"

    def gets(self, path: str = DEV) -> list[Asked]:
        return [a for a in self.asked if a.method == "GET" and a.path == path]

    def handle_error(self, request, client_address) -> None:
        """A client that is killed closes its connection: nothing to tell."""
        assert isinstance(sys.exc_info()[1], ConnectionError)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_) -> None:
        """Silent."""

    def _note(self) -> str:
        path = self.path.removeprefix("/LaMP/")
        get = self.headers.get
        self.server.asked.append(
            Asked(self.command, path, get("Range"), get("If-Range"), get("User-Agent"))
        )
        return path

    def _headers(self, status: int, body: bytes, length: int | None, **more: str | None) -> None:
        self.send_response(status)
        told = {"ETag": self.server.etag(body), "Last-Modified": self.server.modified, **more}
        told["Content-Length"] = None if length is None else str(length)
        for name, value in told.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_HEAD(self) -> None:
        body = self.server.files.get(self._note())
        status = 404 if body is None else self.server.head_status
        self._headers(status, body or b"", len(body or b""))

    def do_GET(self) -> None:
        whole = self.server.files.get(self._note())
        trick = self.server.tricks.pop(0) if self.server.tricks else self.server.usual
        if trick.hang:
            self.server.closing.wait(20)
            self.close_connection = True
            return
        status = trick.status or (404 if whole is None and trick.body is None else 200)
        if status >= 400:
            self._headers(status, b"", 0, Retry_After=trick.retry_after)
            return
        self._send(whole if trick.body is None else trick.body, status, trick)

    def _send(self, whole: bytes, status: int, trick: Trick) -> None:
        start, end, ranges = self._start(whole, trick), len(whole), {}
        if start is not None:
            if start >= len(whole):
                self._headers(416, whole, 0, Content_Range=f"bytes */{len(whole)}")
                return
            end = min(start + (trick.short or len(whole)), len(whole))
            ranges = {"Content_Range": f"bytes {start}-{end - 1}/{len(whole)}"}
        body = whole[start or 0 : end]
        status = status if start is None else 206
        self._headers(status, whole, None if trick.mute else len(body) + trick.lie, **ranges)
        body = body[: trick.stop]
        size = 2000 if trick.pause else 2**20
        for at in range(0, len(body), size):
            self.wfile.write(body[at : at + size])
            self.server.sent += len(body[at : at + size])
            self.server.closing.wait(trick.pause)
        odd = trick.stop is not None or trick.lie or trick.mute
        self.close_connection = self.close_connection or bool(odd)

    def _start(self, whole: bytes, trick: Trick) -> int | None:
        """Where to go on; None for the whole."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted is None or trick.deaf:
            return None
        mine = (self.server.etag(whole), self.server.modified)
        same = self.headers.get("If-Range") in mine
        return int(wanted[1]) if same or trick.blind else None


@contextmanager
def serving() -> Iterator[Server]:
    """A server that has one part."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    server.files[DEV], server.files[GOLDS] = made("lamp3", "user", "dev")
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@cache
def made(task: str, split: str, part: str, questions: int = 40) -> tuple[bytes, bytes]:
    """Both files of a part, as the official ones."""
    rows, golds, of = [], [], TASKS[task]
    more = {"user_id": "u", "date": "2020-01-01"} if split == "time" else {}
    for n in range(questions):
        texts = [f"{part} {kind} {n} of 'é\\u00e9 \"{{]" for kind in ("text", "title", "other")]
        writing = SampleText(texts[0], texts[1], n % 15, *texts, swapped=False)
        item = {"id": "1", **of.sample_item(writing), **more}
        input, gold = of.sample_question(writing)
        rows.append({"id": f"{n}", "input": input, "profile": [item, item | {"id": "2"}], **more})
        golds.append({"id": f"{n}", "output": gold})
    return json.dumps(rows).encode(), json.dumps({"task": of.name, "golds": golds}).encode()


def words(server: Server, data: Path, *more: str) -> list[str]:
    """The command's words; later options stand for earlier ones."""
    ordinary = ["--retries", "2", "--timeout", "5", "--wait", "0.01"]
    return ["--data-dir", str(data), "--mirror", server.url, *ordinary, *more]


def run(server: Server, data: Path, *more: str, of: str = "lamp3 user dev") -> int:
    task, split, part = of.split()
    return call(*words(server, data, "--task", task, "--split", split, "--part", part, *more))


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    download.add_arguments(parser)
    return download.run(parser.parse_args(arguments), TASKS)


def leftovers(data: Path) -> list[str]:
    return sorted(path.name for path in data.rglob("*.part*"))


def question(**changes: object) -> dict[str, object]:
    return {"id": "1", "input": "i", "profile": [{"id": "2", "text": "t"}]} | changes
