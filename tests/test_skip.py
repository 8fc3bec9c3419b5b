"""Items further down the ranking: `skip` passes over the best before the k are taken."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pyarrow.parquet
import pytest

from lamp_exp.experiment.run import checkpoint_mismatch, notes, run_identity
from lamp_exp.experiment.stages import load_parts
from lamp_exp.report.selection import facet
from lamp_exp.results.folder import RunFolder
from lamp_exp.results.record import Record
from lamp_exp.tasks.lamp3 import Lamp3
from tests.conftest import CONF, build, experiment, name_of, recorded
from tests.test_cli import QUICK, folder_of, rows, runs_of
from tests.test_rules import of

BASE = ["task=lamp4", "mode=prompts", "limit=6", *QUICK]


def shown(folder: Path) -> list[list[str]]:
    return [[item["id"] for item in row["items"]] for row in rows(folder / "prompts.jsonl")]


def examples(out: str) -> dict[str, list[object]]:
    return pyarrow.parquet.read_table(folder_of(out) / "examples.parquet").to_pydict()


def test_the_k_items_after_those_that_are_passed_over_are_shown(lamp_exp):
    _, out, _ = lamp_exp(*BASE, "mode=rank")
    rankings = rows(folder_of(out) / "rankings.jsonl")
    ranked = [[item["id"] for item in row["items"]] for row in rankings]
    for k, skip in ((1, 0), (1, 3), (2, 5), (1, 1000)):
        code, out, _ = lamp_exp(*BASE, f"k={k}", f"skip={skip}", "max_length=512")
        assert code == 0
        assert shown(folder_of(out)) == [ids[skip : skip + k] for ids in ranked]


def test_the_folder_the_record_and_the_notes_say_it(lamp_exp):
    _, out, _ = lamp_exp(*BASE, "k=1", "skip=3")
    assert "-k1-skip3-ipa-" in folder_of(out).name
    result = recorded(folder_of(out))
    assert result["identity"]["skip"] == 3
    assert "the best items of each profile were passed over (skip)" in result["notes"]
    assert "passed over" in out


def test_runs_that_skip_nothing_are_those_they_were():
    made, configuration = build(*BASE)
    assert "skip" not in run_identity(made, configuration, load_parts(made))
    assert "skip" not in name_of(*BASE)


@pytest.mark.parametrize("bare", [["k=0"], ["retriever=none"], ["mode=rank"]])
def test_without_items_in_a_prompt_skipping_says_nothing_new(bare):
    names = set()
    for skip in ("skip=0", "skip=2"):
        names.add(name_of(*BASE, *bare, skip))
        assert notes(experiment(*BASE, *bare, skip)) == []
    assert len(names) == 1
    assert of(*bare, "skip=2").identity == of(*bare).identity


def test_jobs_that_skip_otherwise_are_others():
    assert of("k=1", "skip=2").identity != of("k=1").identity


def test_skipping_below_zero_is_refused(lamp_exp):
    code, _, err = lamp_exp(*BASE, "skip=-1")
    assert (code, err) == (2, "lamp_exp: skip=-1 must be at least 0\n")


def test_a_checkpoint_is_told_that_it_is_asked_for_other_items(lamp_exp, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    then = {"task": "lamp4", "split": "user", "retriever": "bm25", "augmentation": "ipa", "k": 1}
    (checkpoint / "lamp_exp.json").write_text(json.dumps({**then, "max_length": 512}))
    asked = build(*BASE, f"model.name={checkpoint}", "skip=1", "k=1")
    assert checkpoint_mismatch(*asked) == [
        "the checkpoint was trained with skip=0, and is asked with skip=1"
    ]


@pytest.mark.slow
def test_the_sweep_of_best_items_runs_each_item_alone_and_none(lamp_exp):
    run = ["-m", "+sweep=best_item", "task=lamp4", "model=tiny", "trainer=cpu", "limit=2",
           "max_new_tokens=2", "trainer.enable_progress_bar=false"]  # fmt: skip
    code, out, err = lamp_exp(*run)
    assert code == 0, err
    names = [folder.name for folder in runs_of(out)]
    assert len(set(names)) == 17
    assert sum("-k0-" in name for name in names) == 1
    assert sum(f"-k1-skip{n}-" in name for n in range(1, 16) for name in names) == 15


def test_multirun_knows_the_best_item():
    script = CONF.parent / "multirun.sh"
    told = subprocess.run([script], capture_output=True, text=True, check=False)
    assert "best_item" in told.stderr


def test_reports_find_the_run_that_skips_otherwise_and_the_one_without_a_profile(lamp_exp):
    records = []
    for change in (["k=1"], ["k=1", "skip=3"], ["k=0"]):
        folder = folder_of(lamp_exp(*BASE, "mode=zeroshot", *change)[1])
        records.append(Record(folder, RunFolder(folder).read()))
    first, third, bare = records
    assert first.configuration_with(skip=3) == third.configuration
    assert third.configuration_with(skip=0) == first.configuration
    assert first.baseline == third.baseline == bare.configuration
    assert [facet(record, "skip") for record in records] == [0, 3, 0]


@pytest.mark.long
def test_similarity_is_that_of_the_best_item_whatever_is_shown(lamp_exp):
    _, out, _ = lamp_exp(*BASE, "mode=rank")
    best = [
        row["items"][0]["score"] if row["items"] else None
        for row in rows(folder_of(out) / "rankings.jsonl")
    ]
    for change in (["k=2"], ["k=1", "skip=4"]):
        _, out, _ = lamp_exp(*BASE, "mode=zeroshot", *change)
        assert examples(out)["top_similarity"] == best


def test_what_ranks_nothing_has_no_similarity(lamp_exp):
    _, out, _ = lamp_exp(*BASE, "mode=zeroshot", "retriever=none")
    assert examples(out)["top_similarity"] == [None] * 6


def test_days_are_counted_where_dates_are_known(lamp_exp, data_dir):
    dated = [
        {"id": str(n), "text": "t", "score": "5", "date": date}
        for n, date in enumerate(["2020-01-01", "2020-01-11", "2020-01-05"])
    ]
    input = f"{Lamp3().instruction} fine"
    questions = [
        {"id": "a", "input": input, "profile": dated, "date": "2020-01-21"},
        {"id": "b", "input": input, "profile": dated},
        {"id": "c", "input": input, "profile": [], "date": "2020-01-21"},
        {"id": "d", "input": input, "profile": [{"id": "1", "text": "t", "score": "5"}]},
    ]
    place = data_dir("LaMP_3", "dev", questions, time=True)
    run = ["task=lamp3", "split=time", f"data_dir={place}", "mode=zeroshot", *QUICK]
    _, out, _ = lamp_exp(*run)
    made = examples(out)
    assert made["profile_days"] == [10.0, 10.0, None, None]
    assert made["newest_item_days"] == [10.0, None, None, None]
    assert made["profile_size"] == [3, 3, 0, 1]


def test_columns_without_any_value_are_still_numbers(lamp_exp):
    _, out, _ = lamp_exp(*BASE, "mode=zeroshot")
    schema = pyarrow.parquet.read_schema(folder_of(out) / "examples.parquet")
    for name in ("newest_item_days", "profile_days", "top_similarity"):
        assert str(schema.field(name).type) == "double"
