"""Effects of retrieval, summary and adapter: numbers by hand, and what is said of a grid."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lamp_exp.errors import InputError
from lamp_exp.report import factor_grid, grid_search
from lamp_exp.report.factor_effects import effects_frame, shares
from lamp_exp.report.factor_grid import Cell, Grid, effects
from lamp_exp.report.factors import factor_tables
from lamp_exp.report.formats import FORMATS
from lamp_exp.report.grid_search import grids
from lamp_exp.report.loading import find
from lamp_exp.report.page import page
from lamp_exp.report.page.browser import Limits
from lamp_exp.report.page.sections import factors as page_section
from lamp_exp.report.table import Cell as TableCell
from lamp_exp.report.table import Table
from lamp_exp.tasks import all_tasks
from tests.records import change_record, made_targets, make_run
from tests.test_adapters import weights  # noqa: F401  (a fixture)
from tests.test_report_tables import Said, cells, records, report  # noqa: F401  (a fixture)

QUESTIONS = 40
BM25 = "bm25 ipa k=4"
SMALL = tuple(product(("none", "bm25"), ("none", "statistics"), ("none", "user_lora")))
# How many of the questions each cell answers rightly.
RIGHT = {
    ("none", "none", "none"): 8, ("none", "none", "user_lora"): 16,
    ("none", "statistics", "none"): 10, ("none", "statistics", "user_lora"): 18,
    ("bm25", "none", "none"): 24, ("bm25", "none", "user_lora"): 28,
    ("bm25", "statistics", "none"): 26, ("bm25", "statistics", "user_lora"): 30,
}  # fmt: skip


def make_cell(
    folder: Path, cell: Cell, right: int, task: str = "lamp2", control: bool = False, **options: Any
) -> Path:
    """A run that answers the first questions rightly, and the others wrongly."""
    retrieval, summary, adapter = cell
    given: dict[str, Any] = {
        "mode": "zeroshot", "k": 4 if retrieval != "none" else 0, "questions": QUESTIONS,
        "choices": {"summary": summary, "adapter": adapter},
    }  # fmt: skip
    if retrieval != "none":
        given["retriever"] = retrieval
    if control:
        given["profile"] = {"control": "shuffled_user"}
    given |= options
    place = {name: given[name] for name in ("split", "part") if name in given}
    golds = made_targets(all_tasks()[task], task, **place)
    wrong = {"lamp2": "no tag", "lamp3": "0"}[task]
    outputs = [*golds[:right], *[wrong] * (QUESTIONS - right)]
    return make_run(folder, task, outputs=outputs, **given)


def make_grid(folder: Path, cells: Iterable[Cell] = SMALL, **options: Any) -> Path:
    for cell in cells:
        make_cell(folder, cell, RIGHT[cell], **options)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small grid, without controls."""
    return make_grid(tmp_path_factory.mktemp("plain"))


def make_controls(folder: Path, right: int, cells: Iterable[Cell] = SMALL[1:]) -> None:
    for cell in cells:
        make_cell(folder, cell, right, control=True)


def only_grid(folder: Path) -> Grid:
    found, reasons = grids(records(folder))
    assert not reasons
    (grid,) = found
    return grid


def gains_of(table: Table, column: str = "gain") -> dict[tuple[str, ...], float | None]:
    """By the levels of the factors, which are the last heads."""
    return {head[-3:]: row[column].value for head, row in cells(table).items()}


def tables_of(folder: Path) -> dict[str, Table]:
    made = factor_tables(records(folder))
    return {name: table for name, table in zip(("effects", "cells", "size", "cost"), made)}  # noqa: B905


def test_effects_are_means_over_the_levels_of_the_other_factors(plain: Path):
    gains = gains_of(tables_of(plain)["effects"])
    mean = "(mean)"
    by_hand = {
        (BM25, mean, mean): (16 + 16 + 12 + 12) / 4,
        (mean, "statistics", mean): 2.0,
        (mean, mean, "user_lora"): (8 + 8 + 4 + 4) / 4,
        (BM25, "statistics", mean): 0.0,
        (BM25, mean, "user_lora"): -4.0,  # less together than the sum
        (mean, "statistics", "user_lora"): 0.0,
        (BM25, "statistics", "user_lora"): 0.0,
    }
    assert gains == pytest.approx({head: n / QUESTIONS for head, n in by_hand.items()})


