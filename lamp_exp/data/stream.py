"""JSON lists larger than memory, read object by object."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lamp_exp.errors import InputError

WINDOW = 1 << 20  # characters read at once at least: some profiles are half a million
LONGEST = 1 << 28  # characters of one object at most: what is longer is broken


class Broken(ValueError):
    """What is read is not the JSON that it should be."""


class Window:
    """A JSON text through a window that slides and grows, but never beyond what it must."""

    _space = re.compile(r"[ \t\r\n]*")
    _decoder = json.JSONDecoder()

    def __init__(self, file: TextIO, longest: int = LONGEST) -> None:
        """`longest` bounds, roughly, the characters of one object."""
        self.file = file
        self.longest = longest
        self.text = ""
        self.at = 0

    def take(self) -> str:
        """The next character that is no white space, which is passed; empty at the end."""
        mark = self.peek()
        self.at += len(mark)
        return mark

    def object(self) -> Any:
        """The JSON object that comes next, which is passed; Broken if it is none."""
        if self.peek() != "{":
            raise Broken("a JSON object is expected")
        while True:
            try:
                value, self.at = self._decoder.raw_decode(self.text, self.at)
                return value
            except json.JSONDecodeError as error:  # broken, or not all of it is in view yet
                if len(self.text) - self.at > self.longest or not self._grow():
                    raise Broken(f"{error.msg}, or it is cut off") from error

    def peek(self) -> str:
        """The next character that is no white space, which stays; empty at the end."""
        while True:
            space = self._space.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text) or not self._grow():
                return self.text[self.at : self.at + 1]

    def _grow(self) -> bool:
        """Doubles what is in view, so that a long object is not parsed again too often."""
        ahead = self.text[self.at :]
        more = self.file.read(max(WINDOW, len(ahead)))
        self.text, self.at = ahead + more, 0
        return bool(more)


def objects(file: TextIO, longest: int = LONGEST) -> Iterator[Any]:
    """The objects of the one list that a file holds; Broken says after which one it ends."""
    window = Window(file, longest)
    if window.take() != "[":
        raise Broken("a list of questions is expected at the top")
    number, mark = 0, window.peek()
    if mark == "]":
        window.take()
    while mark != "]":
        number += 1
        try:
            yield window.object()
        except Broken as error:
            raise Broken(f"question {number}: {error}") from error
        mark = window.take()
        if mark not in (",", "]"):
            raise Broken(f"the list does not end well after question {number}")
    if window.take():
        raise Broken("something follows the list of questions")


class Hashing(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, path: Path) -> None:
        """Opens `path`; `digest` is of the bytes read so far."""
        self.file = path.open("rb", buffering=0)
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads as a raw file does."""
        count = self.file.readinto(buffer) or 0
        self.digest.update(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        """Closes the file, too."""
        self.file.close()
        super().close()


def read_objects(path: Path, hashing: Hashing) -> Iterator[Any]:
    """The objects of a questions file; InputError names the file and the place of a fault."""
    text = io.TextIOWrapper(io.BufferedReader(hashing, 1 << 20), encoding="utf-8", newline="")
    try:
        with text:
            yield from objects(text)
    except (ValueError, RecursionError) as error:  # of JSON, UTF-8, numbers too long, nesting
        raise InputError(f"{path} cannot be read as JSON ({error}): download it again") from error
