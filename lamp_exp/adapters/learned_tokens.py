"""The base of adapters that put learned vectors in front of each prompt.

They learn from the questions of train and their golds, by the loss of the answering model, the
reader. Its own weights stay as they are, or learn along. The asked questions' golds are never read.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import AutoConfig

from lamp_exp.adapters.local_model import local_model, on_device
from lamp_exp.artefacts import Adapter, Artefact, Cost, Made, ProfileSource, TrainSource
from lamp_exp.contracts import Model, Task
from lamp_exp.errors import InputError, naming
from lamp_exp.hub import only_local_files
from lamp_exp.models.batches import Batch, derived_seed, length_groups, longest_first
from lamp_exp.models.epochs import EpochFit, EpochOptions
from lamp_exp.models.soft_tokens import SOFT_TOKENS
from lamp_exp.models.threads import limit_threads
from lamp_exp.models.training import TrainableModel
from lamp_exp.values import History, TrainQuestion

READER = "reader"  # the folder of the reader's weights, if they learn along
# Tokens that are read at once while learning. No option: other groups would round their sums
# otherwise.
TOKENS_AT_ONCE, TOKENS_AT_ONCE_ON_CPU = 1 << 13, 1 << 12


@dataclass(frozen=True, slots=True)
class Shown:
    """A question as a network of soft tokens sees it: its history is read when it is needed.

    With `part`, only a random part of the history counts, which that text decides.
    """

    id: str
    history: Callable[[str], History]
    part: str | None = None


class TokenNetwork(torch.nn.Module, ABC):
    """Makes the vectors that stand in front of prompts."""

    @abstractmethod
    def tokens(self, questions: Sequence[Shown]) -> torch.Tensor:
        """The vectors (questions, tokens, width of the reader)."""


class LearnedTokens(Adapter):
    """Learns a network of soft tokens on train, and keeps its best epoch.

    Epoch 0 is the network as it was. After each epoch, the questions of the users of train who are
    held out are answered: the epoch with the highest mean reward (the task's main metric) is kept,
    of equal ones that with the highest likelihood of the golds, then the earliest. Each target
    token has the same weight.
    """

    learns_from_train = True
    copies = 1  # of each question, in an epoch

    def __init__(
        self,
        soft_tokens: int,
        train_reader: bool,
        epochs: int,
        lr: float,
        batch_size: int,
        warmup: float,
        weight_decay: float,
        seed: int,
    ) -> None:
        """With `train_reader`, the model's own weights learn along."""
        self.number = soft_tokens
        self.train_reader = train_reader
        self.recipe = EpochOptions(epochs, lr, batch_size, warmup, seed, weight_decay)
        self._folder: Path | None = None
        self._source: ProfileSource | None = None
        self._network: TokenNetwork | None = None
        self._counts: Mapping[str, Any] = {}

    @abstractmethod
    def new_network(self, model: TrainableModel) -> TokenNetwork:
        """The network before it has learned anything; what is drawn depends on the seed alone."""

    @abstractmethod
    def save(self, network: TokenNetwork, folder: Path) -> None:
        """Writes what was learned."""

    @abstractmethod
    def read(self, network: TokenNetwork, folder: Path) -> None:
        """Puts what `save` wrote into a network."""

    def identity(self) -> Mapping[str, Any]:
        """What decides the network besides options, model and questions, as JSON."""
        return {}

    def count_histories(
        self, model: TrainableModel, ids: Sequence[str], history: Callable[[str], History]
    ) -> dict[str, Any]:
        """For the record: what is read of the histories of these questions."""
        return {}

    # --- the contract --------------------------------------------------------------------------

    @property
    def trains_model(self) -> bool:
        return self.train_reader

    def validate(self, mode: str, task: Task, model: Model, precision: str = "") -> None:
        """Refuses what cannot learn: fine-tuning as well, models elsewhere, random weights."""
        if mode == "finetune":
            raise InputError(
                "this adapter learns from train itself: use mode=zeroshot, with "
                "model.name=RUN/checkpoint for a fine-tuned model, or with "
                "adapter.train_reader=true to let its weights learn along"
            )
        model = local_model(model, "an adapter of soft tokens")
        if self.train_reader and (model.dtype_name != "float32" or precision == "bf16-true"):
            raise InputError(
                "adapter.train_reader=true needs weights in 32 bits: use model.dtype=float32 with "
                "trainer.precision=bf16-mixed (or 32-true)"
            )
        if model.has_random_weights and not self.train_reader:
            raise InputError(
                "soft tokens in front of random weights learn nothing: name fine-tuned ones, "
                "model.name=RUN/checkpoint, or let them learn along, adapter.train_reader=true"
            )
        if not model.has_random_weights:
            self._check_context(model)

    def _check_context(self, model: TrainableModel) -> None:
        config = AutoConfig.from_pretrained(
            model.name, local_files_only=only_local_files(model.name)
        )
        context = getattr(config, "max_position_embeddings", None)
        needed = model.positions() + self.number
        if context is not None and needed > context:
            raise InputError(
                f"max_length, max_new_tokens and adapter.soft_tokens={self.number} need {needed} "
                f"positions, but model.name={model.name} has a context of {context} tokens: lower "
                "max_length"
            )

    def artefacts(self, source: ProfileSource) -> Sequence[Artefact]:
        return [FittedTokens(self, source)]

    def load(self, made: Sequence[Made], source: ProfileSource) -> None:
        (fitted,) = made
        self._folder, self._source, self._network = fitted.folder, source, None
        assert isinstance(source.model, TrainableModel), "validate refuses others"
        self._counts = self.count_histories(source.model, source.questions(), source.history)

    def prepare(self, model: Model) -> None:
        """Loads what was learned, the reader's weights included."""
        if self._folder is None or self._network is not None:
            return
        assert isinstance(model, TrainableModel), "validate refuses others"
        network = self.new_network(model)  # of the reader as it was
        if self.train_reader:
            model.network = model.load(str(self._folder / READER))
        self.read(network, self._folder)
        self._network = network.eval()

    def soft_tokens(self, model: Model, ids: Sequence[str]) -> torch.Tensor:
        """Each question by itself, so that its vectors do not depend on the others."""
        assert self._network is not None and self._source is not None, "`load` is called before"
        assert isinstance(model, TrainableModel), "validate refuses others"
        network, history = self._network.to(model.device), self._source.history
        return tokens_apart(network, [Shown(id, history) for id in ids])

    def facts(self) -> dict[str, Any]:
        """What was read of the asked questions."""
        if self._source is None:
            return {}
        return {"soft_tokens": self.number, "train_reader": self.train_reader, **self._counts}


def tokens_apart(network: TokenNetwork, questions: Sequence[Shown]) -> torch.Tensor:
    """The soft tokens of questions, computed one by one, in full precision."""
    device = next(network.parameters()).device
    with torch.autocast(device.type, enabled=False):
        return torch.cat([network.tokens([question]) for question in questions])


@dataclass(frozen=True)
class FittedTokens(Artefact):
    """A network of soft tokens, with the reader's weights if they learned along."""

    kind = "adapter"
    adapter: LearnedTokens
    source: ProfileSource

    @property
    def train(self) -> TrainSource:
        assert self.source.train is not None, "the adapter learns from train"
        return self.source.train

    def identity(self) -> dict[str, Any]:
        return {
            **self.source.reading,
            "adapter": {n: v for n, v in self.source.options.items() if n != "_target_"},
            "kind": type(self.adapter).__name__,
            "of_adapter": dict(self.adapter.identity()),
            "train": dict(self.train.identity),
            "seed": self.source.seed,
            "code": self.source.code(self.adapter),
        }

    def requires(self) -> Sequence[Artefact]:
        return self.train.requires

    def cost(self) -> Cost:
        return Cost(self.adapter.recipe.epochs, "epoch", " over the questions of train")

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        model = self.source.model
        assert isinstance(model, TrainableModel), "validate refuses others"
        attached, model.adapter = model.adapter, None  # it learns without any
        if self.adapter.train_reader:
            model.network = None  # loaded as it was
        try:
            with on_device(model, self.source) as context:
                return _Fit(self.adapter, model, self.train, folder, context).fit()
        finally:
            model.adapter = attached
            if self.adapter.train_reader:
                model.network = None


Lesson = tuple[TrainQuestion, int]  # a question, and which of its copies


class _Fit(EpochFit[Lesson]):
    """One training of a network of soft tokens."""

    criteria = ("reward", "log_likelihood")

    def __init__(
        self,
        adapter: LearnedTokens,
        model: TrainableModel,
        source: TrainSource,
        folder: Path,
        context: Callable[[], Any],
    ) -> None:
        """`context` is that of the precision."""
        self.adapter, self.model, self.source, self.context = adapter, model, source, context
        self.tokens = adapter.new_network(model).to(model.device)
        questions = source.questions()
        learned = [one for one in questions if not one.held_out]
        self.held_out = longest_first(
            [one for one in questions if one.held_out], prompt_of=lambda one: one.prompt
        )
        limit = model.settings.max_new_tokens
        lengths = {one.id: len(model.target_ids(one.target)) for one in questions}
        self.lengths = {id: min(length, limit) for id, length in lengths.items()}
        self.mean_length = fmean(self.lengths[one.id] for one in learned)
        trained = torch.nn.ModuleDict({"tokens": self.tokens})
        if adapter.train_reader:
            trained["reader"] = model.net
        ids = [one.id for one in questions]
        self.counts = {
            "questions": len(questions),
            "questions_learned_from": len(learned),
            "questions_held_out": len(self.held_out),
            "copies": adapter.copies,
            "prompts_cut": sum(bool(one.prompt.cut_passages) for one in questions),
            "targets_cut": sum(length > limit for length in lengths.values()),
            "trained_weights": sum(weight.numel() for weight in trained.parameters()),
            **adapter.count_histories(model, ids, source.history),
        }
        threads = torch.get_num_threads()
        lessons = [(one, copy) for one in learned for copy in range(adapter.copies)]
        super().__init__(trained, lessons, adapter.recipe, folder)
        torch.set_num_threads(threads)  # which the size of both networks decides
        self.threads = limit_threads(torch.nn.ModuleList([trained, model.net]), self.device)

    def fit(self) -> dict[str, Any]:
        """Trains, saves the best epoch, and returns facts."""
        reader = list(self.model.net.parameters())
        wanted = [weight.requires_grad for weight in reader]
        for weight in reader:
            weight.requires_grad_(self.adapter.train_reader)
        try:
            facts = self.run(f"fit {type(self.adapter).__name__}")
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"out of memory with up to {self._at_once} tokens at once: lower max_length, or k"
            ) from error
        finally:
            for weight, flag in zip(reader, wanted, strict=True):
                weight.requires_grad_(flag)
            self.model.net.eval()
        self.adapter.save(self.tokens, self.folder)
        if self.adapter.train_reader:
            self.model.net.save_pretrained(self.folder / READER)
            self.model.tokenizer.save_pretrained(self.folder / READER)
        return {**self.counts, **facts, "train_reader": self.adapter.train_reader}

    @property
    def _at_once(self) -> int:
        return TOKENS_AT_ONCE if self.on_gpu else TOKENS_AT_ONCE_ON_CPU

    def parts(self, batch: Sequence[Lesson]) -> Iterator[list[Lesson]]:
        """Questions of similar length, which fit into memory together with their gradients."""
        for group in length_groups(list(map(self._size, batch)), self._at_once):
            yield [batch[number] for number in group]

    def _size(self, lesson: Lesson) -> int:
        question, _ = lesson
        return question.prompt.tokens + self.adapter.number + self.lengths[question.id]

    def loss(self, questions: Sequence[Lesson], epoch: int) -> torch.Tensor:
        """The mean loss per target token, times the number of questions."""
        self.model.net.train(self.adapter.train_reader)
        seed, names = self.options.seed, [f"{one.id}:{copy}" for one, copy in questions]
        torch.manual_seed(derived_seed(seed, epoch, *names))  # for the reader's dropout
        shown = [
            Shown(one.id, self.source.history, f"{seed}:{epoch}:{one.id}:{copy}" if copy else None)
            for one, copy in questions
        ]
        batch = self._batch([one for one, _ in questions], self.tokens.tokens(shown))
        with self.context():
            loss, _ = self.model.loss(batch)
        if not bool(loss.isfinite()):
            raise InputError(
                f"the loss of the soft tokens became {loss.item()} in epoch {epoch}: lower "
                "adapter.lr, or use trainer.precision=bf16-mixed or 32-true"
            )
        return loss / self.mean_length

    def _batch(self, questions: Sequence[TrainQuestion], vectors: torch.Tensor) -> Batch:
        prompts = [one.prompt for one in questions]
        with naming(self.model, "collate"):
            batch = self.model.collate(prompts, [one.target for one in questions])
        moved: Batch = self.model.transfer_batch_to_device(batch, self.model.device, 0)
        return {**moved, SOFT_TOKENS: vectors}

    def validate(self) -> dict[str, float]:
        """The mean reward of the answers to held-out users' questions, and the golds' likelihood.

        The likelihood is the mean per token.
        """
        self.model.net.eval()
        outputs, losses = [], []
        size = self.options.batch_questions
        with torch.no_grad():
            for start in range(0, len(self.held_out), size):
                few = self.held_out[start : start + size]
                shown = [Shown(one.id, self.source.history) for one in few]
                batch = self._batch(few, tokens_apart(self.tokens, shown))
                with self.context(), naming(self.model, "predict"):
                    outputs += [answer.output for answer in self.model.answers(batch)]
                    loss, _ = self.model.loss(batch)
                losses.append(loss.item())
        targets = [one.target for one in self.held_out]
        tokens = sum(self.lengths[one.id] for one in self.held_out)
        rewards = self.source.task.rewards(outputs, targets)
        return {"reward": fmean(rewards), "log_likelihood": -math.fsum(losses) / tokens}
