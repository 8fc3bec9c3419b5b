"""Reads JSON, also lists larger than memory object by object.

Files may begin with a byte order mark. NaN and infinities, which JSON does not have but Python and
pandas write, are read as null.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lamp_exp.errors import InputError

WINDOW = 1 << 20  # characters read at once at least: some profiles are half a million
LONGEST = 1 << 28  # characters of one object at most: what is longer is broken


class Number(float):
    """A number whose text is the file's: 1.10 is not 1.1."""

    literal: str

    def __new__(cls, literal: str) -> Number:
        number = super().__new__(cls, literal)
        number.literal = literal
        return number

    def __str__(self) -> str:
        return self.literal


def _finite(literal: str) -> Number | None:
    number = Number(literal)
    return number if math.isfinite(number) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def parse_json(content: bytes) -> Any:
    """The value of a whole JSON text; ValueError or RecursionError if it is none."""
    return _DECODER.decode(content.decode("utf-8-sig"))


class Broken(ValueError):
    """What is read is not the JSON that it should be."""


class Window:
    """A JSON text through a window that slides and grows, but never beyond what it must."""

    _space = re.compile(r"[ \t\r\n]*")

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
                value, self.at = _DECODER.raw_decode(self.text, self.at)
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


class Hashing(io.FileIO):
    """A file that updates a digest with what is read."""

    def __init__(self, path: Path, digest: Any) -> None:
        super().__init__(path)
        self.digest = digest

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        self.digest.update(memoryview(buffer)[:count])
        return count


def open_text(path: Path, digest: Any = None) -> TextIO:
    """A file of UTF-8 after its byte order mark; a `digest` of hashlib gets the bytes read."""
    raw = Hashing(path, digest) if digest else io.FileIO(path)
    file = io.BufferedReader(raw, 1 << 16)
    if file.peek(3).startswith(codecs.BOM_UTF8):
        file.read(3)
    return io.TextIOWrapper(file, encoding="utf-8", newline="")


def read_objects(path: Path, digest: Any = None) -> Iterator[Any]:
    """The objects of a questions file; InputError names the file and the place of a fault."""
    try:
        with open_text(path, digest) as text:
            yield from objects(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:  # of JSON, UTF-8, numbers too long, nesting
        raise InputError(f"{path} cannot be read as JSON ({error}): download it again") from error
