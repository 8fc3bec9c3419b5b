"""The base of routers that train a cross-encoder on the candidates' results.

RSPG (Salemi, Kallumadi and Zamani, SIGIR 2024, arXiv 2404.05970): a sequence classifier gives one
number to what a candidate made of a question. The probability of a candidate is the softmax of
these numbers, and is trained towards the softmax of the candidates' metrics.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
)
from transformers.utils import logging as transformers_logging

from lamp_exp.artefacts import Artefact, Cost, Made, Router, RouterSource
from lamp_exp.contracts import Task
from lamp_exp.errors import InputError
from lamp_exp.hub import LOAD_ERRORS, check_vocabulary, load_error, only_local_files
from lamp_exp.models.batches import in_parts, length_groups
from lamp_exp.models.distillation import distillation_loss
from lamp_exp.models.epochs import EpochFit, EpochOptions
from lamp_exp.models.threads import limit_threads, threads_restored
from lamp_exp.progress import progress
from lamp_exp.retrievers.encoder import fresh_bert, longest_input
from lamp_exp.values import Choice, RoutedQuestion
from lamp_exp.wording import count_of

CLASSIFIER = "classifier"  # the folder of the fitted classifier
BATCH_TOKENS, BATCH_TOKENS_ON_CPU = 16_384, 4_096
TEXTS_AT_ONCE = 512  # that are tokenized together
EQUAL = 1e-6  # probabilities that differ by less are equal: the first candidate is taken
Text = tuple[str, ...]  # a text, or a pair of texts
Row = Mapping[str, Sequence[int]]  # a tokenized text


class CrossEncoder(Router):
    """Trains a sequence classifier with one output, and takes the most probable candidate.

    Epoch 0 is the classifier as it was. After each epoch, the mean reward of the chosen candidates
    is computed for the users of train who are held out; the best epoch is kept, of equal ones the
    one with the highest expected reward, then the earliest. Dropout is off, so that results do not
    depend on how texts are divided into batches. Questions whose candidates all did equally well
    have no preference: they are counted, and not learned from. Unlike the published code, the
    temperature divides the numbers before the softmax, and the best epoch is kept.
    """

    def __init__(
        self,
        candidates: Mapping[str, Mapping[str, Any] | None],
        folds: int,
        name: str | None,
        epochs: int,
        lr: float,
        batch_questions: int,
        warmup: float,
        temperature: float,
        target_temperature: float,
        max_length: int,
        fresh: Mapping[str, Any] | None = None,
        seed: int = 0,
        batch_tokens: int | None = None,
        device: str | None = None,
    ) -> None:
        """`name` is the classifier to start from, a hub id or a folder.

        `fresh` describes a BERT with random weights (fields of BertConfig) and the vocabulary of
        the made-up sample, which is used instead of `name`. `temperature` divides the classifier's
        numbers, `target_temperature` the rewards. `warmup` is a share of the steps. `folds` of the
        users of train are crossed for the candidates, not for the classifier.
        """
        self.candidates = candidates
        self._folds = folds
        self.name = name
        self.epoch_options = EpochOptions(epochs, lr, batch_questions, warmup, seed)
        self.temperature = temperature
        self.target_temperature = target_temperature
        self.max_length = max_length
        self.fresh = fresh
        self.seed = seed
        self.batch_tokens = batch_tokens
        self.device = device
        self.fitted: Path | None = None
        self.texts_cut = 0

    @abstractmethod
    def text(self, question: RoutedQuestion, candidate: int) -> Text:
        """What the classifier reads of a candidate."""

    # --- the contract --------------------------------------------------------------------------

    @property
    def learns(self) -> bool:
        return True

    @property
    def folds(self) -> int:
        return self._folds

    def validate(self, candidates: Sequence[str]) -> None:
        """Refuses options out of range, and a classifier that cannot be loaded."""
        self.epoch_options.validate("router")
        for option in ("temperature", "target_temperature"):
            if not getattr(self, option) > 0:
                raise InputError(f"router.{option}={getattr(self, option)} must be above 0")
        if self.folds not in (1, 2):
            raise InputError(f"router.folds={self.folds} must be 1 or 2")
        self.start()

    def artefacts(self, source: RouterSource) -> Sequence[Artefact]:
        return [FittedRouter(self, source)]

    def load(self, source: RouterSource, made: Sequence[Made]) -> None:
        (fitted,) = made
        self.fitted = fitted.folder

    def choose(
        self, task: Task, candidates: Sequence[str], questions: Sequence[RoutedQuestion]
    ) -> list[Choice]:
        with threads_restored():
            limit_threads(self.classifier.network, self.classifier.device)
            rows, self.texts_cut = self.classifier.tokenize(self._texts(questions))
            scores = self.classifier.scores(rows).view(len(questions), -1) / self.temperature
        return [Choice(first_best(p), tuple(p)) for p in scores.double().softmax(dim=-1).tolist()]

    def facts(self) -> dict[str, Any]:
        return {"texts_cut": self.texts_cut, "device": str(self.classifier.device)}

    # --- the classifier ------------------------------------------------------------------------

    @cached_property
    def classifier(self) -> Classifier:
        """The fitted one."""
        assert self.fitted is not None, "`load` is called before any choice"
        return self._load(str(self.fitted / CLASSIFIER))

    def start(self) -> Classifier:
        """The classifier before it has learned anything; its new weights depend on the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.fresh is not None:
                tokenizer, config = fresh_bert(self.fresh, self.max_length, num_labels=1)
                return self._classifier(tokenizer, BertForSequenceClassification(config))
            if self.name is None:
                raise InputError("router.name must name a sequence classifier: it has no default")
            return self._load(self.name)

    def _load(self, name: str) -> Classifier:
        """A classifier with one output. Raises InputError if it cannot be loaded."""
        transformers_logging.disable_progress_bar()  # of loading, which takes no time
        local = {"local_files_only": only_local_files(name)}
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, **local)
            network = AutoModelForSequenceClassification.from_pretrained(
                name, num_labels=1, ignore_mismatched_sizes=True, **local
            )
        except LOAD_ERRORS as error:
            raise load_error("router.name", name, "sequence classifier", error) from error
        embeddings = network.get_input_embeddings().num_embeddings
        check_vocabulary(tokenizer, f"router.name={name}", embeddings)
        if tokenizer.pad_token is None:
            raise InputError(f"router.name={name}: its tokenizer has no pad_token")
        longest = longest_input(network)
        if longest is not None and self.max_length > longest:
            raise InputError(
                f"router.max_length={self.max_length}: {name} reads at most {longest} tokens"
            )
        return self._classifier(tokenizer, network)

    def _classifier(self, tokenizer: Any, network: Any) -> Classifier:
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        network.to(device).eval()
        own = BATCH_TOKENS if network.device.type == "cuda" else BATCH_TOKENS_ON_CPU
        return Classifier(tokenizer, network, self.max_length, self.batch_tokens or own)

    def _texts(self, questions: Sequence[RoutedQuestion]) -> list[Text]:
        """The texts of all candidates of the questions, question by question."""
        return [self.text(one, n) for one in questions for n in range(len(one.outputs))]

    def fit(self, questions: Sequence[RoutedQuestion], folder: Path) -> dict[str, Any]:
        """Trains on users who are not held out; saves the best classifier in `folder`.

        Goes on after the last epoch that an interrupted call has finished. Returns facts.
        """
        ordered = sorted(questions, key=lambda one: one.id)  # whatever their order is
        with threads_restored():
            classifier = self.start()
            rows, cut = classifier.tokenize(self._texts(ordered))
            fit = _Fit(self, classifier, list(_with_rows(ordered, rows)), folder)
            return {**fit.fit(), "texts_cut": cut}


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier with one output, and its tokenizer."""

    tokenizer: Any
    network: Any
    max_length: int
    batch_tokens: int

    @property
    def device(self) -> torch.device:
        return torch.device(self.network.device)

    def tokenize(self, texts: Sequence[Text]) -> tuple[list[Row], int]:
        """The texts as tokens, equal texts as one object; and how many of the texts were cut.

        Of a pair that is too long, the longer text is cut.
        """
        distinct = list(dict.fromkeys(texts))
        rows: dict[Text, Row] = {}
        cut: set[Text] = set()
        starts = range(0, len(distinct), TEXTS_AT_ONCE)
        for start in progress(starts, len(starts), "tokenize"):
            some = distinct[start : start + TEXTS_AT_ONCE]
            parts = [[_valid(part) for part in column] for column in zip(*some, strict=True)]
            lengths = self.tokenizer(*parts, verbose=False)["input_ids"]
            limit = {"truncation": True, "max_length": self.max_length}
            made = self.tokenizer(*parts, **limit)
            for number, text in enumerate(some):
                rows[text] = {name: column[number] for name, column in made.items()}
                if len(lengths[number]) > self.max_length:
                    cut.add(text)
        return [rows[text] for text in texts], sum(text in cut for text in texts)

    def scores(self, rows: Sequence[Row], gradients: bool = False) -> torch.Tensor:
        """One number per text; texts of similar length are read together, equal ones once."""
        place = {id(row): row for row in rows}
        distinct = list(place.values())
        number = {key: n for n, key in enumerate(place)}
        lengths = [len(row["input_ids"]) for row in distinct]
        groups = list(length_groups(lengths, self.batch_tokens))
        with torch.set_grad_enabled(gradients):
            values = torch.cat([self._read([distinct[n] for n in group]) for group in groups])
            order = torch.tensor([n for group in groups for n in group], device=values.device)
            back = torch.empty_like(order)
            back[order] = torch.arange(len(order), device=order.device)
            return values[back[[number[id(row)] for row in rows]]]

    def _read(self, rows: Sequence[Row]) -> torch.Tensor:
        longest = max(len(row["input_ids"]) for row in rows)
        padding = {"input_ids": self.tokenizer.pad_token_id}
        features = {
            name: torch.tensor(
                [
                    [*row[name], *[padding.get(name, 0)] * (longest - len(row[name]))]
                    for row in rows
                ],
                device=self.device,
            )
            for name in rows[0]
        }
        values: torch.Tensor = self.network(**features).logits[:, 0]
        return values.float()


def _valid(text: str) -> str:
    """A text without halves of surrogate pairs, which tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def first_best(probabilities: Sequence[float]) -> int:
    """The number of the most probable candidate; of equal ones, the first."""
    best = max(probabilities)
    return next(n for n, p in enumerate(probabilities) if p >= best - EQUAL)


