"""Reports on what the profile brings, to whom, at what cost; and on two runs side by side."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamp_exp.errors import InputError
from lamp_exp.report.agreement import agreement_tables
from lamp_exp.report.coldstart import coldstart_tables, curves, split
from lamp_exp.report.compare import (
    _scores,
    changed_questions,
    comparison_tables,
    example_tables,
    questions_of,
)
from lamp_exp.report.cost import cost_table, read_prices
from lamp_exp.report.loading import find
from lamp_exp.report.paired_examples import pair, pooled, sample
from lamp_exp.report.pairwise_tests import compared_pairs, pairs_table
from lamp_exp.report.personal import gains, headroom, personal_tables
from lamp_exp.report.selection import grouped
from lamp_exp.report.table import Cell, Table
from lamp_exp.results.record import Record
from lamp_exp.results.schema import TunedK
from lamp_exp.statistics import compare
from tests.records import change_record, make_run
from tests.test_report_tables import Said, report  # noqa: F401  (a fixture)

RIGHT, WRONG = "[1]", "[2]"


def records(folder: Path) -> list[Record]:
    return find([folder]).records


def by_k(folder: Path) -> list[Record]:
    return sorted(records(folder), key=lambda record: int(record.result.k))


def column(table: Table, name: str) -> list[Cell]:
    return [row.cells[name] for row in table.rows if row.kind == "value"]


def golds(folder: Path, task: str = "lamp1", questions: int = 40) -> list[str]:
    """The golds that every made run of this task and split has."""
    run = make_run(folder / "golds", task, questions=questions)
    return [str(gold) for gold in find([run]).records[0].column("target")]


def flipped(golds: list[str], wrong: set[int]) -> list[str]:
    return [
        (WRONG if gold == RIGHT else RIGHT) if n in wrong else gold for n, gold in enumerate(golds)
    ]


def test_a_metric_s_sample_makes_up_the_recorded_metric(tmp_path: Path):
    for task in ("lamp1", "lamp2", "lamp3", "lamp4"):
        make_run(tmp_path, task, per_user=3)
    for record in records(tmp_path):
        for metric, value in record.metrics.items():
            made = sample(record, metric)
            assert made is not None
            assert float(made.value(made.terms.sum(axis=0))) == pytest.approx(value, abs=1e-12)
            assert made.users.max() == 13  # 40 questions of 3 a user


def test_pairs_are_made_by_id_whatever_the_order(tmp_path: Path):
    make_run(tmp_path, k=0, skill=0.3)
    other = make_run(tmp_path, k=1, skill=0.6)
    a, b = by_k(tmp_path)
    before = pair(*_groups(a, b), "rouge_1")
    _reverse(other)
    a, b = by_k(tmp_path)
    after = pair(*_groups(a, b), "rouge_1")
    assert before and after
    for mine, turned in zip(before, after, strict=True):
        assert np.array_equal(mine.terms, turned.terms)


def _groups(a: Record, b: Record) -> tuple[Any, Any]:
    groups = grouped([a, b])
    return groups[a.configuration], groups[b.configuration]


def _reverse(run: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    path = run / "examples.parquet"
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.take(pa.array(range(len(table) - 1, -1, -1))), path)


def test_other_questions_are_no_pair(tmp_path: Path):
    make_run(tmp_path, k=0, questions=40)
    make_run(tmp_path, k=1, questions=30)
    with pytest.raises(InputError, match="other questions"):
        pair(*_groups(*records(tmp_path)), "rouge_1")


def test_seeds_are_pooled_by_question(tmp_path: Path):
    for seed in (0, 1):
        make_run(tmp_path, "lamp1", k=0, seed=seed)
    (group,) = grouped(records(tmp_path)).values()
    made = pooled(group, "accuracy")
    assert made and made.kind == "share"
    assert set(np.unique(made.terms[:, 0])) <= {0.0, 0.5, 1.0}
    assert made.terms[:, 0].mean() == pytest.approx(group.mean("accuracy"))


def test_gain_and_the_users_helped_and_hurt(tmp_path: Path):
    right = golds(tmp_path)
    out = tmp_path / "runs"
    make_run(out, "lamp1", k=0, outputs=flipped(right, set(range(20))), per_user=2)
    make_run(out, "lamp1", k=4, outputs=flipped(right, {30, 31, 32}), per_user=2)
    (gain,) = gains(records(out)).itertuples()
    assert gain.gain == pytest.approx((20 - 3) / 40)
    assert gain.helped == pytest.approx(10 / 20)
    assert gain.hurt == pytest.approx(2 / 20)
    assert gain.unchanged == pytest.approx(8 / 20)
    assert gain.comparison.clusters == 20 and gain.comparison.n == 40
    (table,) = personal_tables(records(out))
    assert column(table, "helped")[0].text == "50.0%"


def test_a_lower_error_is_a_gain(tmp_path: Path):
    make_run(tmp_path, "lamp3", k=0, skill=0.1)
    make_run(tmp_path, "lamp3", k=4, skill=0.9)
    (gain,) = gains(records(tmp_path)).itertuples()
    assert gain.gain > 0
    assert gain.comparison.difference.value < 0
    (table,) = personal_tables(records(tmp_path))
    low, high = column(table, "95% interval")[0].parts.values()
    assert low < gain.gain < high


def test_the_profile_of_another_user_is_the_control(tmp_path: Path):
    make_run(tmp_path, k=0, skill=0.2)
    make_run(tmp_path, k=4, skill=0.9)
    make_run(tmp_path, k=4, skill=0.3, profile={"control": "shuffled_user"})
    found = {g.group.facet("control"): g for g in gains(records(tmp_path)).itertuples()}
    own, other = found["none"], found["shuffled_user"]
    assert own.control == pytest.approx(other.gain)
    assert np.isnan(other.control)


def test_no_twin_is_told(tmp_path: Path):
    make_run(tmp_path, k=4)
    with pytest.raises(InputError, match="has its baseline"):
        personal_tables(records(tmp_path))


def test_headroom_is_the_best_of_each_question(tmp_path: Path):
    right = golds(tmp_path)
    out = tmp_path / "runs"
    make_run(out, "lamp1", retriever="bm25", k=1, outputs=flipped(right, set(range(20))))
    make_run(out, "lamp1", retriever="random", k=1, outputs=flipped(right, set(range(15, 40))))
    (one,) = headroom(records(out)).itertuples()
    assert one.best_alone == pytest.approx(20 / 40)
    assert one.together == pytest.approx(35 / 40)


def test_cold_start_by_the_size_of_the_profile(tmp_path: Path):
    make_run(tmp_path, k=0, skill=0.2, questions=100)
    make_run(tmp_path, k=4, skill=0.8, questions=100)
    ((group, bins),) = curves(records(tmp_path), "size", quantiles=4).items()
    assert sum(one.n for one in bins) == 100
    assert all(a.high < b.low for a, b in pairwise(bins))
    weighted = sum(one.n * one.value.value for one in bins) / 100
    assert weighted == pytest.approx(group.mean("rouge_1"))
    gained = sum(one.n * one.gain.value for one in bins if one.gain) / 100
    assert gained == pytest.approx(gains(records(tmp_path))["gain"][0])


@pytest.mark.parametrize(
    ("values", "quantiles", "edges", "sizes"),
    [
        ([1, 2, 3, 4], 2, (), [2, 2]),
        ([5, 5, 5, 5], 3, (), [4]),
        ([1, 1, 1, 9], 2, (), [3, 1]),
        ([1, 9, 9, 9], 2, (), [1, 3]),
        ([0, 1, 10, np.nan], 5, (1, 10), [1, 1, 1]),
        ([3], 5, (), [1]),
    ],
)
def test_bins_hold_each_question_once(
    values: list[float], quantiles: int, edges: tuple[float, ...], sizes: list[int]
):
    bins = split(np.array(values, dtype=float), quantiles, edges)
    assert [int(members.sum()) for members in bins] == sizes
    assert np.stack(bins).sum(axis=0).max() == 1


def test_cold_start_by_the_score_of_the_best_item(tmp_path: Path):
    make_run(tmp_path, k=4)
    (table,) = coldstart_tables(records(tmp_path), "similarity", 3, ())
    assert [cell.value for cell in column(table, "questions")] == [40]  # all scores are equal


def test_an_age_that_no_run_knows_is_told(tmp_path: Path):
    make_run(tmp_path, k=4)
    with pytest.raises(InputError, match="days since the newest item"):
        coldstart_tables(records(tmp_path), "age", 3, ())


def test_profiles_of_so_many_items_make_a_curve(tmp_path: Path):
    for most in (None, 2, 16):
        make_run(tmp_path, k=4, profile={"max_items": most})
    *_, table = coldstart_tables(records(tmp_path), "size", 2, ())
    assert table.columns == ("2", "16", "all")


def test_cost_tells_tokens_seconds_and_price(tmp_path: Path):
    make_run(tmp_path, model="openai", settings={"model": {"name": "gpt-3.5-turbo-0125"}})
    (record,) = records(tmp_path)
    record.result.model["asked"] = 40  # type: ignore[index]
    table = cost_table([record], read_prices())
    assert column(table, "prompt tokens")[0].value == 20
    assert column(table, "ms a question")[0].value == pytest.approx(2000 / 40)
    assert column(table, "rankings kept")[0].text == "75%"
    dollars = (40 * 20 * 0.50 + 40 * 3 * 1.50) / 1e6
    assert column(table, "API $")[0].value == pytest.approx(dollars)
    assert column(table, "API $")[0].text == "~0.0006"  # the server's count is not known
    assert any("2024-07-18" in line for line in table.footers)


@pytest.mark.parametrize(("unknown", "text"), [(0, "0.0019"), (10, "~0.0020")])
def test_a_price_rests_on_the_servers_count(unknown: int, text: str, tmp_path: Path):
    usage = {"prompt_tokens": 3000, "completion_tokens": 260, "answers_without_usage": unknown}
    make_run(tmp_path, model="openai", settings={"model": {"name": "gpt-3.5-turbo-0125"}})
    (record,) = records(tmp_path)
    record.result.model.update(asked=40, usage=usage)
    table = cost_table([record], read_prices())
    dollars = (3000 * 0.50 + 260 * 1.50) / 1e6
    own = unknown * (20 * 0.50 + 3 * 1.50) / 1e6  # of the others, as the run counted them
    (cell,) = column(table, "API $")
    assert (cell.value, cell.text) == (pytest.approx(dollars + own), text)
    assert any(line.startswith("~: estimated") for line in table.footers) == (unknown > 0)
    frame = table.tidy()
    told = frame.loc[frame["column"] == "API $", "what"].tolist()
    assert told == (["value", "estimated"] if unknown else ["value"])


@pytest.mark.parametrize("price", ["-1", ".inf", ".nan"])
def test_a_price_is_a_finite_number_and_not_negative(price: str, tmp_path: Path):
    path = tmp_path / "prices.yaml"
    path.write_text(f"date: 2024-07-18\nmodels: {{m: {{input: {price}, output: 1}}}}")
    with pytest.raises(InputError, match=r"prices.yaml is no list .* is no price") as caught:
        read_prices(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "models: [1]", "date: 2024\nmodels: {m: {input: x}}", "{"])
def test_a_list_of_prices_that_is_none(text: str, tmp_path: Path):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"prices.yaml is no list of prices") as caught:
        read_prices(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no list of prices"):
        read_prices(tmp_path / "nowhere")


def test_retrievers_agree_by_the_items_they_show(tmp_path: Path):
    for retriever in ("bm25", "random"):
        make_run(tmp_path, retriever=retriever, k=2)
    (table,) = agreement_tables(records(tmp_path))
    assert table.columns == ("bm25", "random")
    own = [table.rows[n].cells[name].value for n, name in enumerate(table.columns)]
    assert own == [1.0, 1.0]
    a, b = (record.column("items") for record in records(tmp_path))
    overlap = np.mean([len({*x} & {*y}) / len({*x} | {*y}) for x, y in zip(a, b, strict=True)])
    assert table.rows[0].cells["random"].value == pytest.approx(overlap)


def test_one_retriever_agrees_with_none(tmp_path: Path):
    make_run(tmp_path)
    with pytest.raises(InputError, match="differ in nothing but their retriever"):
        agreement_tables(records(tmp_path))


def test_every_pair_of_the_same_questions_is_tested_once(tmp_path: Path):
    for task in ("lamp3", "lamp4"):
        for k in (0, 1, 4):
            make_run(tmp_path, task, k=k)
    make_run(tmp_path, "lamp4", split="time", k=0)
    found, _ = compared_pairs(records(tmp_path))
    assert len(found) == 3 + 3
    against, _ = compared_pairs(records(tmp_path), ["k=0"])
    assert len(against) == 2 + 2
    assert all(group.facet("k") == 0 for group in against["first"])
    table = pairs_table(records(tmp_path))
    for name in ("Holm", "BH"):
        raw, corrected = column(table, "p"), column(table, name)
        assert all(c.value >= p.value for p, c in zip(raw, corrected, strict=True))  # type: ignore[operator]
    with pytest.raises(InputError, match="there is no run with .* to test against"):
        compared_pairs(records(tmp_path), ["k=16"])


def test_a_verdict_of_many_pairs_is_that_of_the_corrected_p(tmp_path: Path):
    for k in range(12):
        make_run(tmp_path, k=k, skill=0.5, questions=30)
    table = pairs_table(records(tmp_path))
    for row in table.rows:
        cells = row.cells
        if cells["verdict"].text in ("better", "worse"):
            assert cells["Holm"].value < 0.05  # type: ignore[operator]


def test_two_runs_side_by_side(tmp_path: Path):
    right = golds(tmp_path)
    out = tmp_path / "runs"
    make_run(out, "lamp1", k=0, outputs=flipped(right, {0, 1, 2}))
    make_run(out, "lamp1", k=4, outputs=flipped(right, {2, 3}))
    a, b = by_k(out)
    what, metrics, flips, users, *examples = comparison_tables(a, b, examples=2, users=3)
    assert ("k",) in [row.head for row in what.rows]
    assert column(flips, "questions")[1].value == 1  # only A right: question 3
    assert [cell.value for cell in column(flips, "questions")] == [36, 1, 2, 1, 37]
    assert len(users.rows) == 3
    assert len(examples) == 2 and "Question 0 of user u0" in examples[0].title
    assert {row.kind for row in metrics.rows} > {"value", "McNemar exact"}
    assert changed_questions(_scores(a, b)) == ["0", "1", "3"]


def test_an_example_shows_answers_items_and_prompts_of_both(tmp_path: Path):
    make_run(tmp_path, k=0)
    make_run(tmp_path, k=2)
    a, b = by_k(tmp_path)
    (table,) = example_tables(a, b, ["7"])
    rows = {row.head[0]: [cell.text for cell in row.cells.values()] for row in table.rows}
    assert rows["answer"] == [a.column("prediction")[7], b.column("prediction")[7]]
    assert rows["items"][0] == "none" and rows["items"][1].count("(") == 2
    assert rows["prompt"] == ["question 7", "question 7"]
    assert questions_of(a, "u7") == ["7"]
    with pytest.raises(InputError, match="no question of user 'nobody'"):
        questions_of(a, "nobody")


def test_runs_of_other_tasks_are_not_compared(tmp_path: Path):
    make_run(tmp_path, "lamp3")
    make_run(tmp_path, "lamp4")
    with pytest.raises(InputError, match="nothing to compare"):
        comparison_tables(*records(tmp_path), 1, 1)


VERBS = [
    ["table"], ["table", "--rows", "metric", "--columns", "retriever", "k"], ["ablation"],
    ["table2"], ["tests"], ["tests", "--against", "k=0"], ["personal"], ["coldstart"],
    ["coldstart", "--by", "similarity", "--bins", "1", "2"], ["cost"], ["agreement"],
    ["published", "--where", "task=lamp4"],
]  # fmt: skip


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a profile, and with two retrievers."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder, k=0, questions=12)
    for retriever in ("bm25", "random"):
        make_run(folder, retriever=retriever, k=1, questions=12)
    return folder


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_each_verb_writes_each_format(words: list[str], three_runs: Path, report: Said):  # noqa: F811
    where = [] if words[0] == "published" else ["--runs", three_runs]
    for format in ("terminal", "md", "csv", "latex", "html"):
        code, out, err = report(*words, *where, "--format", format)
        assert (code, err) == (0, "")
        assert "lamp4" in out or "bm25" in out


def test_compare_takes_names_and_tells_mistakes(tmp_path: Path, report: Said):  # noqa: F811
    a, b = make_run(tmp_path, k=0), make_run(tmp_path, k=4)
    code, out, _ = report("compare", a.name, b.name[-8:], "--runs", tmp_path)
    assert code == 0 and "What differs" in out
    code, out, _ = report("compare", a, b, "--user", "u3")
    assert code == 0 and "Question 3 of user u3" in out
    for words, told in [
        ([a, "nothing", "--runs", tmp_path], "no finished run is 'nothing'"),
        ([a, b, "--examples", "-1"], "--examples -1 must be from 0"),
        ([a, b, "--user", "x"], "no question of user"),
    ]:
        code, _, err = report("compare", *words)
        assert code == 2 and told in err
    code, _, err = report("coldstart", "--runs", tmp_path, "--quantiles", "0")
    assert code == 2 and "--quantiles 0 must be from 1 to 100" in err


# ---- what a review found: numbers that were shown and tested were not the same ----


@pytest.mark.parametrize("task", ["lamp2", "lamp3", "lamp4"])
def test_what_is_tested_over_seeds_is_what_is_shown(task: str, tmp_path: Path):
    for seed in (0, 1, 2):
        make_run(tmp_path, task, k=0, seed=seed, skill=0.2 + 0.3 * seed)
        make_run(tmp_path, task, k=4, seed=seed, skill=0.5)
    groups = {group.facet("k"): group for group in grouped(records(tmp_path)).values()}
    for metric in groups[0].first.metrics:
        made = pooled(groups[0], metric)
        assert made and made.measured() == pytest.approx(groups[0].mean(metric))
        samples = pair(groups[0], groups[4], metric)
        assert samples
        difference = compare(*samples).difference.value
        assert difference == pytest.approx(groups[4].mean(metric) - groups[0].mean(metric))


def test_gains_are_of_the_seeds_that_both_have(tmp_path: Path):
    make_run(tmp_path, k=0, seed=0, skill=0.5)
    for seed, skill in ((0, 0.2), (1, 0.9), (2, 0.9)):
        make_run(tmp_path, k=4, seed=seed, skill=skill)
    (gain,) = gains(records(tmp_path)).itertuples()
    assert [record.seed for record in gain.group.records] == [0]
    shown = gain.group.mean("rouge_1") - gain.baseline.mean("rouge_1")
    assert gain.gain == pytest.approx(shown)
    from lamp_exp.report.layouts import LAYOUTS
    from lamp_exp.report.metric_tables import TableOptions, metric_tables

    (table,) = metric_tables(records(tmp_path), LAYOUTS["ablation"], TableOptions())
    left_out = "lamp4: seeds left out, as not all runs compared here have them (bm25 ipa k=4: 1, 2)"
    assert left_out in table.footers
    (row,) = [row for row in table.rows if row.head[1] == "rouge_1" and row.kind == "value"]
    cells = row.cells
    assert cells["k=4"].value == pytest.approx(gain.group.mean("rouge_1"))
    assert cells["k=4"].parts["seeds"] == 1 and "p (Holm)" in cells["k=4"].parts


def test_seeds_that_are_not_shared_are_not_tested(tmp_path: Path):
    make_run(tmp_path, k=0, seed=5)
    for seed in (0, 1):
        make_run(tmp_path, k=4, seed=seed)
    assert gains(records(tmp_path)).empty


def test_equal_ids_of_other_data_are_no_pair(tmp_path: Path, report: Said):  # noqa: F811
    a, b = make_run(tmp_path, split="user"), make_run(tmp_path, split="time")
    for words in ([], ["--user", "u0"]):
        code, _, err = report("compare", a, b, *words)
        assert code == 2 and "answered other questions" in err
    one, other = (grouped([record]).popitem()[1] for record in records(tmp_path))
    with pytest.raises(InputError, match="of other data"):
        pair(one, other, "rouge_1")


def test_a_limit_beside_the_whole_is_no_pair_and_breaks_nothing(tmp_path: Path):
    for limit, questions in ((None, 40), (10, 10)):
        for retriever in ("bm25", "random"):
            make_run(tmp_path, retriever=retriever, k=2, limit=limit, questions=questions)
    assert len(agreement_tables(records(tmp_path))) == 2


def test_predictions_without_prompts_can_be_compared(tmp_path: Path):
    make_run(tmp_path, k=0)
    other = make_run(tmp_path, k=2)
    (other / "prompts.jsonl").unlink()
    change_record(other)  # which names the files that are there
    a, b = by_k(tmp_path)
    *_, example = comparison_tables(a, b, 1, 1)
    assert example.rows[-1].cells["B"].text == "(not recorded)"


def test_a_gain_that_is_rounding_is_none():
    from lamp_exp.report.personal import user_gains
    from lamp_exp.statistics.samples import mean_sample

    users = np.arange(3)
    before = mean_sample([0.1 + 0.2, 0.5, 0.5], users, True)
    after = mean_sample([0.3, 0.5, 0.6], users, True)
    assert np.sign(user_gains(before, after)).tolist() == [0, 0, 1]


def test_a_tuned_run_and_its_choice_are_one_hypothesis(tmp_path: Path):
    for k, skill in ((0, 0.3), (1, 0.6), (4, 0.5)):
        make_run(tmp_path, k=k, skill=skill, questions=120)
    from lamp_exp.report.layouts import LAYOUTS
    from lamp_exp.report.metric_tables import TableOptions, metric_tables

    def p_of(column: str) -> float:
        (table,) = metric_tables(records(tmp_path), LAYOUTS["ablation"], TableOptions())
        return table.rows[0].cells[column].parts["p (Holm)"]

    before, runs = p_of("k=1"), len(compared_pairs(records(tmp_path))[0])
    chosen = next(path for path in tmp_path.iterdir() if "-k1-" in path.name)
    shutil.copytree(chosen, tmp_path / "tuned")
    change_record(tmp_path / "tuned", tuned=TunedK(1, ({"k": 1}, {"k": 4}), chosen.name))
    assert p_of("k=1") == p_of("k=tune") == before
    assert len(compared_pairs(records(tmp_path))[0]) == runs + 2  # not against its own choice


def test_the_run_without_a_profile_is_found_where_conditions_leave_it_out(
    tmp_path: Path, report: Said  # noqa: F811
):  # fmt: skip
    make_run(tmp_path, k=0)
    make_run(tmp_path, k=4)
    for verb in ("personal", "coldstart"):
        code, out, _ = report(verb, "--runs", tmp_path, "--where", "k=4", "--format", "csv")
        assert code == 0
        gains = [line for line in out.splitlines() if ",gain,value," in line]
        assert gains and not any(line.endswith(",,") for line in gains)


def test_runs_that_fit_no_column_are_told(tmp_path: Path, report: Said):  # noqa: F811
    make_run(tmp_path, k=1)
    make_run(tmp_path, k=7)
    _, out, _ = report("table2", "--runs", tmp_path, "--format", "md")
    assert "1 configuration without a column in this layout, which" in out
    assert "lamp4 bm25 ipa k=7" in out


def test_a_run_is_not_compared_with_itself(tmp_path: Path, report: Said):  # noqa: F811
    run = make_run(tmp_path)
    code, _, err = report("compare", run, run)
    assert code == 2 and "are the same run" in err


def test_what_is_longer_than_a_screen_is_folded(tmp_path: Path, report: Said):  # noqa: F811
    for k in (0, 4):
        make_run(tmp_path, k=k, texts=["word " * 200] * 40)
    runs = sorted(map(str, tmp_path.glob("lamp4*")))
    code, out, _ = report("compare", *runs, "--examples", "1")
    assert code == 0 and max(map(len, out.splitlines())) < 220
    assert out.replace("\n", " ").count("word") >= 400


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, report: Said):  # noqa: F811
    make_run(tmp_path / "runs")
    for out, told in ((tmp_path, "is a folder"), (Path("/proc/x.md"), "cannot be written")):
        code, _, err = report("ablation", "--runs", tmp_path / "runs", "--out", out)
        assert code == 2 and told in err and ".x.md" not in err
    code, _, err = report(
        "coldstart", "--runs", tmp_path / "runs", "--bins", "1", "--quantiles", "3"
    )
    assert code == 2 and "give one" in err
