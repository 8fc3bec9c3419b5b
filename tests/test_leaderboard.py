"""Official files of runs: checked against the questions, in zips that the scorer can read."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from lamp_exp.results.folder import RunFolder
from lamp_exp.tasks import all_tasks
from tests.test_cli import QUICK, folder_of

RUN = ["mode=zeroshot", "k=1", *QUICK, "max_new_tokens=2"]
VERB = ["leaderboard", "--runs", "outputs", "--out", "sent"]


def questions(task: str, *ids: object) -> list[dict[str, object]]:
    instruction = getattr(all_tasks()[task], "instruction", "")
    return [{"id": id, "input": f"{instruction} fine", "profile": []} for id in ids]


@pytest.fixture
def finished(lamp_exp, data_dir):
    """LaMP-3 (time) and LaMP-4 (user), test parts without golds; ids are numbers in LaMP-3."""
    place = data_dir("LaMP_3", "test", questions("lamp3", 7, 5, 6), time=True)
    data_dir("LaMP_4", "test", questions("lamp4", "001", "1"))
    runs = {}
    for task, split in (("lamp3", "time"), ("lamp4", "user")):
        run = [f"task={task}", f"split={split}", "part=test", f"data_dir={place}", *RUN]
        code, out, err = lamp_exp(*run)
        assert code == 0, err
        runs[task] = folder_of(out).resolve()
    return runs


def change(run: Path, golds: object) -> None:
    path = run / "predictions.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "golds": golds}))


def golds_of(run: Path) -> list[dict[str, object]]:
    return json.loads((run / "predictions.json").read_text())["golds"]


def test_each_split_has_a_zip_of_official_files_without_golds_being_known(report, finished):
    code, out, err = report(*VERB)
    assert (code, err) == (0, "")
    assert "lamp_user_test.zip/LaMP_4.json: 2 questions" in out
    assert out.splitlines()[-3:] == [
        "sent/lamp_time_test.zip", "sent/lamp_user_test.zip", "sent/manifest.json",
    ]  # fmt: skip
    with zipfile.ZipFile("sent/lamp_time_test.zip") as archive:
        assert archive.namelist() == ["LaMP_3.json"]
        content = json.loads(archive.read("LaMP_3.json"))
    assert content.keys() == {"task", "golds"}
    assert content["task"] == "LaMP_3"
    assert [gold["id"] for gold in content["golds"]] == [7, 5, 6]
    assert all(gold.keys() == {"id", "output"} for gold in content["golds"])


@pytest.mark.long
def test_the_manifest_names_runs_hashes_and_counts(report, finished):
    change(finished["lamp4"], [{"id": "1", "output": " "}, {"id": "001", "output": "x"}])
    assert report(*VERB)[0] == 0
    (entry,) = [
        one
        for one in json.loads(Path("sent/manifest.json").read_text())["files"]
        if one["task"] == "lamp4"
    ]
    with zipfile.ZipFile("sent/lamp_user_test.zip") as archive:
        content = archive.read("LaMP_4.json")
    assert [gold["id"] for gold in json.loads(content)["golds"]] == ["001", "1"]  # file order
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert (entry["run"], entry["seed"]) == (finished["lamp4"].name, 0)
    assert entry["counts"]["empty"] == 1
    assert entry["counts"]["questions"] == 2
    assert entry["counts"]["at_the_token_limit"] is not None
    assert entry["settings"]["retriever"] == "bm25"
    assert str(Path.cwd()) not in json.dumps(entry)


def test_the_same_runs_make_the_same_bytes_and_one_zip_is_named(report, finished):
    made = []
    for name in ("a.zip", "b.zip"):
        code, out, _ = report(*VERB[:3], "--where", "split=user", "--out", name)
        assert code == 0
        made.append(Path(name).read_bytes())
    assert made[0] == made[1]
    assert out.splitlines()[-2:] == ["b.zip", "b.manifest.json"]
    assert not list(Path().glob(".*.zip*"))


def test_two_splits_do_not_fit_into_one_zip(report, finished):
    code, _, err = report(*VERB[:3], "--out", "all.zip")
    assert code == 2
    assert "one zip holds one split and part" in err
    assert not Path("all.zip").exists()


def test_a_file_in_the_place_of_the_folder_is_named(report, finished):
    Path("sent").write_text("")
    code, _, err = report(*VERB)
    assert (code, err.count("\n")) == (2, 1)
    assert "--out sent is a file" in err


FAULTS = {
    "no prediction for 1 question: '1'": lambda rows: rows[:1],
    "1 prediction without a question: 'z'": lambda rows: [*rows, {"id": "z", "output": ""}],
    "id '001' occurs more than once": lambda rows: [*rows, rows[0]],
    "ids 1 are written as '1' in the questions": lambda rows: [rows[0], {**rows[1], "id": 1}],
    "gold 2 (id '1'): its `output` must be text": lambda rows: [rows[0], {"id": "1"}],
    "gold 1 (id '001'): its `output` must be text": lambda rows: [
        {**rows[0], "output": float("nan")},
        rows[1],
    ],
    'no list `golds`; an outputs file is {"task": "LaMP_n", "golds": [...]}': lambda rows: {},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_scorer_would_refuse_is_refused_and_nothing_is_written(report, finished, fault):
    change(finished["lamp4"], FAULTS[fault](golds_of(finished["lamp4"])))
    code, _, err = report(*VERB)
    assert (code, err.count("\n")) == (2, 1)
    assert fault in err
    assert finished["lamp4"].name in err
    assert not Path("sent").exists()


def test_questions_that_are_gone_are_named_and_may_lie_elsewhere(report, finished, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    code, _, err = report(*VERB)
    assert code == 2
    assert "its questions cannot be read (--data-dir tells where they lie now)" in err
    assert finished["lamp3"].name in err or finished["lamp4"].name in err
    code, _, err = report(*VERB, "--data-dir", "moved")
    assert (code, err) == (0, "")


def test_files_that_have_changed_since_are_told(report, finished, data_dir):
    rows = questions("lamp4", "001", "1")
    data_dir("LaMP_4", "test", [{**row, "input": f"{row['input']} now"} for row in rows])
    code, _, err = report(*VERB)
    assert code == 0
    assert f"{finished['lamp4'].name}: its questions or golds have changed" in err
    files = json.loads(Path("sent/manifest.json").read_text())["files"]
    changed = {one["task"]: one["data"]["changed_since"] for one in files}
    assert changed == {"lamp3": False, "lamp4": True}


def test_two_runs_of_one_task_and_split_must_be_narrowed(report, lamp_exp, finished):
    run = ["task=lamp4", "part=test", "data_dir=data", *RUN, "seed=1"]
    assert lamp_exp(*run)[0] == 0
    code, _, err = report(*VERB)
    assert code == 2
    assert "are both LaMP_4 of the user split, test: choose one by --where seed=0" in err
    assert report(*VERB, "--where", "seed=0")[0] == 0


def test_partial_files_and_the_sample_are_refused(report, lamp_exp):
    run = ["task=lamp4", "part=test", *RUN]
    code, out, _ = lamp_exp(*run, "limit=2")
    code, _, err = report(*VERB)
    assert (code, "--allow-sample to try it out" in err) == (2, True)
    code, _, err = report(*VERB, "--allow-sample")
    assert code == 2
    assert f"{folder_of(out).name} answers the first 2 questions only (limit=)" in err


@pytest.mark.slow
def test_the_sample_may_be_tried_out(report, lamp_exp):
    assert lamp_exp("task=lamp4", "part=test", *RUN)[0] == 0
    code, out, _ = report(*VERB, "--allow-sample")
    assert code == 0
    assert "MADE-UP SAMPLE, 300 questions" in out


@pytest.mark.long
def test_runs_without_predictions_are_left_out_and_told(report, lamp_exp, finished):
    assert lamp_exp("task=lamp4", "part=test", "mode=rank", "data_dir=data")[0] == 0
    code, _, err = report(*VERB)
    assert code == 0 and err.startswith("left out, without predictions: lamp4-user-test-rank-")
    for run in finished.values():
        shutil.rmtree(run)
    code, _, err = report(*VERB)
    assert code == 2
    assert "there is no run with predictions" in err


def test_a_stale_run_is_left_out(report, finished):
    RunFolder(finished["lamp4"]).mark_stale("old")
    code, out, err = report(*VERB)
    assert code == 0
    assert "left out, stale: old" in err
    assert "LaMP_4" not in out


def test_outputs_are_counted_by_kind_also_without_golds(report, finished):
    recorded = RunFolder(finished["lamp3"]).read()
    assert recorded.metrics is None
    assert {"outputs_unreadable", "outputs_out_of_range"} <= recorded.counts.keys()
    texts = zip((5, 6, 7), ("10", "-3", "good"), strict=True)
    change(finished["lamp3"], [{"id": id, "output": text} for id, text in texts])
    _, out, _ = report(*VERB)
    assert "3 questions, 1 unreadable, 2 out of range" in out
