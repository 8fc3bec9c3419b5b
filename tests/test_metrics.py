"""The metrics against worked examples, and against the libraries they stand for."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from sklearn.metrics import f1_score

from lamp_exp import metrics
from lamp_exp.tasks.lamp1 import Lamp1
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.tasks.lamp4 import Lamp4


def test_macro_f1_is_over_the_fixed_labels_not_over_those_seen():
    golds = ["comedy", "comedy", "comedy", "sci-fi", "action"]
    outputs = ["comedy", "Comedy", "comedy.", "sci-fi", "romantic comedy"]
    scores = Lamp2().score(outputs, golds)
    assert scores.metrics["accuracy"] == pytest.approx(0.4)
    assert scores.metrics["f1"] == pytest.approx(0.1)
    assert scores.invalid_outputs == 3


def test_macro_f1_is_scikit_learns():
    chance = random.Random(1)
    labels = ["a", "b", "c", "d"]
    golds = [chance.choice(labels[:3]) for _ in range(200)]
    outputs = [chance.choice([*labels, "?"]) for _ in range(200)]
    expected = f1_score(golds, outputs, labels=labels, average="macro", zero_division=0)
    f1 = metrics.MacroF1(tuple(labels))
    assert metrics.score([f1], outputs, golds).metrics["f1"] == pytest.approx(expected)


def test_wordy_and_ambiguous_answers_are_wrong_and_counted():
    outputs = ["[1]", " [1]\n", "1", "[1] because…", "[1] or [2]", ""]
    scores = Lamp1().score(outputs, ["[1]"] * 6)
    assert scores.metrics["accuracy"] == pytest.approx(2 / 6)
    assert scores.invalid_outputs == 4


@pytest.mark.parametrize("bad", ["", "five", "nan", "inf", "-inf", "4 stars", "1e200", "9" * 200])
def test_an_unreadable_rating_is_the_farther_end_of_the_scale(bad: str):
    scores = Lamp3().score([bad, bad, "4"], ["2", "5", "4"])
    assert scores.per_example["mae"] == [3.0, 4.0, 0.0]
    assert scores.invalid_outputs == 2
    assert scores.metrics["rmse"] == pytest.approx(((9 + 16) / 3) ** 0.5)


def test_empty_predictions_count_as_zero_and_are_not_dropped():
    scores = Lamp4().score(["", "The cats sat.", "   "], ["the cat sat", "The cat sat", "!!!"])
    assert scores.per_example["rouge_1"] == pytest.approx([0, 2 / 3, 0])
    assert scores.metrics["rouge_1"] == pytest.approx(2 / 9)
    assert scores.invalid_outputs == 2
    assert scores.notes == {"references_without_scorable_token": 1}


def test_references_that_rouge_cannot_read_are_counted():
    scores = Lamp4().score(["你好 世界"], ["你好 世界"])
    assert scores.metrics["rouge_1"] == 0
    assert scores.notes == {"references_without_scorable_token": 1}


def test_rouge_l_takes_newlines_for_spaces():
    scores = Lamp4().score(["on the mat\nthe cat sat"], ["the cat sat\non the mat"])
    assert scores.metrics["rouge_l"] == pytest.approx(0.5)


@pytest.mark.long
def test_rouge_is_the_plain_mean_and_the_same_in_every_process():
    code = (
        "from lamp_exp.tasks.lamp4 import Lamp4; "
        "print(repr(Lamp4().score(['a b c','x y','m'],['a c','y x z','m n']).metrics))"
    )
    hashed_otherwise = {"PYTHONHASHSEED": "1"}
    told = subprocess.check_output([sys.executable, "-c", code], env=hashed_otherwise)
    scores = Lamp4().score(["a b c", "x y", "m"], ["a c", "y x z", "m n"])
    assert told == f"{dict(scores.metrics)!r}\n".encode()
    assert scores.metrics["rouge_1"] == sum(scores.per_example["rouge_1"]) / 3


def test_scoring_opens_no_connection(monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise AssertionError("no network here")

    monkeypatch.setattr("socket.socket.connect", refused)
    for task, answer in ((Lamp1(), "[1]"), (Lamp3(), "5"), (Lamp4(), "a b")):
        assert task.score([answer], [answer]).invalid_outputs == 0


def test_outputs_and_targets_of_different_length_are_refused():
    for score in (Lamp1().score, Lamp3().score, Lamp4().score):
        with pytest.raises(ValueError, match="zip"):
            score(["1"], ["1", "2"])
