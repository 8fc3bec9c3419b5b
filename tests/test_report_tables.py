"""Reports of finished runs: which runs, which table, and what stands beside a number."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamp_exp.errors import InputError
from lamp_exp.report.__main__ import VERBS, main
from lamp_exp.report.formats import FORMATS, latex, markdown, terminal, tex
from lamp_exp.report.layouts import LAYOUTS, METRIC, Layout
from lamp_exp.report.loading import find, one_run
from lamp_exp.report.metric_tables import TableOptions, metric_tables
from lamp_exp.report.published import all_published, caveats, closest_published
from lamp_exp.report.selection import facet, grouped, select
from lamp_exp.report.table import Cell, Row, Table
from lamp_exp.results.record import Record
from lamp_exp.results.schema import TunedK
from tests.conftest import options
from tests.records import change_record, make_feedback, make_import, make_rankings, make_run

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs the command: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        code = 0
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def records(folder: Path) -> list[Record]:
    return find([folder]).records


def cells(table: Table, kind: str = "value") -> dict[tuple[str, ...], dict[str, Cell]]:
    return {row.head: dict(row.cells) for row in table.rows if row.kind == kind}


def only(folder: Path, layout: Layout, **look: Any) -> Table:
    (table,) = metric_tables(records(folder), layout, TableOptions(**look))
    return table


def test_the_paper_s_table_has_its_rows_and_columns(tmp_path: Path):
    for task in ("lamp1", "lamp3"):
        make_run(tmp_path, task, k=0)
        make_run(tmp_path, task, retriever="contriever", k=1)
        make_run(tmp_path, task, retriever="bm25", k=16, augmentation="fid")
        make_run(tmp_path, task, retriever="bm25", k=8)  # is in no column
        make_run(tmp_path, task, split="time", retriever="bm25", k=1)  # nor in this table
    table = only(tmp_path, LAYOUTS["table2"])
    assert table.columns == ("no profile", "contriever k=1", "bm25 FiD k=16")
    heads = [("lamp1", "accuracy"), ("lamp1", "f1"), ("lamp3", "mae"), ("lamp3", "rmse")]
    assert list(cells(table)) == heads
    assert all(cell.value is not None for row in cells(table).values() for cell in row.values())


def test_seeds_become_one_number_with_their_spread(tmp_path: Path):
    values = [make_run(tmp_path, k=0, seed=seed, skill=0.2 * seed) for seed in (1, 2, 3)]
    results = [json.loads((path / "result.json").read_text())["metrics"] for path in values]
    table = only(tmp_path, Layout("", (METRIC,), by=("k",)))
    cell = cells(table)[("rouge_1",)]["k=0"]
    mean = sum(one["rouge_1"] for one in results) / 3
    assert cell.value == pytest.approx(mean)
    assert cell.parts["seeds"] == 3 and cell.parts["sd"] > 0
    assert "each number: 3 seeds of 40 questions" in table.footers


def test_the_best_is_the_lowest_error_and_the_highest_share(tmp_path: Path):
    for task in ("lamp1", "lamp3"):
        make_run(tmp_path, task, k=1, skill=0.2)
        make_run(tmp_path, task, k=4, skill=0.9)
    table = only(tmp_path, Layout("", ("task", METRIC), by=("k",)))
    for row in cells(table).values():
        assert row["k=4"].best and not row["k=1"].best


def test_runs_that_differ_in_anything_else_do_not_share_a_place(tmp_path: Path):
    make_run(tmp_path, training={"lr": 0.1})
    make_run(tmp_path, training={"lr": 0.2})
    table = only(tmp_path, Layout("", (METRIC,), by=("k",)))
    assert table.heads == (METRIC, "training.lr")
    assert {head[1] for head in cells(table)} == {"0.1", "0.2"}


@pytest.mark.parametrize(
    "changes",
    [{"split": "time"}, {"part": "test"}, {"limit": 5}, {"made_up": True}, {"model": "tiny"},
     {"profile": {"control": "shuffled_user"}}, {"mode": "zeroshot"}],
)  # fmt: skip
def test_what_cannot_be_compared_is_in_different_tables(tmp_path: Path, changes: dict[str, Any]):
    make_run(tmp_path)
    make_run(tmp_path, **changes, data="other")
    assert (
        len(metric_tables(records(tmp_path), Layout("", (METRIC,), by=("k",)), TableOptions())) == 2
    )


def test_the_run_without_a_profile_stands_in_each_row_over_k(tmp_path: Path):
    make_run(tmp_path, k=0)
    make_run(tmp_path, retriever="bm25", k=1)
    make_run(tmp_path, retriever="random", k=4)
    rows = cells(only(tmp_path, LAYOUTS["ablation"]))
    assert {head[2] for head in rows} == {"bm25", "random"}
    assert len({row["k=0"].value for head, row in rows.items() if head[1] == "rouge_1"}) == 1
    assert list(next(iter(rows.values()))) == ["k=0", "k=1", "k=4"]


def test_a_difference_to_the_run_without_a_profile_is_marked(tmp_path: Path):
    make_run(tmp_path, k=0, skill=0.1, questions=200)
    make_run(tmp_path, k=1, skill=0.9, questions=200)
    make_run(tmp_path, k=4, skill=0.1, questions=200)
    row = cells(only(tmp_path, LAYOUTS["ablation"]))[("lamp4", "rouge_1", "bm25", "ipa")]
    assert row["k=1"].text.endswith("*")
    assert not row["k=4"].text.endswith("*")
    assert not row["k=0"].text.endswith("*")


def test_a_bootstrap_may_make_the_intervals_of_what_is_no_mean(tmp_path: Path, report: Said):
    make_run(tmp_path, "lamp3", k=0)
    _, out, _ = report("ablation", "--runs", tmp_path, "--bootstrap", 500, "--format", "csv")
    assert "(rmse): BCa bootstrap of 500 resamples" in out


def test_a_published_number_stands_beside_and_is_marked_where_it_is_of_something_else(
    tmp_path: Path,
):
    make_run(tmp_path, "lamp4", retriever="contriever", k=1, part="test", questions=2376)
    make_run(tmp_path, "lamp4", retriever="contriever", k=4, part="dev", questions=1925)
    on_test, on_dev = (only_part(tmp_path, part) for part in ("test", "dev"))
    head = ("lamp4", "rouge_1", "contriever", "ipa")
    beside_test = cells(on_test, "published")[head]["k=1"]
    assert beside_test.value == 0.186 and "†" not in beside_test.text
    assert "‡" in beside_test.text  # its k is not known
    own = cells(on_test)[head]["k=1"].value
    assert own is not None
    assert cells(on_test, "difference")[head]["k=1"].value == pytest.approx(own - 0.186)
    beside_dev = cells(on_dev, "published")[head]["k=4"]
    assert "†" in beside_dev.text
    assert head not in cells(on_dev, "difference")
    assert any("published on test, ours on dev" in line for line in on_dev.footers)


def only_part(folder: Path, part: str) -> Table:
    chosen = select(records(folder), [f"part={part}"])
    (table,) = metric_tables(chosen, LAYOUTS["ablation"], TableOptions())
    return table


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"made_up": True}, "made-up sample"),
        ({"limit": 7}, "first 7 questions"),
        ({"part": "dev"}, "published on test"),
        ({"profile": {"control": "shuffled_user"}}, "other profiles (control)"),
        ({"profile": {"max_items": 3}}, "other profiles (max_items)"),
        ({"questions": 12}, "12 questions of the benchmark's 2376"),
    ],
)
def test_why_a_published_number_may_not_be_compared(
    tmp_path: Path, changes: dict[str, Any], fault: str
):
    wanted = {"retriever": "contriever", "k": 1, "part": "test", "questions": 2376, **changes}
    make_run(tmp_path, **wanted)
    (record,) = records(tmp_path)
    published = closest_published(record, "rouge_1")
    assert published
    assert any(fault in line for line in caveats(record, published))


def test_the_published_numbers_are_whole():
    found = all_published()
    assert len(found) == 406
    assert {one.status for one in found} == {"primary", "second-hand"}
    assert all(0 < one.value < 2 for one in found)
    assert len({(o.source, o.system, o.split, o.task, o.metric) for o in found}) == len(found)


def test_a_published_number_is_that_of_the_same_model_and_settings(tmp_path: Path):
    asked = {"mode": "zeroshot", "split": "time", "part": "test"}
    make_run(tmp_path, model="flan_t5_xxl", retriever="bm25", k=4, **asked)
    make_run(tmp_path, model="flan_t5_xxl", k=0, **asked)
    make_run(tmp_path, model="tiny", retriever="bm25", k=4, **asked)
    found = {
        (r.result.choices["model"], r.result.k): closest_published(r, "rouge_1")
        for r in records(tmp_path)
    }
    with_k = found["flan_t5_xxl", 4]
    assert with_k and with_k.source == "ROPG table 3" and with_k.k == "4"
    without = found["flan_t5_xxl", 0]
    assert without and without.retriever == "none"
    assert found["tiny", 4] is None


def test_the_published_numbers_are_those_of_the_reference(shared: Path):
    """PPlug quotes the numbers of per-user PEFT from another paper: they are second-hand here."""
    with (shared / "reference" / "results.csv").open(encoding="utf-8", newline="") as file:
        reference = list(csv.DictReader(file))
    assert len(reference) == len(all_published())
    for row, one in zip(reference, all_published(), strict=True):
        names = ("arxiv", "split", "part", "task", "metric", "system")
        assert [getattr(one, name) for name in names] == [row[name] for name in names]
        assert (one.source, one.value) == (row["table"], float(row["value"]))
        quoted = "as quoted by" in one.system
        assert one.status == ("second-hand" if quoted else row["status"])


def test_published_methods_have_the_names_of_options():
    found = all_published()
    planned = {"ropg_rl", "ropg_kd"}
    assert {one.retriever for one in found} <= {*options("retriever"), *planned, "-", ""}
    assert {one.router for one in found} == {"none", "rspg_pre", "rspg_post", "oracle", ""}
    assert {one.adapter for one in found} == {"none", "user_lora", "user_vector", ""}
    assert {one.pool for one in found} == {"own", "all_users", ""}
    assert all(one.model for one in found if one.retriever or one.router or one.adapter)


XXL = {"mode": "zeroshot", "model": "flan_t5_xxl", "split": "time", "k": 4}
ROUTED, WITH_LORA = ({"choices": {name: value}} for name, value in
                     (("router", "rspg_post"), ("adapter", "user_lora")))  # fmt: skip


@pytest.mark.parametrize(
    ("run", "source", "value"),
    [
        ({**XXL, "retriever": "contriever"}, "PPlug dev", 0.641),
        ({**XXL, "retriever": "contriever", "part": "test"}, "ROPG table 3", 0.636),
        ({**XXL, "retriever": "ropg_kd"}, "PPlug dev", 0.676),
        ({**XXL, "retriever": "rrf", "part": "test"}, "ROPG table 3", 0.570),
        ({**XXL, "retriever": "rrf", "part": "test", "k": 1}, None, None),
        ({**XXL, "retriever": "rrf"}, "ROPG table 3", 0.570),
        ({**XXL, "k": 0}, "PPlug dev", 0.498),
        ({**XXL, **ROUTED}, "PPlug dev", 0.670),
        ({**XXL, **ROUTED, "part": "test"}, "ROPG table 3", 0.672),
        ({**XXL, **WITH_LORA, "k": 0, "part": "test"}, "PPlug test", 0.506),
        ({**XXL, "choices": {"router": "oracle"}, "part": "test"}, "ROPG tables 4-5", 0.798),
        ({**XXL, "retriever": "oracle", "part": "test"}, None, None),
        ({**XXL, "retriever": "contriever", "model": "flan_t5_base"}, None, None),
        ({**XXL, "retriever": "contriever", "mode": "finetune"}, None, None),
        ({**XXL, "retriever": "contriever", "split": "user"}, "leaderboard", 0.699),
        ({**XXL, "retriever": "contriever", "profile": {"pool": "neighbours"}}, None, None),
    ],
)
def test_the_published_number_beside_a_run_is_of_its_method_and_part(
    tmp_path: Path, run: dict[str, Any], source: str | None, value: float | None
):
    make_run(tmp_path, "lamp1", questions=1500, **run)
    (record,) = records(tmp_path)
    one = closest_published(record, "accuracy")
    assert (one and one.source, one and one.value) == (source, value)
    if one and one.part != record.result.part:
        assert f"published on test, ours on {record.result.part}" in list(caveats(record, one))
    elif one:
        assert not [line for line in caveats(record, one) if "published on" in line]


@pytest.mark.parametrize(
    ("adapter", "value"), [("user_lora", 0.506), ("user_vector", 0.700), ("oppu", None)]
)
def test_a_published_method_stands_beside_a_run_of_it_alone(
    tmp_path: Path, adapter: str, value: float | None
):
    given = {**XXL, "k": 0, "part": "test", "questions": 1500, "choices": {"adapter": adapter}}
    make_run(tmp_path / "a", "lamp1", **given)
    (record,) = records(tmp_path / "a")
    one = closest_published(record, "accuracy")
    assert (one and one.value) == value
    if one is None:
        return
    assert not list(caveats(record, one))
    change_record(record.folder, identity={**record.result.identity, "adapter.lr": 0.01})
    (changed,) = records(tmp_path / "a")
    assert list(caveats(changed, one)) == ["ours has other settings: adapter.lr=0.01"]
    make_run(tmp_path / "b", "lamp1", **given | {"choices": {"adapter": adapter, "summary": "llm"}})
    (more,) = records(tmp_path / "b")
    assert list(caveats(more, one)) == ["ours has summary=llm"]


def test_a_run_with_a_summary_or_an_adapter_is_not_without_a_profile(tmp_path: Path):
    same: dict[str, Any] = {"mode": "zeroshot", "k": 0}
    make_run(tmp_path, **same)
    for number, choices in enumerate(({"summary": "llm"}, {"adapter": "user_lora"})):
        make_run(tmp_path, skill=0.6 + number / 10, choices=choices, **same)
    table = only(tmp_path, LAYOUTS["table4"])
    assert table.columns == ("no profile", "no items")
    assert {*table.heads} == {"task", METRIC, "summary", "adapter"}
    places = [table.heads.index(name) for name in ("summary", "adapter")]
    filled = {tuple(head[n] for n in places): [name for name, cell in row.items()
                                               if cell.value is not None]
              for head, row in cells(table).items()}  # fmt: skip
    assert filled == {
        ("none", "none"): ["no profile"], ("llm", "none"): ["no items"],
        ("none", "user_lora"): ["no items"],
    }  # fmt: skip


def test_a_published_number_on_dev_does_not_say_its_k(tmp_path: Path):
    make_run(tmp_path, "lamp1", questions=1500, retriever="bm25", **XXL)
    (record,) = records(tmp_path)
    one = closest_published(record, "accuracy")
    assert one and not list(caveats(record, one))
    assert one.vague == ["its source does not say the k and the augmentation"]
    footers = only(tmp_path, LAYOUTS["ablation"]).footers
    assert any("published: PPlug dev: FlanT5-XXL zero-shot, BM25" in line for line in footers)
    assert not any("ROPG table 3" in line for line in footers), "that is on test"


@pytest.mark.parametrize(("pool", "value"), [("own", 0.486), ("all_users", 0.473)])
def test_random_items_of_all_users_have_a_published_number_of_their_own(
    tmp_path: Path, pool: str, value: float
):
    profile = {"pool": pool}
    make_run(
        tmp_path, "lamp6", retriever="random", k=1, part="test", questions=1246, profile=profile
    )
    (record,) = records(tmp_path)
    one = closest_published(record, "rouge_1")
    assert one and one.value == value
    assert not list(caveats(record, one))


def test_stale_broken_and_unscored_runs_are_left_out_and_told(tmp_path: Path, report: Said):
    good, stale, broken = (make_run(tmp_path, k=k) for k in (0, 1, 2))
    (stale / "stale.txt").write_text("other code\n")
    (broken / "result.json").write_text("{")
    code, out, err = report("table", "--runs", tmp_path, "--format", "csv")
    assert code == 0
    assert "k=0" in out and "k=1" not in out
    assert f"left out, stale: other code: {stale.name}" in err
    assert f"left out, its result.json was damaged: {broken.name}" in err
    code, out, _ = report("table", "--runs", tmp_path, "--stale", "--format", "csv")
    assert "k=1" in out
    shutil.rmtree(good)
    code, _, err = report("table", "--runs", tmp_path)
    assert code == 2 and "there is no run with metrics" in err


def test_a_run_in_two_folders_counts_once_and_two_that_differ_are_told(tmp_path: Path):
    make_run(tmp_path / "a", seed=1)
    run = make_run(tmp_path / "b", seed=1)
    found = find([tmp_path / "a", tmp_path / "b"])
    assert len(found.records) == 1 and not found.left_out
    change_record(run, metrics={**found.records[0].metrics, "rouge_1": 0.9})
    found = find([tmp_path / "a", tmp_path / "b"])
    assert len(found.records) == 1
    assert "the same configuration and seed as" in found.left_out[0][1]


def test_a_tuned_run_is_not_the_run_that_it_chose(tmp_path: Path):
    plain = make_run(tmp_path, k=4)
    tuned = tmp_path / "tuned"
    shutil.copytree(plain, tuned)
    curve = ({"k": 1, "value": 0.1}, {"k": 4, "value": 0.2})
    change_record(tuned, tuned=TunedK(4, curve, plain.name))
    groups = grouped(records(tmp_path))
    assert sorted(str(g.facet("k")) for g in groups.values()) == ["4", "tune"]


def test_a_sweep_s_folder_stands_for_its_runs(tmp_path: Path):
    runs = [make_run(tmp_path, k=k) for k in (0, 1, 2)]
    for number, run in enumerate(runs[:2]):
        status = tmp_path / ".sweeps" / "now" / str(number) / "status.json"
        status.parent.mkdir(parents=True)
        status.write_text(json.dumps({"run": f"/was/elsewhere/{run.name}"}))
    assert len(find([tmp_path / ".sweeps" / "now"]).records) == 2


def test_a_run_is_found_by_the_end_of_its_name(tmp_path: Path):
    run, other = make_run(tmp_path, k=1), make_run(tmp_path, k=2)
    assert one_run(run.name[-8:], [tmp_path]).folder == run
    assert one_run(str(other), []).folder == other
    with pytest.raises(InputError, match="2 runs are ''"):
        one_run("", [tmp_path])
    with pytest.raises(InputError, match="no finished run is 'nothing'"):
        one_run("nothing", [tmp_path])


def test_conditions_pick_runs_by_any_option(tmp_path: Path):
    make_run(tmp_path, k=0, training={"lr": 0.1})
    make_run(tmp_path, k=4, training={"lr": 0.2})
    every = records(tmp_path)
    assert [r.result.k for r in select(every, ["training.lr=0.2"])] == [4]
    assert len(select(every, ["k=0,4", "task=lamp4"])) == 2
    assert [facet(r, "retriever") for r in select(every, ["k=0"])] == ["none"]
    with pytest.raises(InputError, match="did you mean retriever"):
        select(every, ["retreiver=bm25"])
    with pytest.raises(InputError, match="is no condition"):
        select(every, ["k"])


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("training.weight_decay=1e-4", 2),
        ("training.weight_decay=0.0001", 2),
        ("training.lr=1.0", 1),
        ("document_dates=false", 1),
        ("document_dates=true", 1),
        ("limit=null", 2),
        ("profile.control=none", 2),
        ("control=shuffled_user", 0),
        ("max_items=4.0,7", 1),
    ],
)
def test_conditions_compare_values_and_not_their_spelling(
    tmp_path: Path, condition: str, found: int
):
    training = {"weight_decay": 0.0001, "lr": 1}
    make_run(tmp_path, training=training, settings={"document_dates": True})
    make_run(tmp_path, k=1, training={**training, "lr": 2e-5}, profile={"max_items": 4})
    assert len(select(records(tmp_path), [condition])) == found


def test_an_option_that_only_some_components_have_is_none_in_the_others(
    tmp_path: Path, report: Said
):
    make_run(tmp_path, k=0)
    make_run(tmp_path, retriever="bm25", k=1)
    make_run(tmp_path, retriever="contriever", k=1, settings={"retriever": {"name": "a/b"}})
    every = records(tmp_path)
    assert sorted(facet(r, "retriever.name") for r in every) == ["a/b", "none", "none"]
    assert len(select(every, ["retriever.name=a/b"])) == 1
    code, out, err = report(
        "table", "--runs", tmp_path, "--columns", "retriever.name", "--format", "csv"
    )
    assert code == 0, err
    assert "retriever.name=none" in out and "retriever.name=a/b" in out
    for words in (["--columns", "retriever.nme"], ["--where", "retriever.nme=a/b"]):
        code, _, err = report("table", "--runs", tmp_path, *words)
        assert code == 2
        expected = "retriever.nme is no property of any of these runs: did you mean retriever.name?"
        assert expected in err


@pytest.mark.parametrize("task", ["lamp1", "lamp3", "lamp4"])
def test_runs_recorded_by_an_older_version_are_compared_and_marked(tmp_path: Path, task: str):
    make_run(tmp_path / "a", task, k=0, schema=1)
    make_run(tmp_path / "a", task, k=4, schema=1)
    make_run(tmp_path / "b", task, k=4, seed=1)
    make_run(tmp_path / "b", task, k=4, retriever="random")
    every = find([tmp_path / "a", tmp_path / "b"]).records
    groups = grouped(every)
    assert sorted(len(group.records) for group in groups.values()) == [1, 1, 2]
    assert all(r.baseline in groups for r in every if r.personal)
    table = only_table(every)
    assert "recorded by an older version of lamp_exp: 2 of 3 runs" in table.footers
    assert {one.first.result.schema_version for one in groups.values()} == {1, 2}
    for record in every:
        assert record.facts(record.main_metric).column is not None


def only_table(every: list[Record]) -> Table:
    (table,) = metric_tables(every, LAYOUTS["ablation"], TableOptions())
    return table


NASTY = Table.of(
    "a|b_c & 50% <i>",
    ("head",),
    [
        Row(("~^{}\\$",), {"x#1": Cell("*1* ± 2", 1.0, best=True)}),
        Row(("α|β",), {"x#1": Cell("`<b>`")}),
    ],
    ("foot_note & more",),
)


@pytest.mark.parametrize("name", ["note", "table", "column", "what", "value"])
def test_a_head_may_be_named_as_a_column_of_the_csv(name: str):
    table = Table.of("t", (name, "task"), [(("x", "lamp4"), {"k=1": Cell("1", 1.0, note="n")})])
    (row,) = csv.DictReader(io.StringIO(FORMATS["csv"]([table])))
    assert row[f"{name} (head)"] == "x"
    assert (row["table"], row["task"], row["column"], row["what"], row["value"], row["note"]) == (
        "t", "lamp4", "k=1", "value", "1.0", "n"
    )  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_writes_what_is_given_and_nothing_that_it_would_obey(name: str):
    text = FORMATS[name]([NASTY])
    assert "1" in text
    if name == "html":
        assert "<i>" not in text and "<b>" not in text
    if name == "md":
        bars = [line.replace("\\|", "").count("|") for line in text.splitlines() if "|" in line]
        assert set(bars) <= {0, 3}
    if name == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert rows[0]["table"] == NASTY.title and rows[0]["value"] == "1.0"


def test_latex_leaves_no_bare_special_character():
    body = latex([NASTY]).split(r"\caption")[1]
    for character in "#%&_":
        pieces = body.split(character)[:-1]
        allowed = " " if character == "&" else "\\"
        assert all(piece.endswith(("\\", allowed)) for piece in pieces), character
    assert tex("100% of a_b") == r"100\% of a\_b"


@pytest.mark.long
@pytest.mark.skipif(
    not shutil.which("pdflatex") and os.environ.get("LAMP_EXP_LATEX") != "1",
    reason="pdflatex is not installed",
)
def test_latex_compiles(tmp_path: Path):
    for k in (0, 1):
        make_run(tmp_path, "lamp3", k=k)
    body = latex([Table.of(NASTY.title, NASTY.heads, NASTY.rows[:1], NASTY.footers),
                  *metric_tables(records(tmp_path), LAYOUTS["ablation"], TableOptions()),
                 ])  # fmt: skip
    page = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        + body
        + "\\end{document}"
    )
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-2000:]


def make_screen(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Lets a terminal of that width be found."""
    for name, value in {"COLUMNS": str(columns), "FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)


def test_a_narrow_screen_shows_a_wide_table_in_parts(monkeypatch: pytest.MonkeyPatch):
    make_screen(monkeypatch, 60)
    columns = tuple(f"column {n}" for n in range(12))
    wide = Table.of("wide", ("head",), [(("row",), {name: Cell("1.0") for name in columns})])
    text = terminal([wide])
    assert max(len(line) for line in _bare(text).splitlines()) <= 60
    assert "wide (1 of 3)" in _bare(text) and "wide (3 of 3)" in _bare(text)
    assert all(column in _bare(text) for column in columns)


def test_a_narrow_screen_tells_once_what_all_rows_share(monkeypatch: pytest.MonkeyPatch):
    make_screen(monkeypatch, 50)
    cells = {"value": Cell("0.5"), "another value": Cell("0.25"), "never": Cell("–")}
    rows = [(("lamp4", "retrieval", name * 20), cells) for name in ("first", "second")]
    text = _bare(terminal([Table.of("wide", ("task", "kind", "method"), rows)]))
    assert "wide: task=lamp4, kind=retrieval" in text and "never" not in text
    assert text.count("0.25") == 2 and max(map(len, text.splitlines())) <= 50
    assert "".join(text.split()).count("first") == 20 * text.count("wide")  # folded, and not cut


def _bare(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_into_a_pipe_a_table_goes_whole():
    columns = tuple(f"column {n}" for n in range(40))
    wide = Table.of("wide", ("head",), [(("row",), {name: Cell("1") for name in columns})])
    assert any(all(c in line for c in columns) for line in terminal([wide]).splitlines())


def test_markdown_has_the_best_in_bold():
    assert "**\\*1\\* ± 2**" in markdown([NASTY])


def test_the_ending_of_the_file_chooses_the_format(tmp_path: Path, report: Said):
    make_run(tmp_path / "runs")
    words = ["ablation", "--runs", tmp_path / "runs", "--out"]
    for name, start in (("t.tex", "\\begin{table"), ("t.csv", "table,"), ("t.html", "<")):
        assert report(*words, tmp_path / name)[0] == 0
        assert (tmp_path / name).read_text(encoding="utf-8").lstrip().startswith(start), name
    code, _, err = report(*words, tmp_path / "t.pdf")
    assert code == 2 and "tables are not written as .pdf: give --format, or a name that" in err
    assert report(*words, tmp_path / "t.pdf", "--format", "csv")[0] == 0


@pytest.mark.parametrize("rows", [[], [(("row",), dict.fromkeys(map(str, range(12)), Cell("–")))]])
def test_a_narrow_screen_shows_a_table_without_values(monkeypatch: pytest.MonkeyPatch, rows):
    make_screen(monkeypatch, 40)
    text = _bare(terminal([Table.of("nothing known", ("head",), rows, ["a footer"])]))
    assert "nothingknown" in "".join(text.split()) and "a footer" in text
    assert text.count("row") == text.count("head") * len(rows)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(verb: str, report: Said):
    code, out, _ = report(verb, "--help")
    assert code == 0
    assert f"lamp_exp.report {verb}" in out


def test_the_verbs_are_listed(report: Said):
    code, out, _ = report("--help")
    assert code == 0
    assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["table2"], "outputs is no folder"),
        (["table2", "--runs", "."], "there is no finished run"),
        (["tabel"], "tabel is no verb: did you mean table?"),
        ([], "required: VERB"),
        (["table", "--format", "word"], "invalid choice"),
        (["published", "--where", "task=lamp9"], "nothing was published"),
        (["published", "--where", "colour=red"], "is no condition"),
    ],
)
def test_a_mistake_ends_in_one_line(words: list[str], told: str, report: Said):
    code, _, err = report(*words)
    assert code == 2
    assert told in err.splitlines()[-1]


