"""BM25 against rank-bm25, splitting included."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from rank_bm25 import BM25Okapi as Reference

from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.retrievers.bm25_okapi import BM25Okapi
from lamp_exp.values import Document, Query

QUESTIONS, ITEMS, WORDS = 2_000, 200, 60


def questions(number: int) -> list[tuple[Query, list[Document]]]:
    """Texts whose words are as unevenly frequent as those of a language."""
    chance = Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(30_000)]
    weights = np.cumsum([1 / (n + 3) for n in range(len(words))]).tolist()

    def text() -> str:
        return " ".join(chance.choices(words, cum_weights=weights, k=WORDS))

    return [
        (Query(str(n), text()), [Document(str(item), text()) for item in range(ITEMS)])
        for n in range(number)
    ]


@pytest.fixture(scope="module")
def asked() -> list[tuple[Query, list[Document]]]:
    return questions(QUESTIONS)


def reference(asked):
    for query, documents in asked:
        index = Reference([document.text.split() for document in documents])
        yield index.get_scores(query.text.split())


def drained(values) -> None:
    for _ in values:
        pass


def test_bm25_okapi(asked, ratio):
    assert (
        ratio(
            lambda: drained(reference(asked)),
            lambda: drained(BM25Okapi().rank_batch(asked)),
            rounds=1,
        )
        >= 6
    )


def test_bm25(asked, ratio):
    assert (
        ratio(
            lambda: drained(reference(asked)), lambda: drained(BM25().rank_batch(asked)), rounds=1
        )
        >= 6
    )


def test_bm25_okapi_has_the_same_scores(asked):
    some = asked[:100]
    for (_, documents), hits, expected in zip(
        some, BM25Okapi().rank_batch(some), reference(some), strict=True
    ):
        scores = {hit.id: hit.score for hit in hits}
        assert [scores[d.id] for d in documents] == pytest.approx(list(expected), abs=1e-9)
