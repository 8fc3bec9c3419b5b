"""Similar items, of which older ones count less."""

from __future__ import annotations

import math

import numpy as np

from lamp_exp.contracts import Retriever
from lamp_exp.errors import InputError
from lamp_exp.retrievers.combined import Combined
from lamp_exp.retrievers.lexical import Floats
from lamp_exp.retrievers.recency import dates_of, days_between
from lamp_exp.values import Documents, Query, Ranking


class TimeDecay(Combined):
    """Scores of another retriever, scaled to 0 to 1 within the profile, times exp(-rate × days).

    Days count from an item to the newest item of the profile. Where all scores of a profile are
    equal, each is 1. Equal results keep the other retriever's order. The default rate is that of
    MemWeaver (arXiv 2510.07713).
    """

    needs_dates = True

    def __init__(self, of: Retriever, rate: float = 0.01) -> None:
        """`rate` is per day."""
        super().__init__({"of": of})
        self.rate = rate

    def validate(self) -> None:
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise InputError(f"retriever.rate={self.rate} must be at least 0")
        super().validate()

    def combine(self, query: Query, documents: Documents, rankings: list[Ranking]) -> Ranking:
        (ranking,) = rankings
        dates = dates_of(query, documents)
        if not dates:
            return ranking
        newest, positions = max(dates), np.array(ranking.positions)
        days = np.array([days_between(dates[position], newest) for position in positions])
        scores = scaled(np.array(ranking.scores)) * np.exp(-self.rate * days)
        order = np.argsort(-scores, kind="stable")
        return Ranking(documents.ids, positions[order].tolist(), scores[order].tolist())


def scaled(scores: Floats) -> Floats:
    """Scores between 0, the lowest, and 1, the highest; all 1 if they are equal.

    Scores that are not finite (an encoder gave no vector) become 0.
    """
    finite = np.isfinite(scores)
    lowest = scores.min(initial=np.inf, where=finite)
    highest = scores.max(initial=-np.inf, where=finite)
    if highest <= lowest:
        return np.where(finite, 1.0, 0.0)
    return np.where(finite, (scores - lowest) / (highest - lowest), 0.0)
