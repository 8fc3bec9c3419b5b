"""Two encoders of one start: a frozen one for the items of a profile, a trained one for questions.

Both are the reader's own word embeddings (`WordMeans`), or a sentence encoder, which a dense
retriever brings along.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch.nn.utils.rnn import pad_sequence

from lamp_exp.adapters.word_means import WordMeans
from lamp_exp.contracts import DenseRetriever
from lamp_exp.errors import InputError
from lamp_exp.models.training import TrainableModel
from lamp_exp.retrievers.dense import Dense, without_surrogates
from lamp_exp.retrievers.encoder import load_encoder


class TextEncoders(torch.nn.Module, ABC):
    """The frozen and the trained encoder; vectors have `width` values, and no norm in common."""

    width: int

    @abstractmethod
    def items(self, texts: Sequence[str]) -> torch.Tensor:
        """The vectors of items (texts, width), by the frozen encoder."""

    @abstractmethod
    def queries(self, texts: Sequence[str]) -> torch.Tensor:
        """The vectors of what questions ask about (texts, width), by the trained encoder."""


def text_encoders(encoder: WordMeans | DenseRetriever, model: TrainableModel) -> TextEncoders:
    """Both encoders, before anything was learned."""
    if isinstance(encoder, WordMeans):
        return WordEncoders(encoder, model)
    assert isinstance(encoder, Dense), "validate_encoder refuses others"
    return SentenceEncoders(encoder)


def validate_encoder(encoder: Any) -> None:
    """Raises InputError for what encodes no texts, or cannot be trained."""
    if isinstance(encoder, WordMeans):
        return
    if not isinstance(encoder, Dense):
        raise InputError(
            f"adapter.encoder: {type(encoder).__name__} has no encoder of texts: choose "
            "+retriever@adapter.encoder=contriever, or another dense one"
        )
    try:
        encoder.validate()
    except InputError as error:
        raise InputError(f"adapter.encoder: {error}") from error
    if not hasattr(encoder.encoder[0], "auto_model"):
        raise InputError(f"adapter.encoder.name={encoder.name} is no transformer that can learn")


class WordEncoders(TextEncoders):
    """The mean of a text's word embeddings; the trained table is a copy of the reader's."""

    frozen: torch.Tensor

    def __init__(self, words: WordMeans, model: TrainableModel) -> None:
        super().__init__()
        table = model.net.get_input_embeddings().weight.detach().float()
        self.words, self.tokenizer = words, model.tokenizer
        self.width = table.shape[1]
        self.register_buffer("frozen", table.clone())
        self.trained = torch.nn.Parameter(table.clone())

    def items(self, texts: Sequence[str]) -> torch.Tensor:
        with torch.no_grad():
            return self._means(texts, self.frozen)

    def queries(self, texts: Sequence[str]) -> torch.Tensor:
        return self._means(texts, self.trained)

    def _means(self, texts: Sequence[str], table: torch.Tensor) -> torch.Tensor:
        """A text without any token is zero."""
        if not texts:
            return table.new_zeros(0, self.width)
        rows = [row[: self.words.max_length] for row in self.words.tokens(self.tokenizer, texts)]
        ids = torch.tensor([id for row in rows for id in row], dtype=torch.long)
        lengths = torch.tensor([0, *map(len, rows)][: len(rows)], dtype=torch.long)
        starts = lengths.cumsum(0).to(table.device)
        return torch.nn.functional.embedding_bag(ids.to(table.device), table, starts, mode="mean")


class SentenceEncoders(TextEncoders):
    """A sentence encoder; the trained one starts as a copy, without dropout."""

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.dense = dense
        start = load_encoder(dense.name, dense.max_length, dense.device)
        modules = [module for module in start if type(module).__name__ != "Normalize"]
        self.trained = SentenceTransformer(modules=modules).eval()
        with torch.no_grad():
            self.width = self.queries(["a"]).shape[1]

    def train(self, mode: bool = True) -> SentenceEncoders:
        """Dropout stays off, so that results do not depend on how texts are put together."""
        return super().train(False)

    def items(self, texts: Sequence[str]) -> torch.Tensor:
        if not texts:
            return torch.zeros(0, self.width)
        return torch.from_numpy(self.dense.encode(texts))

    def queries(self, texts: Sequence[str]) -> torch.Tensor:
        tokenizer, device = self.trained.tokenizer, self.trained.device
        valid = [without_surrogates(text) for text in texts]
        limit = self.dense.max_length
        rows = tokenizer(valid, truncation=True, max_length=limit)["input_ids"]
        ids = [torch.tensor(row) for row in rows]
        masks = [torch.ones(len(row), dtype=torch.long) for row in rows]
        side = tokenizer.padding_side
        features = {
            "input_ids": pad_sequence(ids, True, tokenizer.pad_token_id, side).to(device),
            "attention_mask": pad_sequence(masks, True, 0, side).to(device),
        }
        on_gpu = device.type == "cuda"
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            vectors: torch.Tensor = self.trained(features)["sentence_embedding"]
        return vectors.float()


def encoder_identity(encoder: WordMeans | DenseRetriever) -> Mapping[str, Any]:
    """All that decides the vectors of items besides the model, as JSON."""
    return {} if isinstance(encoder, WordMeans) else dict(encoder.encoder_key())
