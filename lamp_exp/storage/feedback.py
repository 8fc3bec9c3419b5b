"""The file of a table of feedback: the reward of single items, question by question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lamp_exp.storage.arrow import number_array, string_array
from lamp_exp.storage.checksummed import ChecksummedFile, write_checksummed

TABLE = "feedback.arrow"
_COLUMNS = pa.schema(
    [
        ("question", pa.string()),
        ("item", pa.string()),
        ("rank", pa.int32()),  # of the base retriever, from 0 on
        ("reward", pa.float64()),
    ]
)
Row = tuple[str, str, int, float]  # question, item, rank from 0 on, reward


def write_feedback(folder: Path, rows: Sequence[Row]) -> None:
    """Writes the table of a folder; the rows of a question follow each other, best ranked first."""
    questions, items, ranks, rewards = zip(*rows, strict=True) if rows else ((), (), (), ())
    with write_checksummed(folder / TABLE, _COLUMNS) as write:
        write(
            string_array(questions),
            string_array(items),
            number_array(np.array(ranks, np.int32)),
            number_array(np.array(rewards, np.float64)),
        )


def read_feedback(folder: Path) -> list[Row]:
    """The rows of a folder's table. Raises Damaged if it has changed since it was written."""
    columns = ChecksummedFile.open(folder / TABLE).table.to_pydict()
    return list(zip(*(columns[field.name] for field in _COLUMNS), strict=True))


def rewards_by_question(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """The reward of each item, by question, in the order of the base ranking."""
    found: dict[str, dict[str, float]] = {}
    for question, item, _, reward in rows:
        found.setdefault(question, {})[item] = reward
    return found
