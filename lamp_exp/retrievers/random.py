"""Random items: the baseline that shows what retrieval adds."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lamp_exp.contracts import Retriever, sort_by_score
from lamp_exp.values import Document, Query, Ranking


class RandomOrder(Retriever):
    """A permutation drawn from the seed and the question's id, so never twice the same item.

    The official code draws with replacement, and without a seed.
    """

    per_question = True
    at_random = True

    def __init__(self, seed: int) -> None:
        """Another `seed` gives other permutations."""
        self.seed = seed

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        """The documents by falling random scores in [0, 1)."""
        generator = Random(f"{self.seed}:{query.id}")
        return sort_by_score(documents, [generator.random() for _ in documents])