def test_a_table_without_its_runs_says_so(tmp_path: Path, report: Said):
    make_run(tmp_path, split="user")
    code, _, err = report("table3", "--runs", tmp_path)
    assert code == 2
    assert "no run fits this table" in err and "split=time" in err


def test_a_report_is_written_to_a_file_whose_name_is_told(tmp_path: Path, report: Said):
    make_run(tmp_path / "runs")
    out = tmp_path / "new" / "table.md"
    code, told, _ = report("table", "--runs", tmp_path / "runs", "--format", "md", "--out", out)
    assert code == 0 and told.strip() == str(out)
    assert "| lamp4 |" in out.read_text()


def test_numbers_of_the_sample_are_marked_before_all_else(tmp_path: Path):
    make_run(tmp_path, made_up=True, limit=10)
    table = only(tmp_path, Layout("", (METRIC,), by=("k",)))
    assert table.footers[0] == "MADE-UP SAMPLE, not LaMP: 1 of 1 run"
    assert "limit=10" in table.footers[1]


@pytest.mark.parametrize("name", ["table2", "ablation"])
def test_predictions_made_elsewhere_stand_beside_runs_of_the_same_questions(
    tmp_path: Path, name: str
):
    make_run(tmp_path, k=0)
    make_run(tmp_path, retriever="bm25", k=1)
    make_import(tmp_path, "Theirs", skill=0.7)
    make_import(tmp_path, "Of another part", part="test", skill=0.7)
    first, *others = metric_tables(records(tmp_path), LAYOUTS[name], TableOptions())
    assert first.columns[-1] == "Theirs" and len(first.columns) == 3
    assert all(row["Theirs"].value is not None for row in cells(first).values())
    assert [table.columns for table in others] == [("Of another part",)]


