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
