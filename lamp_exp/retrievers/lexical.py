"""What the two kinds of BM25 share: they differ in their words and in their idf.

Words are numbers here (fingerprints.py), and a question is scored on its own words only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lamp_exp.contracts import Retriever
from lamp_exp.retrievers.fingerprints import Fingerprints, Numbers, fingerprints
from lamp_exp.retrievers.inverted import Inverted
from lamp_exp.values import Document, Hit, Query

Floats = NDArray[np.float64]


class Lexical(Retriever):
    """BM25 (Robertson and Zaragoza, 2009) over one profile at a time."""

    per_question = True

    def __init__(self, k1: float = 1.5, b: float = 0.75) -> None:
        """`k1` says how soon repeated words stop counting, `b` how much length matters."""
        self.k1 = k1
        self.b = b

    @abstractmethod
    def words(self, text: str) -> list[str]:
        """The words of a text: runs of certain characters, of which none is a space.

        Which, and what becomes of each (lower case, say), depends on no other character.
        """

    @abstractmethod
    def idf(self, held: Numbers) -> Floats:
        """The weight of a word by the number n of documents that hold it, for n from 0 to all.

        `held` tells how many words each number of documents hold.
        """

    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        """By score; equal scores keep the profile's order, but blank documents come last."""
        texts = [self._apart(text) for text in (query.text, *(d.text for d in documents))]
        words, lengths = fingerprints(texts, self.separators)
        asked = lengths[0]
        scores = self.scores(words[:asked], words[asked:], lengths[1:])
        order = np.lexsort((-scores, lengths[1:] == 0))
        pairs = zip(order.tolist(), scores[order].tolist(), strict=True)
        return [Hit(documents[n].id, score) for n, score in pairs]

    def _apart(self, text: str) -> str:
        """A text of which `separators` makes its words: any of ASCII, others word by word."""
        return text if text.isascii() else " ".join(self.words(text))

    @cached_property
    def separators(self) -> bytes:
        """What becomes of each byte, as `words` tells of ASCII characters; spaces separate."""
        made = "".join((self.words(chr(code)) or [" "])[0] for code in range(128))
        return made.encode("ascii") + bytes(range(128, 256))

    def scores(self, query: Fingerprints, words: Fingerprints, lengths: Numbers) -> Floats:
        """The score of each document; `words` are those of all, and `lengths` how many each has.

        Only the query's own words are scored, each as often as the query has it; documents
        without words score zero.
        """
        index = Inverted.of(words, lengths)
        idf = self.idf(np.bincount(index.held, minlength=len(lengths) + 1))
        terms, reading = np.unique(query, return_inverse=True)
        found = index.find(terms)
        fill, count = self._fill(lengths)[found.document], found.count
        gains = np.zeros((len(terms), len(lengths)))
        gains[found.term, found.document] = idf[found.held][found.term] * (
            count * (self.k1 + 1) / (count + self.k1 * fill)
        )
        scores: Floats = gains[reading].sum(axis=0)
        return scores

    def _fill(self, lengths: Numbers) -> Floats:
        """How much of an average document's room each one takes, as far as `b` heeds it."""
        mean = lengths.mean() if lengths.any() else 1.0
        return 1 - self.b + self.b * lengths / mean