# ---- what a review found: comparisons that were not marked ----


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"settings": {"model": {"name": "google/flan-t5-small"}}}, "model.name=google/flan-t5-s"),
        ({"settings": {"trainer": {"max_epochs": 1}}}, "trainer.max_epochs=1"),
        ({"settings": {"max_length": 64}}, "max_length=64"),
        ({"training": {"lr": 0.1}}, "training.lr=0.1"),
    ],
)
def test_settings_other_than_the_published_are_marked(
    tmp_path: Path, changes: dict[str, Any], fault: str
):
    make_run(tmp_path, retriever="contriever", k=1, part="test", questions=2376, **changes)
    (record,) = records(tmp_path)
    published = closest_published(record, "rouge_1")
    assert published
    assert any("ours has other settings" in c and fault in c for c in caveats(record, published))


def test_other_published_numbers_of_the_same_system_are_told(tmp_path: Path):
    asked = {"mode": "zeroshot", "split": "time", "part": "test"}
    make_run(tmp_path, "lamp3", model="flan_t5_xxl", k=0, **asked)
    table = only(tmp_path, LAYOUTS["table4"])
    assert any(line.startswith("also published, lamp3 mae:") for line in table.footers)


def test_what_else_differs_is_told_below_a_table(tmp_path: Path):
    make_run(tmp_path, k=1, training={"lr": 0.1})
    make_run(tmp_path, k=4, training={"lr": 0.2})
    table = only(tmp_path, LAYOUTS["ablation"])
    assert "these runs also differ in training.lr (0.1, 0.2)" in table.footers


