"""BM25 against rank-bm25, splitting included: ready documents, and the whole command."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
from rank_bm25 import BM25Okapi as Reference

from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.retrievers.bm25_okapi import BM25Okapi
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Document, ProfileItem, Query

QUESTIONS, ITEMS, WORDS = 2_000, 200, 60
COMMAND_QUESTIONS = 500
ROOT = Path(__file__).parents[2]


def questions(number: int) -> list[tuple[Query, list[Document]]]:
    """Texts whose words are as unevenly frequent as those of a language."""
    chance = Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(30_000)]
    weights = np.cumsum([1 / (n + 3) for n in range(len(words))]).tolist()

    def text() -> str:
        return " ".join(chance.choices(words, cum_weights=weights, k=WORDS))

    return [
        (Query(str(n), text()), [Document(str(item), text()) for item in range(ITEMS)])
        for n in range(number)
    ]


@pytest.fixture(scope="module")
def asked() -> list[tuple[Query, list[Document]]]:
    return questions(QUESTIONS)


def reference(asked):
    for query, documents in asked:
        index = Reference([document.text.split() for document in documents])
        yield index.get_scores(query.text.split())


def drained(values) -> None:
    for _ in values:
        pass


def test_bm25_okapi(asked, ratio):
    assert (
        ratio(
            lambda: drained(reference(asked)),
            lambda: drained(BM25Okapi().rank_batch(asked)),
            rounds=1,
        )
        >= 8
    )


def test_bm25(asked, ratio):
    assert (
        ratio(
            lambda: drained(reference(asked)), lambda: drained(BM25().rank_batch(asked)), rounds=1
        )
        >= 8
    )


def test_bm25_okapi_has_the_same_scores(asked):
    some = asked[:100]
    for (_, documents), hits, expected in zip(
        some, BM25Okapi().rank_batch(some), reference(some), strict=True
    ):
        scores = {hit.id: hit.score for hit in hits}
        assert [scores[d.id] for d in documents] == pytest.approx(list(expected), abs=1e-9)


@pytest.fixture
def data(asked, tmp_path) -> Path:
    """A data folder with the first questions, and outputs in which they are prepared."""
    rows = [
        {
            "id": query.id,
            "input": f"{Lamp4.instruction} {query.text}",
            "profile": [{"id": d.id, "text": d.text, "title": "a title"} for d in documents],
        }
        for query, documents in asked[:COMMAND_QUESTIONS]
    ]
    folder = tmp_path / "data" / "LaMP_4" / "dev"
    folder.mkdir(parents=True)
    (folder / "dev_questions.json").write_text(json.dumps(rows))
    command_seconds(tmp_path, "retriever=none", "limit=1")
    return tmp_path


def command_seconds(folder: Path, *overrides: str) -> float:
    """CPU seconds of one command, which finds no rankings of earlier ones."""
    for place in ("outputs/.cache/rankings", "runs"):
        shutil.rmtree(folder / place, ignore_errors=True)
    options = ["task=lamp4", "mode=rank", "data_dir=data", "rank_processes=1", *overrides]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lamp_exp", *options, "rerun=true"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_command_beyond_its_start(benchmark, data):
    """Reading questions, counting facts and writing files included; CPU seconds, best of some."""
    task = Lamp4()
    questions = json.loads((data / "data/LaMP_4/dev/dev_questions.json").read_text())

    def reference_seconds() -> float:
        start = time.process_time()
        for row in questions:
            items = [ProfileItem(item["id"], item) for item in row["profile"]]
            index = Reference([task.document(item).split() for item in items])
            index.get_scores(task.query(row["input"]).split())
        return time.process_time() - start

    def best_of(measure) -> float:
        return min(measure() for _ in range(4))

    def ratio() -> float:
        start = best_of(lambda: command_seconds(data, "retriever=none", "limit=1"))
        whole = best_of(lambda: command_seconds(data, "retriever=bm25_okapi"))
        return best_of(reference_seconds) / (whole - start)

    found = benchmark.pedantic(ratio, rounds=1)
    benchmark.extra_info["ratio"] = round(found, 2)
    print(f"\nthe command beyond its start: {found:.1f}")
    assert found >= 5
