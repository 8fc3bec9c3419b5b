"""BM25 as Lucene weighs words: right on small profiles, too."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from lamp_exp.retrievers.lexical import Lexical

_WORD = re.compile(r"\w+")


class BM25(Lexical):
    """Lower-cased words; an idf that is positive however few documents there are."""

    def words(self, text: str) -> list[str]:
        """Runs of letters, digits and underscores, lower-cased."""
        return _WORD.findall(text.lower())

    def idf(self, frequencies: Mapping[str, int], documents: int) -> Mapping[str, float]:
        """ln(1 + (N - n + 0.5) / (n + 0.5)), as in Lucene."""
        return {
            word: math.log1p((documents - n + 0.5) / (n + 0.5)) for word, n in frequencies.items()
        }
