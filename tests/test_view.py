"""Profiles other than the benchmark's: less, earlier, another user's, without leaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamp_exp.data import load
from lamp_exp.data.view import HOLDOUT_SHARE, user_subset_rows
from lamp_exp.errors import InputError
from lamp_exp.experiment.stages import load_parts
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import PartView, ProfileOptions
from tests.conftest import experiment

DATES = ["2020-01-03", "2020-01-01", "2020-01-03", "2020-01-02"]


def texts(part) -> list[list[str]]:
    return [[item.fields["text"] for item in example.profile] for example in part.examples]


@pytest.fixture
def dated(data_dir):
    """One question whose items are dated, and one of another user."""

    def read(**options):
        items = [
            {"id": str(n), "text": f"t{n}", "title": "", "date": d} for n, d in enumerate(DATES)
        ]
        question = {"input": f"{Lamp4().instruction} t1"}
        rows = [
            {"id": "a", "user_id": "u", "profile": items, **question},
            {"id": "b", "user_id": "v", "profile": items[:1], **question},
        ]
        folder = data_dir("LaMP_4", "dev", rows, time=True)
        view = PartView(profile=ProfileOptions(**options))
        return load(str(folder), Lamp4(), "time", "dev", view=view)

    return read


def test_the_newest_items_are_kept_in_file_order(dated):
    assert texts(dated(max_items=2)) == [["t0", "t2"], ["t0"]]
    assert texts(dated(max_items=3)) == [["t0", "t2", "t3"], ["t0"]]
    assert texts(dated(max_items=9)) == [["t0", "t1", "t2", "t3"], ["t0"]]
    assert texts(dated(max_items=0)) == [[], []]


def test_the_first_items_are_kept(dated):
    assert texts(dated(max_items=2, keep="first")) == [["t0", "t1"], ["t0"]]


def test_only_items_before_a_date_are_kept(dated):
    assert texts(dated(before="2020-01-03")) == [["t1", "t3"], []]


def test_the_questions_own_item_is_removed(dated):
    assert texts(dated(own_items="remove")) == [["t0", "t2", "t3"], ["t0"]]


def test_the_profile_of_another_user_is_a_control(dated):
    assert texts(dated(control="shuffled_user")) == [["t0"], ["t0", "t1", "t2", "t3"]]


def test_the_control_depends_on_seed_and_question_alone():
    def profiles(seed: int, limit: int | None = None) -> dict[str, list[str]]:
        view = PartView(profile=ProfileOptions(control="shuffled_user"), seed=seed)
        part = load(None, Lamp4(), "user", "dev", limit, view=view)
        return {e.id: [item.id for item in e.profile] for e in part.examples}

    own = {e.id: [i.id for i in e.profile] for e in load(None, Lamp4(), "user", "dev").examples}
    mine = profiles(0)
    assert profiles(0) == mine
    assert profiles(0, 9) == {id: mine[id] for id in list(mine)[:9]}
    assert profiles(1) != mine
    assert all(mine[id] != own[id] for id in own if own[id] and mine[id])


def test_a_control_needs_another_user(data_dir):
    row = {"id": "a", "input": f"{Lamp4().instruction} t", "profile": []}
    folder = data_dir("LaMP_4", "dev", [row])
    view = PartView(profile=ProfileOptions(control="shuffled_user"))
    part = load(str(folder), Lamp4(), "user", "dev", view=view)
    with pytest.raises(InputError, match="more than one user"):
        list(part.examples)


@pytest.mark.parametrize("options", [{"max_items": 2}, {"before": "2020"}])
def test_what_needs_dates_is_refused_without_them(data_dir, options):
    item = {"id": "7", "text": "t", "title": ""}
    row = {"id": "a", "input": f"{Lamp4().instruction} t", "profile": [item]}
    folder = data_dir("LaMP_4", "dev", [row])
    view = PartView(profile=ProfileOptions(**options))
    with pytest.raises(InputError, match="need dates, but item '7' of question 'a'"):
        load(str(folder), Lamp4(), "user", "dev", view=view)


def test_a_date_that_is_none_is_refused(dated):
    with pytest.raises(InputError, match=r"profile\.before=soon"):
        dated(before="soon")


def test_a_tenth_of_the_users_is_held_out_whole_and_always_the_same():
    users = [f"user{n % 500}" for n in range(2000)]
    held, rest = user_subset_rows(users, "holdout"), user_subset_rows(users, "rest")
    assert sorted(held + rest) == list(range(2000))
    assert not {users[row] for row in held} & {users[row] for row in rest}
    assert HOLDOUT_SHARE / 2 < len({users[row] for row in held}) / 500 < HOLDOUT_SHARE * 1.5
    assert user_subset_rows(users[::-1], "holdout") == [1999 - row for row in reversed(held)]


def test_selection_on_holdout_leaves_dev_untouched():
    on_dev = load_parts(experiment("task=lamp4", "model=tiny"))
    held = load_parts(experiment("task=lamp4", "model=tiny", "selection=holdout"))
    assert on_dev.selection is on_dev.asked
    assert held.asked.examples.column("id") == on_dev.asked.examples.column("id")
    train, chosen = held.train.examples.column("id"), held.selection.examples.column("id")
    assert sorted(train + chosen) == sorted(on_dev.train.examples.column("id"))
    assert not set(held.train.examples.column("user")) & set(held.selection.examples.column("user"))


def test_the_known_defect_is_mended_if_asked_to(data_dir):
    rows = [
        {"id": str(n), "input": f"{Lamp2().instruction} text {n}", "profile": []}
        for n in range(200)
    ]
    rows[110]["input"] = "text 110"
    folder = data_dir("LaMP_2", "dev", rows)

    def query(fixes: str) -> str:
        part = load(str(folder), Lamp2(), "user", "dev", view=PartView(fixes=fixes))
        return part.examples[110].input

    assert query("none") == "text 110"
    assert query("declared") == rows[110]["input"] or query("declared").endswith("text 110")
    assert Lamp2().follows_template(query("declared"))


def test_leaks_are_counted_in_every_result_and_can_be_removed(data_dir, lamp_exp):
    items = [{"id": str(n), "text": text, "score": "5"} for n, text in enumerate(["Fine ", "bad"])]
    row = {"id": "a", "input": f"{Lamp3().instruction} fine", "profile": items}
    folder = data_dir("LaMP_3", "dev", [row])
    counts = []
    for how in ("keep", "remove"):
        words = ["task=lamp3", "mode=rank", f"data_dir={folder}", f"profile.own_items={how}"]
        _, told, _ = lamp_exp(*words)
        result = json.loads(Path(told.splitlines()[-1], "result.json").read_text())
        assert result["profile"]["own_items"] == how
        counts.append(
            (result["counts"]["profiles_that_hold_the_question"], result["counts"]["profile_items"])
        )
    assert counts == [(1, 2), (0, 1)]


def test_a_limit_takes_the_first_questions_or_questions_drawn_by_the_seed():
    def ids(*overrides: str) -> list[str]:
        made = experiment("task=lamp4", "mode=rank", "limit=20", *overrides)
        return load_parts(made).asked.examples.column("id")

    whole = load_parts(experiment("task=lamp4", "mode=rank")).asked.examples.column("id")
    assert ids() == whole[:20]
    drawn = ids("limit_sample=random")
    assert drawn == [id for id in whole if id in set(drawn)]
    assert drawn != whole[:20]
    assert ids("limit_sample=random") == drawn != ids("limit_sample=random", "seed=1")
    assert ids("limit_sample=random", "limit=5000") == whole
