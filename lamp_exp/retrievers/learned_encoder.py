"""The base of retrievers that train a sentence encoder with a reader's feedback.

ROPG (Salemi, Kallumadi and Zamani, SIGIR 2024, arXiv 2404.05970): one encoder for query and items,
compared by inner product, is trained so that items rank high with which the reader does well. The
probability of an item is the softmax of its inner product over the question's own candidates, which
are the best items of a base retriever.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch.nn.utils.rnn import pad_sequence

from lamp_exp.artefacts import Artefact, Cost, FitSource, LearnedRetriever, Made
from lamp_exp.contracts import Component, Retriever, VectorStore
from lamp_exp.errors import InputError
from lamp_exp.models.batches import derived_seed, in_parts
from lamp_exp.models.epochs import EpochFit, EpochOptions
from lamp_exp.models.threads import threads_restored
from lamp_exp.retrievers.dense import Dense, by_length, without_surrogates
from lamp_exp.retrievers.encoder import fresh_encoder, load_encoder
from lamp_exp.values import Document, Query, Ranking, RewardedList

ENCODER = "encoder"
# Tokens that are encoded at once while learning, with gradients. No option: other groups of texts
# would round their sums otherwise.
TOKENS_AT_ONCE, TOKENS_AT_ONCE_ON_CPU = 1 << 14, 1 << 12
TEXTS_TOKENIZED_AT_ONCE = 4096


class LearnedEncoder(LearnedRetriever):
    """Trains an encoder on feedback, keeps the best epoch, and ranks by inner product.

    Epoch 0 is the encoder as it was. After each epoch, the mean reward of the item that ranks first
    is computed for the users of train who are held out; the best epoch is kept, of equal ones the
    one with the highest expected reward, then the earliest. The encoder's dropout is off, so that
    results do not depend on how texts are divided into batches. An encoder that normalises its
    vectors stops doing so: the softmax of cosines, which lie between -1 and 1, is nearly uniform.
    """

    batch_size = 500

    def __init__(
        self,
        base: Retriever,
        name: str | None,
        epochs: int,
        lr: float,
        batch_questions: int,
        warmup: float,
        max_length: int,
        fresh: Mapping[str, Any] | None = None,
        seed: int = 0,
        batch_tokens: int | None = None,
        device: str | None = None,
    ) -> None:
        """`base` ranks the candidates. `name` is the encoder to start from, a hub id or a folder.

        `fresh` describes a BERT with random weights (fields of BertConfig) and the vocabulary of
        the made-up sample, which is used instead of `name`. `batch_questions` are learned from in
        one optimiser step; `warmup` is a share of the steps.
        """
        self.base = base
        self.name = name
        self.learning = EpochOptions(epochs, lr, batch_questions, warmup, seed)
        self.max_length = max_length
        self.fresh = fresh
        self.seed = seed
        self.batch_tokens = batch_tokens
        self.device = device
        self.store: VectorStore | None = None
        self.fitted: Path | None = None

    @abstractmethod
    def objective(
        self, scores: torch.Tensor, rewards: torch.Tensor, real: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        """The sum of the questions' losses.

        `scores`, `rewards` and `real` have shape (questions, candidates), the first candidate is
        the base retriever's best; `real` is False where a question has fewer. `seeds` are to draw
        from, one per question.
        """

    # --- the contract --------------------------------------------------------------------------

    @property
    def components(self) -> Sequence[Component]:
        return [self.base]

    def validate(self) -> None:
        """Refuses a base that learns itself, and an encoder that cannot be loaded."""
        self.learning.validate("retriever")
        self.validate_base(self.base)
        self.start_encoder()

    def artefacts(self, source: FitSource) -> Sequence[Artefact]:
        return [FittedEncoder(self, source, source.feedback(self.base))]

    def load(self, made: Sequence[Made]) -> None:
        (fitted,) = made
        self.fitted = fitted.folder

    def use_vector_store(self, store: VectorStore) -> None:
        self.store = store
        self.base.use_vector_store(store)

    def dependencies(self) -> dict[str, Any]:
        """The fitted encoder, which its artefact's name identifies."""
        return {"fitted": self._fitted.name, **self.ranker.dependencies()}

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        return self.ranker.rank(query, documents)

    def rank_batch(
        self, questions: Sequence[tuple[Query, Sequence[Document]]]
    ) -> Iterator[Ranking]:
        return self.ranker.rank_batch(questions)

    def facts(self) -> dict[str, Any]:
        """Those of the base and of the fitted encoder."""
        if self.fitted is None:
            return {}
        return {**self.ranker.facts(), "encoder": self.fitted.name, "base": dict(self.base.facts())}

    def take_counts(self) -> Mapping[str, Any]:
        """Those of the fitted encoder; the feedback has those of the base."""
        return {} if self.fitted is None else self.ranker.take_counts()

    @property
    def _fitted(self) -> Path:
        assert self.fitted is not None, "`load` is called before any ranking"
        return self.fitted

    @cached_property
    def ranker(self) -> Dense:
        """Ranks with the fitted encoder."""
        folder = str(self._fitted / ENCODER)
        ranker = Dense(folder, False, self.max_length, self.batch_tokens, self.device)
        if self.store is not None:
            ranker.use_vector_store(self.store)
        return ranker

    # --- learning ------------------------------------------------------------------------------

    def start_encoder(self) -> SentenceTransformer:
        """The encoder before it has learned anything; its vectors are not normalised."""
        if self.fresh is not None:
            return fresh_encoder(self.fresh, self.max_length, self.device, self.seed)
        if self.name is None:
            raise InputError("retriever.name must name an encoder, or retriever.fresh describe one")
        encoder = load_encoder(self.name, self.max_length, self.device)
        if not hasattr(encoder[0], "auto_model"):
            raise InputError(f"retriever.name={self.name} is no transformer: it cannot be trained")
        modules = [module for module in encoder if type(module).__name__ != "Normalize"]
        return SentenceTransformer(modules=modules, device=self.device)

    def fit(self, lists: Sequence[RewardedList], folder: Path) -> dict[str, Any]:
        """Trains on the lists of users who are not held out; saves the best encoder in `folder`.

        Goes on after the last epoch that an interrupted call has finished. Returns facts.
        """
        with threads_restored():
            return EncoderFit(self, lists, folder).fit()


