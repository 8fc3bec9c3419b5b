"""An inverted index of one profile, made by sorting hashes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lamp_exp.retrievers.fingerprints import Fingerprints, Numbers


@dataclass(frozen=True, slots=True)
class Postings:
    """The documents that hold some terms, term after term.

    Posting `n` says that term `term[n]` is `count[n]` times in document `document[n]`; term `m`
    has `document_frequency[m]` postings.
    """

    term: Numbers
    document: Numbers
    count: Numbers
    document_frequency: Numbers


@dataclass(frozen=True, slots=True)
class InvertedIndex:
    """All postings, sorted by word and then by document.

    A posting is one number: its document in the last `bits`, and its word's fingerprint without
    these. With 200 documents of 60 words, two words are so taken for one with a chance of 1e-10.
    Posting `n` stands for occurrences `starts[n]` to `starts[n + 1]` of its word in its document;
    word `m` has postings `firsts[m]` to `firsts[m + 1]`.
    """

    bits: np.uint64
    postings: Fingerprints
    starts: Numbers
    words: Fingerprints
    firsts: Numbers

    @classmethod
    def of(cls, words: Fingerprints, lengths: Numbers) -> InvertedIndex:
        """The index of documents, given all their words in order and how many each has."""
        bits = np.uint64(len(lengths).bit_length())
        document = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
        occurrences = (words >> bits << bits) | document
        occurrences.sort()
        starts = _changes(occurrences)
        postings = occurrences.take(starts[:-1])
        distinct = postings >> bits
        firsts = _changes(distinct)
        return cls(bits, postings, starts, distinct.take(firsts[:-1]), firsts)

    @property
    def document_frequency(self) -> Numbers:
        """The number of documents of each word."""
        return np.diff(self.firsts)

    def find(self, terms: Fingerprints) -> Postings:
        """The postings of some words, of which any may be in no document."""
        terms = terms >> self.bits
        first = self.firsts[np.searchsorted(self.words, terms)]
        frequency = self.firsts[np.searchsorted(self.words, terms, side="right")] - first
        term = np.repeat(np.arange(len(terms)), frequency)
        rows = np.arange(len(term)) + (first - np.cumsum(frequency) + frequency)[term]
        mask = (np.uint64(1) << self.bits) - np.uint64(1)
        document = (self.postings[rows] & mask).astype(np.int64)
        return Postings(term, document, self.starts[rows + 1] - self.starts[rows], frequency)


def _changes(values: Fingerprints) -> Numbers:
    """Where each value of a sorted array is first, and the array's end."""
    inner = np.flatnonzero(values[1:] != values[:-1]) + 1
    return np.concatenate([[0], inner, [len(values)]]) if len(values) else np.zeros(1, np.int64)