def test_other_questions_of_the_same_part_are_in_another_table(tmp_path: Path):
    make_run(tmp_path, k=1)
    make_run(tmp_path, k=4)
    make_run(tmp_path, retriever="random", k=4, questions=30, data="changed")
    found = metric_tables(records(tmp_path), LAYOUTS["ablation"], TableOptions())
    assert len(found) == 2
    assert "questions=lamp4-user-dev-changed" in found[1].title


def test_other_weights_under_one_option_are_in_another_table(tmp_path: Path):
    make_run(tmp_path, mode="zeroshot", k=0)
    make_run(tmp_path, mode="zeroshot", k=1, settings={"model": {"name": "out/checkpoint"}})
    found = metric_tables(records(tmp_path), LAYOUTS["table4"], TableOptions())
    assert [("weights=out)" in table.title) for table in found] == [False, True]


def test_csv_keeps_marks_and_footers(tmp_path: Path, report: Said):
    make_run(tmp_path, retriever="contriever", k=1, made_up=True)
    _, out, _ = report("table2", "--runs", tmp_path, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    published = [row for row in rows if row["what"] == "published"]
    assert published and all("made-up sample" in row["note"] for row in published)
    assert any(row["what"] == "note" and "MADE-UP" in row["note"] for row in rows)


def test_the_best_is_the_best_of_its_own_questions(tmp_path: Path):
    for part, skills in (("dev", (0.9, 0.8)), ("test", (0.3, 0.1))):
        for k, skill in zip((1, 4), skills, strict=True):
            make_run(tmp_path, part=part, k=k, skill=skill)
    table = only(tmp_path, Layout("", ("part", METRIC), by=("k",)))
    for row in cells(table).values():
        assert row["k=1"].best and not row["k=4"].best


def test_numbers_that_look_equal_are_equally_good(tmp_path: Path):
    for k in (1, 4):
        make_run(tmp_path, k=k, skill=1.0)
    make_run(tmp_path, retriever="random", k=4, skill=0.1)
    rows = cells(only(tmp_path, LAYOUTS["ablation"]))
    assert all(cell.best for cell in rows["lamp4", "rouge_1", "bm25", "ipa"].values())


@pytest.mark.parametrize(
    "aside", [{"bound": True}, {"profile": {"control": "shuffled_user"}}], ids=["bound", "control"]
)
def test_a_bound_or_a_control_is_never_the_best(tmp_path: Path, aside: dict[str, Any]):
    for k, skill in ((1, 0.2), (4, 0.4)):
        make_run(tmp_path, k=k, skill=skill)
    make_run(tmp_path, retriever="oracle", k=4, skill=1.0, **aside)
    keys = ("retriever", METRIC, "control")
    table = only(tmp_path, Layout("", keys, by=("k",)))
    best = {(head[0], name) for head, row in cells(table).items()
            for name, cell in row.items() if cell.best}  # fmt: skip
    assert best == {("bm25", "k=4")}
    reason = "bound" if "bound" in aside else "control"
    line = "bold: the best of its task and metric in this table, but for runs that are no system"
    assert f"{line} ({reason})" in table.footers


def test_beside_a_bound_a_single_system_is_not_the_best(tmp_path: Path):
    make_run(tmp_path, skill=0.2)
    make_run(tmp_path, retriever="oracle", skill=1.0, bound=True)
    table = only(tmp_path, Layout("", ("retriever", METRIC), by=("k",)))
    assert not any(cell.best for row in cells(table).values() for cell in row.values())


def test_seeds_can_be_no_column(tmp_path: Path, report: Said):
    make_run(tmp_path)
    code, _, err = report("table", "--runs", tmp_path, "--columns", "seed")
    assert code == 2 and "seed can be no row or column" in err


def test_of_two_runs_of_one_seed_the_fresh_and_newer_counts(tmp_path: Path):
    old, new = make_run(tmp_path / "a", skill=0.1), make_run(tmp_path / "b", skill=0.9)
    change_record(new, started="2026-12-01T00:00:00+00:00")
    found = find([tmp_path / "a", tmp_path / "b"])
    assert [record.folder for record in found.records] == [new]
    (new / "stale.txt").write_text("old code\n")
    found = find([tmp_path / "a", tmp_path / "b"], stale=True)
    assert [record.folder for record in found.records] == [old]


def test_stale_runs_are_marked_where_they_are_asked_for(tmp_path: Path, report: Said):
    (make_run(tmp_path) / "stale.txt").write_text("old code\n")
    _, out, _ = report("ablation", "--runs", tmp_path, "--stale", "--format", "md")
    assert "STALE: 1 of 1 run" in out


def test_damaged_and_unfinished_folders_are_told(tmp_path: Path, report: Said):
    run = make_run(tmp_path, k=0)
    (run / "examples.parquet").write_bytes(b"PAR1 cut")
    code, _, err = report("ablation", "--runs", tmp_path)
    assert code == 2 and "examples.parquet is damaged" in err
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("k: 1\n")
    _, _, err = report("ablation", "--runs", tmp_path, "--no-intervals", "--no-tests")
    assert "left out, not finished: 1 run goes on or was killed" in err


def test_jobs_of_a_sweep_without_a_run_are_told(tmp_path: Path):
    run = make_run(tmp_path)
    told = [{"run": run.name, "state": "done"}, {"run": None, "state": "failed"}, None]
    for number, status in enumerate(told):
        path = tmp_path / ".sweeps" / "now" / str(number) / "status.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(status) if status else "")
    found = find([tmp_path / ".sweeps" / "now"])
    assert len(found.records) == 1
    reasons = [reason for _, reason in found.left_out]
    assert reasons[0] == "a job of the sweep that is failed" and "cannot be read" in reasons[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["table", "--digits", "-1"], "--digits -1 must be from 0 to 12"),
        (["coldstart", "--quantiles", "1000000"], "must be from 1 to 100"),
        (["coldstart", "--bins", "nan"], "must be finite numbers"),
    ],
)
def test_numbers_out_of_range(words: list[str], told: str, tmp_path: Path, report: Said):
    make_run(tmp_path)
    code, _, err = report(*words, "--runs", tmp_path)
    assert code == 2 and told in err