@dataclass(frozen=True)
class FittedRouter(Artefact):
    """A classifier trained on candidates' results; in the folder `classifier`."""

    kind = "router"
    router: CrossEncoder
    source: RouterSource

    def identity(self) -> dict[str, Any]:
        return {
            "router": dict(self.source.options),
            "candidates": list(self.source.candidates),
            "questions": self._questions,
            "seed": self.source.seed,
            "code": self.source.code,
        }

    @cached_property
    def _questions(self) -> str:
        """A digest of all that is learned from, whatever the order of the questions."""
        digest = hashlib.sha256()
        for one in sorted(self.source.questions, key=lambda one: one.id):
            content = [one.id, one.prompts, one.outputs, one.rewards, one.held_out]
            digest.update(json.dumps(content).encode())
        return digest.hexdigest()

    def cost(self) -> Cost:
        questions = count_of(len(self.source.questions), "question")
        return Cost(self.router.epoch_options.epochs, "epoch", f" over {questions} of train")

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        return self.router.fit(self.source.questions, folder)


@dataclass(frozen=True, slots=True)
class _Rewarded:
    """A question to learn from: the tokens of each candidate's text, and its reward."""

    rows: Sequence[Row]
    rewards: tuple[float, ...]
    held_out: bool


def _with_rows(questions: Sequence[RoutedQuestion], rows: Sequence[Row]) -> Iterator[_Rewarded]:
    start = 0
    for one in questions:
        assert one.rewards is not None, "questions of train have golds"
        end = start + len(one.outputs)
        yield _Rewarded(rows[start:end], one.rewards, one.held_out)
        start = end


