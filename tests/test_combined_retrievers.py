"""Retrievers that are built of others: fusion, decay by age, newest and most similar in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from lamp_exp.contracts import Retriever, sort_by_score
from lamp_exp.errors import InputError
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.options import changes_numbers
from lamp_exp.results.run_options import configuration_key, run_options
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.retrievers.recency import Recency
from lamp_exp.retrievers.recent_and_similar import RecentAndSimilar
from lamp_exp.retrievers.rrf import ReciprocalRankFusion
from lamp_exp.retrievers.time_decay import TimeDecay
from lamp_exp.values import Document, Query
from tests.conftest import build, minimal_result, name_of
from tests.test_retrievers import documents, ids

Q = Query("q", "")


class Fixed(Retriever):
    """Gives each document the score that is its text."""

    def rank(self, query, documents):
        return sort_by_score(documents, [float(document.text) for document in documents])


class Reversed(Retriever):
    """The profile's order, backwards."""

    def rank(self, query, documents):
        return sort_by_score(documents, range(len(documents)))


def dated(*days: int, texts: Sequence[str] = ()) -> list[Document]:
    """Documents of these days of 2020."""
    start = datetime(2020, 1, 1)
    texts = texts or ["0"] * len(days)
    return [
        Document(str(n), text, start + timedelta(days=day))
        for n, (day, text) in enumerate(zip(days, texts, strict=True))
    ]


def test_rank_fusion_adds_reciprocal_ranks():
    profile = documents("3", "1", "2")
    ranking = ReciprocalRankFusion({"a": Fixed(), "b": Reversed()}, c=60).rank(Q, profile)
    scores = {hit.id: hit.score for hit in ranking}
    assert scores == pytest.approx(
        {"0": 1 / 61 + 1 / 63, "1": 1 / 63 + 1 / 62, "2": 1 / 62 + 1 / 61}
    )
    assert ids(ranking) == ["2", "0", "1"]


def test_rank_fusion_of_one_retriever_keeps_its_order():
    profile = documents("3", "1", "3", "2")
    assert ids(ReciprocalRankFusion({"a": Fixed()}).rank(Q, profile)) == ids(
        Fixed().rank(Q, profile)
    )


def test_time_decay_weights_scaled_scores_by_days_to_the_newest_item():
    profile = dated(0, 10, 20, texts=["5", "1", "3"])
    ranking = TimeDecay(Fixed(), rate=0.1).rank(Q, profile)
    assert {hit.id: hit.score for hit in ranking} == pytest.approx(
        {"0": math.exp(-2), "1": 0.0, "2": 0.5}
    )
    assert ids(ranking) == ["2", "0", "1"]
    assert ids(TimeDecay(Fixed(), rate=0).rank(Q, profile)) == ["0", "2", "1"], "no decay"


@pytest.mark.parametrize(("scores", "expected"), [
    (["2", "2"], [1, 1]), (["-4", "4"], [0, 1]), (["-inf", "2"], [0, 1]),
    (["-inf", "-inf"], [0, 0]),
])  # fmt: skip
def test_scores_are_scaled_within_a_profile(scores, expected):
    hits = TimeDecay(Fixed(), rate=0).rank(Q, dated(0, 0, texts=scores))
    assert [hit.score for hit in sorted(hits)] == expected


def test_recent_and_similar_take_turns_without_repeats():
    profile = dated(1, 4, 3, 2, texts=["9", "8", "1", "0"])
    ranking = RecentAndSimilar(Fixed()).rank(Q, profile)
    assert ids(ranking) == ["1", "0", "2", "3"]  # newest 1; similar 0; newest 2, 1 is there; 3


@pytest.mark.parametrize("combined", [TimeDecay(Fixed()), RecentAndSimilar(Fixed())])
def test_retrievers_that_use_dates_refuse_an_item_without(combined):
    with pytest.raises(InputError, match="needs dates, but item '0'"):
        combined.rank(Q, documents("1"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["retriever=rrf", "retriever.of.contriever.name=.", "retriever.c=-1"],
            "retriever.c=-1 must be at least 0",
        ),
        (
            ["split=time", "retriever=time_decay", "retriever.of.name=.", "retriever.rate=-1"],
            "retriever.rate=-1 must be at least 0",
        ),
        (
            ["split=time", "retriever=time_decay", "retriever@retriever.of=none"],
            "a retriever in retriever.of ranks nothing",
        ),
        (["retriever=rrf", "retriever.of.bm25.k3=1"], "retriever.of.bm25.k3 is no option"),
        (["retriever=rrf", "retriever@retriever.of.bm25=bm52"], "did you mean bm25?"),
        (["retriever=time_decay", "retriever@retriever.of=bm25"], "use split=time"),
    ],
)
def test_a_combination_that_cannot_be_is_refused(lamp_exp, words, message):
    code, _, err = lamp_exp("task=lamp4", "mode=rank", "limit=4", *words)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_combination_is_known_by_its_parts(lamp_exp):
    """Another inner component, or another option of one, is another run; a device is not."""
    rank = ["task=lamp4", "split=time", "mode=rank", "limit=4", "retriever=time_decay"]
    bm25 = [*rank, "retriever@retriever.of=bm25"]
    others = ["retriever.of.k1=1.2", "retriever.rate=0.1", "retriever@retriever.of=bm25_okapi"]
    names = [name_of(*bm25), *(name_of(*bm25, other) for other in others)]
    assert len(set(names)) == len(names)
    code, out, err = lamp_exp(*bm25)
    assert code == 0, err
    assert out.splitlines()[-1].endswith(names[0])
    assert not changes_numbers("retriever.of.device", build(*rank)[0].usage)


def test_the_code_of_inner_components_counts():
    assert code_fingerprint(TimeDecay(Recency())) != code_fingerprint(TimeDecay(BM25()))


def test_reports_tell_runs_of_other_inner_retrievers_apart():
    """Also if these have no options of their own, or only a seed."""
    inner = "retriever@retriever.of"
    choices = {"task": "lamp4", "model": "tiny", "retriever": "time_decay"}
    keys = {
        configuration_key(run_options(minimal_result(k=2, choices={**choices, inner: name})))
        for name in ("recency", "random")
    }
    assert len(keys) == 2
