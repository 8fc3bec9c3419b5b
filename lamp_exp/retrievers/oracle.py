"""The bound of retrieval: the items with which the reader does best, by the golds themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lamp_exp.artefacts import Artefact, FitSource, LearnedRetriever, Made
from lamp_exp.contracts import Component, Retriever, VectorStore
from lamp_exp.storage.feedback import read_feedback, rewards_by_question
from lamp_exp.values import Document, Documents, Query, Ranking


class Oracle(LearnedRetriever):
    """Ranks a base retriever's best items by the reader's reward with each of them alone.

    Equal rewards, and the items without feedback, keep the order of the base retriever. It reads
    the golds of the questions that it ranks for: what it reaches is a bound.
    """

    is_bound = True
    batch_size = 500

    def __init__(self, base: Retriever) -> None:
        """`base` ranks the candidates."""
        self.base = base
        self.rewards: Mapping[str, Mapping[str, float]] | None = None
        self.fitted = ""

    @property
    def components(self) -> Sequence[Component]:
        return [self.base]

    def validate(self) -> None:
        self.validate_base(self.base)

    def artefacts(self, source: FitSource) -> Sequence[Artefact]:
        return [source.feedback(self.base)]

    def load(self, made: Sequence[Made]) -> None:
        (feedback,) = made
        self.rewards = rewards_by_question(read_feedback(feedback.folder))
        self.fitted = feedback.folder.name

    def use_vector_store(self, store: VectorStore) -> None:
        self.base.use_vector_store(store)

    def dependencies(self) -> dict[str, Any]:
        return {"fitted": self.fitted, "base": dict(self.base.dependencies())}

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        return next(self.rank_batch([(query, documents)]))

    def rank_batch(
        self, questions: Sequence[tuple[Query, Sequence[Document]]]
    ) -> Iterator[Ranking]:
        assert self.rewards is not None, "`load` is called before any ranking"
        for (query, documents), hits in zip(
            questions, self.base.rank_batch(questions), strict=True
        ):
            columns = Documents.of(documents)
            ranking = Ranking.of(columns.ids, hits)
            rewards = self.rewards.get(query.id, {})
            order = sorted(
                range(len(ranking)), key=lambda n: -rewards.get(ranking[n].id, float("-inf"))
            )
            scores = [-float(n) for n in range(len(order))]
            yield Ranking(columns.ids, [ranking.positions[n] for n in order], scores)

    def facts(self) -> dict[str, Any]:
        return {"base": dict(self.base.facts())}

    def take_counts(self) -> dict[str, Any]:
        counts = dict(self.base.take_counts())
        return {"base": counts} if counts else {}
