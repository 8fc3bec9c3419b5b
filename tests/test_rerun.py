"""A run made once more: whether the numbers agree, and what differs if they do not."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from lamp_exp.results.folder import RunFolder
from tests.test_card import questions
from tests.test_cli import QUICK, folder_of
from tests.test_import_run import official

ASKED = ["task=lamp4", "mode=zeroshot", "limit=4", *QUICK]


def change(run: Path, **parts: object) -> None:
    """Another record, as other code or another machine would have left it."""
    path = run / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))


@pytest.fixture
def run(lamp_exp):
    code, out, err = lamp_exp(*ASKED)
    assert code == 0, err
    return folder_of(out)


def test_the_same_run_agrees_and_leaves_nothing(report, run, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    before = sorted(path for path in Path("outputs").rglob("*"))
    code, out, err = report("rerun", run)
    assert code == 0, err
    metrics = RunFolder(run).read().metrics
    assert f"metrics are equal to the last digit: rouge_1 {metrics['rouge_1']}" in out
    assert "predictions are identical\n" in out
    assert "the same code, versions, data, threads and device\n" in out
    assert out.splitlines()[-1] == f"the numbers agree: {run.name}"
    assert sorted(path for path in Path("outputs").rglob("*")) == before
    assert not list((tmp_path / "tmp").iterdir())


def test_the_repeat_may_be_kept_but_not_in_the_place_of_the_run(report, run):
    code, out, _ = report("rerun", run, "--keep", "again")
    assert code == 0
    assert folder_of(out) == Path("again") / run.name
    assert RunFolder(folder_of(out)).finished
    written = (folder_of(out) / "result.json").stat().st_mtime_ns
    assert report("rerun", run, "--keep", "again")[0] == 0  # it is really run again
    assert (folder_of(out) / "result.json").stat().st_mtime_ns > written
    code, _, err = report("rerun", run, "--keep", "outputs")
    assert (code, err.count("\n")) == (2, 1)
    assert "--keep outputs is where the run itself lies" in err


def test_other_predictions_are_named_with_both_answers(report, run):
    path = run / "predictions.json"
    content = json.loads(path.read_text())
    id = content["golds"][1]["id"]
    content["golds"][1]["output"] = "something else"
    path.write_text(json.dumps(content))
    code, out, _ = report("rerun", run)
    assert code == 1
    assert f"predictions differ for 1 question: '{id}'" in out
    assert f"  {id}: 'something else' then, " in out
    assert out.splitlines()[-1] == f"the numbers DIFFER: {run.name}"


@pytest.mark.long
def test_a_metric_that_differs_in_its_last_digit_is_told(report, run):
    metrics = RunFolder(run).read().metrics
    change(run, metrics={**metrics, "rouge_1": metrics["rouge_1"] + 1e-12})
    code, out, _ = report("rerun", run)
    assert code == 1
    assert f"rouge_1: {metrics['rouge_1'] + 1e-12} then, {metrics['rouge_1']} now" in out


def test_what_may_explain_a_difference_is_told(report, run):
    result = RunFolder(run).read()
    code = {"commit": "0123456789abcdef", "changed": True, "fingerprint": "f00"}
    versions = {**result.versions, "torch": "1.0", "gone": "3"}
    change(run, code=code, versions=versions, model={**result.model, "threads": 64})
    exit_code, out, _ = report("rerun", run)
    assert exit_code == 0
    assert "code: 0123456789ab with changes (f00) then, " in out
    assert f"version of torch: 1.0 then, {result.versions['torch']} now" in out
    assert "version of gone: 3 then, none now" in out
    assert re.search(r"threads: 64 then, \d+ now", out)


def test_as_many_threads_are_asked_for_as_the_run_had(report, run, monkeypatch):
    change(run, model={**RunFolder(run).read().model, "threads": 3})
    monkeypatch.delenv("OMP_NUM_THREADS")
    report("rerun", run)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    report("rerun", run)
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_rankings_and_prompts_are_compared_where_no_model_answers(report, lamp_exp):
    for mode, name in (("rank", "rankings"), ("prompts", "prompts")):
        _, out, _ = lamp_exp("task=lamp4", "limit=3", f"mode={mode}", *QUICK)
        code, told, _ = report("rerun", folder_of(out))
        assert (code, f"{name} are identical" in told) == (0, True)
        path = folder_of(out) / f"{name}.jsonl"
        path.write_text(path.read_text().replace('"score": ', '"score": 1'))
        code, told, _ = report("rerun", folder_of(out))
        assert (code, f"{name} differ for 3 questions" in told) == (1, True)


def test_a_tuned_run_is_tuned_again(report, lamp_exp):
    _, out, _ = lamp_exp(*ASKED, "k=tune", "k_values=[1,2]")
    code, told, _ = report("rerun", folder_of(out), "--keep", "again")
    assert code == 0
    assert len(list(Path("again").glob("lamp4*"))) == 3
    assert folder_of(told).name == folder_of(out).name


@pytest.mark.slow
def test_a_fine_tuned_run_is_trained_again(report, lamp_exp):
    train = ["trainer.max_epochs=2", "limit=20", "training.batch_size=5", *QUICK]
    _, out, _ = lamp_exp("task=lamp4", "augmentation=fid", *train)
    assert report("rerun", folder_of(out))[0] == 0


@pytest.mark.long
def test_a_record_from_before_an_option_can_be_repeated(report, run):
    settings = RunFolder(run).read().settings
    del settings["skip"]
    change(run, settings=settings)
    code, out, err = report("rerun", run)
    assert code == 0, out + err


def test_a_repeat_is_told_to_no_logger(report, lamp_exp, run):
    settings = RunFolder(run).read().settings
    change(run, settings={**settings, "logger": {"_target_": "nowhere.to_be_found"}})
    assert report("rerun", run)[0] == 0


def test_data_that_have_changed_or_gone_are_told(report, lamp_exp, data_dir):
    golds = {"task": "LaMP_4", "golds": [{"id": "1", "output": "a b"}]}
    rows = questions("lamp4", "1")
    data_dir("LaMP_4", "dev", rows, golds)
    code, out, _ = lamp_exp(*ASKED, "data_dir=data")
    run = folder_of(out)
    assert report("rerun", run)[0] == 0
    data_dir("LaMP_4", "dev", [{**rows[0], "input": f"{rows[0]['input']} now"}], golds)
    code, out, _ = report("rerun", run)
    print_then = RunFolder(run).read().data["asked"].fingerprint
    assert f"data of asked: {print_then} then, " in out
    assert "prompts differ for 1 question: '1'" in out
    assert code in (0, 1)  # other prompts may be answered alike
    shutil.rmtree("data")
    code, _, err = report("rerun", run)
    assert (code, err.count("\n")) == (2, 1)
    assert "no questions at data/LaMP_4/dev" in err


def test_weights_that_are_gone_are_told(report, run):
    settings = RunFolder(run).read().settings
    change(run, settings={**settings, "model": {**settings["model"], "name": "gone"}})
    code, _, err = report("rerun", run)
    assert code == 2
    assert "model.name=gone" in err.splitlines()[-1]


def test_an_import_cannot_be_repeated(report, run):
    golds = json.loads((run / "predictions.json").read_text())["golds"]
    official("mine.json", {gold["id"]: "x" for gold in golds}, "LaMP_4")
    assert report("import", "mine.json", "--name", "x")[0] == 2  # of four questions only
    change(run, mode="imported", identity={"mode": "imported"})
    code, _, err = report("rerun", run)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{run.name} was imported: its predictions were made elsewhere" in err


def test_an_api_is_asked_only_if_that_is_said(report, run):
    settings = RunFolder(run).read().settings
    model = {"_target_": "lamp_exp.models.openai.OpenAI", "name": "x", "generation": {},
             "base_url": "http://127.0.0.1:9", "tokenizer": "gone"}  # fmt: skip
    change(run, settings={**settings, "model": model})
    code, _, err = report("rerun", run)
    assert (code, err.count("\n")) == (2, 1)
    assert "asks a model behind an API, which may cost" in err
    assert "--allow-api to do it" in err
    code, _, err = report("rerun", run, "--allow-api")
    assert code == 2
    assert "--allow-api to do it" not in err


@pytest.mark.long
def test_a_fault_of_ours_is_no_difference(report, run, monkeypatch):
    from lamp_exp.tasks.lamp4 import Lamp4

    def broken(self: Lamp4, outputs: object, targets: object) -> None:
        raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr(Lamp4, "score", broken)
    code, _, err = report("rerun", run)
    assert code == 2
    assert "ZeroDivisionError: broken on purpose" in err


def test_options_that_were_added_are_repeated_and_unknown_ones_are_refused(report, lamp_exp):
    added = ["+trainer.inference_mode=false", "+model.generation.no_repeat_ngram_size=2"]
    code, out, err = lamp_exp(*ASKED, *added)
    assert code == 0, err
    run = folder_of(out)
    assert report("rerun", run)[0] == 0
    change(run, settings={**RunFolder(run).read().settings, "mynote": "hello"})
    code, _, err = report("rerun", run)
    assert (code, err.count("\n")) == (2, 1)
    assert "mynote" in err
