"""What is recorded of profiles: columns give what a look at every example gives."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from lamp_exp.data import load, own_items
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Example, PartView, ProfileOptions
from tests.conftest import experiment, options

VIEWS = [
    {}, {"max_items": 5}, {"max_items": 5, "keep": "first"}, {"before": "2015-03-01"},
    {"control": "shuffled_user"}, {"own_items": "remove"}, {"max_items": 0},
    {"control": "shuffled_user", "own_items": "remove", "max_items": 3, "before": "2015-06-01"},
]  # fmt: skip


def days(first: datetime, last: datetime) -> float:
    return (last - first).total_seconds() / 86400


def facts_of(task, example: Example) -> tuple[object, ...]:
    """From the example itself."""
    dates = [item.date for item in example.profile if item.date is not None]
    return (
        len(example.profile),
        days(max(dates), example.date) if dates and example.date else None,
        days(min(dates), max(dates)) if dates else None,
        len(own_items(task, example.input, example.profile)),
        sum(example.date is not None and date > example.date for date in dates),
    )


def check(task, part) -> None:
    facts = part.facts
    columns = (
        facts.profile_size, facts.newest_item_days, facts.profile_days, facts.own_items,
        facts.later_items,
    )  # fmt: skip
    assert list(zip(*columns, strict=True)) == [facts_of(task, e) for e in part.examples]
    expected = [facts_of(task, example) for example in part.examples]
    assert facts.counts() == {
        "questions": len(expected),
        "profile_items": sum(size for size, *_ in expected),
        "empty_profiles": sum(size == 0 for size, *_ in expected),
        "items_dated_after_the_question": sum(later for *_, later in expected),
        "profiles_that_hold_the_question": sum(own > 0 for *_, own, _ in expected),
    }
    ids = [[item.id for item in example.profile] for example in part.examples]
    assert list(map(list, part.examples.item_ids())) == ids


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_facts_are_those_of_the_examples(view):
    part = load(None, Lamp4(), "time", "dev", 120, view=PartView(ProfileOptions(**view), seed=3))
    check(Lamp4(), part)
    everything = load(None, Lamp4(), "time", "dev", view=PartView(ProfileOptions(**view), seed=3))
    assert everything.examples[:120] == list(part.examples)
    assert [everything.examples[n] for n in (7, -1)] == [
        list(everything.examples)[n] for n in (7, -1)
    ]


@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize("split", ["user", "time"])
def test_facts_of_every_task(task, split):
    p = experiment(f"task={task}", "mode=rank")
    check(p.task, load(None, p.task, split, "test", 40))


def test_a_subset_of_the_users_keeps_its_facts():
    view = PartView(user_subset="holdout")
    part = load(None, Lamp4(), "time", "train", view=view)
    assert 0 < len(part.examples) < 400
    check(Lamp4(), part)


def test_odd_dates_own_items_and_empty_profiles(data_dir):
    asked = f"{Lamp4().instruction} some  text"
    items = [
        {"id": "0", "text": "Some text", "title": "", "date": "0001-01-01"},
        {"id": "1", "text": "other", "title": "", "date": None},
        {"id": "2", "text": "some TEXT", "title": "", "date": "9999-12-31 23:59:59"},
    ]
    rows = [
        {"id": "a", "input": asked, "profile": items, "date": "2020-05-01"},
        {"id": "b", "input": asked, "profile": [], "date": "2020-05-01"},
        {"id": "c", "input": asked, "profile": items[1:2], "date": "2020-05-01"},
        {"id": "d", "input": asked, "profile": items[:2]},
        {"id": "e", "input": Lamp4().instruction, "profile": items[::-1], "date": "0001"},
    ]
    folder = str(data_dir("LaMP_4", "dev", rows))
    part = load(folder, Lamp4(), "user", "dev")
    check(Lamp4(), part)
    assert part.facts.own_items == [2, 0, 0, 1, 0]
    assert part.facts.later_items == [1, 0, 0, 0, 1]
    check(
        Lamp4(),
        load(folder, Lamp4(), "user", "dev", view=PartView(ProfileOptions(own_items="remove"))),
    )


def test_a_reworded_input_is_looked_at_anew(data_dir):
    """The fix of LaMP-2's known defect goes through the task, whatever the store holds."""
    item = {"id": "7", "description": "text 110", "tag": "comedy"}
    rows = [
        {"id": str(n), "input": f"{Lamp2().instruction} text {n}", "profile": [item]}
        for n in range(200)
    ]
    rows[110]["input"] = "text 110"
    folder = str(data_dir("LaMP_2", "dev", rows))
    for fixes in ("none", "declared"):
        part = load(folder, Lamp2(), "user", "dev", view=PartView(fixes=fixes))
        check(Lamp2(), part)
        assert sum(part.facts.own_items) == 1


def test_facts_read_no_text(data_dir, monkeypatch):
    part = load(None, Lamp4(), "time", "dev")
    monkeypatch.setattr("lamp_exp.data.store.Store.profile_items", None)
    assert part.facts.counts()["questions"] == 300
    assert len(list(part.examples.item_ids())) == 300


def test_a_store_is_made_again_when_the_task_is_another(data_dir, tmp_path: Path):
    """Which items are a question's own is stored, and a task decides it."""
    item = {"id": "7", "text": "a text", "title": "the title"}
    row = {"id": "a", "input": f"{Lamp4().instruction} the title", "profile": [item]}
    folder = str(data_dir("LaMP_4", "dev", [row]))

    class ByTitle(Lamp4):
        def item_source_text(self, item):
            return item.fields["title"]

    for task, own in ((Lamp4(), [0]), (ByTitle(), [1]), (Lamp4(), [0])):
        assert load(folder, task, "user", "dev").facts.own_items == own