# ---- names of models ----


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"name": "google/flan-t5-small"}, "google/flan-t5-small"),
        ({"name": "google/flan-t5-small", "display_name": "Small"}, "Small"),
        ({"name": "/home/me/runs/lamp4-user-s0-1a2b3c4d/checkpoint"}, "lamp4-user-s0-1a2b3c4d"),
        ({"name": "/home/me/weights/mine"}, "mine"),
        ({"name": "../weights/mine"}, "mine"),
        ({"name": "weights/of/mine"}, "mine"),
        ({"name": None, "fresh": {"d_model": 8}}, "random"),
        ({"name": "/home/me/tokenizer", "fresh": {"d_model": 8}, "display_name": "T"}, "T"),
    ],
)
def test_a_model_has_a_name_that_is_no_path(tmp_path: Path, model: dict[str, Any], told: str):
    make_run(tmp_path, settings={"model": model})
    (record,) = records(tmp_path)
    assert facet(record, "weights") == told


def test_a_folder_of_one_name_is_no_hub_id_where_the_identity_says_so(tmp_path: Path):
    hashed = {"model.name": "folder:0123456789abcdef"}
    run = make_run(tmp_path, settings={"model": {"name": "out/mine"}})
    change_record(run, identity=hashed)
    (record,) = records(tmp_path)
    assert facet(record, "weights") == "mine"


