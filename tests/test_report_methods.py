"""The table of all methods: numbers by hand, what is corrected together, and what stands apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamp_exp.errors import InputError
from lamp_exp.report.__main__ import main
from lamp_exp.report.formats import FORMATS
from lamp_exp.report.methods import fields, methods_tables
from lamp_exp.report.page.sections import all_methods
from lamp_exp.report.table import Cell, Table
from lamp_exp.results.schema import TunedK
from lamp_exp.statistics import compare, holm
from tests.records import change_record, make_run
from tests.test_report_science import flipped, golds, records

QUESTIONS = 40
WRONG = {  # of each method on lamp1, the questions that it gets wrong
    "none": set(range(20)), "bm25": set(range(4)), "random": set(range(1, 23)),
    "contriever": {0, 1, 2, *range(30, 36)},
}  # fmt: skip


def field_of_methods(folder: Path, **options) -> Path:
    """Two tasks: four methods, another k, a bound, and a control."""
    right = golds(folder, questions=QUESTIONS)
    given = {"mode": "zeroshot", "questions": QUESTIONS, **options}
    place = folder / "runs"
    for name, wrong in WRONG.items():
        asked = {"retriever": name, "k": 0 if name == "none" else 4, **given}
        make_run(place, "lamp1", outputs=flipped(right, wrong), **asked)
        make_run(place, "lamp3", skill={"none": 0.3, "bm25": 0.8}.get(name, 0.5), **asked)
    control = {"control": "shuffled_user"}
    wrong = set(range(18))
    make_run(
        place, "lamp1", retriever="bm25", outputs=flipped(right, wrong), profile=control, **given
    )
    make_run(place, "lamp1", retriever="bm25", k=1, outputs=flipped(right, {0, 1}), **given)
    make_run(place, "lamp1", retriever="oracle", outputs=right, bound=True, **given)
    return place


def cell(table: Table, method: str, column: str, kind: str = "value") -> Cell:
    (found,) = [
        row.cells[column] for row in table.rows if row.head[1] == method and row.kind == kind
    ]
    return found


def test_gains_intervals_and_tests_of_the_whole_table(tmp_path):
    known = records(field_of_methods(tmp_path))
    metrics, users, _ = methods_tables(known)
    assert list(metrics.columns) == ["lamp1 accuracy", "lamp1 gain", "lamp3 mae", "lamp3 gain"]
    assert [row.head for row in metrics.rows if row.kind == "value"] == [
        ("none", "none"), ("retrieval", "bm25"), ("retrieval", "bm25 k=1"),
        ("retrieval", "contriever"), ("retrieval", "random"), ("bound", "oracle retriever"),
    ]  # fmt: skip
    assert cell(metrics, "none", "lamp1 accuracy").value == 0.5
    assert cell(metrics, "bm25", "lamp1 gain").value == pytest.approx(0.9 - 0.5)
    assert cell(metrics, "random", "lamp1 gain").value == pytest.approx(-2 / 40)
    (field,) = fields(known)
    expected = {}
    for column in field.columns:
        for group in column.groups:
            if group.shown("retriever") != "oracle":
                gain = column.gain(group)
                samples = [pooled_of(one, column.metric) for one in (column.baseline, group)]
                again = compare(*samples, thorough=False)
                assert again.decisive == gain.comparison.decisive
                expected[group.configuration] = again.decisive.p
    assert len(expected) == 7
    assert field.ps == pytest.approx(
        dict(zip(expected, holm(list(expected.values())), strict=True))
    )
    assert cell(metrics, "bm25", "lamp1 gain").text == "+0.400*"
    assert cell(metrics, "random", "lamp1 gain").text == "-0.050"
    low, high = cell(metrics, "bm25", "lamp1 gain", "interval").parts.values()
    assert low < 0.4 < high
    mae = [cell(metrics, name, "lamp3 mae").value for name in ("none", "bm25")]
    assert cell(metrics, "bm25", "lamp3 gain").value == pytest.approx(mae[0] - mae[1])
    assert mae[0] > mae[1]
    assert cell(users, "bm25", "lamp1 hurt").value == 0.0
    assert cell(users, "random", "lamp1 hurt").value == pytest.approx(3 / 40)
    assert cell(users, "random", "lamp1 helped").value == pytest.approx(1 / 40)
    assert cell(users, "bm25", "lamp1 by another's").value == pytest.approx(2 / 40)
    assert any("without such a control run" in line for line in users.footers)
    assert "lamp3 by another's" not in users.columns


def pooled_of(group, metric):
    from lamp_exp.report.paired_examples import pooled

    return pooled(group, metric)


def test_bounds_stand_apart_and_are_never_the_best(tmp_path):
    metrics, *_ = methods_tables(records(field_of_methods(tmp_path)))
    assert cell(metrics, "oracle retriever", "lamp1 accuracy").value == 1.0
    assert not cell(metrics, "oracle retriever", "lamp1 accuracy").best
    assert cell(metrics, "oracle retriever", "lamp1 gain").text == "+0.500"  # not tested
    assert cell(metrics, "bm25 k=1", "lamp1 accuracy").best
    assert any("over 7 gains of the table" in line for line in metrics.footers)


def test_what_is_the_same_and_what_was_chosen_is_told(tmp_path):
    place = field_of_methods(tmp_path)
    run = make_run(place, "lamp1", retriever="bm25", k=2, mode="zeroshot", questions=QUESTIONS)
    tuned = make_run(place, "lamp1", retriever="bm25", k=2, mode="zeroshot", questions=QUESTIONS,
                     settings={"tuned": True})  # fmt: skip
    curve = tuple({"k": k, "value": 0.5, "run": "x"} for k in (1, 2, 4))
    change_record(tuned, tuned=TunedK(2, curve, run.name))
    learned = [
        {"group": "retriever", "kind": "feedback", "questions": 90, "saw_these_golds": True},
        {"group": "retriever", "kind": "encoder", "chosen_epoch": 2, "curve": [{}, {}, {}],
         "questions_held_out": 9},
    ]  # fmt: skip
    make_run(place, "lamp1", retriever="ropg_kd", mode="zeroshot", questions=QUESTIONS,
             learned=tuple(learned))  # fmt: skip
    metrics, *_ = methods_tables(records(place))
    told = "\n".join(metrics.footers)
    assert "lamp1: the same 40 questions, 1 seed; lamp3: the same 40 questions" in told
    assert "reader of all rows: google/flan-t5-base" in told
    assert "k=4 items in all rows that show items, unless a row says otherwise" in told
    assert "bm25 k=tune (lamp1): k chosen from 3 values on dev" in told
    assert (
        "ropg_kd (lamp1) learned from a reader's results on 90 questions of train, which had seen "
        "their golds; epoch 2 of 2 chosen on 9 questions of held-out users of train"
    ) in told
    assert "8 rows are compared on it" in told
    assert ("learned retrieval", "ropg_kd") in {row.head for row in metrics.rows}


def test_every_row_names_its_k_where_none_is_usual(tmp_path):
    for k in (0, 4, 16):
        make_run(tmp_path, k=k, questions=QUESTIONS)
    metrics, users, _ = methods_tables(records(tmp_path))
    named = dict.fromkeys(row.head[1] for row in metrics.rows)
    assert list(named) == ["none", "bm25 k=4", "bm25 k=16"]
    assert not any("unless a row says otherwise" in line for line in metrics.footers)
    assert any("no run has the profiles of other users" in line for line in users.footers)
    assert not any("by another's" in text for text in (*users.columns, *users.footers))


def test_each_baseline_has_a_table(tmp_path):
    """Readers that were fine-tuned otherwise, two of them with a run without a profile."""
    for epochs in (1, 8, 9):
        for k in (0, 4) if epochs < 9 else (4,):
            make_run(tmp_path, k=k, settings={"trainer": {"max_epochs": epochs}})
    found = methods_tables(records(tmp_path))
    titles = [table.title for table in found if "users" not in table.title]
    assert [sum(f"trainer.max_epochs={n}" in title for title in titles) for n in (1, 8, 9)] == [
        2, 2, 0,
    ]  # fmt: skip
    assert "left out, without their baseline or scores: 1 configuration" in found[0].footers


def test_methods_of_other_readers_are_in_tables_of_their_own(tmp_path):
    place = field_of_methods(tmp_path)
    for k in (0, 4):
        make_run(place, "lamp1", k=k, mode="zeroshot", model="flan_t5_xl", questions=QUESTIONS)
    tables = methods_tables(records(place))
    assert len(tables) == 6
    assert len({table.title for table in tables}) == 6
    for k in (0, 4):  # the same option, other weights
        make_run(place, "lamp1", k=k, mode="zeroshot", questions=QUESTIONS,
                 settings={"model": {"name": "other/weights"}})  # fmt: skip
    assert len(methods_tables(records(place))) == 9


def test_published_numbers_of_the_same_cell_stand_below(tmp_path):
    given = {"mode": "zeroshot", "model": "flan_t5_xxl", "split": "time", "questions": QUESTIONS}
    for k, retriever in ((0, "none"), (4, "bm25")):
        make_run(tmp_path, "lamp1", retriever=retriever, k=k, **given)
    metrics, *_ = methods_tables(records(tmp_path))
    shown = cell(metrics, "bm25", "lamp1 accuracy", "published")
    assert shown.value == 0.629 and "†" in shown.text  # of 40 questions only
    assert any(line.startswith("published: ") for line in metrics.footers)
    assert any("ours has 40 questions" in line for line in metrics.footers)


def test_every_format_and_the_page_have_it(tmp_path, report):
    place = field_of_methods(tmp_path)
    tables = methods_tables(records(place))
    for name, write in FORMATS.items():
        text = write(tables)
        assert "oracle retriever" in text, name
    assert [table.title for table in all_methods(records(place)).tables] == [
        table.title for table in tables
    ]
    code, out, err = report("methods", "--runs", place, "--where", "task=lamp1", "--format", "csv")
    assert code == 0, err
    assert "lamp1 gain" in out and "lamp3" not in out


def test_without_a_baseline_there_is_no_table(tmp_path):
    make_run(tmp_path, "lamp1", mode="zeroshot")
    with pytest.raises(InputError, match="no run that reads profiles has its baseline"):
        methods_tables(records(tmp_path))


def test_runs_that_others_learn_from_are_left_out_and_told(tmp_path, capsys):
    for part in ("train", "dev"):
        for k in (0, 4):
            make_run(tmp_path, k=k, part=part, mode="zeroshot", questions=12)
    assert main(["methods", "--runs", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "12 questions" in out and out.count("bm25") == 3  # one configuration in three tables
    assert "left out, on train, from which others learn: 2 configurations" in err
    assert main(["methods", "--runs", str(tmp_path), "--where", "part=train"]) == 0
    out, err = capsys.readouterr()
    assert "bm25" in out and "left out" not in err
