"""Dates as LaMP-format files spell them."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

_DATE = re.compile(  # 2012.5 might be May or the middle of the year: points need all three parts
    r"(?P<year>\d{4})(?:(?P<mark>[-/]|\.(?=\d+\.))(?P<month>\d{1,2})(?:(?P=mark)(?P<day>\d{1,2})"
    r"(?:[ T](?P<hour>\d{1,2}):(?P<minute>\d{2})"
    r"(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,6})0*)?)?Z?)?)?)?",
    re.ASCII,
)


def parse_date(value: object) -> datetime | None:
    """A date as text or as a bare year, exact to the microsecond; times are in UTC.

    What is left out counts as its earliest value. None stands for no date: null or blank. Raises
    ValueError for what is no date, or not plain.
    """
    text = "" if value is None else str(value).strip()
    return _parse(text) if text else None


@lru_cache(maxsize=1 << 16)  # the same days come again and again
def _parse(text: str) -> datetime:
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:60]!r} is no date like 2013, 2013-05-09 or 2013-05-09 08:00:00")
    year, month, day = (int(found[name] or 1) for name in ("year", "month", "day"))
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    return datetime(
        year, month, day, hour, minute, second, int((found["fraction"] or "").ljust(6, "0"))
    )
