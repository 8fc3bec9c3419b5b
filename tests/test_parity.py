"""The official code's own prompts, rankings and scores, repeated exactly.

The files were made by running the benchmark's code (see `tests/data/README.md`). A plain clone has
those of the made-up questions; the others are tested where the real data lies beside the checkout.
"""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lamp_exp.experiment.stages import load_parts, make_prompt
from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer
from lamp_exp.score import main as score
from lamp_exp.tasks.lamp5 import Lamp5
from tests.conftest import DATA, SHARED, build, ranked_part

TASKS = {  # the official name: our option, folder, split
    "LaMP-1": ("lamp1", "LaMP_1", "user"),
    "LaMP-2": ("lamp2", "LaMP_2", "time"),
    "LaMP-2-old": ("lamp2_news", "LaMP_2", "user"),
    "LaMP-3": ("lamp3", "LaMP_3", "time"),
    "LaMP-4": ("lamp4", "LaMP_4", "time"),
    "LaMP-5": ("lamp5", "LaMP_5", "user"),
    "LaMP-6": ("lamp6", "LaMP_6", "time"),
    "LaMP-7": ("lamp7", "LaMP_7", "user"),
}
MADE_UP = {"LaMP-2", "LaMP-4", "LaMP-6"}  # these questions are made up, and shipped
RETRIEVERS = {"bm25": "bm25_okapi", "recency": "recency"}
# Of 1,180 official prompts, those that break the project's rules: all of LaMP-5, k=4, 256 tokens.
NO_INSTRUCTION = {"5005111", "5006167", "5008529"}
ITEM_WITHOUT_TEXT = {"50071", "500964", "5001281", "5002264", "5005111", "5008503", "5009223"}


def read(path: Path) -> Any:
    """A JSON file; one of the real data skips the test where that is not there."""
    if path.suffix == ".xz":
        return json.loads(lzma.decompress(path.read_bytes()))
    if not SHARED.is_dir():
        pytest.skip("the real data beside the checkout is not here")
    return json.loads(path.read_text(encoding="utf-8"))


@functools.cache
def expected(task: str) -> list[dict[str, Any]]:
    """What the official code makes of each question of a task."""
    parity = DATA / "parity" / "prompts.json.xz"
    rows = read(parity if task in MADE_UP else SHARED / "parity" / "prompts.json")
    return [row for row in rows if row["task"] == task]


def questions(task: str) -> list[dict[str, Any]]:
    _, folder, split = TASKS[task]
    real = SHARED / "data" / ("time" if split == "time" else "") / folder / "dev"
    made_up = DATA / "parity" / "questions.json.xz"
    ids = {row["id"] for row in expected(task)}
    rows = read(made_up if task in MADE_UP else real / "dev_questions.json")
    return [question for question in rows if question["id"] in ids]


@pytest.fixture(scope="module")
def t5_tokens(t5_tokenizer: Path) -> TransformersTokenCounter:
    return TransformersTokenCounter(load_tokenizer(str(t5_tokenizer)))


@pytest.fixture
def asked(t5_tokenizer: Path, data_dir: Callable[..., Path]):
    """The experiment and the data of a task's questions."""

    def make(task: str, *overrides: str):
        option, folder, split = TASKS[task]
        place = data_dir(folder, "dev", questions(task), time=split == "time")
        made = build(f"task={option}", f"split={split}", f"data_dir={place}", "model=tiny",
                     f"model.name={t5_tokenizer}", *overrides)  # fmt: skip
        return *made, load_parts(made[0]).asked

    return make


@pytest.mark.parametrize("task", TASKS)
def test_queries_documents_and_scores(asked, task):
    p, configuration, part = asked(task, "mode=rank", "retriever=bm25_okapi")
    pairs = ranked_part(p, configuration, part)
    rankings = {example.id: (example, hits) for example, hits in pairs}
    for row in expected(task):
        example, hits = rankings[row["id"]]
        assert p.task.query(example.input) == row["query"]
        texts = [p.task.document(item) for item in example.profile]
        hashes = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts]
        assert hashes == row["documents_sha256"]
        scores = {hit.id: hit.score for hit in hits}
        mine = [scores[item.id] for item in example.profile]
        assert mine == pytest.approx(row["bm25_scores"], abs=1e-9)


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_prompts_byte_for_byte(asked, t5_tokens, task, official):
    """All, if asked to repeat the official code where it breaks our rules; else all others."""
    compared, different = 0, set()
    for retriever in RETRIEVERS:
        wanted = [
            (row["id"], prompt)
            for row in expected(task)
            for prompt in row["prompts"]
            if prompt["retriever"] == retriever
        ]
        if not wanted:
            continue
        base, configuration, part = asked(
            task, "mode=prompts", f"retriever={RETRIEVERS[retriever]}",
            f"augmentation.official={official}",
        )  # fmt: skip
        rankings = ranked_part(base, configuration, part)
        for k in (1, 4):
            for length in (256, 512):
                p = replace(base, max_length=length)
                made = {e.id: make_prompt(p, e, ranking[:k]) for e, ranking in rankings}
                for id, prompt in wanted:
                    if (prompt["k"], prompt["max_length"]) != (k, length):
                        continue
                    compared += 1
                    assert [hit.id for hit in made[id].items] == prompt["items"]
                    (passage,) = made[id].passages
                    if passage != prompt["prompt"]:
                        different.add((id, k, length))
                        assert not any(breaks_rules(passage, length, t5_tokens))
    assert compared >= 80
    ours = NO_INSTRUCTION | ITEM_WITHOUT_TEXT if task == "LaMP-5" and not official else ()
    assert different == {(id, 4, 256) for id in ours}


def breaks_rules(prompt: str, length: int, tokens: TransformersTokenCounter) -> list[bool]:
    """Whether a prompt of LaMP-5 has lost its instruction, and whether an item its text."""
    shown, _ = tokens.truncate(prompt, length)
    return [Lamp5().instruction not in shown, 'is a title for "" ' in prompt]


def test_the_official_prompts_that_break_our_rules(t5_tokens):
    found = [
        (row["id"], prompt["k"], prompt["max_length"], *breaks)
        for row in expected("LaMP-5")
        for prompt in row["prompts"]
        if any(breaks := breaks_rules(prompt["prompt"], prompt["max_length"], t5_tokens))
    ]
    assert {row[1:3] for row in found} == {(4, 256)}
    assert {row[0] for row in found if row[3]} == NO_INSTRUCTION
    assert {row[0] for row in found if row[4]} == ITEM_WITHOUT_TEXT


@pytest.mark.parametrize("task", ["LaMP_1", "LaMP_2", "LaMP_3", "LaMP_5"])
def test_metrics(tmp_path: Path, capsys, task):
    made_up = DATA / "parity" / "metrics.json.xz"
    cases = read(made_up if task == "LaMP_2" else SHARED / "parity" / "metrics.json")
    (case,) = [case for case in cases if case["task"] == task]
    for name in ("golds", "predictions"):
        content = {"task": task, "golds": case[name]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert score([str(tmp_path / "golds.json"), str(tmp_path / "predictions.json")]) == 0
    result = json.loads(capsys.readouterr().out)["metrics"]
    assert result == pytest.approx(case["metrics"], abs=1e-9)


def test_what_is_shipped_is_the_made_up_part_of_all(shared):
    for name, made_up in (("prompts", MADE_UP), ("metrics", {"LaMP_2"})):
        rows = read(shared / "parity" / f"{name}.json")
        shipped = read(DATA / "parity" / f"{name}.json.xz")
        assert shipped == [row for row in rows if row["task"] in made_up]
