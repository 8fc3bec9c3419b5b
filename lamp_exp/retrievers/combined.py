"""The base class of retrievers that are built of other retrievers.

Their YAML names the others by Hydra's packages, so that each keeps its options:
`retriever.of.bm25.k1=1.2`, or `retriever@retriever.of=bm25` for another one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lamp_exp.contracts import Component, Retriever, VectorStore
from lamp_exp.errors import InputError
from lamp_exp.values import Document, Documents, Query, Ranking


class Combined(Retriever):
    """Combines the rankings of other retrievers, which are given by name."""

    batch_size = 500  # encoders sort so many texts by length

    def __init__(self, of: Mapping[str, Retriever]) -> None:
        self.of = dict(of)

    @abstractmethod
    def combine(self, query: Query, documents: Documents, rankings: list[Ranking]) -> Ranking:
        """The final ranking, given those of the other retrievers, in their order."""

    @property
    def components(self) -> Sequence[Component]:
        return list(self.of.values())

    def validate(self) -> None:
        for retriever in self.of.values():
            if not retriever.uses_profile:
                raise InputError("a retriever in retriever.of ranks nothing: choose another one")
            retriever.validate()

    def use_vector_store(self, store: VectorStore) -> None:
        for retriever in self.of.values():
            retriever.use_vector_store(store)

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        return next(self.rank_batch([(query, documents)]))

    def rank_batch(
        self, questions: Sequence[tuple[Query, Sequence[Document]]]
    ) -> Iterator[Ranking]:
        rankings = [retriever.rank_batch(questions) for retriever in self.of.values()]
        for (query, documents), *hits in zip(questions, *rankings, strict=True):
            columns = Documents.of(documents)
            yield self.combine(query, columns, [Ranking.of(columns.ids, one) for one in hits])

    def dependencies(self) -> dict[str, Any]:
        return {name: dict(retriever.dependencies()) for name, retriever in self.of.items()}

    def facts(self) -> dict[str, Any]:
        return {name: facts for name, one in self.of.items() if (facts := dict(one.facts()))}

    def take_counts(self) -> dict[str, Any]:
        counts = {name: dict(retriever.take_counts()) for name, retriever in self.of.items()}
        return {name: one for name, one in counts.items() if one}
