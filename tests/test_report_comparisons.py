"""Comparisons say the same in every verb, of the same seeds, and what the runs differ in."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamp_exp.report import plots
from lamp_exp.report.formats import as_csv, latex
from lamp_exp.report.loading import find
from lamp_exp.report.page.panels import panels
from lamp_exp.report.page.sections import k_curves
from lamp_exp.report.selection import choices_apart, grouped
from lamp_exp.report.table import Cell, Table
from lamp_exp.results.record import Record
from lamp_exp.results.schema import CodeVersion
from tests.records import change_record, make_run

Said = Callable[..., tuple[int, str, str]]
GENERATION = {"name": "google/flan-t5-base", "decoding": "free"}
LIKELIHOOD = {"name": "google/flan-t5-base", "decoding": "likelihood"}


def rows(report: Said, *words: object) -> list[dict[str, str]]:
    code, out, err = report(*words, "--format", "csv")
    assert code == 0, err
    return list(csv.DictReader(io.StringIO(out)))


def value(found: list[dict[str, str]], column: str, what: str = "value", **head: str) -> str:
    (row,) = [
        row
        for row in found
        if (row["column"], row["what"]) == (column, what)
        and all(row[name] == wanted for name, wanted in head.items())
    ]
    return row["value"]


def notes(found: list[dict[str, str]]) -> str:
    return "\n".join(row["note"] for row in found if row["what"] == "note")


# ---- one test decides ----

CASES = {
    "accuracy": ("lamp1", 1, "McNemar exact", "Agresti-Min"),
    "clustered accuracy": ("lamp1", 3, "paired t, clustered by user", "t interval"),
    "mae": ("lamp3", 1, "paired t", "t interval"),
    "clustered rouge": ("lamp4", 2, "paired t, clustered by user", "t interval"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_test_decides_in_every_verb_with_the_interval_that_inverts_it(
    case: str, tmp_path: Path, report: Said
):
    task, per_user, name, method = CASES[case]
    common = {"questions": 150, "per_user": per_user}
    a = make_run(tmp_path, task, k=0, skill=0.4, **common)
    b = make_run(tmp_path, task, k=4, skill=0.6, **common)
    runs = ("--runs", tmp_path)
    tests = rows(report, "tests", *runs)
    personal = rows(report, "personal", *runs)
    compare = rows(report, "compare", a, b)
    metric = tests[0]["metric"]
    table = rows(report, "ablation", *runs, "--where", "k=0,4")
    p = value(tests, "p")
    assert p == value(personal, "p")
    mine = [row for row in compare if row["metric"] == metric and row["what"] == name]
    assert [row["value"] for row in mine] == [p]
    verdicts = {value(found, "verdict", metric=metric) for found in (tests, personal, compare)}
    assert len(verdicts) == 1
    for end in ("low", "high"):
        assert value(tests, "95% interval", end) == value(
            compare, "95% interval", end, metric=metric
        )
    gains = [float(value(personal, "95% interval", end)) for end in ("low", "high")]
    ends = [float(value(tests, "95% interval", end)) for end in ("low", "high")]
    assert gains == ends or gains == [-ends[1], -ends[0]]
    assert (ends[0] <= 0 <= ends[1]) == (float(p) >= 0.05)
    two = len({row["metric"] for row in table if row["metric"]})  # tests of the table
    star = float(value(table, "k=4", "p (Holm)", metric=metric))
    assert float(p) <= star <= two * float(p) + 1e-12
    for found in (tests, personal, compare):
        assert method in notes(found)


@pytest.mark.parametrize(("task", "metric"), [("lamp2", "f1"), ("lamp3", "rmse")])
def test_macro_f1_and_rmse_can_have_a_star_in_a_large_table(
    task: str, metric: str, tmp_path: Path, report: Said
):
    for k in range(30):
        make_run(tmp_path, task, k=k, skill=0.3 if k < 29 else 0.9, questions=100)
    table = rows(report, "ablation", "--runs", tmp_path, "--no-intervals")
    assert float(value(table, "k=29", "p (Holm)", metric=metric)) < 0.05
    assert "permutation" in notes(table)


def test_another_metric_than_the_main_one_can_be_tested(tmp_path: Path, report: Said):
    for k in (0, 4):
        make_run(tmp_path, "lamp2", k=k, questions=60)
    tests = rows(report, "tests", "--runs", tmp_path, "--metric", "f1")
    assert tests[0]["metric"] == "f1" and "p: permutation;" in notes(tests)
    code, _, err = report("tests", "--runs", tmp_path, "--metric", "rouge_9")
    assert code == 2 and "--metric rouge_9: no run has it; these have accuracy, f1" in err


def test_what_is_detectable_is_by_the_level_of_the_family(tmp_path: Path, report: Said):
    for k in (0, 1, 2, 4):
        make_run(tmp_path, k=k, questions=80)
    one = rows(report, "tests", "--runs", tmp_path, "--where", "k=0,4")
    many = rows(report, "tests", "--runs", tmp_path)
    alone = float(value(one, "detectable"))
    among = float(value(many, "detectable", first="retriever=none k=0 augmentation=none",
                        second="retriever=bm25 k=4 augmentation=ipa"))  # fmt: skip
    assert among > 1.2 * alone
    assert "at 5% over 6 pairs" in notes(many)


def test_the_number_of_users_is_told_where_they_are_what_counts(tmp_path: Path, report: Said):
    for k in (0, 4):
        make_run(tmp_path, k=k, questions=40, per_user=4)
    alone = [
        ["ablation", "--no-tests"],
        ["ablation", "--no-intervals"],
        ["compare", *tmp_path.glob("*")],
    ]
    for words in (["tests"], ["ablation"], ["personal"], ["coldstart", "--quantiles", "1"], *alone):
        found = rows(report, *words, "--runs", tmp_path)
        assert "10 users, who count as independent" in notes(found)


def test_intervals_that_may_cover_less_are_marked_and_told(tmp_path: Path, report: Said):
    """One error of 4 in 40 answers, and of 3 in the other run."""
    for k, first in ((0, "far"), (4, "3")):
        make_run(tmp_path, "lamp3", k=k, questions=40, skill=1.0, outputs=[first])
    runs = sorted(tmp_path.glob("*"))
    errors, users = (
        "fewer than 10 users make up the errors",
        "fewer than 6 users make up the spread",
    )
    few, spread, both = (
        f"°: {why}: the interval may cover less" for why in (errors, users, f"{errors} or {users}")
    )
    for words, notes_told in (
        (["ablation"], [few]), (["tests"], [spread]), (["personal"], [spread]),
        (["compare", *runs], [spread]), (["coldstart", "--quantiles", "1"], [both]),
    ):  # fmt: skip
        code, out, _ = report(*words, "--runs", tmp_path)
        assert code == 0 and "]°" in out
        found = notes(rows(report, *words, "--runs", tmp_path))
        for note in notes_told:
            assert note in found, (words, found)


# ---- the same seeds ----


def test_a_table_shows_and_tests_the_seeds_that_all_have(tmp_path: Path, report: Said):
    for seed in (0, 1, 2):
        make_run(tmp_path, k=4, seed=seed, skill=0.2 * seed)
    for seed in (1, 2, 3):
        make_run(tmp_path, k=0, seed=seed)
    table = rows(report, "ablation", "--runs", tmp_path)
    for column in ("k=0", "k=4"):
        assert value(table, column, "seeds", metric="rouge_1") == "2.0"
    shared = [r for r in find([tmp_path]).records if r.result.k == 4 and r.seed in (1, 2)]
    mean = sum(record.metrics["rouge_1"] for record in shared) / 2
    assert float(value(table, "k=4", metric="rouge_1")) == pytest.approx(mean)
    told = (
        "lamp4: seeds left out, as not all runs compared here have them "
        "(no profile: 3; bm25 ipa k=4: 0)"
    )
    assert told in notes(table)
    personal = rows(report, "personal", "--runs", tmp_path)
    assert float(value(personal, "with")) == pytest.approx(mean)
    assert "seeds left out, as the baseline lacks them: bm25 ipa k=4: 0" in notes(personal)
    tests = rows(report, "tests", "--runs", tmp_path)
    assert value(tests, "p") == value(personal, "p")
    assert "seeds left out, as only one of two runs has them: 0, 3" in notes(tests)


def test_runs_without_a_common_seed_are_told_and_not_tested(tmp_path: Path, report: Said):
    make_run(tmp_path, k=0, seed=1)
    make_run(tmp_path, k=4, seed=2, skill=0.9)
    code, _, err = report("tests", "--runs", tmp_path)
    assert code == 2
    assert "there is nothing to test; pairs without a seed in common: 1 (not tested)" in err
    table = rows(report, "ablation", "--runs", tmp_path)
    assert "lamp4: the runs have no seed in common: each number is of its own seeds" in notes(table)
    assert not [row for row in table if row["what"] == "p (Holm)" or row["note"] == "best"]
    code, _, err = report("personal", "--runs", tmp_path)
    assert code == 2 and "of a seed that both have" in err
    cold = rows(report, "coldstart", "--runs", tmp_path, "--quantiles", "2")
    assert {row["value"] for row in cold if row["column"] == "gain"} == {""}


def test_a_control_of_other_seeds_is_not_set_beside_the_gain(tmp_path: Path, report: Said):
    for seed in (0, 1):
        make_run(tmp_path, k=0, seed=seed)
        make_run(tmp_path, k=4, seed=seed)
    make_run(tmp_path, k=4, seed=0, profile={"control": "shuffled_user"})
    found = rows(report, "personal", "--runs", tmp_path)
    assert value(found, "by another's", control="none") == ""
    make_run(tmp_path, k=4, seed=1, profile={"control": "shuffled_user"})
    found = rows(report, "personal", "--runs", tmp_path)
    assert value(found, "by another's", control="none") != ""


# ---- what the runs differ in ----


def test_pairs_that_differ_in_more_than_one_choice_are_not_offered(tmp_path: Path, report: Said):
    base = {"mode": "zeroshot", "questions": 60}
    make_run(tmp_path, "lamp1", k=0, settings={"model": GENERATION, "max_new_tokens": 16}, **base)
    make_run(tmp_path, "lamp1", k=2, settings={"model": LIKELIHOOD}, **base)
    code, _, err = report("tests", "--runs", tmp_path)
    assert code == 2
    assert "pairs that differ in more than one choice: 1 (--confounded shows them)" in err
    make_run(tmp_path, "lamp1", k=0, settings={"model": LIKELIHOOD}, **base)
    found = rows(report, "tests", "--runs", tmp_path)
    apart = {row["differ in"] for row in found if row["column"] == "verdict"}
    assert apart == {"profile", "model.decoding"}  # max_new_tokens has no effect in one of two
    told = "left out, pairs that differ in more than one choice: 1 (--confounded shows them)"
    assert told in notes(found)
    every = rows(report, "tests", "--runs", tmp_path, "--confounded")
    apart = {row["differ in"] for row in every if row["column"] == "verdict"}
    assert apart == {"profile", "model.decoding", "profile, model.decoding (confounded)"}
    labels = {
        row[name] for row in every if row["column"] == "verdict" for name in ("first", "second")
    }
    assert all("max_new_tokens" not in label for label in labels if "k=2" in label)


def test_what_two_runs_differ_in_is_a_choice_with_all_that_belongs_to_it(tmp_path: Path):
    own = {"retriever": {"k1": 1.5}}
    make_run(tmp_path, k=0)
    make_run(tmp_path, k=4, settings=own)
    make_run(tmp_path, k=4, retriever="random")
    make_run(tmp_path, k=1, retriever="random", augmentation="fid")
    make_run(tmp_path, k=4, settings={"retriever": {"k1": 1.2}})
    groups = {g.first.name: g for g in grouped(find([tmp_path]).records).values()}
    named = {(g.facet("k"), g.facet("retriever"), g.first.options.get("retriever.k1")): g
             for g in groups.values()}  # fmt: skip
    bm25 = named[4, "bm25", 1.5]
    assert choices_apart(named[0, "none", None], bm25) == ["profile"]
    assert choices_apart(bm25, named[4, "random", None]) == ["retriever"]
    assert choices_apart(bm25, named[4, "bm25", 1.2]) == ["retriever.k1"]
    assert choices_apart(bm25, named[1, "random", None]) == ["retriever", "k", "augmentation"]


def test_code_differs_between_two_runs_only_if_another_version_made_them(tmp_path, report: Said):
    """Fingerprints differ as the components in use do."""

    def made(k: int, code: CodeVersion) -> Path:
        return make_run(tmp_path, k=k, code=code, versions={"lamp-exp": "1"})

    def codes(*runs: Path) -> list[str]:
        first_table = [r for r in rows(report, "compare", *runs) if r["table"] == "What differs"]
        return [row["value"] for row in first_table if row[""] == "code"]

    base, same = made(0, CodeVersion("a", "abc", False)), made(4, CodeVersion("b", "abc", False))
    changed, other = (made(k, CodeVersion(name, "abc", True)) for k, name in ((1, "b"), (2, "c")))
    installed = made(8, CodeVersion("a"))
    assert codes(base, same) == []
    assert codes(base, changed) == ["abc", "abc with changes (b)"]
    assert codes(changed, other) == ["abc with changes (b)", "abc with changes (c)"]
    assert codes(base, installed) == ["abc", "1"]


def test_two_runs_side_by_side_are_marked_as_confounded(tmp_path: Path, report: Said):
    a = make_run(tmp_path, k=4)
    b = make_run(tmp_path, k=1, retriever="random")
    found = rows(report, "compare", a, b)
    assert "confounded: they differ in retriever, k, and none is known as the cause" in notes(found)


def test_where_all_are_equal_none_is_the_best(tmp_path: Path, report: Said):
    for k in (0, 1, 4):
        make_run(tmp_path, k=k, outputs=["nothing"] * 40)
    table = rows(report, "ablation", "--runs", tmp_path)
    assert not [row for row in table if row["note"] == "best"]
    assert "bold" not in notes(table)
    (plot,) = k_curves(panels(find([tmp_path]).records)).plots
    assert plot.description == "rouge_1: 0.000, whatever k."
    assert plots.best([0.0, 0.0, None], higher=True) == [False] * 3


def test_fewer_bins_than_asked_for_are_explained(tmp_path: Path, report: Said):
    for k in (0, 4):
        run = make_run(tmp_path, k=k)
        _set_column(run, "profile_size", [8] * 40)
    found = rows(report, "coldstart", "--runs", tmp_path, "--quantiles", "3")
    assert (
        "fewer bins than 3 in 1 of 1 run: equal values cannot be split; 1 have a single value, "
        "and so one bin"
    ) in notes(found)


def _set_column(run: Path, name: str, values: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    path = run / "examples.parquet"
    table = pyarrow.parquet.read_table(path)
    place = table.column_names.index(name)
    pyarrow.parquet.write_table(table.set_column(place, name, pa.array(values)), path)


# ---- runs that are found, and that are not ----


def _begin(folder: Path, **settings: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))


def test_unfinished_runs_are_counted_as_far_as_conditions_may_mean_them(
    tmp_path: Path, report: Said
):
    make_run(tmp_path, k=0)
    for k in (1, 4):
        _begin(tmp_path / f"lamp4-user-dev-zeroshot-bm25-k{k}-ipa-tiny-s0-0", k=k, split="user")
    _begin(tmp_path / "lamp1-user-dev-zeroshot-random-k4-ipa-tiny-s0-0", k=4, split="user")
    for conditions, told in (
        ([], "left out, not finished: 3 runs go on or were killed"),
        (["task=lamp4"], "left out, not finished: 2 runs go on or were killed"),
        (["task=lamp4", "k=0,4"], "left out, not finished: 1 run goes on or was killed"),
        (["split=user", "k=0"], None),
    ):
        where = ["--where", *conditions] if conditions else []
        _, _, err = report("ablation", "--runs", tmp_path, "--no-tests", *where)
        assert err.splitlines() == ([told] if told else [])


@pytest.mark.parametrize("content", ["", "\0" * 64, '{"run": "x"'])
def test_an_empty_or_cut_record_counts_as_unfinished(content: str, tmp_path: Path, report: Said):
    make_run(tmp_path, k=0)
    damaged = make_run(tmp_path, k=4)
    (damaged / "result.json").write_text(content)
    code, _, err = report("ablation", "--runs", tmp_path)
    assert code == 0
    assert f"left out, its result.json was damaged: {damaged.name}" in err
    code, _, err = report("ablation", "--runs", tmp_path)
    assert code == 0 and "left out, not finished: 1 run goes on or was killed" in err


def test_a_sweep_is_found_whose_folder_was_given_or_whose_jobs_wrote_elsewhere(tmp_path: Path):
    runs = [make_run(tmp_path / f"out{n}", k=n) for n in (0, 1)]
    sweep = tmp_path / "my" / "sweep"
    for number, run in enumerate(runs):
        job = sweep / str(number)
        job.mkdir(parents=True)
        (job / "status.json").write_text(json.dumps({"run": str(run), "state": "done"}))
    found = find([sweep])
    assert [record.folder for record in found.records] == runs and not found.left_out
    moved = tmp_path / "copy"
    shutil.copytree(tmp_path / "out0", moved)
    shutil.copytree(sweep, moved / ".sweeps" / "s")
    first, second = find([moved / ".sweeps" / "s"]).records
    assert first.folder.parent == moved and second.folder == runs[1]


# ---- what is written ----


def test_a_cell_that_begins_with_a_bracket_is_no_option_of_a_line_break():
    rows = [(("[odd]",), {"b": Cell("1")}), (("x",), {"b": Cell("[1, 2]")})]
    table = Table.of("t", ("a",), rows)
    text = latex([table])
    assert "{[}odd]" in text and "\\\\\n[" not in text


@pytest.mark.parametrize("name", ["=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1"])
def test_a_name_is_no_formula_in_a_spreadsheet(name: str):
    text = as_csv([Table.of(name, ("system",), [((name,), {"b": Cell("-0.5", -0.5)})])])
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["system"] == row["table"] == f"'{name}"
    assert float(row["value"]) == -0.5


def test_texts_with_line_separators_are_compared_by_a_rerun(tmp_path: Path):
    from lamp_exp.report.rerun import Repetition

    pair = [make_run(tmp_path / place, k=1, texts=["a\u2028b\u2029c\x85d"] * 40) for place in "ab"]
    records = [Record(run, find([run]).records[0].result) for run in pair]
    assert Repetition(*records).contents["prompts"] == {}


def test_how_questions_were_chosen_is_told(tmp_path: Path, report: Said):
    make_run(tmp_path, k=0, limit=10)
    run = make_run(tmp_path, k=4, limit=10, data="other")
    settings = {**find([run]).records[0].result.settings, "limit_sample": "random"}
    change_record(run, settings=settings)
    told = notes(rows(report, "ablation", "--runs", tmp_path))
    assert (
        "only the first questions of each part (limit=10), which may be alike, such as in" in told
    )
    assert "only questions drawn by seed (limit=10 limit_sample=random): no result" in told


def test_plots_are_of_the_seeds_that_all_have(tmp_path: Path):
    for seed in (0, 1):
        make_run(tmp_path, k=4, seed=seed)
    make_run(tmp_path, k=0, seed=0)
    (runs,) = panels(find([tmp_path]).records)
    assert [group.seeds for group in runs.groups] == [(0,)]


@pytest.mark.parametrize("verb", [["tests"], ["personal"], ["compare"]], ids=" ".join)
def test_runs_without_any_answer_are_not_called_equal(
    verb: list[str], tmp_path: Path, report: Said
):  # fmt: skip
    nothing = ["no tag"] * 40
    runs = [make_run(tmp_path / "a", "lamp2", k=k, outputs=nothing) for k in (0, 1)]
    places = runs if verb == ["compare"] else ["--runs", tmp_path / "a"]
    code, out, err = report(*verb, *places, "--format", "csv")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    verdicts = [row["value"] for row in rows if row["column"] == "verdict"]
    assert verdicts and set(verdicts) == {"unreadable"}
    line = "unreadable: no output of either run is an answer, so nothing is compared"
    assert line in [row["note"] for row in rows if row["what"] == "note"]


def test_runs_with_some_answer_may_be_equal(tmp_path: Path, report: Said):
    for k in (0, 1):
        make_run(tmp_path, "lamp2", k=k, outputs=["action", *["no tag"] * 39])
    _, out, _ = report("tests", "--runs", tmp_path, "--format", "csv")
    assert "equal" in out and "unreadable" not in out
