"""The data frame of finished runs: one row a run and metric, nothing dropped, typed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from lamp_exp.contracts import Task
from lamp_exp.errors import InputError
from lamp_exp.report.loading import find
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.frame import COLUMNS, results_frame
from lamp_exp.results.record import Record
from lamp_exp.results.schema import TunedK
from lamp_exp.statistics import Interval
from tests.conftest import DATA
from tests.records import change_record, make_import, make_run


def row(frame: pd.DataFrame, **values: object) -> pd.Series:
    for name, value in values.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_there_is_one_row_for_each_run_and_metric(tmp_path: Path):
    make_run(tmp_path, "lamp1", k=2, seed=3, training={"lr": 1e-3}, questions=12, per_user=3)
    make_run(tmp_path, "lamp4", k=0)
    frame = results_frame([tmp_path])
    assert frame.groupby("run")["metric"].apply(list).tolist() == [
        ["accuracy", "f1"], ["rouge_1", "rouge_l"],
    ]  # fmt: skip
    one = row(frame, task="lamp1", metric="accuracy")
    assert (one.k, one.seed, one.retriever, one.questions, one.users) == (2, 3, "bm25", 12, 4)
    assert one["training.lr"] == 1e-3
    assert one.value == RunFolder(Path(one.folder)).read().metrics["accuracy"]
    assert one["counts.questions"] == 12
    assert one.seconds == pytest.approx(one[[n for n in frame if n.startswith("seconds.")]].sum())
    assert row(frame, metric="rouge_1").main
    assert row(frame, metric="rouge_1").retriever == "none"


def test_missing_values_are_typed_and_empty_in_csv(tmp_path: Path):
    make_run(tmp_path, k=0)
    frame = results_frame([tmp_path])
    dtypes = frame.dtypes.astype(str)
    assert {name: dtypes[name] for name in COLUMNS} == dict(COLUMNS)
    assert dtypes["limit"] == "Int64"
    assert frame["limit"].isna().all()
    kept = ["low", "limit", "stale", "baseline"]
    assert frame[kept].to_csv(index=False).splitlines()[1:] == [",,,"] * 2
    assert results_frame([]).dtypes.astype(str).to_dict() == dict(COLUMNS)


def test_an_option_without_effect_is_missing(tmp_path: Path):
    make_run(tmp_path, k=0)
    make_run(tmp_path, k=4)
    frame = results_frame([tmp_path])
    assert row(frame, k=4, main=True)["profile.keep"] == "newest"
    assert pd.isna(row(frame, k=0, main=True)["profile.keep"])


def test_the_configuration_is_that_of_the_baseline_that_belongs_to_it(tmp_path: Path):
    for seed in (0, 1):
        for k in (0, 4):
            make_run(tmp_path, k=k, seed=seed)
    frame = results_frame([tmp_path]).query("main")
    baseline, personal = (frame[frame.k == k] for k in (0, 4))
    assert set(personal["baseline"]) == set(baseline["configuration"])
    assert baseline["configuration"].nunique() == 1
    assert baseline["baseline"].isna().all()


def test_no_run_is_dropped_for_its_state(tmp_path: Path):
    names = {
        "stale": make_run(tmp_path, k=1),
        "older schema": make_run(tmp_path, k=2, schema=1),
        "fresh": make_run(tmp_path, k=4),
        "superseded": make_run(tmp_path, k=4, started="2026-11-24T12:00:00+00:00", schema=1),
        "newer schema": make_run(tmp_path, k=8),
    }
    RunFolder(names["stale"]).mark_stale("made by other code")
    newer = names["newer schema"] / "result.json"
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"schema_version": 99}))
    unreadable = make_run(tmp_path, k=16)
    (unreadable / "examples.parquet").write_bytes(b"")
    frame = results_frame([tmp_path])
    assert dict(zip(frame["state"], frame["run"], strict=True)) == {
        state: path.name for state, path in names.items()
    }
    assert set(frame[frame.state == "stale"]["stale"]) == {"made by other code"}
    assert [folder for folder, _ in frame.attrs["unusable"]] == [
        str(path) for path in sorted([names["newer schema"], unreadable])
    ]


def test_runs_without_metrics_have_a_row_without_one():
    frame = results_frame([DATA / "runs"])
    assert set(frame[frame["mode"].isin(["rank", "prompts"])]["metric"].isna()) == {True}
    assert frame["run"].nunique() == len(list((DATA / "runs").iterdir()))


def test_a_tuned_run_has_the_k_that_was_chosen(tmp_path: Path):
    run = make_run(tmp_path, k=4)
    change_record(run, tuned=TunedK(4, ({"k": 1}, {"k": 4}), "x"))
    one = row(results_frame([tmp_path]), main=True)
    assert (one.k, one.tuned, one.k_values) == (4, True, [1, 4])


def test_of_imported_predictions_the_retriever_is_missing(tmp_path: Path):
    make_import(tmp_path, "chatty")
    one = row(results_frame([tmp_path]), main=True)
    assert one.model == "chatty"
    assert pd.isna(one.retriever) and pd.isna(one.k)


def test_licensed_texts_are_marked(tmp_path: Path):
    real = make_run(tmp_path, "lamp6")
    content = json.loads((real / "result.json").read_text())
    del content["licence"]  # as in records of before
    (real / "result.json").write_text(json.dumps(content))
    make_run(tmp_path, "lamp6", k=1, made_up=True)
    make_run(tmp_path, "lamp4")
    frame = results_frame([tmp_path])
    marked = frame[frame["licence"] != ""]
    assert set(marked["run"]) == {real.name}
    assert frame.attrs["licences"] == list(set(marked["licence"]))
    assert "Avocado" in frame.attrs["licences"][0]
    assert results_frame([find([tmp_path / real.name]).records[0]]).attrs["licences"]
    assert Task.licence == ""


def test_intervals_are_those_that_are_asked_for(tmp_path: Path):
    make_run(tmp_path)
    records = find([tmp_path]).records

    def interval_of(record: Record, metric: str) -> Interval | None:
        value = record.metrics[metric]
        return Interval(value, 0.0, 1.0, 0.95, "") if metric == "rouge_1" else None

    frame = results_frame(records, interval_of=interval_of).set_index("metric")
    assert frame.loc["rouge_1", ["low", "high"]].tolist() == [0.0, 1.0]
    assert frame.loc["rouge_l", ["low", "high"]].isna().all()


def test_a_place_that_is_no_folder_is_refused():
    with pytest.raises(InputError, match="nowhere is no folder"):
        results_frame([Path("nowhere")])
