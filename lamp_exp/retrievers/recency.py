"""Ranks a profile by date, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from lamp_exp.contracts import Retriever
from lamp_exp.errors import InputError
from lamp_exp.values import Document, Documents, Query, Ranking

_START = datetime(1, 1, 1)


class Recency(Retriever):
    """By date; of equal dates, the later in the file counts as newer. Dates are required."""

    needs_dates = True
    per_question = True

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        """Scores are days since 0001-01-01."""
        columns = Documents.of(documents)
        dates = [
            _date(query, id, date) for id, date in zip(columns.ids, columns.dates, strict=True)
        ]
        positions = sorted(range(len(dates)), key=lambda n: (dates[n], n), reverse=True)
        return Ranking(columns.ids, positions, [_days(dates[n]) for n in positions])


def _date(query: Query, id: str, date: datetime | None) -> datetime:
    if date is None:
        raise InputError(
            f"retriever=recency needs dates, but item {id!r} of question {query.id!r} "
            "has none: use split=time, or another retriever"
        )
    return date


def _days(date: datetime) -> float:
    return (date - _START).total_seconds() / 86400
