"""k=tune: the best k on dev, its curve, and the run with it."""

from __future__ import annotations

import json

import pytest

from lamp_exp.experiment.tune import _best
from lamp_exp.metrics import Accuracy, MeanAbsoluteError
from lamp_exp.results.folder import RunFolder
from tests.conftest import recorded
from tests.test_cli import QUICK, folder_of

RUN = ["task=lamp4", "mode=zeroshot", "limit=6", *QUICK]
TUNE = [*RUN, "k=tune", "k_values=[1,2,4]"]


@pytest.fixture
def scored_by_k(monkeypatch):
    """Answers are random; here ROUGE-1 is best for k=2."""
    from lamp_exp.tasks.lamp4 import Lamp4

    real, prompts = Lamp4.score, Lamp4.join
    seen = {"k": 0}

    def join(self, input, entries):
        seen["k"] = max(seen["k"], len(entries))
        return prompts(self, input, entries)

    def score(self, outputs, targets):
        k, seen["k"] = seen["k"], 0
        told = real(self, outputs, targets)
        metrics = {"rouge_1": {1: 0.1, 2: 0.3, 4: 0.2}.get(k, 0.0), "rouge_l": 0.0}
        return type(told)(metrics, told.per_example)

    monkeypatch.setattr(Lamp4, "join", join)
    monkeypatch.setattr(Lamp4, "score", score)


def test_the_k_that_is_best_on_dev_is_run_on_the_asked_part(lamp_exp, scored_by_k):
    code, out, _ = lamp_exp(*TUNE, "part=train")
    assert code == 0
    folder = folder_of(out)
    result = recorded(folder)
    assert (result["k"], result["part"]) == (2, "train")
    curve = {point["k"]: point["rouge_1"] for point in result["tuned"]["curve"]}
    assert curve == {1: 0.1, 2: 0.3, 4: 0.2}
    assert "-ktune-" in folder.name
    assert "k=2 was chosen on dev by rouge_1 (k=1: 0.1000, k=2: 0.3000, k=4: 0.2000)" in out
    chosen = RunFolder(folder.parent / result["tuned"]["run"])
    for name in ("predictions.json", "examples.parquet"):
        assert (folder / name).read_bytes() == (chosen.path / name).read_bytes()
    runs = [recorded(path) for path in folder.parent.glob("lamp4-user-dev-*-k[124]-*")]
    assert sorted(run["k"] for run in runs) == [1, 2, 4]


def test_tuning_shares_its_runs_with_a_sweep_over_k(lamp_exp, tmp_path):
    folder = folder_of(lamp_exp(*RUN, "k=2")[1])
    written = (folder / "result.json").stat().st_mtime_ns
    code, out, _ = lamp_exp(*TUNE)
    assert code == 0
    assert (folder / "result.json").stat().st_mtime_ns == written
    assert len(list(tmp_path.glob("outputs/lamp4-*"))) == 4
    again = lamp_exp(*TUNE)[1]
    assert again == out


def test_equal_values_give_the_smallest_k_and_errors_are_the_lower_the_better():
    curve = [{"k": k, "value": value} for k, value in ((8, 0.5), (4, 0.5), (1, 0.2))]
    assert _best(curve, Accuracy()) == 4
    assert _best(curve, MeanAbsoluteError()) == 1


def test_without_a_profile_there_is_nothing_to_tune(lamp_exp):
    tuned = folder_of(lamp_exp(*RUN, "retriever=none", "k=tune")[1])
    assert tuned == folder_of(lamp_exp(*RUN, "k=0")[1])


def test_a_dry_run_knows_a_tuned_run(lamp_exp):
    assert "ktune" in lamp_exp(*TUNE, "dry_run=true")[1]
    lamp_exp(*TUNE)
    assert "finished" in lamp_exp(*TUNE, "dry_run=true")[1]


def test_other_values_are_another_run(lamp_exp):
    first = folder_of(lamp_exp(*TUNE)[1])
    second = folder_of(lamp_exp(*RUN, "k=tune", "k_values=[1,2]")[1])
    assert first != second


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["k=tune", "mode=rank"], "k=tune needs scores"),
        (["k=tune", "k_values=[]"], "k_values=[] must be different numbers from 1 on"),
        (["k=tune", "k_values=[2,2]"], "k_values=[2, 2] must be different numbers"),
        (["k=best"], "k=best must be a number of profile items, or tune"),
        (["k=1.5"], "k=1.5 must be a number of profile items, or tune"),
        (["rerun=maybe"], "rerun=maybe must be one of false, true, stale"),
    ],
)
def test_what_cannot_be_tuned_is_told_before_any_work(lamp_exp, words, line, tmp_path):
    code, _, err = lamp_exp(*RUN, *words)
    assert code == 2
    assert line in err
    assert not list(tmp_path.glob("outputs/lamp*"))


def test_tuning_without_golds_for_dev_is_refused(lamp_exp, data_dir):
    from lamp_exp.tasks.lamp3 import Lamp3

    row = {"id": "1", "input": f"{Lamp3().instruction} x", "profile": []}
    place = data_dir("LaMP_3", "dev", [row])
    words = ["task=lamp3", f"data_dir={place}", "mode=zeroshot", *QUICK, "k=tune"]
    code, _, err = lamp_exp(*words)
    assert code == 2
    assert "k=tune needs golds for dev" in err


def test_the_settings_say_tune(lamp_exp):
    folder = folder_of(lamp_exp(*TUNE)[1])
    assert "k: tune" in (folder / "config.yaml").read_text()
    predictions = json.loads((folder / "predictions.json").read_text())
    assert predictions["task"] == "LaMP_4"
