"""BM25 with the scores of the official code (rank-bm25's BM25Okapi): for comparison with it.

Its idf is negative for words that most documents hold, and zero at exactly half; on profiles of
a few items it therefore ranks wrongly. `bm25` has no such fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lamp_exp.retrievers.lexical import Lexical


class BM25Okapi(Lexical):
    """Words between white space, case kept; negative idf is replaced by a share of the mean."""

    def __init__(self, k1: float = 1.5, b: float = 0.75, epsilon: float = 0.25) -> None:
        """`epsilon` times the mean idf is the weight of words whose own would be negative."""
        super().__init__(k1, b)
        self.epsilon = epsilon

    def words(self, text: str) -> list[str]:
        """What `str.split` gives."""
        return text.split()

    def idf(self, frequencies: Mapping[str, int], documents: int) -> Mapping[str, float]:
        """ln(N - n + 0.5) - ln(n + 0.5), negative values replaced."""
        idf = {
            word: math.log(documents - n + 0.5) - math.log(n + 0.5)
            for word, n in frequencies.items()
        }
        floor = self.epsilon * sum(idf.values()) / len(idf) if idf else 0.0
        return {word: value if value >= 0 else floor for word, value in idf.items()}
