"""What is told of long work where the output goes to a file."""

from __future__ import annotations

import re
import sys
import time

import pytest

from lamp_exp import progress
from tests.conftest import experiment
from tests.sweeps import SHORT

TRAINING = [word for word in SHORT if "enable_progress_bar" not in word]
BARS = "━█▏\r"


@pytest.fixture(autouse=True)
def quick_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)


@pytest.mark.long
def test_training_tells_each_epoch_and_what_goes_on_between_without_a_bar(lamp_exp):
    code, out, err = lamp_exp(*TRAINING, "k=2")
    assert code == 0
    assert not set(BARS) & set(out.partition("┏")[0] + err)
    told = [line for line in err.splitlines() if line.startswith("epoch") and "loss" in line]
    metrics = r"train_loss \d\.\d{4}, mae \d\.\d{4}, rmse \d\.\d{4}"
    assert re.fullmatch(rf"epoch 1 of 2: {metrics}; about \d+ s left", told[0])
    assert re.fullmatch(rf"epoch 2 of 2: {metrics}", told[1])
    assert len(told) == 2
    assert re.search(r"^epoch [12] of 2, batches: \d+ of 20, .*\d+ s (left|so far)$", err, re.M)
    assert re.search(r"^predict, batches: \d+ of 3, (about )?\d+ s (left|so far)", err, re.M)


def test_no_line_where_progress_is_switched_off(lamp_exp):
    _, _, err = lamp_exp(*SHORT, "k=0")
    assert "epoch" not in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["mode=rank", "retriever=random"], r"^rank: \d+ of 20, "),
        (["mode=prompts", "model=tiny", "retriever=random"], r"^prompts: \d+ of 20, "),
    ],
)
def test_slow_stages_tell_how_far_they_are(lamp_exp, monkeypatch, words, line):
    from lamp_exp.augmentations.ipa import InPromptAugmentation
    from lamp_exp.retrievers.random import RandomOrder

    for owner, name in ((RandomOrder, "rank"), (InPromptAugmentation, "__call__")):
        own = getattr(owner, name)

        def slow(self, *given, own=own, **named):
            time.sleep(0.01)
            return own(self, *given, **named)

        monkeypatch.setattr(owner, name, slow)
    _, _, err = lamp_exp("task=lamp4", "limit=20", "rank_processes=1", *words)
    assert re.search(line, err, re.M), err


def test_the_innermost_work_is_told_and_its_end_ends_the_lines(capsys):
    with progress.Report("outer"):
        for _ in progress.progress(range(3), 3, "inner"):
            time.sleep(0.1)
        time.sleep(0.1)
    time.sleep(0.1)
    told = capsys.readouterr().err.splitlines()
    names = [line.partition(":")[0] for line in told]
    assert set(names) == {"inner", "outer"} and names == sorted(names)
    assert told[0].startswith("inner: 0 of 3, ")
    assert any(re.fullmatch(r"inner: 1 of 3, about \d s left", line) for line in told)


def test_the_time_left_counts_from_where_the_work_began(monkeypatch):
    now = iter([0.0, 0.0, 120.0, 120.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    report = progress.Report("file", 3_000_000_000, 1_000_000_000, progress.as_bytes)
    report._start = next(now)
    report.advance(500_000_000)
    assert report.line() == "file: 1.50GB of 3.00GB, about 6 min left"


def test_the_bars_of_libraries_are_not_written_into_logs(capsys, monkeypatch):
    def load() -> None:
        with progress.without_bars():
            print("Converting ━━━", file=sys.stderr)

    load()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    load()
    assert capsys.readouterr().err == "Converting ━━━\n"


def test_weights_are_loaded_without_the_bars_of_libraries(capsys, monkeypatch):
    """GGUF files are converted with a bar of transformers' own."""
    from lamp_exp.models.seq2seq import Seq2Seq

    def load(*given: object, **named: object) -> tuple[str, dict[str, list[str]]]:
        print("Converting and de-quantizing GGUF tensors...", file=sys.stderr)
        return "network", {"missing_keys": []}

    monkeypatch.setattr(Seq2Seq.auto_class, "from_pretrained", load)
    model = experiment("model=flan_t5_base", "model.speed=false", "mode=zeroshot").model
    assert model.load("x") == "network"
    assert capsys.readouterr().err == ""
