"""BM25 with the scores of the official code (rank-bm25's BM25Okapi): for comparison with it.

Its idf is negative for words that most documents have, and zero at exactly half, so it ranks
profiles of a few items wrongly. `bm25` has no such fault.
"""

from __future__ import annotations

import numpy as np

from lamp_exp.retrievers.fingerprints import Numbers
from lamp_exp.retrievers.lexical import Floats, Lexical


class BM25Okapi(Lexical):
    """BM25 over words between white space, case kept.

    `epsilon` times the mean idf is the weight of words whose own idf would be negative.
    """

    def __init__(self, k1: float = 1.5, b: float = 0.75, epsilon: float = 0.25) -> None:
        super().__init__(k1, b)
        self.epsilon = epsilon

    def words(self, text: str) -> list[str]:
        """What `str.split` returns."""
        return text.split()

    def idf(self, counts: Numbers) -> Floats:
        """ln(N - n + 0.5) - ln(n + 0.5), negative values replaced."""
        n = np.arange(len(counts))
        idf = np.log(len(counts) - 1 - n + 0.5) - np.log(n + 0.5)
        mean = counts @ idf / max(counts.sum(), 1)
        weights: Floats = np.where(idf < 0, self.epsilon * mean, idf)
        return weights
