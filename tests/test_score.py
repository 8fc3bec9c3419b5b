"""`python -m lamp_exp.score`: scores, or one line that explains."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lamp_exp.score import main


@pytest.fixture
def score(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(golds: object, predictions: object, *options: str) -> tuple[int, str]:
        paths = []
        for name, content in (("golds", golds), ("predictions", predictions)):
            paths.append(tmp_path / f"{name}.json")
            text = content if isinstance(content, str) else json.dumps(content)
            paths[-1].write_text(text, encoding="utf-8")
        code = main([*map(str, paths), *options])
        told = capsys.readouterr()
        return code, told.out if code == 0 else told.err

    return run


def official(task: str, **outputs: object) -> dict[str, object]:
    return {"task": task, "golds": [{"id": id, "output": o} for id, o in outputs.items()]}


def test_the_scores_come_as_json(score):
    golds, predictions = official("LaMP_1", a="[1]", b="[2]"), official("LaMP-1", b="[2]", a="x")
    code, out = score(golds, predictions)
    assert code == 0
    assert json.loads(out)["metrics"]["accuracy"] == 0.5
    assert json.loads(out)["unreadable"] == 1


def test_missing_and_extra_ids_are_named_and_nothing_is_scored(score):
    code, err = score(official("LaMP_3", a="1", b="2"), official("LaMP_3", a="1", zzz="2"))
    assert code == 2
    assert "'b'" in err
    assert "'zzz'" in err
    assert err.count("\n") == 1


def test_ids_stay_as_text_but_numbers_join(score):
    golds = {"task": "LaMP_3", "golds": [{"id": i, "output": "3"} for i in ("001", "1", 2)]}
    predictions = {
        "task": "LaMP_3",
        "golds": [
            {"id": "1", "output": "3"},
            {"id": "2", "output": "3"},
            {"id": "001", "output": "5"},
        ],
    }
    code, out = score(golds, predictions)
    assert code == 0
    assert json.loads(out)["metrics"]["mae"] == pytest.approx(2 / 3)


def test_swapped_files_are_explained(score):
    code, err = score(official("LaMP_1", a="1, since"), official("LaMP_1", a="[1]"))
    assert code == 2
    assert "swapped" in err


def test_a_bare_list_is_explained(score):
    code, err = score([{"id": "a", "output": "[1]"}], official("LaMP_1", a="[1]"))
    assert code == 2
    assert "bare list" in err
    assert '"golds"' in err


@pytest.mark.parametrize(
    ("golds", "word"),
    [
        ("{", "cannot be read as JSON"),
        ("3", "JSON object"),
        ("{}", "golds"),
        ({"golds": [{"id": "a", "output": "[1]"}]}, "task"),
        ({"task": "LaMP_9", "golds": [{"id": "a", "output": "[1]"}]}, "LaMP_9"),
        ({"task": "LaMP_1", "golds": [{"id": "a"}]}, "output"),
        ({"task": "LaMP_1", "golds": [{"id": None, "output": "[1]"}]}, "id"),
        ({"task": "LaMP_4", "golds": [{"id": "a", "output": math.nan}]}, "`output` must be text"),
        ({"task": "LaMP_3", "golds": [{"id": "a", "output": math.inf}]}, "`output` must be text"),
        ({"task": "LaMP_1", "golds": [{"id": "a", "output": "[1]"}] * 2}, "more than once"),
        ({"task": "LaMP_1", "golds": ["a"]}, "JSON object"),
    ],
)
def test_a_broken_file_is_one_clear_line(score, golds: object, word: str):
    predictions = {"golds": [{"id": "a", "output": "[1]"}]}
    code, err = score(golds, predictions)
    assert code == 2
    assert word in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path / "no.json"), str(tmp_path / "no.json")]) == 2
    assert "no.json: no such file" in capsys.readouterr().err


def test_files_of_two_tasks_are_refused(score):
    code, err = score(official("LaMP_1", a="[1]"), official("LaMP_2", a="[1]"))
    assert code == 2
    assert "LaMP_2" in err


def test_the_two_tasks_called_lamp_2_are_told_apart_by_their_labels(score):
    for label in ("sci-fi", "politics"):
        code, out = score(official("LaMP_2", a=label), official("LaMP_2", a=label))
        assert code == 0
        assert json.loads(out)["metrics"]["accuracy"] == 1


def test_the_task_can_be_given(score):
    golds = {"golds": [{"id": "a", "output": "x y"}]}
    code, out = score(golds, golds, "--task", "lamp4")
    assert code == 0
    assert json.loads(out)["metrics"]["rouge_1"] == 1
