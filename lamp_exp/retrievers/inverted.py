"""An inverted index of a profile: made and asked once, so it is a sort and a few arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lamp_exp.retrievers.fingerprints import Fingerprints, Numbers


@dataclass(frozen=True, slots=True)
class Postings:
    """Which documents hold some words and how often: three arrays that belong together.

    `term` is a word's place among those asked for, and `held` how many documents hold each.
    """

    term: Numbers
    document: Numbers
    count: Numbers
    held: Numbers


@dataclass(frozen=True, slots=True)
class Inverted:
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
    def of(cls, words: Fingerprints, lengths: Numbers) -> Inverted:
        """Of all words of documents, one document after the other, and how many each has."""
        bits = np.uint64(len(lengths).bit_length())
        document = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
        occurrences = (words >> bits << bits) | document
        occurrences.sort()
        starts = _changes(occurrences)
        postings = occurrences[starts[:-1]]
        known = postings >> bits
        firsts = _changes(known)
        return cls(bits, postings, starts, known[firsts[:-1]], firsts)

    @property
    def held(self) -> Numbers:
        """How many documents hold each word."""
        return np.diff(self.firsts)

    def find(self, terms: Fingerprints) -> Postings:
        """The postings of some words, of which any may be in no document."""
        terms = terms >> self.bits
        first = self.firsts[np.searchsorted(self.words, terms)]
        held = self.firsts[np.searchsorted(self.words, terms, side="right")] - first
        term = np.repeat(np.arange(len(terms)), held)
        found = np.arange(len(term)) + (first - np.cumsum(held) + held)[term]
        document = (self.postings[found] & ((np.uint64(1) << self.bits) - np.uint64(1))).astype(int)
        return Postings(term, document, self.starts[found + 1] - self.starts[found], held)


def _changes(values: Fingerprints) -> Numbers:
    """Where each value of a sorted array is first, and the array's end."""
    inner = np.flatnonzero(values[1:] != values[:-1]) + 1
    return np.concatenate([[0], inner, [len(values)]]) if len(values) else np.zeros(1, np.int64)
