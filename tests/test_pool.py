"""profile.pool=all_users: items drawn from the profiles of all users of a part."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from lamp_exp.data import load
from lamp_exp.data.view import POOL_DRAWS
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import PartView, ProfileOptions
from tests.conftest import ranked, recorded
from tests.test_cli import folder_of, rows

ALL_USERS = ["task=lamp4", "retriever=random", "profile.pool=all_users", "limit=20"]


def drawn(*overrides: str) -> dict[str, list[str]]:
    """The ranked item ids of each question."""
    asked = ranked(*ALL_USERS, "mode=rank", *overrides)
    return {example.id: [hit.id for hit in hits] for example, hits in asked}


def test_items_are_drawn_from_all_users_without_repeats():
    items = drawn()
    users = Counter(id.partition("/")[0] for ids in items.values() for id in ids)
    assert len(users) > 100, "the sample has 300 users; 20 questions are asked"
    assert max(users.values()) < 0.05 * sum(users.values())
    for ids in items.values():
        assert len(set(ids)) == len(ids) > POOL_DRAWS / 2


def test_a_draw_depends_on_seed_and_question_alone():
    items = drawn()
    assert drawn("limit=5") == {id: items[id] for id in list(items)[:5]}
    assert drawn("seed=1") != items


def test_items_that_tell_the_answer_are_left_out_and_counted(data_dir):
    """An item with the question's own text, one with its gold, and the user's later one."""

    def item(id: str, text: str, title: str, day: int) -> dict[str, str]:
        return {"id": id, "text": text, "title": title, "date": f"2020-01-{day:02}"}

    ask = Lamp4().instruction
    questions = [
        {"id": "a", "user_id": "u", "input": f"{ask} rain in may",
         "profile": [item("1", "sun", "fair", 1)]},
        {"id": "b", "user_id": "u", "input": f"{ask} snow",
         "profile": [item("2", "ice", "cold", 9)]},
        {"id": "c", "user_id": "v", "input": f"{ask} wind",
         "profile": [item("3", "Rain in  May", "wet", 1), item("4", "fog", "the Gold", 9)]},
    ]  # fmt: skip
    golds = [
        {"id": id, "output": text} for id, text in zip("abc", ["the gold", "x", "y"], strict=True)
    ]
    folder = data_dir("LaMP_4", "dev", questions, {"task": "LaMP_4", "golds": golds}, time=True)
    view = PartView(profile=ProfileOptions(pool="all_users"))
    part = load(str(folder), Lamp4(), "time", "dev", view=view)
    items = {example.id: {item.id for item in example.profile} for example in part.examples}
    assert items == {
        "a": {"u/1"},
        "b": {"u/1", "u/2", "v/3", "v/4"},
        "c": {"u/1", "u/2", "v/3", "v/4"},
    }
    assert part.facts.counts()["items_left_out_of_the_pool"] == 3


def test_a_run_shows_and_records_them(lamp_exp):
    code, out, err = lamp_exp(*ALL_USERS, "mode=prompts", "model=tiny", "k=2")
    assert code == 0, err
    folder = folder_of(out)
    assert all("/" in hit["id"] for row in rows(folder / "prompts.jsonl") for hit in row["items"])
    result = recorded(folder)
    assert result["profile"]["pool"] == "all_users"
    assert result["counts"]["items_left_out_of_the_pool"] >= 0
    assert json.dumps(result["settings"]["profile"]).count("all_users") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retriever=bm25"], "draws items at random: use retriever=random"),
        ([f"k={POOL_DRAWS + 1}", "mode=prompts", "model=tiny"], "draws 64 items: lower k or skip"),
        (["profile.control=shuffled_user"], "profile.control=shuffled_user is for a user's own"),
        (["profile.max_items=2"], "profile.max_items=2 is for a user's own profile"),
    ],
)
def test_what_items_of_all_users_cannot_be_is_refused(lamp_exp, words, message):
    code, _, err = lamp_exp(*ALL_USERS, "mode=rank", *words)
    assert code == 2
    assert message in err
