"""Feedback: what a reader makes of single items of the profile, as a table of rewards.

For each of the items that a base retriever ranks best, the prompt with that item alone is given to
a reader, as in ROPG (arXiv 2404.05970). The reward is the task's metric of its answer, or the log
likelihood of the gold, which takes one forward pass and no decoding.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lamp_exp.artefacts import WORK, Artefact, Cost
from lamp_exp.contracts import Model, Task
from lamp_exp.data import Part
from lamp_exp.data.view import FOLDS, fold_of
from lamp_exp.errors import InputError, naming
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Reader
from lamp_exp.experiment.fold_readers import CHECKPOINT, FoldReader, refuse_few_users
from lamp_exp.experiment.ranking import PartRanking, Rankings
from lamp_exp.progress import progress
from lamp_exp.results.journal import AnswerJournal
from lamp_exp.storage import atomic
from lamp_exp.storage.feedback import Row, write_feedback
from lamp_exp.values import Example, Prompt

METRIC, LIKELIHOOD = "metric", "likelihood"
QUESTIONS_AT_ONCE = 128  # what a killed process repeats at most, for likelihoods


@dataclass(frozen=True)
class Feedback(Artefact):
    """The rewards of the best items of a base retriever, for the questions of a part with golds.

    `ranking` is that of the base retriever. `task_choice` is the name of the task's option. The
    table does not depend on batch size, on the order of the questions, or on k.
    """

    kind = "feedback"
    reader: Reader
    task_choice: str
    ranking: PartRanking

    @property
    def task(self) -> Task:
        return self.ranking.task

    @property
    def part(self) -> Part:
        return self.ranking.part

    def identity(self) -> dict[str, Any]:
        feedback = self.reader.feedback
        return {
            "ranking": self.ranking.key,
            "items": feedback.items,
            "reward": feedback.reward,
            "reader": self.reader.settings,
            "readers": [dict(one.identity()) for one in self.requires()],
            "code": code_fingerprint(
                Feedback, self.task, self.reader.augmentation, self.reader.model
            ),
        }

    def requires(self) -> list[FoldReader]:
        """The readers of each fold, if the questions are crossed."""
        folds = self.reader.feedback.folds
        return [FoldReader(self.reader, n, self.ranking) for n in range(folds) if folds > 1]

    def cost(self) -> Cost:
        prompts = len(self.part.examples) * self.reader.feedback.items
        return Cost(prompts, "prompt", " at most, each with one item")

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        """Chunk after chunk; finished chunks, and single answers, are kept when it is killed."""
        readers = [self.reader.build(str(one / CHECKPOINT)) for one in required]
        models = readers or [self.reader.model]
        rankings, examples = self.ranking.rankings(), self.part.examples
        starts = range(0, len(examples), QUESTIONS_AT_ONCE)
        counts = Counter[str]()
        rows: list[Row] = []
        for start in progress(starts, len(starts), "feedback"):
            place = folder / WORK / f"questions-{start:08}.json"
            chunk = atomic.read_json_or_none(place)
            if chunk is None:
                answers = folder / WORK / "answers"
                chunk = self._chunk(models, rankings, start, answers)
                atomic.write_json(place, chunk)
                shutil.rmtree(answers, ignore_errors=True)
            rows += map(tuple, chunk["rows"])
            counts.update(chunk["counts"])
        write_feedback(folder, rows)
        read = {"read_to_rank": rankings.counts} if rankings.counts else {}
        return {**_facts(rows, self.part), **counts, **read, **reader_facts(self)}

    def _chunk(
        self, models: Sequence[Model], rankings: Rankings, start: int, answers: Path
    ) -> dict[str, Any]:
        """The rewards of some questions, and counts over their prompts."""
        examples = self.part.examples[start : start + QUESTIONS_AT_ONCE]
        most = self.reader.feedback.items
        rows: list[tuple[str, str, int]] = []
        prompts: list[Prompt] = []
        for number, example in enumerate(examples, start):
            for rank, hit in enumerate(rankings.hits(number, example)[:most]):
                rows.append((example.id, hit.id, rank))
                prompt = self.reader.prompt(self.task, example, [hit])
                prompts.append(replace(prompt, id=f"{example.id}#{rank}"))
        of = {example.id: example for example in examples}
        asked = [of[id] for id, _, _ in rows]
        rewards = [0.0] * len(rows)
        for fold, model in enumerate(models):
            crossed = len(models) > 1
            share = [n for n, e in enumerate(asked) if not crossed or fold_of(e.user) == fold]
            few = [asked[n] for n in share], [prompts[n] for n in share]
            values = self._rewards(model, *few, answers / str(fold)) if share else []
            for n, value in zip(share, values, strict=True):
                rewards[n] = value
        counts = {
            "items_that_did_not_fit": sum(prompt.lost_items for prompt in prompts),
            "texts_cut": sum(prompt.cut_texts for prompt in prompts),
        }
        return {"rows": [[*row, r] for row, r in zip(rows, rewards, strict=True)], "counts": counts}

    def _rewards(
        self, model: Model, asked: Sequence[Example], prompts: Sequence[Prompt], answers: Path
    ) -> list[float]:
        """The rewards of the prompts, each of which is of the question in the same place."""
        if self.reader.feedback.reward == METRIC:
            return self._metric_rewards(model, asked, prompts, answers)
        return self._likelihoods(model, asked, prompts)

    def _metric_rewards(
        self, model: Model, asked: Sequence[Example], prompts: Sequence[Prompt], answers: Path
    ) -> list[float]:
        answers.mkdir(parents=True, exist_ok=True)
        journal = AnswerJournal(answers, prompts)
        with naming(model, "predict"):
            predictions = model.predict(prompts, self.reader.one_process, journal)
        outputs = [prediction.output for prediction in predictions]
        return self.task.rewards(outputs, [str(example.target) for example in asked])

    def _likelihoods(
        self, model: Model, asked: Sequence[Example], prompts: Sequence[Prompt]
    ) -> list[float]:
        groups: dict[str, tuple[list[Prompt], str]] = {}
        for example, prompt in zip(asked, prompts, strict=True):
            groups.setdefault(example.id, ([], str(example.target)))[0].append(prompt)
        with naming(model, "log_likelihoods"):
            values = model.log_likelihoods(list(groups.values()), self.reader.one_process)
        return [value for group in values for value in group]


def validate_reader(reader: Reader, part: Part) -> None:
    """Raises InputError for a reader that cannot give feedback on a part."""
    model, reward = reader.model, reader.feedback.reward
    if not part.has_golds:
        raise InputError(
            f"feedback compares answers with golds, but {part.source} has no outputs file beside it"
        )
    crossed = reader.feedback.folds > 1
    if model.has_random_weights and not crossed:
        raise InputError(
            "the feedback of random weights says nothing: name a fine-tuned reader, "
            f"reader.name=RUN/checkpoint, or let them learn: feedback.folds={FOLDS}"
        )
    if crossed:
        refuse_few_users(part)
    if reward == LIKELIHOOD and not model.gives_likelihoods:
        raise InputError(
            f"feedback.reward={LIKELIHOOD}: this model gives answers only: use "
            f"feedback.reward={METRIC}, or another reader.model"
        )
    if reader.augmentation.multiple_passages and not model.multiple_passages:
        raise InputError("augmentation=fid needs an encoder-decoder as reader: use ipa")
    model.validate(crossed, reader.trainer.precision, reader.one_process)


def reader_facts(feedback: Feedback) -> dict[str, Any]:
    """The reader's own facts; `saw_these_golds` if it was fine-tuned on the part it rewards.

    Readers of folds that start from such a checkpoint have seen them, too.
    """
    trained, reading = feedback.reader.checkpoint, feedback.part.reading
    seen = (
        trained.get("task") == feedback.task_choice
        and trained.get("split") == reading["split"]
        and reading["part"] == "train"
    )
    return {"reader": dict(feedback.reader.model.facts()), "saw_these_golds": seen}


def _facts(rows: Sequence[Row], part: Part) -> dict[str, Any]:
    """Counts of questions, and mean rewards over those that have items."""
    by_question: dict[str, list[float]] = {}
    for question, _, _, reward in rows:
        by_question.setdefault(question, []).append(reward)
    lists = list(by_question.values())
    first, best, all_items = (
        float(np.mean([choose(rewards) for rewards in lists])) if lists else None
        for choose in (lambda rewards: rewards[0], max, np.mean)
    )
    return {
        "questions": len(part.examples),
        "questions_without_items": len(part.examples) - len(lists),
        "questions_with_equal_rewards": sum(min(r) == max(r) for r in lists),
        "prompts": len(rows),
        "mean_reward_of_first_item": first,
        "mean_reward_of_best_item": best,
        "mean_reward": all_items,
    }
