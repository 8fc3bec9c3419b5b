"""Answers kept as they come: `answers-*.jsonl` in a run's folder, until its record is whole."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lamp_exp.contracts import PredictionJournal
from lamp_exp.values import Prediction, Prompt


class AnswerJournal(PredictionJournal):
    """The journal of one run: each process writes a file of its own, and reads them all.

    An answer is known by its question's id and by the prompt that was asked, so that another
    prompt is asked anew. A line that was cut off when the process was killed does not count.
    """

    def __init__(self, folder: Path, prompts: Sequence[Prompt]) -> None:
        """`prompts` are all that the run asks."""
        self.folder = folder
        self.prints = {prompt.id: _fingerprint(prompt) for prompt in prompts}
        self.own_file = folder / f"answers-{uuid.uuid4().hex}.jsonl"

    def read(self) -> Iterator[Prediction]:
        """What has been kept for these prompts so far, by any process."""
        for path in sorted(self.folder.glob("answers-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if not line.endswith("\n"):
                    continue  # cut off
                print_, *row = json.loads(line)
                if self.prints.get(row[0]) == print_:
                    yield Prediction(*row)

    def append(self, predictions: Iterable[Prediction]) -> None:
        """On disk when it returns."""
        rows = [[self.prints[p.id], p.id, p.output, p.tokens, p.capped] for p in predictions]
        with self.own_file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def remove_answers(folder: Path) -> None:
    """They are in the record now."""
    for path in folder.glob("answers-*.jsonl"):
        path.unlink()


def _fingerprint(prompt: Prompt) -> str:
    content = json.dumps([prompt.id, *prompt.passages])
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