def test_levels_of_a_factor_are_each_against_none():
    levels = [("none", "bm25"), ("none", "statistics", "llm"), ("none", "user_lora", "user_vector")]
    found = effects(levels)
    assert [one.number_of_factors for one in found] == [1] * 5 + [2] * 8 + [3] * 4
    values = {cell: float(number**2) for number, cell in enumerate(product(*levels))}
    for one in found:
        assert sum(one.weights.values()) == pytest.approx(0)
        assert all(cell in values for cell in one.weights)
    (llm,) = (one for one in found if one.levels == (None, "llm", None))
    rest = list(product(levels[0], levels[2]))
    by_hand = np.mean([values[r, "llm", a] - values[r, "none", a] for r, a in rest])
    assert sum(w * values[cell] for cell, w in llm.weights.items()) == pytest.approx(by_hand)
    (last,) = (one for one in found if one.levels == ("bm25", "llm", "user_vector"))

    def joint(summary: str) -> float:
        both = values["bm25", summary, "user_vector"] - values["none", summary, "user_vector"]
        return both - (values["bm25", summary, "none"] - values["none", summary, "none"])

    total = sum(w * values[cell] for cell, w in last.weights.items())
    assert total == pytest.approx(joint("llm") - joint("none"))


def test_an_effect_is_tested_by_its_values_by_question(plain: Path):
    grid = only_grid(plain)
    frame = effects_frame(grid)
    scores = {cell: sample.terms[:, 0] for cell, sample in grid.samples.items()}
    for row in frame.itertuples():
        values = sum(w * scores[cell] for cell, w in row.effect.weights.items())
        expected = stats.ttest_1samp(values, 0) if np.ptp(values) else None
        if expected is None:
            assert row.contrast.test.p == 1.0
            continue
        assert row.contrast.test.p == pytest.approx(expected.pvalue)
        ends = expected.confidence_interval()
        assert (row.interval.low, row.interval.high) == pytest.approx((ends.low, ends.high))


def test_users_and_not_questions_count_as_independent(tmp_path: Path):
    make_grid(tmp_path, per_user=4)
    (table, *_) = factor_tables(records(tmp_path))
    assert "10 users, who count as independent" in table.footers
    assert any("t of the contrast, clustered by user" in line for line in table.footers)


def test_a_gain_of_an_error_is_positive_where_it_falls(tmp_path: Path):
    made = tables_of(make_grid(tmp_path, task="lamp3"))
    main = [v for head, v in gains_of(made["effects"]).items() if head.count("(mean)") == 2]
    assert len(main) == 3 and min(main) > 0
    assert all(value is None or value > 0 for value in gains_of(made["cells"]).values())
    assert all(value is None or value > 0 for value in gains_of(made["cost"]).values())


def test_each_cell_has_its_gain_and_the_users_hurt(tmp_path: Path):
    make_grid(tmp_path, [cell for cell in SMALL if cell != ("none", "none", "user_lora")])
    make_cell(tmp_path, ("none", "none", "user_lora"), 4)  # below the baseline
    table = tables_of(tmp_path)["cells"]
    rows = {head[-3:]: row for head, row in cells(table).items()}
    assert rows["none", "none", "none"]["value"].value == 8 / QUESTIONS
    assert rows["none", "none", "none"]["gain"].text == "–"
    hurt = rows["none", "none", "user_lora"]
    assert hurt["gain"].value == pytest.approx(-4 / QUESTIONS)
    shares_of_users = [hurt[name].value for name in ("helped", "unchanged", "hurt")]
    assert shares_of_users == pytest.approx([0, 0.9, 0.1])


# --- the control with other users --------------------------------------------------------------


def test_the_control_stands_beside_each_cell_and_effect(tmp_path: Path):
    make_grid(tmp_path)
    make_controls(tmp_path, 10)
    made = tables_of(tmp_path)
    cell = {head[-3:]: row for head, row in cells(made["cells"]).items()}[BM25, "none", "none"]
    assert cell["by another's"].value == pytest.approx(2 / QUESTIONS)
    assert cell["over another's"].value == pytest.approx(14 / QUESTIONS)
    assert cell["its interval"].parts["low"] > 0
    effect = gains_of(made["effects"], "by another's")
    # the baseline reads no profile, so it is the same in the control: 2 in each other cell
    assert effect[BM25, "(mean)", "(mean)"] == pytest.approx(2 / 4 / QUESTIONS)
    assert not any("without other users' profiles" in line for line in made["effects"].footers)


