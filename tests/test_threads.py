"""Small models use one CPU thread, and the process's own setting comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lamp_exp.errors import ComponentError
from lamp_exp.models import threads
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Prompt, TrainingSet
from tests.conftest import settings, trainer

SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
PROMPTS = [Prompt(str(n), ("the old rose near lake",)) for n in range(3)]


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Watched(Seq2Seq):
    """Notes the number of threads of each step."""

    used: set[int]

    def loss(self, batch):
        self.used.add(torch.get_num_threads())
        return super().loss(batch)

    def generate(self, batch, **options):
        self.used.add(torch.get_num_threads())
        return super().generate(batch, **options)


def model() -> Watched:
    made = Watched(None, settings(), {"num_beams": 1}, fresh=SIZES)
    made.used = set()
    return made


@pytest.mark.parametrize(("small", "expected"), [(threads.SMALL, 1), (1, 3)])
def test_a_small_model_uses_one_thread(tmp_path: Path, monkeypatch, small: int, expected: int):
    monkeypatch.setattr(threads, "SMALL", small)
    made = model()
    pairs = [(prompt, "the rose") for prompt in PROMPTS]
    made.fit(TrainingSet(pairs, pairs, Lamp4().score, Lamp4().main_metric, 1, tmp_path), trainer)
    assert torch.get_num_threads() == 3
    made.predict(PROMPTS, trainer)
    assert made.used == {expected}
    assert made.facts()["threads"] == expected
    assert torch.get_num_threads() == 3


def test_the_setting_comes_back_after_a_failure():
    class Failing(Watched):
        def generate(self, batch, **options):
            raise ZeroDivisionError

    made = Failing(None, settings(), {"num_beams": 1}, fresh=SIZES)
    with pytest.raises(ComponentError, match="ZeroDivisionError"):
        made.predict(PROMPTS, trainer)
    assert torch.get_num_threads() == 3


def test_threads_of_a_gpu_s_model_stay():
    assert threads.limit_threads(torch.nn.Linear(1, 1), torch.device("cuda")) == 3