class _Fit(EpochFit[_Rewarded]):
    """One training of a classifier."""

    criteria = ("reward_of_chosen", "expected_reward")

    def __init__(
        self,
        router: CrossEncoder,
        classifier: Classifier,
        questions: Sequence[_Rewarded],
        folder: Path,
    ) -> None:
        self.router, self.classifier = router, classifier
        self.held_out = [one for one in questions if one.held_out]
        unequal = [one for one in questions if min(one.rewards) < max(one.rewards)]
        train = [one for one in unequal if not one.held_out]
        self.counts = {
            "questions": len(questions),
            "questions_with_equal_rewards": len(questions) - len(unequal),
            "questions_with_several_best": sum(
                one.rewards.count(max(one.rewards)) > 1 for one in unequal
            ),
            "questions_learned_from": len(train),
            "questions_held_out": len(self.held_out),
        }
        super().__init__(classifier.network, train, router.epoch_options, folder)

    def fit(self) -> dict[str, Any]:
        """Trains, saves the best classifier, and returns facts."""
        facts = self.run(f"fit {type(self.router).__name__}")
        transformers_logging.disable_progress_bar()  # of saving
        place = self.folder / CLASSIFIER
        self.classifier.network.save_pretrained(place)
        self.classifier.tokenizer.save_pretrained(place)
        start = "random" if self.router.fresh is not None else self.router.name
        return {**self.counts, **self._constant(), **facts, "start": start}

    def parts(self, batch: Sequence[_Rewarded]) -> Iterator[list[_Rewarded]]:
        """Questions of a batch, by length; their texts fit into memory together."""
        ordered = sorted(batch, key=_tokens, reverse=True)
        return in_parts(ordered, _tokens, self.classifier.batch_tokens)

    def loss(self, questions: Sequence[_Rewarded], epoch: int) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_gpu):
            scores = self._scores(questions, gradients=True)
        rewards = torch.tensor([one.rewards for one in questions]).to(scores)
        real = torch.ones_like(scores, dtype=torch.bool)
        return distillation_loss(scores, rewards / self.router.target_temperature, real)

    def _scores(self, questions: Sequence[_Rewarded], gradients: bool = False) -> torch.Tensor:
        """The classifier's numbers over the temperature, (questions, candidates)."""
        rows = [row for one in questions for row in one.rows]
        scores = self.classifier.scores(rows, gradients).view(len(questions), -1)
        return scores / self.router.temperature

    def validate(self) -> dict[str, float]:
        """The held-out users' mean reward of the chosen candidate, and expected reward."""
        chosen, expected = [], []
        for p, one in zip(
            self._scores(self.held_out).double().softmax(dim=-1).tolist(),
            self.held_out,
            strict=True,
        ):
            chosen.append(one.rewards[first_best(p)])
            expected.append(sum(x * y for x, y in zip(p, one.rewards, strict=True)))
        return {"reward_of_chosen": fmean(chosen), "expected_reward": fmean(expected)}

    def _constant(self) -> dict[str, float]:
        """What the best single candidate and the best choices reach on the held-out users."""
        rewards = [one.rewards for one in self.held_out]
        return {
            "held_out_best_single": max(map(fmean, zip(*rewards, strict=True))),
            "held_out_oracle": fmean(map(max, rewards)),
        }


def _tokens(question: _Rewarded) -> int:
    return sum(len(row["input_ids"]) for row in question.rows)
