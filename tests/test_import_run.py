"""Predictions made elsewhere become runs: checked by id, scored, and honest about the unknown."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pyarrow.parquet
import pytest

from lamp_exp.report.footers import remark_footers
from lamp_exp.report.loading import find
from lamp_exp.report.selection import facet, grouped, select
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.record import Record
from lamp_exp.score import score_files
from tests.test_cli import QUICK, folder_of
from tests.test_leaderboard import questions

VERB = ["import", "mine.json", "--name", "My system", "--data-dir", "data"]
ANSWERS = {"a": "5", "b": "1", "c": "no idea"}


def official(file: str, answers: dict[str, str], task: str | None = "LaMP_3") -> Path:
    golds = [{"id": id, "output": output} for id, output in answers.items()]
    Path(file).write_text(json.dumps({"task": task, "golds": golds} if task else {"golds": golds}))
    return Path(file)


@pytest.fixture
def data(data_dir):
    """LaMP-3, dev with golds and test without; LaMP-4 without."""
    item = {"id": "1", "text": "good", "score": "5"}
    rows = [{**row, "profile": [item] * n} for n, row in enumerate(questions("lamp3", "a", "b", 7))]
    rows[2]["id"] = "c"
    golds = [{"id": id, "output": "4"} for id in "abc"]
    data_dir("LaMP_3", "dev", rows, {"task": "LaMP_3", "golds": golds})
    data_dir("LaMP_3", "test", questions("lamp3", 1, 2))
    data_dir("LaMP_4", "dev", questions("lamp4", "x"))
    official("mine.json", ANSWERS)
    return Path("data")


def record_of(out: str) -> Record:
    folder = folder_of(out)
    return Record(folder, RunFolder(folder).read())


def test_an_import_is_a_whole_run_with_the_official_scores(report, data):
    code, out, err = report(*VERB)
    assert (code, err) == (0, "")
    record = record_of(out)
    assert RunFolder(record.folder).finished
    assert record.name.startswith("lamp3-user-dev-imported-My_system-s0-")
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "config.yaml", "examples.parquet", "predictions.json", "result.json", "run.log",
    ]  # fmt: skip
    scored = score_files(data / "LaMP_3/dev/dev_outputs.json", Path("mine.json"), "lamp3")
    assert record.metrics == scored["metrics"]
    assert record.result.counts["outputs_unreadable"] == 1
    assert record.result.counts["questions"] == 3
    assert record.result.counts["empty_profiles"] == 1
    predictions = json.loads((record.folder / "predictions.json").read_text())
    assert predictions == json.loads(Path("mine.json").read_text())


def test_what_is_not_known_is_null_and_not_nought(report, data):
    record = record_of(report(*VERB)[1])
    columns = pyarrow.parquet.read_table(record.folder / "examples.parquet").to_pydict()
    assert columns["prediction"] == list(ANSWERS.values())
    assert columns["target"] == ["4", "4", "4"]
    assert columns["profile_size"] == [0, 1, 2]
    assert columns["mae"] == [1.0, 3.0, 3.0]
    for name in ("prompt_tokens", "output_tokens", "items_lost", "top_similarity"):
        assert columns[name] == [None] * 3
    assert record.result.k is None
    for key in ("k", "retriever", "augmentation", "training.lr"):
        assert facet(record, key) == "unknown"
    assert facet(record, "model") == "My system"
    assert record.baseline is None
    assert select([record], ["k=unknown", "mode=imported"]) == [record]
    assert "in 1 of 1 run: predictions made elsewhere, imported" in remark_footers([record])


def test_an_import_and_a_run_on_the_same_questions_can_be_paired(report, lamp_exp, data):
    _, out, _ = lamp_exp("task=lamp3", "data_dir=data", "mode=zeroshot", *QUICK)
    ours, theirs = record_of(out), record_of(report(*VERB)[1])
    assert ours.comparable_key == theirs.comparable_key
    assert ours.column("id") == theirs.column("id")
    assert ours.column("user") == theirs.column("user")
    assert len(find([Path("outputs")]).records) == 2


def test_the_same_predictions_are_there_already_in_whatever_order(report, data):
    first = report(*VERB)[1]
    written = (folder_of(first) / "result.json").stat().st_mtime_ns
    official("mine.json", dict(reversed(ANSWERS.items())))
    code, again, err = report(*VERB)
    assert (code, again, err) == (0, first, "these predictions are there already\n")
    assert (folder_of(first) / "result.json").stat().st_mtime_ns == written


def test_other_predictions_are_another_run_and_the_last_import_counts(report, data):
    first = folder_of(report(*VERB)[1])
    official("mine.json", {**ANSWERS, "c": "4"})
    _, out, err = report(*VERB)
    assert folder_of(out) != first
    assert err == f"{first.name} holds older predictions, and is marked as stale\n"
    assert [record.folder for record in find([Path("outputs")]).records] == [folder_of(out)]
    official("mine.json", ANSWERS)
    assert folder_of(report(*VERB)[1]) == first
    assert [record.folder for record in find([Path("outputs")]).records] == [first]


def test_other_names_stand_side_by_side_and_seeds_are_averaged(report, data):
    report(*VERB)
    official("mine.json", {**ANSWERS, "c": "4"})
    assert report(*VERB, "--seed", "1")[2] == ""
    assert report(*VERB, "--name", "My-system")[2] == ""
    records = find([Path("outputs")]).records
    groups = grouped(records)
    assert len(records) == 3
    assert sorted(len(group.records) for group in groups.values()) == [1, 2]


def test_numeric_ids_are_joined_as_text_and_written_as_the_questions_have_them(report, data):
    official("mine.json", {"2": "4", "1": "5"})
    code, out, _ = report(*VERB, "--part", "test")
    record = record_of(out)
    assert (code, record.metrics) == (0, {})
    golds = json.loads((record.folder / "predictions.json").read_text())["golds"]
    assert golds == [{"id": 1, "output": "5"}, {"id": 2, "output": "4"}]
    assert "no metrics" not in out or "predictions only" in out


def test_golds_may_come_from_a_file(report, data):
    official("mine.json", {"1": "4", "2": "5"})
    official("golds.json", {"1": "4", "2": "3"})
    test = [*VERB, "--part", "test"]
    without = folder_of(report(*test)[1])
    code, out, err = report(*test, "--golds", "golds.json")
    assert (code, record_of(out).metrics["mae"]) == (0, 1.0)
    assert record_of(out).result.imported.golds == "golds.json"
    assert folder_of(out) != without
    official("golds.json", {"1": "4", "2": "nine"})
    assert "golds of '2' are no answers to LaMP_3" in report(*test, "--golds", "golds.json")[2]
    official("golds.json", {"1": "4"})
    assert "no prediction for 1 id: '2'" in report(*test, "--golds", "golds.json")[2]
    official("golds.json", {"1": "4"}, "LaMP_4")
    assert "golds.json holds no golds for lamp3" in report(*test, "--golds", "golds.json")[2]
    official("golds.json", {"a": "4", "b": "4", "c": "5"})
    official("mine.json", ANSWERS)
    code, _, err = report(*VERB, "--golds", "golds.json")
    assert (code, "the golds of 'c' differ from those beside" in err) == (2, True)


def test_what_is_said_of_a_system_is_kept(report, data):
    told = ["--description", "a very good one", "--url", "https://example.org/paper"]
    result = record_of(report(*VERB, *told)[1]).result
    assert result.imported.description == "a very good one"
    assert result.imported.url == "https://example.org/paper"
    assert result.imported.file == "mine.json"
    assert result.imported.golds is None


def zipped(file: str, **contents: str) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name.replace("__", "/").replace("_json", ".json"), content)
    return Path(file)


def test_a_whole_zip_is_imported_task_by_task(report, data):
    three = official("3.json", ANSWERS).read_text()
    four = official("4.json", {"x": "a title"}, "LaMP_4").read_text()
    zipped("all.zip", LaMP_3_json=three, inner__LaMP_4_json=four, manifest_json="{}")
    zip = [VERB[0], "all.zip", *VERB[2:]]
    code, out, err = report(*zip)
    assert (code, err) == (0, "left out, no predictions: manifest.json\n")
    names = {record.task for record in find([Path("outputs")]).records}
    assert names == {"lamp3", "lamp4"}
    code, out, _ = report(*zip, "--task", "lamp4")
    assert (code, out.count("outputs/")) == (0, 1)
    assert record_of(out).result.imported.file == "all.zip"


def test_nothing_of_a_zip_is_written_if_one_file_is_wrong(report, data):
    three = official("3.json", ANSWERS).read_text()
    four = official("4.json", {"y": "a title"}, "LaMP_4").read_text()
    zipped("all.zip", LaMP_3_json=three, LaMP_4_json=four)
    code, _, err = report(VERB[0], "all.zip", *VERB[2:])
    assert code == 2
    assert "all.zip/LaMP_4.json: no prediction for 1 id: 'x'; 1 prediction without" in err
    assert not list(Path("outputs").glob("lamp*"))


def test_a_leaderboard_zip_of_ours_can_be_imported_again(report, lamp_exp, data):
    assert lamp_exp("task=lamp3", "data_dir=data", "mode=zeroshot", *QUICK)[0] == 0
    assert report("leaderboard", "--out", "sent.zip")[0] == 0
    code, _, _ = report(VERB[0], "sent.zip", *VERB[2:])
    ours = find([Path("outputs")]).records
    assert code == 0
    assert len({json.dumps(record.metrics) for record in ours}) == 1


def test_answers_outside_the_scale_are_counted(report, data):
    official("mine.json", {"a": "10", "b": "-3", "c": "no idea"})
    out = report(*VERB)[1]
    counts = record_of(out).result.counts
    assert (counts["outputs_out_of_range"], counts["outputs_unreadable"]) == (2, 1)
    told = "outputs outside the scale, scored as they are"
    assert f"2 {told}" in out and "no output is a valid answer" not in out
    assert f"in 1 of 1 run: {told}" in report("table")[1]
    official("mine.json", {"a": "10", "b": "-3", "c": "7"})
    assert f"3 {told}" in report(*VERB)[1]


FAULTS = {
    "no prediction for 1 id: 'c'": {"a": "1", "b": "1"},
    "1 prediction without a question: 'd'": {**ANSWERS, "d": "1"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_ids_that_do_not_meet_are_named(report, data, fault):
    official("mine.json", FAULTS[fault])
    code, _, err = report(*VERB)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("lamp_exp.report import: mine.json: ")
    assert fault in err


ROW = '{"id": "a", "output": ""}'
CONTENTS = {
    "mine.json cannot be read as JSON": "{",
    "mine.json: a bare list": "[]",
    "mine.json: no list `golds`": "{}",
    "its `output` must be text, not null (or NaN)": '{"golds": [{"id": "a", "output": null}]}',
    "id 'a' occurs more than once": f'{{"golds": [{ROW}, {ROW}]}}',
    "mine.json names no `task`: give --task": '{"golds": []}',
    "is of task 'LaMP_9', which is none of LaMP's": '{"task": "LaMP_9", "golds": []}',
}  # fmt: skip


@pytest.mark.parametrize("fault", CONTENTS)
def test_what_is_no_official_file_is_refused(report, data, fault):
    Path("mine.json").write_text(CONTENTS[fault])
    code, _, err = report(*VERB)
    assert (code, err.count("\n")) == (2, 1)
    assert fault in err


OPTIONS = {
    "--task lamp9: choose from lamp1": ["--task", "lamp9"],
    "--task lamp4: mine.json is of LaMP_3": ["--task", "lamp4"],
    "no questions at nowhere/LaMP_3/dev": ["--data-dir", "nowhere"],
    "--name is empty": ["--name", "  "],
    "--seed -1 must be at least 0": ["--seed", "-1"],
    "golds.json: no such file": ["--golds", "golds.json"],
    "no questions at data/time/LaMP_3": ["--split", "time"],
}


@pytest.mark.parametrize("fault", OPTIONS)
def test_a_mistaken_option_is_told(report, data, fault):
    code, _, err = report(*VERB, *OPTIONS[fault])
    assert (code, err.count("\n")) == (2, 1)
    assert fault in err
    assert not list(Path("outputs").glob("lamp*"))


def test_a_missing_file_and_an_empty_zip_are_told(report, data):
    assert "gone.json: no such file" in report(VERB[0], "gone.json", *VERB[2:])[2]
    zipped("empty.zip", readme_txt="x")
    assert "empty.zip holds no file like" in report(VERB[0], "empty.zip", *VERB[2:])[2]
    zipped("broken.zip", LaMP_3_json="{")
    assert "broken.zip/LaMP_3.json cannot be read" in report(VERB[0], "broken.zip", *VERB[2:])[2]
    text = Path("mine.json").read_text()
    zipped("twice.zip", a_json=text, b_json=text)
    assert "are both of lamp3" in report(VERB[0], "twice.zip", *VERB[2:])[2]


def test_a_file_without_a_task_is_taken_for_the_one_that_is_named(report, data):
    official("mine.json", ANSWERS, None)
    assert report(*VERB, "--task", "lamp3")[0] == 0


def test_without_a_data_dir_the_sample_is_meant_and_said(report, data):
    code, _, err = report(*VERB[:4])
    assert code == 2
    assert "no prediction for 300 ids" in err
