"""Progress: bars where a person watches, and a line a minute where the output is redirected."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TypeVar

from tqdm.auto import tqdm  # in a notebook, a bar of its own kind

T = TypeVar("T")
LINE_SECONDS = 60.0
_under_way: list[Report] = []  # the innermost last


def progress(values: Iterable[T], total: int | None, label: str) -> Iterable[T]:
    """The values; shows how many of `total` (None: unknown) have been used."""
    if is_watched():
        bar: Iterable[T] = tqdm(values, label, total, leave=False)
        return bar
    return _with_report(values, Report(label, total))


def _with_report(values: Iterable[T], report: Report) -> Iterator[T]:
    with report:
        for report.done, value in enumerate(values):
            yield value


@contextmanager
def progress_of_bytes(label: str, total: int, initial: int) -> Iterator[Callable[[int], object]]:
    """Shows how many bytes have come; yields the function that adds some."""
    if is_watched():
        with tqdm(
            desc=label, total=total, initial=initial, leave=False, unit="B", unit_scale=True,
            unit_divisor=1024,
        ) as bar:  # fmt: skip
            yield bar.update
    else:
        with Report(label, total, initial, as_bytes) as report:
            yield report.advance


def is_watched() -> bool:
    """Whether a terminal shows what is written to stderr, or a notebook its bars."""
    in_notebook = any(one.__module__ == "tqdm.notebook" for one in tqdm.__mro__)
    return in_notebook or sys.stderr.isatty()


@contextmanager
def without_bars() -> Iterator[None]:
    """Within it, bars that libraries write are not written into a log."""
    with redirect_stderr(sys.stderr if is_watched() else io.StringIO()):
        yield


def announce(line: str) -> None:
    """Prints a line to the terminal without breaking a progress bar."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


class Report:
    """While it is entered, prints once a minute how far some work is.

    Of several that are entered, only the innermost prints; none does where a person watches.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        done: int = 0,
        show: Callable[[int], str] = str,
    ) -> None:
        self.label, self.total, self.done = label, total, done
        self._first, self._show = done, show
        self._start = time.monotonic()
        self._ended = threading.Event()

    def __enter__(self) -> Report:
        self._start = time.monotonic()
        if not is_watched():
            _under_way.append(self)
            threading.Thread(target=self._print_lines, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self in _under_way:
            _under_way.remove(self)

    def advance(self, number: int) -> None:
        """Counts more that is done."""
        self.done += number

    def _print_lines(self) -> None:
        while not self._ended.wait(LINE_SECONDS):
            if _under_way[-1:] == [self]:
                announce(self.line())

    def line(self) -> str:
        """How much is done, and how much time is left."""
        seconds, new = time.monotonic() - self._start, self.done - self._first
        if not self.total:
            done = f"{self._show(self.done)} done, " if self.done else ""
            return f"{self.label}: {done}{duration(seconds)} so far"
        line = f"{self.label}: {self._show(self.done)} of {self._show(self.total)}"
        if not new:
            return f"{line}, {duration(seconds)} so far"
        return f"{line}, about {duration(seconds / new * (self.total - self.done))} left"


def as_bytes(number: int) -> str:
    """A number of bytes, such as 2.50MB."""
    return str(tqdm.format_sizeof(number, "B", 1000))


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2 days 4 h`."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"
