"""Makes a retriever's input: a query per question, its profile as documents."""

from __future__ import annotations

from itertools import islice

from lamp_exp.contracts import Task
from lamp_exp.data.examples import Examples
from lamp_exp.errors import naming
from lamp_exp.storage.arrow import strings
from lamp_exp.values import Documents, ProfileItem, Query


def queries(
    task: Task, examples: Examples, start: int, stop: int, document_dates: bool = False
) -> list[tuple[Query, Documents]]:
    """Questions number `start` to `stop`; `document_dates` adds the dates to the documents."""
    block = examples.block(start, stop)
    item_ids = block.profiles.split(strings(block.profiles.ids))
    dates = block.profiles.split(block.profiles.dates.tolist())
    questions = []
    for id, input, ids, days in zip(block.ids, block.inputs, item_ids, dates, strict=True):
        with naming(task, "query", id):
            query = Query(id, task.query(input))
        with naming(task, "document", id):
            profile = islice(block.items, len(ids))  # an item is made when its text is needed
            if document_dates:
                texts = [_with_date(task.document(item), item) for item in profile]
            else:
                texts = list(map(task.document, profile))
        questions.append((query, Documents(ids, texts, days)))
    return questions


def _with_date(text: str, item: ProfileItem) -> str:
    return f"{text} date: {item.fields['date']}" if "date" in item.fields else text
