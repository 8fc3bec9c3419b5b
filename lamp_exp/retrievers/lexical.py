"""What the two kinds of BM25 share: they differ in their words and in their idf."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence

from lamp_exp.types import Document, Hit, Query, Retriever, by_score


class Lexical(Retriever):
    """BM25 (Robertson and Zaragoza, 2009) over one profile at a time."""

    def __init__(self, k1: float = 1.5, b: float = 0.75) -> None:
        """`k1` says how soon repeated words stop counting, `b` how much length matters."""
        self.k1 = k1
        self.b = b

    @abstractmethod
    def words(self, text: str) -> list[str]:
        """The words of a text."""

    @abstractmethod
    def idf(self, frequencies: Mapping[str, int], documents: int) -> Mapping[str, float]:
        """The weight of each word, from the number of documents that hold it."""

    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        """By score; equal scores keep the profile's order, but blank documents come last."""
        texts = [self.words(document.text) for document in documents]
        hits = by_score(documents, self.scores(self.words(query.text), texts))
        blank = {d.id for d, words in zip(documents, texts, strict=True) if not words}
        return sorted(hits, key=lambda hit: hit.id in blank)

    def scores(self, query: Sequence[str], documents: Sequence[Sequence[str]]) -> list[float]:
        """The score of each document, in their order; a word counts as often as the query has it.

        Only the query's own words are scored; documents without words score zero.
        """
        counts = [Counter(words) for words in documents]
        frequencies = Counter(word for count in counts for word in count)
        idf = self.idf(frequencies, len(documents))
        mean_length = sum(map(len, documents)) / len(documents) if documents else 0.0
        terms = [word for word in query if word in frequencies]
        scores = []
        for count, words in zip(counts, documents, strict=True):
            fill = 1 - self.b + self.b * len(words) / mean_length if words else 1.0
            scores.append(sum(self._gain(idf[term], count[term], fill) for term in terms))
        return scores

    def _gain(self, idf: float, frequency: int, fill: float) -> float:
        return idf * (frequency * (self.k1 + 1) / (frequency + self.k1 * fill))
