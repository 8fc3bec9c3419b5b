"""Saves each answer as it arrives, so that an interrupted run can resume."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from lamp_exp.contracts import PredictionJournal
from lamp_exp.storage.atomic import append_text
from lamp_exp.values import Prediction, Prompt

log = logging.getLogger("lamp_exp")


class AnswerJournal(PredictionJournal):
    """The journal of one run: each process writes a file of its own, and reads all files.

    An answer is identified by its question's id and by the prompt, so that a changed prompt is
    asked again. A last line that was cut off when a process was killed does not count; other lines
    that cannot be read are damage, which a warning names.
    """

    def __init__(self, folder: Path, prompts: Sequence[Prompt]) -> None:
        """`prompts` are all prompts of the run."""
        self.folder = folder
        self.fingerprints = {prompt.id: _fingerprint(prompt) for prompt in prompts}
        self.own_file = folder / f"answers-{uuid.uuid4().hex}.jsonl"

    def read(self) -> Iterator[Prediction]:
        """The answers to these prompts so far, by any process."""
        for path in sorted(self.folder.glob("answers-*.jsonl")):
            for fingerprint, prediction in _read_lines(path):
                if self.fingerprints.get(prediction.id) == fingerprint:
                    yield prediction

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Stores answers; they are on the disk when it returns."""
        rows = [[self.fingerprints[p.id], *astuple(p)] for p in predictions]
        append_text(self.own_file, "".join(json.dumps(row) + "\n" for row in rows))


def remove_answers(folder: Path) -> None:
    """Removes all journals of a run, once its record holds the answers."""
    for path in folder.glob("answers-*.jsonl"):
        path.unlink()


def _read_lines(path: Path) -> Iterator[tuple[str, Prediction]]:
    """The undamaged lines of a journal: each prompt's fingerprint, and the answer."""
    *lines, last = path.read_bytes().split(b"\n")
    damaged = last.count(b"\0") > 0
    for line in lines:
        try:
            fingerprint, *values = json.loads(line)
            yield fingerprint, Prediction(*values)
        except (ValueError, TypeError):
            damaged = True
    if damaged:
        log.warning("%s is damaged: what it lacks is asked again", path)


def _fingerprint(prompt: Prompt) -> str:
    content = json.dumps([prompt.id, *prompt.passages])
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
