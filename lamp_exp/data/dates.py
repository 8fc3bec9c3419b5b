"""Dates as LaMP-format files spell them."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

_DATE = re.compile(
    r"(?P<year>\d{4})(?:[-/.](?P<month>\d{1,2})(?:[-/.](?P<day>\d{1,2})"
    r"(?:[ T](?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.\d+)?)?Z?)?)?)?"
)


def parse_date(value: object) -> datetime | None:
    """A date as text or as a bare year; what is left out counts as its earliest value.

    None stands for no date: null or blank. Raises ValueError for what is no date.
    """
    text = "" if value is None else str(value).strip()
    return _parse(text) if text else None


@lru_cache(maxsize=1 << 16)  # the same days come again and again
def _parse(text: str) -> datetime:
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:60]!r} is no date like 2013, 2013-05-09 or 2013-05-09 08:00:00")
    parts = {name: int(digits) for name, digits in found.groupdict().items() if digits}
    year, month, day = parts["year"], parts.get("month", 1), parts.get("day", 1)
    hour, minute, second = (parts.get(name, 0) for name in ("hour", "minute", "second"))
    return datetime(year, month, day, hour, minute, second)