def test_a_missing_control_is_named(tmp_path: Path):
    make_grid(tmp_path)
    make_controls(tmp_path, 10, SMALL[1:-1])
    made = tables_of(tmp_path)
    assert set(gains_of(made["effects"], "by another's").values()) == {None}
    line = (
        "lamp2: cells without other users' profiles: "
        f"retrieval={BM25} summary=statistics adapter=user_lora"
    )
    assert line in made["effects"].footers
    assert gains_of(made["cells"], "by another's")[BM25, "none", "none"] is not None


def test_cells_that_read_no_profile_are_their_own_control(tmp_path: Path, monkeypatch):
    """As a prompt that is learned for all users; they belong to each setting of the profile."""

    def reads_profile(record: Any) -> bool:
        return bool(record.result.k)

    for module in (factor_grid, grid_search):
        monkeypatch.setattr(module, "reads_profile", reads_profile)
    for cell, right in {("none", "none", "none"): 8, ("none", "none", "soft_prompt"): 12}.items():
        make_cell(tmp_path, cell, right)
    for adapter in ("none", "soft_prompt"):
        for control in (None, "shuffled_user"):
            own = {"max_items": 3, **({"control": control} if control else {})}
            make_cell(tmp_path, ("bm25", "none", adapter), 10 if control else 20, profile=own)
    grid = only_grid(tmp_path)
    assert not grid.missing and not grid.missing_controls
    effect = gains_of(tables_of(tmp_path)["effects"], "by another's")
    assert effect["(mean)", "none", "soft_prompt"] == pytest.approx(4 / 2 / QUESTIONS)


# --- how much retrieval alone has --------------------------------------------------------------


def test_the_footer_says_how_much_of_the_joint_gain_retrieval_has_alone(plain: Path):
    table = tables_of(plain)["effects"]
    (line,) = (one for one in table.footers if "together" in one and "alone has" in one)
    assert line.startswith(
        f"lamp2: of the gain of retrieval ({BM25}) and user_lora together (+0.5000), retrieval "
        "alone has 80% (95% interval "
    )
    assert "user_lora alone 40% (95% interval" in line
    assert line.endswith("intervals by resampling users")


def test_the_interval_of_the_share_is_that_of_resampled_users(plain: Path):
    grid = only_grid(plain)
    of_retrieval, _ = shares(grid, BM25, "user_lora")
    base, alone, both = (
        grid.samples[cell].terms[:, 0]
        for cell in (("none",) * 3, (BM25, "none", "none"), (BM25, "none", "user_lora"))
    )
    drawn = np.random.default_rng(1).integers(0, QUESTIONS, (4000, QUESTIONS))
    gained = [one[drawn].mean(axis=1) for one in (base, alone, both)]
    low, high = np.quantile((gained[1] - gained[0]) / (gained[2] - gained[0]), [0.025, 0.975])
    assert of_retrieval.share.value == pytest.approx(0.8)
    assert of_retrieval.share.low == pytest.approx(low, abs=0.03)
    assert of_retrieval.share.high == pytest.approx(high, abs=0.03)


@pytest.mark.parametrize("joint", [8, 9, 2])
def test_the_footer_is_silent_where_the_joint_gain_may_be_zero(tmp_path: Path, joint: int):
    both = ("bm25", "none", "user_lora")
    make_grid(tmp_path, [cell for cell in SMALL if cell != both])
    make_cell(tmp_path, both, joint)
    table = tables_of(tmp_path)["effects"]
    assert not any("alone has" in line for line in table.footers)


# --- grids that are not complete ---------------------------------------------------------------


def test_missing_cells_are_named_and_effects_are_of_the_complete_part(tmp_path: Path):
    make_grid(tmp_path)
    make_cell(tmp_path, ("bm25", "llm", "none"), 30)
    made = tables_of(tmp_path)
    assert not any("llm" in head for head in gains_of(made["effects"]))
    assert gains_of(made["cells"])[BM25, "llm", "none"] == pytest.approx(22 / QUESTIONS)
    footers = made["effects"].footers
    assert (
        "lamp2: missing cells: retrieval=none summary=llm adapter=none; retrieval=none "
        f"summary=llm adapter=user_lora; retrieval={BM25} summary=llm adapter=user_lora"
    ) in footers
    assert (
        "lamp2: effects are over the largest complete part of the grid: retrieval (none, "
        f"{BM25}) x summary (none, statistics) x adapter (none, user_lora)"
    ) in footers