HOME = "/home/secret-user"
# What makes no table: `import` and `rerun` print the folders of runs, `leaderboard` writes files.
OTHER_VERBS = {"import", "rerun", "leaderboard"}
MORE_WORDS = {
    "table": ["--columns", "weights", "retriever.name", "--where", "k=1"],
    "tests": ["--confounded"], "compare": ["first", "second", "--examples", "1"],
    "card": ["first"], "html": ["--out", "page.html"],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs_with_paths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the paper's tables; data, weights, tokenizer and encoder lie in a home folder."""
    folder = tmp_path_factory.mktemp("paths") / "runs"
    for name in ("first", "second"):
        for split, mode in (("user", "finetune"), ("time", "finetune"), ("user", "zeroshot")):
            model = {"name": f"{HOME}/{name}-weights", "tokenizer": f"{HOME}/{name}-tokenizer"}
            same: dict[str, Any] = {"split": split, "mode": mode, "questions": 12}
            settings = {"model": model, "data_dir": f"{HOME}/LaMP"}
            encoder = {"retriever": {"name": f"{HOME}/{name}-encoder"}}
            make_run(folder, k=0, settings=settings, **same)
            for retriever in ("bm25", "random"):
                own = {**settings, **encoder}
                run = make_run(folder, retriever=retriever, k=1, settings=own, **same)
            if mode == "zeroshot":
                inside: dict[str, Any] = {"choices": {"adapter": "user_lora"}, **same}
                for k in (0, 1):
                    make_run(folder, retriever="bm25", k=k, settings=own, **inside)
        items = {str(n): ["i1", "i0"] for n in range(4)}
        feedback = {"feedback": {"items": 16, "reward": "metric"}, **settings}
        make_rankings(folder, items, settings={**settings, **encoder})
        make_feedback(
            folder, {id: {"i0": 0.5, "i1": 1.0} for id in items}, {id: f"u{id}" for id in items},
            settings=feedback,
        )  # fmt: skip
        shutil.copytree(run, folder.parent / name)
    return folder


def test_verbs_without_a_table_are_named():
    with_tables = {
        verb for verb, (module, _) in VERBS.items()
        if hasattr(importlib.import_module(f"lamp_exp.report.{module}"), "tables")
    }  # fmt: skip
    assert with_tables | {"html", "card"} == {*VERBS} - OTHER_VERBS


OF_OTHER_RUNS = {"router"}  # which are routed


@pytest.mark.long
@pytest.mark.parametrize("verb", sorted({*VERBS} - OTHER_VERBS - OF_OTHER_RUNS))
def test_no_path_of_a_machine_is_shown(verb: str, runs_with_paths: Path, report: Said):
    words = [
        runs_with_paths.parent / w if w in ("first", "second") else w
        for w in MORE_WORDS.get(verb, [])
    ]
    runs = [] if verb == "published" else ["--runs", runs_with_paths]
    forms = {"html": [""], "card": ["md", "json"]}.get(verb, ["md", "csv", "latex", "html"])
    for form in forms:
        code, out, err = report(verb, *words, *runs, *(["--format", form] if form else []))
        page = Path("page.html")
        text = out + err + (page.read_text(encoding="utf-8") if page.exists() else "")
        assert code == 0 and "secret-user" not in text, text
        named = "first-weights" in text or "second-weights" in text
        assert named or verb in ("published", "card"), text  # these show no model
