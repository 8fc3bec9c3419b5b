"""Files larger than memory, through a window."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest

from lamp_exp.data import stream
from lamp_exp.data.completeness import check_complete, check_questions
from tests.file_server import question


@pytest.mark.parametrize("width", [1, 2, 7, 64, 4096])
def test_where_the_window_ends_makes_no_difference(monkeypatch, tmp_path: Path, width: int):
    monkeypatch.setattr(stream, "WINDOW", width)
    rows = [question(id=n, input='é "]}, {[ \\' * n) for n in range(5)]
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    window = stream.Window(io.StringIO(text), 10_000)
    assert window.take() == "["
    assert [(window.object(), window.take())[0] for _ in rows] == rows
    path = tmp_path / "dev_questions.json"
    path.write_text(text, encoding="utf-8")
    check_complete(path)
    for end in range(0, len(text) - 2, 5 if width == 64 else 97):
        path.write_text(text[:end], encoding="utf-8")
        with pytest.raises(stream.Broken):
            check_complete(path)


def test_a_large_file_is_checked_in_little_memory(tmp_path: Path):
    path, row = tmp_path / "train_questions.json", json.dumps(question(input="x" * 50_000))
    path.write_text("[" + ", ".join([row] * 500) + "]", encoding="utf-8")
    assert path.stat().st_size > 25e6
    tracemalloc.start()
    try:
        check_complete(path)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_a_text_without_end_is_given_up_early(tmp_path: Path):
    path = tmp_path / "train_questions.json"
    path.write_text('[{"id": "' + "x" * 20_000_000, encoding="utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(stream.Broken, match="question 1"):
            check_questions(path, longest=10**6)
        assert tracemalloc.get_traced_memory()[1] < 12e6
    finally:
        tracemalloc.stop()
