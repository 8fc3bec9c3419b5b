"""Feedback: what a reader makes of single items of the profile, as a table of rewards.

For each of the items that a base retriever ranks best, the prompt with that item alone is given to
a reader, as in ROPG (arXiv 2404.05970). The reward is the task's metric of its answer, or the log
likelihood of the gold, which takes one forward pass and no decoding.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lamp_exp.artefacts import Artefact, Cost
from lamp_exp.contracts import Task
from lamp_exp.data import Part
from lamp_exp.errors import InputError, naming
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Reader
from lamp_exp.experiment.ranking import Rankings
from lamp_exp.progress import progress
from lamp_exp.results.journal import AnswerJournal
from lamp_exp.storage import atomic
from lamp_exp.storage.feedback import Row, write_feedback
from lamp_exp.values import Example, Hit, Prompt

METRIC, LIKELIHOOD = "metric", "likelihood"
QUESTIONS_AT_ONCE = 128  # what a killed process repeats at most, for likelihoods


@dataclass(frozen=True)
class Feedback(Artefact):
    """The rewards of the best items of a base retriever, for the questions of a part with golds.

    `rank` makes the rankings, of which `ranking_key` is all that decides them. The table does not
    depend on batch size, on the order of the questions, or on k.
    """

    kind = "feedback"
    reader: Reader
    task: Task
    part: Part
    ranking_key: Mapping[str, Any]
    rank: Callable[[], Rankings]

    def identity(self) -> dict[str, Any]:
        feedback = self.reader.feedback
        return {
            "ranking": self.ranking_key,
            "items": feedback.items,
            "reward": feedback.reward,
            "reader": self.reader.settings,
            "code": code_fingerprint(
                Feedback, self.task, self.reader.augmentation, self.reader.model
            ),
        }

    def cost(self) -> Cost:
        prompts = len(self.part.examples) * self.reader.feedback.items
        return Cost(prompts, "prompts at most, each with one item")

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        """Chunk after chunk; finished chunks, and single answers, are kept when it is killed."""
        rankings, examples = self.rank(), self.part.examples
        starts = range(0, len(examples), QUESTIONS_AT_ONCE)
        counts = Counter[str]()
        rows: list[Row] = []
        for start in progress(starts, len(starts), "feedback"):
            place = folder / f"questions-{start:08}.json"
            chunk = atomic.read_json_or_none(place)
            if chunk is None:
                chunk = self._chunk(rankings, start, folder / "answers")
                atomic.write_json(place, chunk)
                shutil.rmtree(folder / "answers", ignore_errors=True)
            rows += map(tuple, chunk["rows"])
            counts.update(chunk["counts"])
        write_feedback(folder, rows)
        for start in starts:
            (folder / f"questions-{start:08}.json").unlink()
        return {**_facts(rows, self.part), **counts, **reader_facts(self.reader, self.part)}

    def _chunk(self, rankings: Rankings, start: int, answers: Path) -> dict[str, Any]:
        """The rewards of some questions, and counts over their prompts."""
        examples = self.part.examples[start : start + QUESTIONS_AT_ONCE]
        most = self.reader.feedback.items
        rows: list[tuple[str, str, int]] = []
        prompts: list[Prompt] = []
        for number, example in enumerate(examples, start):
            for rank, hit in enumerate(rankings.hits(number, example)[:most]):
                rows.append((example.id, hit.id, rank))
                prompts.append(single_item_prompt(self.reader, self.task, example, hit))
        golds = {example.id: example.target for example in examples}
        targets = [str(golds[id]) for id, _, _ in rows]
        if self.reader.feedback.reward == METRIC:
            rewards = self._metric_rewards(prompts, targets, answers)
        else:
            rewards = self._likelihoods(prompts, targets)
        counts = {
            "items_that_did_not_fit": sum(prompt.lost_items for prompt in prompts),
            "texts_cut": sum(prompt.cut_texts for prompt in prompts),
        }
        return {"rows": [[*row, r] for row, r in zip(rows, rewards, strict=True)], "counts": counts}

    def _metric_rewards(
        self, prompts: Sequence[Prompt], targets: Sequence[str], answers: Path
    ) -> list[float]:
        if not prompts:
            return []
        numbered = [replace(p, id=f"{p.id}#{number}") for number, p in enumerate(prompts)]
        answers.mkdir(exist_ok=True)
        model, journal = self.reader.model, AnswerJournal(answers, numbered)
        with naming(model, "predict"):
            predictions = model.predict(numbered, reader_trainer(self.reader), journal)
        return self.task.rewards([prediction.output for prediction in predictions], targets)

    def _likelihoods(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> list[float]:
        groups: dict[str, tuple[list[Prompt], str]] = {}
        for prompt, target in zip(prompts, targets, strict=True):
            groups.setdefault(prompt.id, ([], target))[0].append(prompt)
        model = self.reader.model
        with naming(model, "log_likelihoods"):
            values = model.log_likelihoods(list(groups.values()), reader_trainer(self.reader))
        return [value for group in values for value in group]


def single_item_prompt(reader: Reader, task: Task, example: Example, hit: Hit) -> Prompt:
    """What the reader reads for a question with one item."""
    with naming(reader.augmentation, "__call__", example.id):
        counter = reader.model.token_counter
        return reader.augmentation(task, example, [hit], counter, reader.max_length)


def reader_trainer(reader: Reader) -> Callable[..., Any]:
    """Lightning's trainer for a reader: one process, without files and bars of its own."""
    alone = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    return partial(reader.trainer.build, **alone, logger=False, enable_progress_bar=False)


def validate_reader(reader: Reader, part: Part) -> None:
    """Raises InputError for a reader that cannot give feedback on a part."""
    model, reward = reader.model, reader.feedback.reward
    if not part.has_golds:
        raise InputError(
            f"feedback compares answers with golds, but {part.source} has no outputs file beside it"
        )
    if model.has_random_weights:
        raise InputError(
            "the feedback of random weights says nothing: name a fine-tuned reader, "
            "reader.name=RUN/checkpoint"
        )
    if reward == LIKELIHOOD and not model.gives_likelihoods:
        raise InputError(
            f"feedback.reward={LIKELIHOOD}: this model gives answers only: use "
            f"feedback.reward={METRIC}, or another reader.model"
        )
    if reader.augmentation.multiple_passages and not model.multiple_passages:
        raise InputError("augmentation=fid needs an encoder-decoder as reader: use ipa")
    model.validate(False, reader.trainer.precision, reader_trainer(reader))


def reader_facts(reader: Reader, part: Part) -> dict[str, Any]:
    """The reader's own facts; `saw_these_golds` if it was fine-tuned on the part it rewards."""
    trained, reading = reader.checkpoint, part.reading
    seen = (
        bool(trained)
        and reading.get("part") == "train"
        and trained.get("split") == reading.get("split")
    )
    return {"reader": dict(reader.model.facts()), "saw_these_golds": seen}


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
