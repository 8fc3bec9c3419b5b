"""Retrieval on small and odd profiles; the laws that all retrievers keep are in test_laws.py."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from random import Random

import numpy as np
import pytest
from rank_bm25 import BM25Okapi as Reference

from lamp_exp.errors import InputError
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.retrievers.bm25_okapi import BM25Okapi
from lamp_exp.retrievers.fingerprints import fingerprints
from lamp_exp.retrievers.random import RandomOrder
from lamp_exp.retrievers.recency import Recency
from lamp_exp.values import Document, Query


def documents(*texts: str) -> list[Document]:
    return [Document(str(n), text) for n, text in enumerate(texts)]


def ids(hits, k=None):
    return [hit.id for hit in hits][:k]


@pytest.mark.parametrize("retriever", [BM25(), BM25Okapi()])
@pytest.mark.parametrize("texts", [[], [""], ["", "  "]])
def test_bm25_of_nothing_scores_zero_in_the_profiles_order(retriever, texts):
    hits = retriever.rank(Query("q", "any words"), documents(*texts))
    assert [(hit.id, hit.score) for hit in hits] == [(str(n), 0.0) for n in range(len(texts))]


@pytest.mark.parametrize("retriever", [BM25(), BM25Okapi()])
def test_a_blank_item_comes_last(retriever):
    hits = retriever.rank(Query("q", "cat"), documents("", "a dog", "the cat", "an owl"))
    assert "0" not in ids(hits, 3)
    assert ids(hits, 1) == ["2"]


def test_bm25_finds_a_word_that_half_the_items_hold():
    profile = documents("other thing c", "other thing d", "keyword one a", "keyword two b")
    assert set(ids(BM25().rank(Query("q", "keyword"), profile), 2)) == {"2", "3"}


def test_bm25_finds_both_of_five_with_equal_positive_scores():
    hits = BM25().rank(
        Query("q", "quick"), documents("foo", "dog", "baz", "quick god", "quick fox")
    )
    assert ids(hits, 2) == ["3", "4"]
    assert hits[0].score == hits[1].score > 0


def test_bm25_of_two_items_ranks_the_matching_one_first():
    assert ids(BM25().rank(Query("q", "cat"), documents("a dog", "a cat"))) == ["1", "0"]


def test_bm25_okapi_has_the_scores_of_rank_bm25():
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 7, 40):
        texts = [" ".join(rng.choice(list("abcdefghij"), rng.integers(1, 30))) for _ in range(size)]
        query = " ".join(rng.choice(list("abcdefghijkl"), 12))
        expected = Reference([text.split() for text in texts]).get_scores(query.split())
        assert scores_of(BM25Okapi(), query, texts) == pytest.approx(list(expected), abs=1e-9)


def scores_of(retriever, query, texts):
    """In the order of the texts."""
    scores = {hit.id: hit.score for hit in retriever.rank(Query("q", query), documents(*texts))}
    return [scores[str(n)] for n in range(len(texts))]


def lucene(frequencies, total):
    return {w: math.log1p((total - n + 0.5) / (n + 0.5)) for w, n in frequencies.items()}


def okapi(frequencies, total):
    idf = {w: math.log(total - n + 0.5) - math.log(n + 0.5) for w, n in frequencies.items()}
    floor = 0.25 * sum(idf.values()) / len(idf) if idf else 0.0
    return {word: value if value >= 0 else floor for word, value in idf.items()}


def plainly(query, documents, idf_of, k1=1.5, b=0.75):
    """BM25 as a formula, over lists of words."""
    counts = [Counter(words) for words in documents]
    frequencies = Counter(word for count in counts for word in count)
    idf, mean = idf_of(frequencies, len(documents)), sum(map(len, documents)) / len(documents)
    return [
        sum(
            idf[w] * count[w] * (k1 + 1) / (count[w] + k1 * (1 - b + b * len(words) / mean))
            for w in query
            if count[w]
        )
        for count, words in zip(counts, documents, strict=True)
    ]


PIECES = [
    *"abcdefgh", "Cat", "cat", "cat,dog", "don't", "eightbyt", "ninebytes", "ninebyte", "a_b", "7",
    "a-word-of-many-more-bytes-than-sixteen", "a-word-of-many-more-bytes-than-sixteem", "é", "É",
    "naïve", "Straße", "\u212a", "İ", "中文", "😀", "\ud83d", "\x00", "...", "",
]  # fmt: skip
GAPS = [" ", "  ", "\t", "\n", "\x1c", "\x85", "\u00a0", "\u2003", ", "]


def odd_text(chance, most):
    return "".join(
        chance.choice(PIECES) + chance.choice(GAPS) for _ in range(chance.randrange(most))
    )


@pytest.mark.parametrize(("retriever", "idf"), [(BM25(), lucene), (BM25Okapi(), okapi)])
def test_words_as_numbers_score_as_words_do(retriever, idf):
    chance = Random(0)
    for size in [1, 2, 3, 10, 300] * 4:
        texts = [odd_text(chance, 30) for _ in range(size)] + ["a word"]
        query = odd_text(chance, 40)
        expected = plainly(retriever.words(query), [*map(retriever.words, texts)], idf)
        assert scores_of(retriever, query, texts) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("retriever", [BM25(), BM25Okapi()])
def test_the_separators_of_bytes_are_those_of_words(retriever):
    every = "".join(map(chr, range(128)))
    for text in (every, every[::-1], *(f"a{character}B" for character in every)):
        made = text.encode().translate(retriever.separators).decode().split(" ")
        assert [word for word in made if word] == retriever.words(text)


def test_thousands_of_words_have_as_many_numbers():
    words = [f"{a}{n}{b}" for n in range(20_000) for a, b in (("", ""), ("abcdefgh", "ijklmnop"))]
    numbers, (length,) = fingerprints([" ".join(words)], bytes(range(256)))
    assert length == len(words) == len(np.unique(numbers >> np.uint64(11)))


def test_scores_belong_to_their_items():
    profile = documents("a cat sat", "cat cat cat", "no match", "the cat and the dog")
    (first, *others) = BM25().rank(Query("q", "cat dog"), profile)
    assert (first.id, others[0].id, others[-1].id) == ("3", "1", "2")
    assert first.score > others[0].score > others[1].score > others[2].score == 0


def test_random_never_repeats_an_item():
    profile = documents("a", "b", "c", "d")
    for seed in range(1000):
        hits = RandomOrder(seed).rank(Query("q", ""), profile)
        assert sorted(ids(hits)) == ["0", "1", "2", "3"]


def test_random_depends_on_seed_and_question_alone():
    profile = documents(*"abcdefgh")
    first = {id: ids(RandomOrder(3).rank(Query(id, ""), profile)) for id in ("x", "y", "z")}
    again = {id: ids(RandomOrder(3).rank(Query(id, ""), profile)) for id in ("z", "y", "x")}
    other = {id: ids(RandomOrder(4).rank(Query(id, ""), profile)) for id in ("x", "y", "z")}
    assert first == again
    assert first != other
    assert first["x"] != first["y"]


def test_random_is_uniform():
    profile, first = documents("a", "b", "c", "d"), []
    for seed in range(4000):
        first += ids(RandomOrder(seed).rank(Query("q", ""), profile), 1)
    assert all(900 < first.count(id) < 1100 for id in "0123")


def test_recency_is_in_true_time_order_and_later_in_the_file_is_newer():
    days = [datetime(2012, 1, 1), datetime(2013, 5, 9), datetime(2013, 5, 10), datetime(2012, 1, 1)]
    profile = [Document(str(n), "", day) for n, day in enumerate(days)]
    assert ids(Recency().rank(Query("q", ""), profile)) == ["2", "1", "3", "0"]


def test_recency_without_dates_is_one_clear_error():
    with pytest.raises(InputError, match="dates.*item '0' of question 'q'"):
        Recency().rank(Query("q", ""), documents("a"))
