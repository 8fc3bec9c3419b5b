"""An exception inside a component names the component and the question."""

from __future__ import annotations

import pytest

from lamp_exp.augmentations.ipa import InPromptAugmentation
from lamp_exp.errors import ComponentError, InputError, naming
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.retrievers.bm25 import BM25
from lamp_exp.tasks.lamp4 import Lamp4
from tests.test_cli import QUICK

RUN = ["task=lamp4", "mode=zeroshot", "limit=3", "k=2", *QUICK]


def fail_at(number: int, works):
    """A method that fails when it is called for the given time."""
    calls = []

    def call(self, *arguments, **options):
        calls.append(1)
        if len(calls) == number:
            raise ZeroDivisionError("in this component")
        return works(self, *arguments, **options)

    return call


@pytest.mark.parametrize(
    ("component", "method", "number", "question"),
    [
        (BM25, "rank", 2, "200001"),
        (BM25, "rank_batch", 1, "200000"),
        (Lamp4, "query", 3, "200002"),
        (Lamp4, "document", 1, "200000"),
        (InPromptAugmentation, "__call__", 2, "200001"),
        (Seq2Seq, "predict", 1, None),
    ],
)
def test_it_is_named_on_the_command_line(
    lamp_exp, monkeypatch, component, method, number, question
):
    monkeypatch.setattr(component, method, fail_at(number, getattr(component, method)))
    code, _, err = lamp_exp(*RUN)
    assert code == 2
    place = f"{component.__qualname__}.{method}" + (f", question {question!r}" if question else "")
    assert f"{place}: ZeroDivisionError: in this component" in err.splitlines()[-1]


def test_a_mistake_of_the_user_stays_what_it_is():
    with pytest.raises(InputError, match="^a mistake$"), naming(Lamp4(), "query", "q"):
        raise InputError("a mistake")


def test_the_innermost_component_is_named():
    message = r"^BM25\.rank, question 'q': KeyError: 'x'$"
    with (
        pytest.raises(ComponentError, match=message),
        naming(Lamp4(), "query", "q"),
        naming(BM25(), "rank", "q"),
    ):
        raise KeyError("x")


def test_an_exception_inside_fit_names_the_model(lamp_exp, monkeypatch):
    monkeypatch.setattr(Seq2Seq, "loss", fail_at(2, Seq2Seq.loss))
    code, _, err = lamp_exp(*RUN, "mode=finetune", "trainer.max_epochs=1")
    assert code == 2
    assert "Seq2Seq.fit: ZeroDivisionError: in this component" in err.splitlines()[-1]


@pytest.mark.parametrize(("method", "named"), [("answers", "predict"), ("collate", "collate")])
def test_of_a_batch_the_question_that_fails_alone_is_named(lamp_exp, monkeypatch, method, named):
    works = getattr(Seq2Seq, method)

    def fails(self, given, *rest):
        ids = given["ids"] if method == "answers" else [prompt.id for prompt in given]
        if "200001" in ids:
            raise ZeroDivisionError("in this component")
        return works(self, given, *rest)

    monkeypatch.setattr(Seq2Seq, method, fails)
    code, _, err = lamp_exp(*RUN, "predict_batch_size=3")
    assert code == 2
    place = f"Seq2Seq.{named}, question '200001'"
    assert f"{place}: ZeroDivisionError: in this component" in err.splitlines()[-1]


def test_what_fails_only_in_a_batch_is_named_without_a_question(lamp_exp, monkeypatch):
    def fails(self, batch):
        if len(batch["ids"]) > 1:
            raise ZeroDivisionError("together")
        return works(self, batch)

    works = Seq2Seq.answers
    monkeypatch.setattr(Seq2Seq, "answers", fails)
    code, _, err = lamp_exp(*RUN, "predict_batch_size=3")
    assert code == 2
    assert "Seq2Seq.predict: ZeroDivisionError: together" in err.splitlines()[-1]
