"""BM25 with the scores of the official code (rank-bm25's BM25Okapi): for comparison with it.

Its idf is negative for words that most documents hold, and zero at exactly half; on profiles of
a few items it therefore ranks wrongly. `bm25` has no such fault.
"""

from __future__ import annotations

import numpy as np

from lamp_exp.retrievers.fingerprints import Numbers
from lamp_exp.retrievers.lexical import Floats, Lexical


class BM25Okapi(Lexical):
    """Words between white space, case kept; negative idf is replaced by a share of the mean."""

    def __init__(self, k1: float = 1.5, b: float = 0.75, epsilon: float = 0.25) -> None:
        """`epsilon` times the mean idf is the weight of words whose own would be negative."""
        super().__init__(k1, b)
        self.epsilon = epsilon

    def words(self, text: str) -> list[str]:
        """What `str.split` gives."""
        return text.split()

    def idf(self, held: Numbers) -> Floats:
        """ln(N - n + 0.5) - ln(n + 0.5), negative values replaced."""
        n = np.arange(len(held))
        idf = np.log(len(held) - 1 - n + 0.5) - np.log(n + 0.5)
        mean = held @ idf / max(held.sum(), 1)
        weights: Floats = np.where(idf < 0, self.epsilon * mean, idf)
        return weights
