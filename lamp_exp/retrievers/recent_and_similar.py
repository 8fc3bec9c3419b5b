"""The newest and the most similar items in turn."""

from __future__ import annotations

from lamp_exp.contracts import Retriever
from lamp_exp.retrievers.combined import Combined
from lamp_exp.retrievers.recency import Recency
from lamp_exp.values import Documents, Query, Ranking


class RecentAndSimilar(Combined):
    """Items by date and by another retriever in turn, the newest first, each item once.

    So every k has half of each. The official code's `recency_contriever` takes k/2 of each, shows
    an item twice if it is in both halves, and drops one item if k is odd.
    """

    needs_dates = True

    def __init__(self, of: Retriever) -> None:
        super().__init__({"recency": Recency(), "of": of})

    def combine(self, query: Query, documents: Documents, rankings: list[Ranking]) -> Ranking:
        """Scores count down to 1."""
        newest, similar = rankings
        pairs = zip(newest.positions, similar.positions, strict=True)
        order = list(dict.fromkeys(position for pair in pairs for position in pair))
        return Ranking(documents.ids, order, [float(n) for n in range(len(order), 0, -1)])
