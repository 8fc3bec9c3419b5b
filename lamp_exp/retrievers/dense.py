"""Dense retrieval: texts as vectors of a sentence encoder, compared by inner product.

Contriever (Izacard et al., arXiv 2112.09118) is the mean over the last states of the real
tokens, not normalised; that is what sentence-transformers makes of a plain BERT folder. An
encoder that comes as a sentence-transformers folder brings its own pooling.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from lamp_exp.types import Document, Hit, InputError, Query, Retriever, by_score

Vectors = NDArray[np.float32]


class Dense(Retriever):
    """Encodes each distinct text once, and scores a query against the whole profile."""

    def __init__(
        self,
        name: str,
        normalize: bool = False,
        max_length: int = 512,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        """`name` is a hub id or a folder; texts are cut (and counted) at `max_length` tokens."""
        self.name = name
        self.normalize = normalize
        self.batch_size = batch_size
        self.encoder = load_encoder(name, device)
        self.encoder.max_seq_length = max_length
        self.cut = 0
        self.encoded = 0

    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        """By inner product; equal scores keep the profile's order, NaN scores come last."""
        return next(self.rank_all([(query, documents)]))

    def rank_all(
        self, questions: Iterable[tuple[Query, Sequence[Document]]]
    ) -> Iterator[list[Hit]]:
        """Encodes all distinct texts first, the longest ones together, then ranks."""
        asked = list(questions)
        texts = [text for query, documents in asked for text in _texts(query, documents)]
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        vectors = self._encode(list(row_of))
        for query, documents in asked:
            rows = [row_of[document.text] for document in documents]
            yield by_score(documents, inner_products(vectors[row_of[query.text]], vectors[rows]))

    def _encode(self, texts: Sequence[str]) -> Vectors:
        self.encoded += len(texts)
        self.cut += self._too_long(texts)
        vectors = self.encoder.encode(
            list(texts),
            batch_size=self.batch_size,
            normalize_embeddings=self.normalize,
            show_progress_bar=sys.stderr.isatty(),
            convert_to_numpy=True,
        )
        return np.asarray(vectors, dtype=np.float32)

    def _too_long(self, texts: Sequence[str]) -> int:
        tokenize, limit = self.encoder.tokenizer, self.encoder.max_seq_length
        lengths = (len(ids) for ids in tokenize(list(texts), verbose=False)["input_ids"])
        return sum(length > limit for length in lengths) if limit else 0

    def report(self) -> Mapping[str, Any]:
        """How many distinct texts were encoded, how many of them cut, and on what device."""
        return {
            "encoder": self.name,
            "texts_encoded": self.encoded,
            "texts_cut": self.cut,
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
            f"({_first_line(error)}): give a hub id (and a network) or a local folder"
        ) from error


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


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
