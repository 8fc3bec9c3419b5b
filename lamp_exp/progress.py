"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(values: Iterable[T], total: int, label: str) -> Iterable[T]:
    """A progress bar where a person watches."""
    bar: Iterable[T] = tqdm(values, label, total, disable=None, leave=False)
    return bar
