"""Dense retrieval: texts as vectors of a sentence encoder, compared by inner product.

Contriever (Izacard et al., arXiv 2112.09118) is the mean over the last states of the real tokens,
not normalised, which is what sentence-transformers makes of a plain BERT folder. A folder that
sentence-transformers saved has its own pooling.

Each distinct text is encoded once and stored in 16 bits a value (a relative error of 2^-11, which
seldom swaps neighbours in a ranking). Texts of similar length are encoded together, in batches that
fill a budget of tokens; on GPUs, matrices are multiplied in bfloat16. Because of padding, the last
bits of a vector depend on the other texts of its batch. All runs that share a cache use the vectors
that the first run stored; vectors of different caches are equal but for this rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from lamp_exp.contracts import (
    DenseRetriever,
    TextTokens,
    TextVectors,
    VectorStore,
    sort_by_score,
)
from lamp_exp.errors import InputError
from lamp_exp.progress import progress
from lamp_exp.retrievers.encoder import load_encoder
from lamp_exp.storage.contents import folder_fingerprint
from lamp_exp.storage.vectors import EncoderVectors
from lamp_exp.values import Document, Documents, Query, Ranking

Vectors = NDArray[np.float32]
GPU_TOKENS, CPU_TOKENS = 65_536, 4_096  # of a batch
TEXTS_PER_WRITE = 16_384  # memory, and what an interrupted run loses at most


class Dense(DenseRetriever):
    """Encodes each distinct text once, and scores a query against the whole profile."""

    batch_size = 500  # so that there are many texts of similar length

    def __init__(
        self,
        name: str,
        normalize: bool = False,
        max_length: int = 512,
        batch_tokens: int | None = None,
        device: str | None = None,
    ) -> None:
        """`name` is a hub id or a folder; texts are truncated (and counted) at `max_length` tokens.

        A batch holds up to `batch_tokens` tokens, padding included; None: what suits the device.
        """
        self.name = name
        self.normalize = normalize
        self.max_length = max_length
        self.given_tokens = batch_tokens
        self.device = device
        self.store: VectorStore | None = None

    @cached_property
    def encoder(self) -> SentenceTransformer:
        """Loaded when it is first needed: k = 0 needs none."""
        return load_encoder(self.name, self.max_length, self.device)

    def validate(self) -> None:
        """Loads the encoder, or raises InputError."""
        modules = [type(module).__name__ for module in self.encoder]
        if not self.normalize and "Normalize" in modules:
            raise InputError(
                f"retriever.normalize=false: {self.name} normalizes its vectors itself: set it true"
            )

    @property
    def on_gpu(self) -> bool:
        return bool(self.encoder.device.type == "cuda")

    @property
    def batch_tokens(self) -> int:
        return self.given_tokens or (GPU_TOKENS if self.on_gpu else CPU_TOKENS)

    def use_vector_store(self, store: VectorStore) -> None:
        self.store = store

    @cached_property
    def vectors(self) -> TextVectors:
        """Opened when first needed, so that vectors of jobs that have ended by then are found."""
        return EncoderVectors() if self.store is None else self.store.open(self.encoder_key())

    def dependencies(self) -> dict[str, Any]:
        """Weights, precision and libraries, but not batches, which change the last bits only."""
        model = getattr(self.encoder[0], "auto_model", None)
        packages = ("torch", "transformers", "sentence-transformers")
        return {
            "revision": getattr(getattr(model, "config", None), "_commit_hash", None),
            "dtype": str(next(self.encoder.parameters()).dtype),
            "autocast": "bfloat16" if self.on_gpu else None,
            **{name: ".".join(version(name).split(".")[:2]) for name in packages},
        }

    def encoder_key(self) -> dict[str, Any]:
        options = {"normalize": self.normalize, "max_length": self.max_length}
        return {"name": folder_fingerprint(self.name), **options, **self.dependencies()}

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        """Ranks by inner product; equal scores keep the profile's order, NaN comes last."""
        return next(self.rank_batch([(query, documents)]))

    def rank_batch(
        self, questions: Sequence[tuple[Query, Sequence[Document]]]
    ) -> Iterator[Ranking]:
        """Encodes all distinct texts that have no vector yet, then ranks each question."""
        keys = self._encode_missing(_texts(*question) for question in questions)
        for (query, documents), own in zip(questions, keys, strict=True):
            rows = self.vectors.rows(_texts(query, documents), own)
            yield sort_by_score(documents, inner_products(rows[0], rows[1:]))

    def encode(self, texts: Sequence[str]) -> Vectors:
        (keys,) = self._encode_missing(iter([list(texts)]))
        return self.vectors.rows(texts, keys)

    def _encode_missing(self, groups: Iterator[list[str]]) -> list[NDArray[np.bytes_]]:
        """Collects many texts first, so that those of similar length are encoded together.

        Returns the keys of each group's texts.
        """
        waiting: dict[str, None] = {}
        keys = []
        for texts in groups:
            keys.append(self.vectors.keys(texts))
            waiting.update(dict.fromkeys(self.vectors.missing(texts, keys[-1])))
            if len(waiting) >= TEXTS_PER_WRITE:
                self._encode_and_store(list(waiting))
                waiting = {}
        self._encode_and_store(list(waiting))
        return keys

    def _encode_and_store(self, texts: Sequence[str]) -> None:
        for start in range(0, len(texts), TEXTS_PER_WRITE):
            part = texts[start : start + TEXTS_PER_WRITE]
            tokens = self._tokens(part)
            read = [self._read(ids) for ids in tokens]
            self.vectors.add(part, self._encode(part, list(map(len, tokens))), read)

    def _encode(self, texts: Sequence[str], lengths: Sequence[int]) -> Vectors:
        """The vectors (texts, dimensions) of texts that have `lengths` tokens."""
        batches = by_length(lengths, self.max_length, self.batch_tokens)
        if not batches:
            return np.zeros((0, 0), np.float32)
        with torch.autocast(self.encoder.device.type, torch.bfloat16, enabled=self.on_gpu):
            parts = [
                self._encode_batch([texts[position] for position in batch])
                for batch in progress(batches, len(batches), "encode")
            ]
        order = np.argsort(np.concatenate(batches))
        vectors: Vectors = np.concatenate(parts)[order]
        return vectors

    def _encode_batch(self, texts: Sequence[str]) -> Vectors:
        vectors: Vectors = self.encoder.encode(
            [without_surrogates(text) for text in texts],
            batch_size=len(texts),
            normalize_embeddings=self.normalize,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text before it is truncated."""
        valid = [without_surrogates(text) for text in texts]
        ids: list[list[int]] = self.encoder.tokenizer(valid, verbose=False)["input_ids"]
        return ids

    def _read(self, ids: Sequence[int]) -> TextTokens:
        """What the encoder reads of a text of these tokens."""
        seen = ids[: self.max_length]
        unknown = seen.count(self.encoder.tokenizer.unk_token_id)
        return TextTokens(len(seen), unknown, len(ids) > self.max_length)

    def facts(self) -> Mapping[str, Any]:
        """Counts of distinct texts, where they are cut; the device.

        Nothing where nothing was ranked, so that no encoder is loaded for a run without a profile.
        """
        if "encoder" not in vars(self):
            return {}
        return {
            "encoder": self.name,
            **self.vectors.counts(),
            "cut_at_tokens": self.max_length,
            "device": str(self.encoder.device),
        }

    def take_counts(self) -> Mapping[str, Any]:
        return self.vectors.take_counts() if "vectors" in vars(self) else {}


def by_length(lengths: Sequence[int], max_length: int, budget: int) -> list[list[int]]:
    """Positions of texts in batches that fill a budget of (padded) tokens, the longest first.

    Texts are truncated at `max_length` tokens; a batch holds at least one text.
    """
    batches: list[list[int]] = []
    room = 0
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        if not room:
            batches.append([])
            room = max(budget // max(min(lengths[position], max_length), 1), 1)
        batches[-1].append(position)
        room -= 1
    return batches


def inner_products(query: Vectors, documents: Vectors) -> list[float]:
    """The inner product of one vector with each row, in their order; NaN becomes -inf.

    faiss leaves out rows that hold NaN, and returns equal scores last row first; so its result is
    only read as a table of scores.
    """
    scores = np.full(len(documents), -np.inf, dtype=np.float32)
    if len(documents):
        table, rows = faiss.knn(
            np.ascontiguousarray(query[None]),
            np.ascontiguousarray(documents),
            len(documents),
            metric=faiss.METRIC_INNER_PRODUCT,
        )
        found = rows[0] >= 0
        scores[rows[0][found]] = table[0][found]
    return scores.tolist()


def _texts(query: Query, documents: Sequence[Document]) -> list[str]:
    return [query.text, *Documents.of(documents).texts]


def without_surrogates(text: str) -> str:
    """The text with lone surrogates replaced, as tokenizers refuse them."""
    return text.encode("utf-8", "replace").decode("utf-8")
