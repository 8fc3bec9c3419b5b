"""What learned retrievers reach on the made-up sample, from an untrained encoder.

Rewards are those of a reader that was fine-tuned with BM25's best item. The headroom is what the
best item of each profile (the oracle) has over the untrained encoder's first.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
import pytest

from lamp_exp.experiment.learning import PartSource, store_of
from lamp_exp.experiment.queries import queries
from lamp_exp.experiment.stages import read_parts
from lamp_exp.storage.feedback import read_feedback, rewards_by_question
from lamp_exp.values import RewardedList
from tests.conftest import build, recorded

QUESTIONS, WHOLE_PROFILE = 500, 64
SEEDS = (0, 1, 2)
TASKS = {"lamp4": "rouge_1", "lamp2": "accuracy"}


@dataclass(frozen=True)
class Sample:
    """The first questions of a task's train and dev, and a reader's rewards."""

    task: str
    reader: Path

    def source(self, part: str, *words: str) -> PartSource:
        experiment, configuration = build(
            f"task={self.task}", f"part={part}", f"limit={QUESTIONS}", f"reader.name={self.reader}",
            "model=tiny", "trainer=cpu", "max_new_tokens=16", "predict_batch_size=64", *words,
        )  # fmt: skip
        assert experiment.reader
        part_read = read_parts(experiment).asked
        return PartSource(experiment, configuration, part_read, experiment.reader)

    def lists(self, reward: str) -> list[RewardedList]:
        """BM25's 16 best items of each question of train."""
        source = self.source("train", "mode=rank", "retriever=oracle", f"feedback.reward={reward}",
                             "retriever@retriever.base=bm25")  # fmt: skip
        feedback = source.feedback(source.experiment.retrieval.retriever.base)
        return source.rewarded_lists(store_of(source.experiment).make(feedback).folder)

    @cached_property
    def dev_rewards(self) -> dict[str, dict[str, float]]:
        """Of each item of each profile of dev, BM25's best first."""
        source = self.source(
            "dev", "mode=feedback", "retriever=bm25", f"feedback.items={WHOLE_PROFILE}"
        )
        made = store_of(source.experiment).make(source.own_feedback())
        return rewards_by_question(read_feedback(made.folder))

    @property
    def oracle(self) -> float:
        return float(np.mean([max(rewards.values()) for rewards in self.dev_rewards.values()]))

    @property
    def bm25(self) -> float:
        return float(np.mean([next(iter(r.values())) for r in self.dev_rewards.values()]))

    def first(self, retriever) -> float:
        """The mean reward of a retriever's first item on dev."""
        source = self.source("dev", "mode=feedback", "retriever=bm25")
        examples = source.part.examples
        questions = queries(source.experiment.task, examples, 0, len(examples))
        ranked = zip(questions, retriever.rank_batch(questions), strict=True)
        first = [(query.id, hits[0].id) for (query, _), hits in ranked if hits]
        return float(np.mean([self.dev_rewards[question][item] for question, item in first]))


def shuffled(lists: list[RewardedList]) -> list[RewardedList]:
    """The rewards of each question in another order."""
    return [
        replace(one, rewards=Random(one.question).sample(one.rewards, len(one.rewards)))
        for one in lists
    ]


def fitted(method: str, seed: int, lists: list[RewardedList], folder: Path):
    """A retriever that has learned, and one of the same start that has not."""
    made = []
    for epochs, some in ((None, lists), (1, [])):
        words = [] if epochs is None else [f"retriever.epochs={epochs}"]
        retriever = build(
            "mode=rank", f"retriever={method}_fresh", f"seed={seed}", "model=tiny", *words
        )[0].retrieval.retriever
        place = folder / f"{method}-{seed}-{epochs}"
        (place / "work").mkdir(parents=True)
        retriever.fit(some, place)
        retriever.fitted = place
        made.append(retriever)
    return made


def share_used(sample: Sample, method: str, seed: int, lists, folder: Path) -> tuple[float, float]:
    """The share of the headroom that is used, and the mean reward of the first item."""
    learned, start = (sample.first(one) for one in fitted(method, seed, lists, folder))
    return (learned - start) / (sample.oracle - start), learned


@pytest.fixture(scope="module", params=sorted(TASKS))
def sample(request, tmp_path_factory) -> Sample:
    """A task, and a reader that reaches .95 alone."""
    task, folder = request.param, tmp_path_factory.mktemp("reader")
    words = ["experiment=first", f"task={task}", "retriever=bm25", "augmentation=ipa", "k=1"]
    words += ["trainer.max_epochs=16"]
    command = [sys.executable, "-m", "lamp_exp", *words, f"output_dir={folder}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    run = Path(ended.stdout.splitlines()[-1])
    assert recorded(run)["metrics"][TASKS[task]] >= 0.95
    return Sample(task, run / "checkpoint")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "least"), [("ropg_kd", 0.90), ("ropg_rl", 0.80)])
def test_an_untrained_encoder_learns_to_find_what_the_reader_needs(sample, method, least, tmp_path):
    lists = sample.lists("metric")
    for seed in SEEDS:
        share, reward = share_used(sample, method, seed, lists, tmp_path)
        print(sample.task, method, seed, share, reward, sample.bm25, sample.oracle)
        assert share >= least
        if method == "ropg_kd":
            assert reward >= sample.bm25 - 0.01


@pytest.mark.slow
def test_likelihoods_teach_as_well_as_the_metric(sample, tmp_path):
    for seed in SEEDS:
        by_metric, by_likelihood = (
            share_used(sample, "ropg_kd", seed, sample.lists(reward), tmp_path / reward)[0]
            for reward in ("metric", "likelihood")
        )
        print(sample.task, seed, by_metric, by_likelihood)
        assert by_likelihood >= by_metric - 0.10


@pytest.mark.slow
def test_shuffled_rewards_teach_nothing(sample, tmp_path):
    lists = shuffled(sample.lists("metric"))
    for seed in SEEDS:
        share, _ = share_used(sample, "ropg_kd", seed, lists, tmp_path)
        print(sample.task, seed, share)
        assert share <= 0.15
