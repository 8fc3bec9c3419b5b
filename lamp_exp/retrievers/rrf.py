"""Reciprocal rank fusion of several retrievers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lamp_exp.contracts import Retriever, sort_by_score
from lamp_exp.errors import InputError
from lamp_exp.retrievers.combined import Combined
from lamp_exp.values import Documents, Query, Ranking


class ReciprocalRankFusion(Combined):
    """The score of an item is the sum of 1 / (c + rank) over the rankings; ranks count from 1.

    Cormack, Clarke and Büttcher (SIGIR 2009), where c is 60.
    """

    def __init__(self, of: Mapping[str, Retriever], c: float = 60.0) -> None:
        """`of` has the retrievers by name."""
        super().__init__(of)
        self.c = c

    def validate(self) -> None:
        if not self.of:
            raise InputError("retriever=rrf needs at least one retriever in retriever.of")
        if self.c < 0:
            raise InputError(f"retriever.c={self.c} must be at least 0")
        super().validate()

    def combine(self, query: Query, documents: Documents, rankings: list[Ranking]) -> Ranking:
        scores = np.zeros(len(documents))
        gains = 1 / (self.c + np.arange(1, len(documents) + 1))
        for ranking in rankings:
            scores[np.asarray(ranking.positions, int)] += gains
        return sort_by_score(documents, scores.tolist())