@pytest.mark.parametrize(
    ("removed", "levels"),
    [
        ([("bm25", "statistics", "user_lora")], (("none", BM25), ("none",), ("none", "user_lora"))),
        (
            [("bm25", "none", "user_lora"), ("bm25", "statistics", "user_lora")],
            (("none",), ("none", "statistics"), ("none", "user_lora")),
        ),
    ],
)
def test_the_complete_part_is_the_largest(
    tmp_path: Path, removed: Sequence[Cell], levels: tuple[tuple[str, ...], ...]
):
    make_grid(tmp_path, [cell for cell in SMALL if cell not in removed])
    found = only_grid(tmp_path).levels
    assert [len(own) for own in found].count(2) == 2
    there = {*SMALL} - {*removed}
    assert all((c[0].split()[0], *c[1:]) in there for c in product(*found))
    assert sum(map(len, found)) == sum(map(len, levels))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (SMALL[:2], ""),  # one factor
        (SMALL[1:], "without a baseline, the run without retrieval, summary and adapter"),
        ([SMALL[0], SMALL[3], SMALL[5]], "no two factors of which all combinations"),
    ],
)
def test_without_a_grid_one_line_says_so(
    tmp_path: Path, report: Said, made: Sequence[Cell], reason: str  # noqa: F811
):  # fmt: skip
    make_grid(tmp_path / "runs", made)
    code, out, err = report("factors", "--runs", tmp_path / "runs")
    assert code == 2 and not out
    last = err.splitlines()[-1]
    assert last.startswith("lamp_exp.report factors: no grid: it takes runs with and without two")
    assert reason in last
    with pytest.raises(InputError, match="no grid"):
        page_section(records(tmp_path / "runs"))


def test_bounds_routed_and_imported_runs_are_no_cells(tmp_path: Path):
    make_grid(tmp_path)
    bound = make_cell(tmp_path, ("oracle", "none", "none"), 40)
    change_record(bound, bound=True)
    assert only_grid(tmp_path).all_levels[0] == ["none", BM25]


def test_options_of_a_component_tell_its_levels_apart(tmp_path: Path):
    strong = {"settings": {"adapter": {"lr": 0.01}}}
    weak = {"settings": {"adapter": {"lr": 5e-5}}}
    for cell in SMALL:
        both = (strong, weak) if cell[2] != "none" else ({},)
        for number, options in enumerate(both):
            make_cell(tmp_path, cell, RIGHT[cell] + number, **options)
    levels = only_grid(tmp_path).levels
    assert levels[2] == ("none", "user_lora lr=5e-05", "user_lora lr=0.01")
    assert levels[1] == ("none", "statistics")


def test_other_profiles_and_other_models_make_grids_of_their_own(tmp_path: Path):
    make_grid(tmp_path)
    for cell in SMALL[1:]:
        make_cell(tmp_path, cell, 30, profile={"max_items": 3})
    make_grid(tmp_path, model="tiny")
    found, _ = grids(records(tmp_path))
    assert len(found) == 3
    (table, *_) = factor_tables(records(tmp_path))
    assert {"model", "max_items"} <= {*table.heads}


# --- seeds -------------------------------------------------------------------------------------


def test_effects_are_of_the_seeds_that_all_cells_have(tmp_path: Path):
    make_grid(tmp_path)
    for cell in SMALL[:-1]:
        make_cell(tmp_path, cell, 0, seed=1)
    make_cell(tmp_path, ("bm25", "llm", "none"), 30, seed=1)
    table = tables_of(tmp_path)["effects"]
    assert gains_of(table)["(mean)", "statistics", "(mean)"] == pytest.approx(2 / QUESTIONS)
    footers = table.footers
    assert "lamp2: seeds left out, as not all cells have them: 1" in footers
    expected = f"cells left out, as they lack seeds: retrieval={BM25} summary=llm adapter=none"
    assert f"lamp2: {expected}" in footers


