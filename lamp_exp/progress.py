"""Progress bars, and lines between them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(values: Iterable[T], total: int, label: str) -> Iterable[T]:
    """A progress bar where a person watches."""
    bar: Iterable[T] = tqdm(values, label, total, disable=None, leave=False)
    return bar


def announce(line: str) -> None:
    """Prints a line to the terminal without breaking a progress bar."""
    tqdm.write(line, file=sys.stderr)
