"""Retrieval on small and odd profiles; the laws that all retrievers keep are in test_laws.py."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from rank_bm25 import BM25Okapi as Reference

from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.retrievers.bm25_okapi import BM25Okapi
from lamp_exp.retrievers.random import RandomOrder
from lamp_exp.retrievers.recency import Recency
from lamp_exp.types import Document, InputError, Query


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
        scores = BM25Okapi().scores(query.split(), [text.split() for text in texts])
        assert scores == pytest.approx(list(expected), abs=1e-9)


def test_scores_belong_to_their_items():
    profile = documents("a cat sat", "cat cat cat", "no match", "the cat and the dog")
    query, retriever = Query("q", "cat dog"), BM25()
    alone = dict(
        zip(
            ids(profile),
            retriever.scores(
                retriever.words(query.text), [retriever.words(d.text) for d in profile]
            ),
            strict=True,
        )
    )
    assert {hit.id: hit.score for hit in retriever.rank(query, profile)} == pytest.approx(alone)


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
