"""The base class of `bm25` and `bm25_okapi`.

Words are compared as 64-bit hashes (`fingerprints`), and only the query's own words are scored.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lamp_exp.contracts import Retriever
from lamp_exp.errors import InputError
from lamp_exp.retrievers.fingerprints import Fingerprints, Numbers, fingerprints
from lamp_exp.retrievers.inverted import InvertedIndex
from lamp_exp.values import Document, Documents, Query, Ranking

Floats = NDArray[np.float64]


class Lexical(Retriever):
    """BM25 (Robertson and Zaragoza, 2009) over one profile at a time.

    `k1` controls how soon repeated words stop counting, `b` how much document length matters.
    """

    per_question = True
    batch_size = 10  # texts that were just read are still in the processor's cache

    def __init__(self, k1: float = 1.5, b: float = 0.75) -> None:
        self.k1 = k1
        self.b = b

    def validate(self) -> None:
        if not (math.isfinite(self.k1) and self.k1 >= 0):
            raise InputError(f"retriever.k1={self.k1} must be at least 0")
        if not 0 <= self.b <= 1:
            raise InputError(f"retriever.b={self.b} must be from 0 to 1")

    @abstractmethod
    def words(self, text: str) -> list[str]:
        """The words of a text: runs of certain characters, none of which is a space.

        Whether a character is part of a word, and what replaces it (lower case, for example),
        depends on no other character.
        """

    @abstractmethod
    def idf(self, counts: Numbers) -> Floats:
        """The weight of a word that is in n documents, for each n from 0 to all documents.

        `counts[n]` is the number of distinct words that are in n documents.
        """

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        """By score; equal scores keep the profile's order, but blank documents come last."""
        columns = Documents.of(documents)
        texts = [query.text, *columns.texts]
        if not all(map(str.isascii, texts)):
            texts = [text if text.isascii() else " ".join(self.words(text)) for text in texts]
        words, lengths = fingerprints(texts, self.separators)
        query_length, lengths = lengths[0], lengths[1:]
        scores = self.scores(words[:query_length], words[query_length:], lengths)
        order = np.lexsort((-scores, lengths == 0))
        return Ranking(columns.ids, order.tolist(), scores[order].tolist())

    @cached_property
    def separators(self) -> bytes:
        """A translation table of bytes that does to ASCII what `words` does; a space separates."""
        ascii_words = "".join((self.words(chr(code)) or [" "])[0] for code in range(128))
        return ascii_words.encode("ascii") + bytes(range(128, 256))

    def scores(self, query: Fingerprints, words: Fingerprints, lengths: Numbers) -> Floats:
        """The score of each document, which has `lengths[n]` of `words`, document after document.

        A word of the query counts as often as the query has it; documents without words score
        zero.
        """
        index = InvertedIndex.of(words, lengths)
        idf = self.idf(np.bincount(index.document_frequency, minlength=len(lengths) + 1))
        postings = index.find(query)
        count, document = postings.count, postings.document
        gains = np.zeros((len(query), len(lengths)))
        gains[postings.term, document] = idf[postings.document_frequency][postings.term] * (
            count * (self.k1 + 1) / (count + self.k1 * self._length_norm(lengths)[document])
        )
        scores: Floats = gains.sum(axis=0)
        return scores

    def _length_norm(self, lengths: Numbers) -> Floats:
        mean = lengths.mean() if lengths.any() else 1.0
        return 1 - self.b + self.b * lengths / mean
