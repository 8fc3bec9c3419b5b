"""A pool of two retrievers, each blind to half of the topics of the made-up sample, and a reader.

The reader copies the title of the first item that it is shown, which has the author's words for the
topic. So a question is answered well by the retriever that sees its topic, and by chance otherwise.
"""

from __future__ import annotations

from pathlib import Path

RETRIEVER = '''
"""A retriever that ranks by chance where it does not see the topic."""

from random import Random

from lamp_exp.contracts import Retriever, sort_by_score
from lamp_exp.data.vocabulary import TOPICS
from lamp_exp.retrievers.bm25 import BM25

TOPIC_OF = {word: number for number, words in enumerate(TOPICS) for word in words}


class Blind(Retriever):
    """Ranks by BM25, but by chance for queries about each second topic."""

    per_question = True

    def __init__(self, half, seed):
        self.half, self.seed, self.sees = half, seed, BM25()

    @property
    def components(self):
        return [self.sees]

    def rank(self, query, documents):
        topics = [TOPIC_OF[word] for word in query.text.split() if word in TOPIC_OF]
        if topics[0] % 2 != self.half:
            return self.sees.rank(query, documents)
        chance = Random(f"{self.seed}:{self.half}:{query.id}")
        return sort_by_score(documents, [chance.random() for _ in documents])
'''
MODEL = '''
"""A reader that copies."""

import re

from lamp_exp.contracts import Model
from lamp_exp.models.seq2seq import SAMPLE_TOKENIZER
from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer
from lamp_exp.values import Prediction


class Copy(Model):
    """Answers with the first quoted text of a prompt, which is the title of the first item."""

    uses_trainer = False

    def __init__(self, settings):
        self.counter = TransformersTokenCounter(load_tokenizer(str(SAMPLE_TOKENIZER)))

    @property
    def token_counter(self):
        return self.counter

    def validate(self, trains, precision, trainer=None):
        assert not trains

    def fit(self, data, trainer):
        raise NotImplementedError

    def predict(self, prompts, trainer, journal=None):
        return [
            Prediction(prompt.id, (re.findall('"(.*?)"', prompt.passages[0]) or [""])[0])
            for prompt in prompts
        ]

    def facts(self):
        return {}
'''
CANDIDATES = "+router.candidates.{}={{retriever:blind,retriever.half:{}}}"
POOL = [
    "--config-dir", "pool/conf", "task=lamp4", "mode=zeroshot", "k=1", "model=copy",
    "router/candidates=fixed", "router.candidates.none=null", "router.candidates.recency=null",
    "router.candidates.bm25=null",
]  # fmt: skip
BLIND = [*POOL, CANDIDATES.format("even", 0), CANDIDATES.format("odd", 1)]
SAME = [*POOL, CANDIDATES.format("one", 0), CANDIDATES.format("other", 0)]
LEARNING = [
    "router.name=null",
    "router.fresh={hidden_size:64,num_hidden_layers:2,num_attention_heads:4,intermediate_size:128}",
    "router.target_temperature=0.1", "router.lr=1e-3", "router.epochs=20", "router.max_length=64",
]  # fmt: skip


def write_pool(folder: Path) -> None:
    """Writes the package `pool` below a folder, with its YAMLs."""
    files = {
        "__init__.py": "",
        "blind.py": RETRIEVER,
        "copying.py": MODEL,
        "conf/retriever/blind.yaml": "_target_: pool.blind.Blind\nhalf: 0\nseed: ${seed}\n",
        "conf/model/copy.yaml": "_target_: pool.copying.Copy\n",
    }
    for name, content in files.items():
        path = folder / "pool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.lstrip("\n"), encoding="utf-8")
