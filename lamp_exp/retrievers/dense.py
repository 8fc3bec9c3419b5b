"""Dense retrieval: texts as vectors of a sentence encoder, compared by inner product.

Contriever (Izacard et al., arXiv 2112.09118) is the mean over the last states of the real
tokens, not normalised; that is what sentence-transformers makes of a plain BERT folder. An
encoder that comes as a sentence-transformers folder brings its own pooling.

Each distinct text is encoded once and kept, in 16 bits a value (a relative error of 2^-11, which
seldom swaps neighbours in a ranking). Texts of about one length are encoded together, so many that
they fill a budget of tokens; on GPUs, matrices are multiplied in bfloat16. Padding makes the last
bits of a vector depend on which others were in its batch; what is kept is what the first run made.
So a text's vector is the same in all runs that share a cache, and equal but for this rounding in
those that do not.
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
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from lamp_exp.contracts import Retriever, TextVectors, VectorStore, sort_by_score
from lamp_exp.errors import InputError, first_line
from lamp_exp.storage.vectors import EncoderVectors
from lamp_exp.values import Document, Query, Ranking

Vectors = NDArray[np.float32]
GPU_TOKENS, CPU_TOKENS = 65_536, 4_096  # of a batch
AT_ONCE = 16_384  # texts encoded before they are kept: memory, and what a kill loses at most


class Dense(Retriever):
    """Encodes each distinct text once, and scores a query against the whole profile."""

    batch_size = 500  # so that many texts of about one length wait together

    def __init__(
        self,
        name: str,
        normalize: bool = False,
        max_length: int = 512,
        batch_tokens: int | None = None,
        device: str | None = None,
    ) -> None:
        """`name` is a hub id or a folder; texts are cut (and counted) at `max_length` tokens.

        A batch holds up to `batch_tokens`, padding included.
        """
        self.name = name
        self.normalize = normalize
        self.max_length = max_length
        self.given_tokens = batch_tokens
        self.device = device
        self.store: VectorStore | None = None

    @cached_property
    def encoder(self) -> SentenceTransformer:
        """Loaded when it is needed: data are checked before, and k = 0 needs none."""
        encoder = load_encoder(self.name, self.device)
        encoder.max_seq_length = self.max_length
        return encoder

    def validate(self) -> None:
        """Loads the encoder, or raises InputError."""
        assert self.encoder

    @property
    def on_gpu(self) -> bool:
        """Whether the encoder is."""
        return bool(self.encoder.device.type == "cuda")

    @property
    def batch_tokens(self) -> int:
        """As given, or what suits the device."""
        return self.given_tokens or (GPU_TOKENS if self.on_gpu else CPU_TOKENS)

    def use_vector_store(self, store: VectorStore) -> None:
        """Vectors are then read from `store`, and kept there."""
        self.store = store

    @cached_property
    def vectors(self) -> TextVectors:
        """Opened when they are needed, so that what other jobs kept meanwhile is found."""
        return EncoderVectors() if self.store is None else self.store.open(self._encoder_key())

    def dependencies(self) -> dict[str, Any]:
        """Weights, precision and libraries; batches change last bits only, and do not count."""
        model = getattr(self.encoder[0], "auto_model", None)
        packages = ("torch", "transformers", "sentence-transformers")
        return {
            "revision": getattr(getattr(model, "config", None), "_commit_hash", None),
            "dtype": str(next(self.encoder.parameters()).dtype),
            "autocast": "bfloat16" if self.on_gpu else None,
            **{name: ".".join(version(name).split(".")[:2]) for name in packages},
        }

    def _encoder_key(self) -> dict[str, Any]:
        """All that decides a vector."""
        options = {"normalize": self.normalize, "max_length": self.encoder.max_seq_length}
        return {"name": self.name, **options, **self.dependencies()}

    def rank(self, query: Query, documents: Sequence[Document]) -> Ranking:
        """By inner product; equal scores keep the profile's order, NaN scores come last."""
        return next(self.rank_batch([(query, documents)]))

    def rank_batch(
        self, questions: Sequence[tuple[Query, Sequence[Document]]]
    ) -> Iterator[Ranking]:
        """Encodes all distinct texts that have no vector yet, then ranks question by question."""
        self._encode_missing(_texts(*question) for question in questions)
        for query, documents in questions:
            rows = self.vectors.rows(_texts(query, documents))
            yield sort_by_score(documents, inner_products(rows[0], rows[1:]))

    def _encode_missing(self, groups: Iterator[list[str]]) -> None:
        """Texts wait until there are many, so that those of one length are encoded together."""
        waiting: dict[str, None] = {}
        for texts in groups:
            waiting.update(dict.fromkeys(self.vectors.missing(texts)))
            if len(waiting) >= AT_ONCE:
                self._keep(list(waiting))
                waiting = {}
        self._keep(list(waiting))

    def _keep(self, texts: Sequence[str]) -> None:
        for start in range(0, len(texts), AT_ONCE):
            some = texts[start : start + AT_ONCE]
            lengths = self._lengths(some)
            most = self.encoder.max_seq_length
            cut = [bool(most) and length > most for length in lengths]
            self.vectors.add(some, self._encode(some, lengths), cut)

    def _encode(self, texts: Sequence[str], lengths: Sequence[int]) -> Vectors:
        """Vectors of texts that have `lengths` tokens, in batches of texts of about one length."""
        parts, places = [], by_length(lengths, self.encoder.max_seq_length, self.batch_tokens)
        bar = tqdm(places, "encode", disable=None, leave=False)
        with torch.autocast(self.encoder.device.type, torch.bfloat16, enabled=self.on_gpu):
            for batch in bar:
                parts.append(self._together([texts[place] for place in batch]))
        back = np.argsort(np.concatenate([[], *places]))
        made: Vectors = np.concatenate(parts)[back] if parts else np.zeros((0, 0), np.float32)
        return made

    def _together(self, texts: Sequence[str]) -> Vectors:
        vectors: Vectors = self.encoder.encode(
            [_whole(text) for text in texts],
            batch_size=len(texts),
            normalize_embeddings=self.normalize,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return vectors

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has before it is cut."""
        rows = self.encoder.tokenizer([_whole(text) for text in texts], verbose=False)["input_ids"]
        return list(map(len, rows))

    def facts(self) -> Mapping[str, Any]:
        """How many distinct texts were encoded or there already, how many cut; the device."""
        return {
            "encoder": self.name,
            **self.vectors.counts(),
            "cut_at_tokens": self.encoder.max_seq_length,
            "device": str(self.encoder.device),
        }


def load_encoder(name: str, device: str | None) -> SentenceTransformer:
    """The encoder from a hub id or a folder."""
    transformers_logging.disable_progress_bar()  # of loading; encoding has one
    try:
        return SentenceTransformer(name, device=device)
    except (OSError, ValueError) as error:
        raise InputError(
            f"retriever.name={name}: no sentence encoder could be loaded from it "
            f"({first_line(error)}): give a hub id (and a network) or a local folder"
        ) from error


def by_length(lengths: Sequence[int], most: int | None, budget: int) -> list[list[int]]:
    """Places of texts in batches, the longest first, that fill a budget of (padded) tokens.

    Texts are cut at `most` tokens; a batch holds at least one.
    """
    batches: list[list[int]] = []
    room = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not room:
            batches.append([])
            room = max(budget // max(min(lengths[place], most or budget), 1), 1)
        batches[-1].append(place)
        room -= 1
    return batches


def inner_products(query: Vectors, documents: Vectors) -> list[float]:
    """The inner product of one vector with each row, in their order; NaN becomes -inf.

    faiss drops rows that hold NaN from its answer, and returns equal scores last row first; so
    its answer is only read as a table of scores.
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
    return [float(score) for score in scores]


def _texts(query: Query, documents: Sequence[Document]) -> list[str]:
    return [query.text, *(document.text for document in documents)]


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")
