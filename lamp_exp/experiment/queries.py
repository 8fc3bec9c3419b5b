"""What retrievers are asked: for each example, a query and its profile as documents."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lamp_exp.contracts import Task
from lamp_exp.values import Document, Example, ProfileItem, Query


@dataclass(frozen=True, slots=True)
class Questions(Collection[tuple[Query, list[Document]]]):
    """Made from `examples` one by one, each time that they are iterated."""

    task: Task
    examples: Collection[Example]
    document_dates: bool = False

    def __len__(self) -> int:
        """As many as there are examples."""
        return len(self.examples)

    def __contains__(self, question: object) -> bool:
        """By search."""
        return any(one == question for one in self)

    def __iter__(self) -> Iterator[tuple[Query, list[Document]]]:
        """In the order of the examples."""
        for example in self.examples:
            documents = [self._document(item) for item in example.profile]
            yield Query(example.id, self.task.query(example.input)), documents

    def _document(self, item: ProfileItem) -> Document:
        text = self.task.document(item)
        if self.document_dates and "date" in item.fields:
            text = f"{text} date: {item.fields['date']}"
        return Document(item.id, text, item.date)
