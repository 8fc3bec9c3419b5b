"""BM25 with Lucene's idf, which stays positive in small profiles."""

from __future__ import annotations

import re

import numpy as np

from lamp_exp.retrievers.fingerprints import Numbers
from lamp_exp.retrievers.lexical import Floats, Lexical

_WORD = re.compile(r"\w+")


class BM25(Lexical):
    """BM25 over lower-cased words, with an idf that is positive however few documents there are."""

    def words(self, text: str) -> list[str]:
        """Runs of letters, digits and underscores, lower-cased."""
        return _WORD.findall(text.lower())

    def idf(self, counts: Numbers) -> Floats:
        """ln(1 + (N - n + 0.5) / (n + 0.5)), as in Lucene."""
        n = np.arange(len(counts))
        return np.log1p((len(counts) - 1 - n + 0.5) / (n + 0.5))
