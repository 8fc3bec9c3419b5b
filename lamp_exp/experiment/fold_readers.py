"""Readers for feedback that have not seen the golds: each is fine-tuned on half of train's users.

A reader that was fine-tuned on train knows the answers to train's questions, whatever item it is
shown. With `feedback.folds=2`, the questions of a user are given to the reader that has learned
from the other half of the users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamp_exp.artefacts import Artefact, Cost
from lamp_exp.contracts import Task
from lamp_exp.data import Part
from lamp_exp.data.view import FOLDS, fold_of, is_held_out
from lamp_exp.errors import InputError, naming
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Reader
from lamp_exp.experiment.ranking import PartRanking
from lamp_exp.progress import progress
from lamp_exp.values import Prompt, TrainingSet
from lamp_exp.wording import count_of

CHECKPOINT = "checkpoint"  # the folder that a model's `fit` writes


@dataclass(frozen=True)
class FoldReader(Artefact):
    """A reader fine-tuned on the users of all folds but one, with the best item of each question.

    Its best epoch is chosen on the users among them who are held out.
    """

    kind = "reader"
    reader: Reader
    fold: int
    ranking: PartRanking

    @property
    def task(self) -> Task:
        return self.ranking.task

    @property
    def part(self) -> Part:
        return self.ranking.part

    def identity(self) -> dict[str, Any]:
        return {
            "fold": self.fold,
            "ranking": self.ranking.key,
            "reader": self.reader.settings,
            "training": self.reader.training,
            "epochs": self._epochs,
            "code": code_fingerprint(
                FoldReader, self.task, self.reader.augmentation, self.reader.model
            ),
        }

    @property
    def _epochs(self) -> int:
        return self.reader.trainer.max_epochs or self.task.training_epochs

    def cost(self) -> Cost:
        return Cost(self._epochs, "epoch", " over half of the users of train")

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        rankings, examples = self.ranking.rankings(), self.part.examples
        train: list[tuple[Prompt, str]] = []
        held_out: list[tuple[Prompt, str]] = []
        for row, example in enumerate(progress(examples, len(examples), "prompts")):
            if fold_of(example.user) != self.fold:
                prompt = self.reader.prompt(self.task, example, rankings.hits(row, example)[:1])
                pairs = held_out if is_held_out(example.user) else train
                pairs.append((prompt, str(example.target)))
        task = self.task
        data = TrainingSet(train, held_out, task.score, task.main_metric, self._epochs, folder)
        model = self.reader.build(None)
        with naming(model, "fit"):
            facts = model.fit(data, self.reader.one_process)
        return {"learned_from": len(train), "held_out": len(held_out), **facts}


def refuse_few_users(part: Part) -> None:
    """Raises InputError if a fold has no user to learn from, or none to choose epochs on."""
    users = set(part.examples.column("user"))
    for fold in range(FOLDS):
        learned_from = [user for user in users if fold_of(user) != fold]
        held_out = sum(map(is_held_out, learned_from))
        if not 0 < held_out < len(learned_from):
            raise InputError(
                f"feedback.folds={FOLDS}: {part.source} has {count_of(len(users), 'user')}, too "
                "few for readers that choose their epochs on held-out users: raise limit"
            )
