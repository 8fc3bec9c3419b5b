"""What retrievers read: for each question a query, and its profile as documents."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.contracts import Task
from lamp_exp.data.examples import Examples
from lamp_exp.errors import naming
from lamp_exp.values import Documents, ProfileItem, Query


def queries(
    task: Task, examples: Examples, start: int, stop: int, document_dates: bool = False
) -> list[tuple[Query, Documents]]:
    """Questions number `start` to `stop`; `document_dates` adds the dates to the documents."""
    block = examples.block(start, stop)
    questions = []
    for id, input, profile in zip(block.ids, block.inputs, block.profiles, strict=True):
        with naming(task, "query", id):
            query = Query(id, task.query(input))
        with naming(task, "document", id):
            questions.append((query, _documents(task, profile, document_dates)))
    return questions


def _documents(task: Task, profile: Sequence[ProfileItem], document_dates: bool) -> Documents:
    texts = list(map(task.document, profile))
    if document_dates:
        texts = [
            f"{text} date: {item.fields['date']}" if "date" in item.fields else text
            for text, item in zip(texts, profile, strict=True)
        ]
    return Documents([item.id for item in profile], texts, [item.date for item in profile])
