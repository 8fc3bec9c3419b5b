"""The verb retrieval: rankings judged by a reader's feedback, with numbers by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamp_exp.report.retrieval import retrieval_tables
from lamp_exp.report.table import Cell
from tests.records import change_record, make_feedback, make_rankings
from tests.test_report_tables import Said, cells, records, report  # noqa: F401  (a fixture)

# The items in the order of the base ranking; the last question has no item that helps.
REWARDS = {
    "0": {"a": 0.0, "b": 1.0},
    "1": {"a": 0.5, "b": 0.0, "c": 1.0},
    "2": {"a": 1.0, "b": 0.0},
    "3": {"a": 0.0, "b": 0.0},
}
USERS = {"0": "u0", "1": "u0", "2": "u1", "3": "u2"}
RANKINGS = {"0": ["b", "a"], "1": ["x", "c", "a", "b"], "2": ["b", "a"], "3": ["a", "b"]}
BASE = {id: list(items) for id, items in REWARDS.items()}
BEST = {"0": ["b", "a"], "1": ["c", "a", "b"], "2": ["a", "b"], "3": ["a", "b"]}


def rows(folder: Path, k: int = 2) -> dict[str, dict[str, Cell]]:
    """The rows of the only table, by the retriever's name."""
    (table,) = retrieval_tables(records(folder), k)
    place = table.heads.index("retriever")
    return {head[place]: row for head, row in cells(table).items()}


def test_the_numbers_of_a_ranking(tmp_path: Path):
    make_feedback(tmp_path, REWARDS, USERS)
    make_rankings(tmp_path, RANKINGS, retriever="contriever")
    found = rows(tmp_path)
    row = found["contriever"]
    assert row["reward of the first"].value == (1 + 1 + 0 + 0) / 4  # x has none, c is the next
    assert row["mean reward of the first 2"].value == (0.5 + 0.75 + 0.5 + 0) / 4
    assert row["headroom used"].value == pytest.approx((0.5 - 0.375) / (0.75 - 0.375))
    assert row["first item as the base"].value == 0.25
    assert row["first item without a reward"].value == 0.25
    assert found["the best item (bound)"]["reward of the first"].value == 0.75
    assert found["an item at random"]["reward of the first"].value == (0.5 + 0.5 + 0.5 + 0) / 4
    assert rows(tmp_path, k=1)["contriever"]["mean reward of the first 1"].value == 0.5


def test_the_base_uses_no_headroom_and_the_best_ranking_all_of_it(tmp_path: Path):
    make_feedback(tmp_path, REWARDS, USERS)
    make_rankings(tmp_path, BASE, retriever="bm25")
    make_rankings(tmp_path, BEST, retriever="oracle")
    found = rows(tmp_path)
    used = {name: found[name]["headroom used"].value for name in ("bm25", "oracle")}
    assert used == {"bm25": 0.0, "oracle": 1.0}
    assert found["bm25"]["first item as the base"].value == 1.0


def test_several_seeds_are_their_mean(tmp_path: Path):
    make_feedback(tmp_path, REWARDS, USERS)
    for seed, ranking in enumerate((RANKINGS, BASE)):
        make_rankings(tmp_path, ranking, retriever="random", seed=seed)
    row = rows(tmp_path)["random"]
    assert row["reward of the first"].value == (0.5 + 0.375) / 2
    assert row["headroom used"].value == pytest.approx((0.4375 - 0.375) / 0.375)


def test_without_any_headroom_none_is_used(tmp_path: Path):
    make_feedback(tmp_path, {id: {"a": 1.0, "b": 0.0} for id in USERS}, USERS)
    make_rankings(tmp_path, {id: ["b", "a"] for id in USERS})
    row = rows(tmp_path)["bm25"]
    assert row["headroom used"].text == row["its interval"].text == "–"
    assert row["reward of the first"].value == 0.0


def test_the_table_says_what_the_rewards_are(tmp_path: Path):
    run = make_feedback(tmp_path, REWARDS, USERS)
    make_rankings(tmp_path, RANKINGS)
    facts = {"saw_these_golds": True, "questions_with_equal_rewards": 1}
    change_record(run, learned=(facts,))
    (table,) = retrieval_tables(records(tmp_path), 4)
    footers = " ".join(table.footers)
    assert "metric (the best 16 items of bm25); 4 questions" in footers
    assert "it has seen their golds" in footers
    assert "equal rewards for all items: 1 question" in footers
    assert "3 users, who count as independent" in footers


@pytest.mark.parametrize("other", [{"limit": 4}, {"split": "time"}, {"profile": {"max_items": 2}}])
def test_rankings_of_other_questions_or_profiles_are_not_judged(
    other: dict[str, object], tmp_path: Path, report: Said  # noqa: F811
):  # fmt: skip
    make_feedback(tmp_path, REWARDS, USERS)
    make_rankings(tmp_path, RANKINGS, **other)
    code, _, err = report("retrieval", "--runs", tmp_path)
    assert code == 2
    assert "no run of mode=feedback and no run of mode=rank on the same questions" in err


def test_the_command(tmp_path: Path, report: Said):  # noqa: F811
    make_feedback(tmp_path, REWARDS, USERS)
    make_rankings(tmp_path, RANKINGS)
    code, out, err = report("retrieval", "--runs", tmp_path, "-k", "3", "--format", "md")
    assert code == 0, err
    assert "mean reward of the first 3" in out
    code, _, err = report("retrieval", "--runs", tmp_path, "-k", "0")
    assert code == 2 and "--k 0 must be from 1 to 1000" in err