def test_several_runs_in_one_cell_make_no_grid(tmp_path: Path):
    make_grid(tmp_path)
    twice = make_cell(tmp_path / "more", SMALL[-1], 20)
    (record,) = find([twice]).records
    parts = {**record.result.data, "learning": record.result.data["asked"]}
    change_record(twice, data=parts)  # it has learned from something that the others have not
    found, reasons = grids([*records(tmp_path), *records(tmp_path / "more")])
    assert not found
    assert reasons[0].startswith(f"lamp2: several runs are retrieval={BM25} summary=statistics")


def test_cells_without_a_common_seed_make_no_grid(tmp_path: Path):
    for seed, cell in enumerate(SMALL):
        make_cell(tmp_path, cell, 10, seed=seed)
    found, reasons = grids(records(tmp_path))
    assert not found and reasons == ["lamp2: the runs of its grid have no seed in common"]


# --- size and cost -----------------------------------------------------------------------------


def test_gains_by_profile_size_add_up_to_the_gain(plain: Path):
    made = tables_of(plain)
    groups = [gains_of(made["size"], f"group {n}") for n in range(1, 5)]
    head = (BM25, "none", "user_lora")
    (line,) = (one for one in made["size"].footers if one.startswith("items (questions), lamp2"))
    counts = [int(part.rpartition("(")[2].rstrip(")")) for part in line.split(", ")[1:]]
    assert sum(counts) == QUESTIONS
    total = sum(n * (own[head] or 0) for n, own in zip(counts, groups, strict=True))
    assert total / QUESTIONS == pytest.approx(20 / QUESTIONS)


def test_costs_of_a_user(tmp_path: Path):
    """Of 10 users with 4 questions each; the records' seconds and tokens are of 40 questions."""
    make_grid(tmp_path, per_user=4)
    lora = {"adapters": 10, "profiles": 10, "seconds": 30.0, "bytes": 5000, "kept": True}
    writing = {"group": "summary", "kind": "summaries", "artefact": "summaries-1",
               "summaries": 10, "tokens_written": 200}  # fmt: skip
    shared = {"group": "retriever", "kind": "encoder", "artefact": "e", "seconds": 7.0}
    for record in records(tmp_path):
        choices = record.result.choices
        changes: dict[str, Any] = {"learned": ()}
        if choices["adapter"] == "user_lora":
            changes["adapter"] = lora
        if choices["summary"] == "statistics":  # stands for a written one
            made_now = choices["adapter"] == "none" and record.result.k == 0
            changes["learned"] += ({**writing, **({"seconds": 20.0} if made_now else {})},)
        if record.result.k:
            changes["learned"] += (shared,)
        change_record(record.folder, **changes)
    rows = {head[-3:]: row for head, row in cells(tables_of(tmp_path)["cost"]).items()}

    def costs(*cell: str) -> list[float | None]:
        row: dict[str, TableCell] = rows[cell]
        names = ("s a user", "s once", "bytes a user", "tokens a user")
        return [row[name].value for name in names]

    answering, tokens = (0.5 + 0.25 + 2.0) / 10, 23 * QUESTIONS / 10
    assert costs("none", "none", "none") == pytest.approx([answering, 0, 0, tokens])
    assert costs("none", "none", "user_lora") == pytest.approx([answering + 3, 0, 500, tokens])
    written = costs("none", "statistics", "user_lora")  # another run of the grid wrote the texts
    assert written == pytest.approx([answering + 3 + 2, 0, 500, tokens + 20])
    assert costs(BM25, "none", "none") == pytest.approx([answering, 7, 0, tokens])


def test_adapters_that_are_not_kept_take_no_room_and_are_learned_while_answering(tmp_path: Path):
    make_grid(tmp_path)
    facts = {"adapters": 40, "seconds": 30.0, "bytes": 5000, "kept": False}
    for record in records(tmp_path):
        if record.result.choices["adapter"] == "user_lora":
            change_record(record.folder, adapter=facts)
    table = tables_of(tmp_path)["cost"]
    assert gains_of(table, "bytes a user")["none", "none", "user_lora"] == 0
    seconds = gains_of(table, "s a user")
    assert seconds["none", "none", "user_lora"] == seconds["none", "none", "none"]