@dataclass(frozen=True)
class FittedEncoder(Artefact):
    """An encoder trained on feedback; its folder `encoder` is one of sentence-transformers."""

    kind = "encoder"
    retriever: LearnedEncoder
    source: FitSource
    feedback: Artefact

    def identity(self) -> dict[str, Any]:
        return {
            "feedback": dict(self.feedback.identity()),
            "retriever": dict(self.source.options),
            "seed": self.source.seed,
            "code": self.source.code(self.retriever),
        }

    def requires(self) -> Sequence[Artefact]:
        return [self.feedback]

    def cost(self) -> Cost:
        epochs = self.retriever.learning.epochs
        return Cost(epochs, "epoch", " over the questions with feedback")

    def make(self, folder: Path, required: Sequence[Path]) -> dict[str, Any]:
        (feedback,) = required
        return self.retriever.fit(self.source.rewarded_lists(feedback), folder)


class EncoderFit(EpochFit[RewardedList]):
    """One training of an encoder on the lists of users who are not held out."""

    criteria = ("reward_of_first", "expected_reward")

    def __init__(
        self, retriever: LearnedEncoder, lists: Sequence[RewardedList], folder: Path
    ) -> None:
        usable = [one for one in lists if one.rewards]
        equal = [one for one in usable if min(one.rewards) == max(one.rewards)]
        train = [o for o in usable if not o.held_out and min(o.rewards) < max(o.rewards)]
        self.retriever = retriever
        self.held_out = [one for one in usable if one.held_out]
        self.counts = {
            "questions": len(lists),
            "questions_without_items": len(lists) - len(usable),
            "questions_with_equal_rewards": len(equal),
            "questions_learned_from": len(train),
            "questions_held_out": len(self.held_out),
        }
        self.encoder = retriever.start_encoder().eval()
        super().__init__(self.encoder, train, retriever.learning, folder)
        self.at_once = TOKENS_AT_ONCE if self.on_gpu else TOKENS_AT_ONCE_ON_CPU
        self.tokens = _tokenized(self.encoder, [*train, *self.held_out], retriever.max_length)

    def fit(self) -> dict[str, Any]:
        """Trains, saves the best encoder, and returns facts."""
        facts = self.run(f"fit {type(self.retriever).__name__}")
        self.encoder.save(str(self.folder / ENCODER), create_model_card=False)
        start = "random" if self.retriever.fresh is not None else self.retriever.name
        return {**self.counts, **facts, "start": start}

    def parts(self, batch: Sequence[RewardedList]) -> Iterator[list[RewardedList]]:
        """Questions of a batch, so few that memory holds the gradients of all their texts."""
        return in_parts(batch, self._size, self.at_once)

    def _size(self, one: RewardedList) -> int:
        return sum(len(self.tokens[text]) for text in (one.query, *one.texts))

    def loss(self, lists: Sequence[RewardedList], epoch: int) -> torch.Tensor:
        scores, real = self._scores(lists)
        rewards = pad_sequence([torch.tensor(one.rewards) for one in lists], batch_first=True)
        seeds = [derived_seed(self.retriever.seed, epoch, one.question) for one in lists]
        return self.retriever.objective(scores, rewards.to(scores), real, seeds)

    def _scores(self, lists: Sequence[RewardedList]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inner products (questions, candidates), and which candidates are real."""
        texts = list(dict.fromkeys(text for one in lists for text in (one.query, *one.texts)))
        vectors = self._encode(texts)
        row = {text: number for number, text in enumerate(texts)}
        scores = [vectors[[row[t] for t in one.texts]] @ vectors[row[one.query]] for one in lists]
        real = [torch.ones(len(one.texts), dtype=torch.bool) for one in lists]
        return pad_sequence(scores, True), pad_sequence(real, True).to(vectors.device)

    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        """The vectors of texts, with gradients; texts of similar length are encoded together."""
        rows = [self.tokens[text] for text in texts]
        groups = by_length([len(row) for row in rows], self.retriever.max_length, self.at_once)
        vectors = torch.cat([self._encode_batch([rows[n] for n in group]) for group in groups])
        order = torch.tensor([n for group in groups for n in group]).argsort()
        return vectors[order.to(vectors.device)]

    def _encode_batch(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        tokenizer, device = self.encoder.tokenizer, self.encoder.device
        side = tokenizer.padding_side
        ids = pad_sequence([row.long() for row in rows], True, tokenizer.pad_token_id, side)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], True, 0, side)
        features = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        with torch.autocast(device.type, torch.bfloat16, enabled=self.on_gpu):
            vectors: torch.Tensor = self.encoder(features)["sentence_embedding"]
        return vectors.float()

    def validate(self) -> dict[str, float]:
        """The held-out users' mean reward of the item that ranks first, and expected reward."""
        first, expected = [], []
        with torch.inference_mode():
            for few in self.parts(self.held_out):
                scores, real = self._scores(few)
                probable = scores.masked_fill(~real, -torch.inf).softmax(dim=-1)
                for one, p in zip(few, probable.double().cpu(), strict=True):
                    rewards = torch.tensor(one.rewards, dtype=torch.float64)
                    first.append(rewards[int(p.argmax())].item())
                    expected.append(float(rewards @ p[: len(rewards)]))
        if not first:
            return {"reward_of_first": 0.0, "expected_reward": 0.0}
        mean = 1 / len(first)
        return {"reward_of_first": sum(first) * mean, "expected_reward": sum(expected) * mean}


def _tokenized(
    encoder: SentenceTransformer, lists: Sequence[RewardedList], max_length: int
) -> dict[str, torch.Tensor]:
    """The token ids of each distinct text, truncated."""
    texts = list(dict.fromkeys(text for one in lists for text in (one.query, *one.texts)))
    found: dict[str, torch.Tensor] = {}
    for start in range(0, len(texts), TEXTS_TOKENIZED_AT_ONCE):
        some = texts[start : start + TEXTS_TOKENIZED_AT_ONCE]
        valid = [without_surrogates(text) for text in some]
        rows = encoder.tokenizer(valid, truncation=True, max_length=max_length)["input_ids"]
        found |= zip(some, (torch.tensor(row, dtype=torch.int32) for row in rows), strict=True)
    return found
