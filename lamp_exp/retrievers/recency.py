"""Ranks a profile by date, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from lamp_exp.contracts import Retriever
from lamp_exp.errors import InputError
from lamp_exp.values import Document, Documents, Query, Ranking

SECONDS_PER_DAY = 86_400
_START = datetime(1, 1, 1)


class Recency(Retriever):
    """By date; of equal dates, the later in the file counts as newer. Dates are required."""

    needs_dates = True
    per_question = True

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        """Scores are days since 0001-01-01."""
        columns = Documents.of(documents)
        dates = dates_of(query, columns)
        positions = sorted(range(len(dates)), key=lambda n: (dates[n], n), reverse=True)
        return Ranking(columns.ids, positions, [days_between(_START, dates[n]) for n in positions])


def dates_of(query: Query, documents: Documents) -> list[datetime]:
    """The dates of all documents. Raises InputError if one has none."""
    dates = []
    for id, date in zip(documents.ids, documents.dates, strict=True):
        if date is None:
            raise InputError(
                f"this retriever needs dates, but item {id!r} of question {query.id!r} "
                "has none: use split=time, or another retriever"
            )
        dates.append(date)
    return dates


def days_between(start: datetime, end: datetime) -> float:
    """Days from `start` to `end`, with fractions."""
    return (end - start).total_seconds() / SECONDS_PER_DAY