def test_seconds_that_no_run_knows_are_a_dash(tmp_path: Path):
    make_grid(tmp_path)
    facts = {"group": "summary", "kind": "summaries", "artefact": "s", "summaries": 40,
             "tokens_written": 9}  # fmt: skip
    for record in records(tmp_path):
        if record.result.choices["summary"] == "statistics":
            change_record(record.folder, learned=(facts,))
    seconds = gains_of(tables_of(tmp_path)["cost"], "s a user")
    assert seconds["none", "statistics", "none"] is None
    assert seconds["none", "none", "none"] is not None


# --- what is published, formats, page ----------------------------------------------------------


def test_published_numbers_stand_beside_the_cells_of_their_method(tmp_path: Path):
    same = {"model": "flan_t5_xxl", "split": "time", "part": "test"}
    table = tables_of(make_grid(tmp_path, **same))["cells"]
    beside = gains_of(table, "published")
    assert beside["none", "none", "user_lora"] == 0.360  # PEFT
    assert beside[BM25, "none", "none"] == 0.387  # ROPG's
    assert beside[BM25, "none", "user_lora"] is None
    assert any("per-user PEFT (as quoted by PPlug)" in line for line in table.footers)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_writes_the_tables(name: str, plain: Path, report: Said):  # noqa: F811
    code, out, err = report("factors", "--runs", plain, "--format", name, "--quantiles", "2")
    assert code == 0, err
    assert "user_lora" in out or "user\\_lora" in out
    if name == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        lows = [row for row in rows if row["what"] == "low" and row["column"] == "95% interval"]
        assert len(lows) >= 7


def test_the_page_shows_the_effects(plain: Path):
    found = records(plain)
    content = page_section(found)
    assert [table.title for table in content.tables] == [
        "Effects of retrieval, summary and adapter", "Gain of each combination",
        "Gain by profile size", "Gain and cost of a user",
    ]  # fmt: skip
    text = page(found, Limits(examples=1), "a grid")
    assert 'href="#factors"' in text and "In the prompt, or inside the model" in text
    assert text.count("retrieval alone has 80%") == 1


# --- the sweep ---------------------------------------------------------------------------------


@pytest.mark.long
def test_the_sweep_makes_a_grid_that_the_report_reads(tmp_path: Path, lamp_exp, weights, report):  # noqa: F811
    """From frozen weights that learned nothing; each option reaches the runs that have it."""
    words = [
        "-m", "+sweep=internal_external", "task=lamp3", "model=tiny", f"model.name={weights}",
        "limit=3", "k=1", "max_new_tokens=2", "trainer=cpu", "trainer.enable_progress_bar=false",
        "summary=none", "adapter=none,user_lora", "profile.control=none", "profile.max_items=2",
        "profile.keep=first", "adapter.epochs=1", "adapter.lr=0.05", "adapter.rank=2",
        f"output_dir={tmp_path}",
    ]  # fmt: skip
    code, out, err = lamp_exp(*words)
    assert code == 0, err
    found = records(tmp_path)
    assert len(found) == 4
    by_adapter = {record.result.choices["adapter"]: record for record in found}
    assert by_adapter["user_lora"].result.identity["adapter.rank"] == 2
    assert "adapter.rank" not in by_adapter["none"].result.identity
    grid = only_grid(tmp_path)
    assert grid.levels == (("none", "bm25 ipa k=1"), ("none",), ("none", "user_lora"))
    assert not grid.missing
    code, out, err = report("factors", "--runs", tmp_path)
    assert code == 0, err
    assert "Effects of retrieval, summary and adapter" in out
    bytes_of_a_user = gains_of(tables_of(tmp_path)["cost"], "bytes a user")
    assert bytes_of_a_user["none", "none", "none"] == 0
    assert (bytes_of_a_user["none", "none", "user_lora"] or 0) > 1000


def test_what_the_model_cannot_do_is_refused_and_the_rest_runs(tmp_path: Path, lamp_exp):
    words = [
        "-m", "+sweep=internal_external", "task=lamp3", "model=tiny", "limit=2", "k=1",
        "max_new_tokens=2", "trainer=cpu", "trainer.enable_progress_bar=false", "retriever=none",
        "summary=none,llm", "adapter=none", "profile.control=none", f"output_dir={tmp_path}",
    ]  # fmt: skip
    code, out, _ = lamp_exp(*words)
    assert code == 0
    assert "summary=llm: a model of random weights writes no summary" in out
    assert "FAILED" not in out
    assert len(records(tmp_path)) == 1
