"""The newest items first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from lamp_exp.contracts import Retriever, sort_by_score
from lamp_exp.errors import InputError
from lamp_exp.values import Document, Hit, Query

_START = datetime(1, 1, 1)


class Recency(Retriever):
    """By date; of equal dates, the later in the file counts as newer. Dates are required."""

    needs_dates = True
    per_question = True

    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        """Scores are days since 0001-01-01."""
        newest_last = list(reversed(documents))
        return sort_by_score(newest_last, [_days(query, document) for document in newest_last])


def _days(query: Query, document: Document) -> float:
    if document.date is None:
        raise InputError(
            f"retriever=recency needs dates, but item {document.id!r} of question {query.id!r} "
            "has none: use split=time, or another retriever"
        )
    return (document.date - _START).total_seconds() / 86400
