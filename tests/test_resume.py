"""Broken off and gone on with: the numbers are those of a run that was not."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from lamp_exp.models.batches import ShuffledBatches, padded_share
from lamp_exp.models.checkpoints import BEST, LAST, WEIGHTS
from lamp_exp.models.seq2seq import Seq2Seq
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.journal import AnswerJournal
from lamp_exp.results.schema import SCHEMA_VERSION, NewerSchemaError
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Prediction, Prompt, TrainingOptions, TrainingSet
from tests.conftest import minimal_result, settings, trainer

SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4, "dropout_rate": 0.1}
TEXTS = ["the old rose near lake", "the sailor meets the nurse", "the oven"]
PROMPTS = [Prompt(str(n), (TEXTS[n % 3], TEXTS[(n + 1) % 3])) for n in range(10)]


class Power(Exception):
    """Fails."""


class Breaking(Seq2Seq):
    """Breaks off at a step, or after so many answered batches."""

    at_step = at_batch = -1

    def training_step(self, batch, index):
        if self.global_step == self.at_step:
            raise Power
        return super().training_step(batch, index)

    def predict_step(self, batch, index):
        if index == self.at_batch:
            raise Power
        return super().predict_step(batch, index)


LORA = {"lora_rank": 2}


def model(step: int = -1, batch: int = -1, patience: int | None = None, **options) -> Breaking:
    training = TrainingOptions(batch_size=4, lr=0.01, patience=patience, **options)
    made = Breaking(None, settings(training=training), {"num_beams": 1}, fresh=SIZES)
    made.at_step, made.at_batch = step, batch
    return made


def lesson(folder: Path, epochs: int = 4) -> TrainingSet:
    pairs = [(prompt, TEXTS[n % 3]) for n, prompt in enumerate(PROMPTS)]
    return TrainingSet(pairs, pairs[:5], Lamp4().score, Lamp4().main_metric, epochs, folder)


def weights(made: Seq2Seq) -> list[torch.Tensor]:
    return list(made.net.state_dict().values())


SLOW = [
    pytest.param(step, options, marks=pytest.mark.slow)
    for step, options in [(3, {}), (6, {}), (11, {}), (1, LORA), (3, LORA), (6, LORA), (11, LORA)]
]


@pytest.mark.long
@pytest.mark.parametrize(  # three steps an epoch
    ("step", "options"), [(1, {}), (5, {}), (5, LORA), *SLOW]
)
def test_training_that_was_broken_off_ends_as_if_it_had_not_been(tmp_path, step, options):
    whole, broken, again = model(**options), model(step, **options), model(**options)
    report = whole.fit(lesson(tmp_path / "whole"), trainer)
    with pytest.raises(Power):
        broken.fit(lesson(tmp_path / "broken"), trainer)
    assert (tmp_path / "broken" / LAST).is_file() == (step >= 3)
    assert again.fit(lesson(tmp_path / "broken"), trainer) == report
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))
    assert not (tmp_path / "broken" / WEIGHTS).exists()


def test_an_epoch_that_was_broken_off_is_done_again_and_this_is_told(tmp_path, caplog):
    with pytest.raises(Power):
        model(4).fit(lesson(tmp_path), trainer)
    with caplog.at_level(logging.INFO, "lamp_exp"):
        model().fit(lesson(tmp_path), trainer)
    assert "training continues after epoch 1" in caplog.text


def test_the_last_checkpoint_holds_plain_values_only(tmp_path):
    with pytest.raises(Power):
        model(4).fit(lesson(tmp_path), trainer)
    state = torch.load(tmp_path / LAST, weights_only=True)  # raises on anything else
    assert len(state["history"]) == 1


@pytest.mark.long
def test_damaged_checkpoints_of_a_broken_training_are_set_aside_and_it_begins_anew(
    tmp_path, caplog
):
    report = model().fit(lesson(tmp_path / "whole"), trainer)
    for name, how in [(LAST, "cut"), (LAST, "NUL"), (BEST, "empty"), (BEST, "flipped")]:
        folder = tmp_path / name.replace("/", "-") / how
        with pytest.raises(Power):
            model(4).fit(lesson(folder), trainer)
        content = (folder / name).read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        kinds = {"cut": content[:middle], "NUL": bytes(len(content)), "empty": b""}
        (folder / name).write_bytes(kinds.get(how, flipped))
        caplog.clear()
        assert model().fit(lesson(folder), trainer) == report
        assert [str(folder / name) in record.message for record in caplog.records] == [True]


def test_training_that_was_over_is_not_begun_again(tmp_path):
    report = model().fit(lesson(tmp_path), trainer)
    again = model(step=0)  # any step would fail
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert again.fit(lesson(tmp_path), trainer) == report
    assert again.predict(PROMPTS, trainer)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_training_that_had_stopped_early_does_not_go_on(tmp_path):
    class Unsaved(Breaking):
        def _save(self, *words):
            raise Power

    def taught(folder: Path) -> TrainingSet:
        return lesson(folder, epochs=30)

    whole = model(patience=1)
    report = whole.fit(taught(tmp_path / "whole"), trainer)
    assert len(report["epochs"]) < 30
    unsaved = Unsaved(None, whole.settings, {"num_beams": 1}, fresh=SIZES)
    with pytest.raises(Power):
        unsaved.fit(taught(tmp_path / "broken"), trainer)
    assert model(patience=1).fit(taught(tmp_path / "broken"), trainer) == report


@pytest.mark.parametrize("generation", [{"num_beams": 1}, {"do_sample": True}])
def test_answers_that_were_kept_are_not_asked_for_again(tmp_path, generation):
    def made(batch: int = -1) -> Breaking:
        asked = Breaking(None, settings(predict_batch_size=3), generation, fresh=SIZES)
        torch.manual_seed(0)
        asked.configure_model()
        asked.at_batch = batch
        return asked

    whole = made().predict(PROMPTS, trainer)
    with pytest.raises(Power):
        made(2).predict(PROMPTS, trainer, AnswerJournal(tmp_path, PROMPTS))
    assert [a.id for a in AnswerJournal(tmp_path, PROMPTS).read()] == [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
    ]
    again = made(2)  # only two batches are left
    assert again.predict(PROMPTS, trainer, AnswerJournal(tmp_path, PROMPTS)) == whole
    assert made(0).predict(PROMPTS, trainer, AnswerJournal(tmp_path, PROMPTS)) == whole


def test_an_answer_is_known_by_its_prompt_and_a_torn_line_is_none(tmp_path):
    journal = AnswerJournal(tmp_path, PROMPTS)
    journal.append([Prediction("0", "zero\nand \ud800more", 3, True), Prediction("1", "one")])
    with journal.own_file.open("a") as file:
        file.write('["torn')
    changed = [Prompt("1", ("another prompt",)), *PROMPTS[2:], PROMPTS[0]]
    assert list(AnswerJournal(tmp_path, changed).read()) == [
        Prediction("0", "zero\nand \ud800more", 3, True)
    ]


@pytest.mark.parametrize("how", ["NUL at the end", "NUL", "another kind", "no UTF-8"])
def test_the_undamaged_lines_of_a_damaged_journal_count(tmp_path, caplog, how):
    journal = AnswerJournal(tmp_path, PROMPTS)
    journal.append([Prediction("0", "zero", 3, True), Prediction("1", "one")])
    damage = {"another kind": b'{"a": 1}\n[1]\n', "no UTF-8": b'["\xff"]\n'}
    content = journal.own_file.read_bytes() + damage.get(how, bytes(40))
    journal.own_file.write_bytes(bytes(len(content)) if how == "NUL" else content)
    answers = [answer.id for answer in AnswerJournal(tmp_path, PROMPTS).read()]
    assert answers == ([] if how == "NUL" else ["0", "1"])
    (record,) = caplog.records
    assert f"{journal.own_file} is damaged" in record.message


def test_other_code_or_libraries_do_not_go_on_with_a_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start({"k": 1}, {"code": "a"})
    (folder.path / "answers-1.jsonl").write_text("")
    folder.start({"k": 1}, {"code": "a"})
    assert (folder.path / "answers-1.jsonl").exists()
    folder.start({"k": 1}, {"code": "b"})
    assert not (folder.path / "answers-1.jsonl").exists()


def test_a_run_lacking_one_of_its_files_is_not_finished(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start({}, {})
    folder.write_predictions("LaMP_1", [("1", "[1]")])
    (tmp_path / "answers-1.jsonl").write_text("")
    folder.write_result(minimal_result())
    assert folder.finished
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.yaml", "predictions.json", "result.json",
    ]  # fmt: skip
    (tmp_path / "predictions.json").unlink()
    assert not folder.finished


@pytest.mark.parametrize("rows", [1, 2, 7, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_every_batch_and_no_row_counts_twice(rows, world):
    shares = [ShuffledBatches(rows, 3, 5, rank, world) for rank in range(world)]
    whole = list(ShuffledBatches(rows, 3, 5))
    for share in shares:
        assert len(list(share)) == len(share) == len(whole)
    for index, batch in enumerate(whole):
        own = [list(share)[index] for share in shares if not share.is_padding(index)]
        assert sorted(row for part in own for row in part) == sorted(batch)
    assert sorted(row for batch in whole for row in batch) == list(range(rows))


def test_each_epoch_has_an_order_of_its_own_that_depends_on_nothing_else():
    first, second = ShuffledBatches(20, 4, 0), ShuffledBatches(20, 4, 0)
    first.set_epoch(1)
    assert list(first) != list(second)
    list(second)
    second.set_epoch(1)
    assert list(first) == list(second)
    other = ShuffledBatches(20, 4, 1)
    other.set_epoch(1)
    assert list(other) != list(first)


def test_padded_shares_hold_every_row():
    for rows in range(1, 8):
        shares = [padded_share(list(range(rows)), rank, 3) for rank in range(3)]
        assert len({len(share) for share in shares}) == 1
        assert {row for share in shares for row in share} == set(range(rows))


def test_what_the_journal_writes_is_one_json_row_an_answer(tmp_path):
    journal = AnswerJournal(tmp_path, PROMPTS)
    answer = Prediction("3", "three", 2, False, raw="<think> two </think> three")
    journal.append([answer])
    (line,) = journal.own_file.read_text().splitlines()
    row = json.loads(line)
    assert row[1:] == ["3", "three", 2, False, "<think> two </think> three", None]
    assert list(journal.read()) == [answer]
    journal.own_file.write_text(json.dumps(row[:5]) + "\n")  # as older versions wrote it
    assert list(journal.read()) == [Prediction("3", "three", 2, False)]


def test_a_result_that_is_no_record_is_set_aside_and_one_of_a_newer_version_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "result.json").write_text('{"run": "r"}')
    assert not folder.finished
    assert (tmp_path / ".result.json.damaged").is_file()
    newer = json.dumps({"schema_version": SCHEMA_VERSION + 1})
    (tmp_path / "result.json").write_text(newer)
    with pytest.raises(NewerSchemaError, match="newer than this program's"):
        _ = folder.finished
    assert (tmp_path / "result.json").read_text() == newer
