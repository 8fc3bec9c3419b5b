"""Reading the benchmark's files: right values, or one line that says what, where and what to do."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lamp_exp.data import load
from lamp_exp.data.dates import parse_date
from lamp_exp.data.examples import Examples
from lamp_exp.data.official import QuestionReader, RaiseFaults, parse_outputs
from lamp_exp.data.prepare import prepared
from lamp_exp.data.sample import Size
from lamp_exp.data.source import Sample
from lamp_exp.data.view import StoreView
from lamp_exp.errors import InputError
from lamp_exp.tasks.lamp1 import Lamp1
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp2_news import Lamp2News
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import PartView
from tests.conftest import experiment, options, ranked

INPUT = "Generate a headline for the following article: some text"


def question(id: object = "1", **changes: object) -> dict[str, object]:
    item = {"id": "7", "text": "alpha", "title": "A"}
    return {"id": id, "input": INPUT, "profile": [item], **changes}


def golds(*ids: object, task: str = "LaMP_4") -> dict[str, object]:
    return {"task": task, "golds": [{"id": id, "output": f"gold {id}"} for id in ids]}


def read(data_dir, questions, outputs=None, **where):
    folder = data_dir("LaMP_4", "dev", questions, outputs, **where)
    return load(str(folder), Lamp4(), "time" if where.get("time") else "user", "dev")


def test_golds_are_joined_by_id_and_not_by_position(data_dir):
    part = read(data_dir, [question("1"), question("2")], golds("2", "1"))
    assert [example.target for example in part.examples] == ["gold 1", "gold 2"]


def test_a_missing_gold_is_named_and_never_replaced_by_a_neighbours(data_dir):
    with pytest.raises(InputError, match="no gold for 1 question: '2'"):
        read(data_dir, [question("1"), question("2"), question("3")], golds("1", "3"))


def test_a_gold_without_question_is_named(data_dir):
    with pytest.raises(InputError, match="golds without a question: 'zzz'"):
        read(data_dir, [question("1")], golds("1", "zzz"))


def test_a_part_without_golds_is_read(data_dir):
    part = read(data_dir, [question("1")])
    assert not part.has_golds
    assert part.examples[0].target is None


def test_ids_are_text_and_written_as_they_were_read(data_dir):
    part = read(data_dir, [question("001"), question("1"), question(2)], golds("001", "1", "2"))
    assert [example.id for example in part.examples] == ["001", "1", "2"]
    assert [part.original_id(example.id) for example in part.examples] == ["001", "1", 2]
    assert part.examples[0].target == "gold 001"


def test_two_items_of_one_id_are_both_kept(data_dir):
    items = [{"id": 7, "text": "alpha", "title": ""}, {"id": 7, "text": "beta", "title": ""}]
    part = read(data_dir, [question(profile=items)])
    assert [item.fields["text"] for item in part.examples[0].profile] == ["alpha", "beta"]
    assert len({item.id for item in part.examples[0].profile}) == 2
    assert part.counts["repeated_item_ids"] == 1


def test_a_new_id_for_a_repeated_item_is_never_one_that_is_taken(data_dir):
    items = [{"id": id, "text": str(n), "title": ""} for n, id in enumerate([7, "7#2", 7, 7])]
    part = read(data_dir, [question(profile=items)])
    assert len({item.id for item in part.examples[0].profile}) == 4


def test_without_a_user_the_question_is_its_own(data_dir):
    part = read(data_dir, [question("1", user_id=None), question("2"), question("3", user_id=7)])
    assert part.examples.column("user") == ["1", "2", "7"]


def test_only_case_and_spacing_are_passed_over_to_find_a_leak():
    from lamp_exp.data.leaks import same_text

    assert same_text("A  title\n here", "a Title here ")
    assert same_text("x " * 300, "X  " * 300)
    assert not same_text("a title here", "a title here.")
    assert not same_text("x" * 200 + "a", "x" * 200 + "b")
    assert not same_text("", " ")


def test_null_fields_and_numbers_are_read_and_counted(data_dir):
    items = [{"id": "1", "text": None, "title": 5}]
    part = read(data_dir, [question(profile=items)])
    assert part.examples[0].profile[0].fields == {"text": "", "title": "5"}
    assert part.counts["null_fields"] == 1


def test_the_two_lamp_2_are_not_taken_for_each_other(data_dir):
    news = Lamp2News().instruction + " some news"
    item = {"id": "1", "text": "t", "title": "", "category": "sports"}
    folder = data_dir("LaMP_2", "dev", [{"id": "1", "input": news, "profile": [item]}])
    with pytest.raises(InputError, match="`description`, `tag`.*task=lamp2_news"):
        load(str(folder), Lamp2(), "user", "dev")
    assert load(str(folder), Lamp2News(), "user", "dev").examples
    folder = data_dir("LaMP_2", "dev", [{"id": "1", "input": news, "profile": []}])
    with pytest.raises(InputError, match="wording.*task=lamp2_news"):
        load(str(folder), Lamp2(), "user", "dev")


def test_a_rare_defect_of_wording_is_counted_and_more_is_refused(data_dir):
    rows = [question(str(n)) for n in range(100)]
    rows[5]["input"] = "Something else"
    part = read(data_dir, rows)
    assert part.counts["misworded_inputs"] == 1
    assert Lamp4().query(part.examples[5].input) == "Something else"
    for row in rows[:3]:
        row["input"] = "Something else"
    with pytest.raises(InputError, match="4 of 100 inputs do not follow the wording"):
        read(data_dir, rows)


def test_lamp_1_titles_may_hold_quotes():
    input = (
        'For an author who has written the paper with the title "A "quoted" title", which '
        "reference is related? Just answer with [1] or [2] without explanation. "
        '[1]: "The "first" one" [2]: "The second"'
    )
    assert Lamp1().follows_template(input)
    assert Lamp1().query(input) == 'The "first" one The second'


def test_movies_are_found_below_new_as_the_download_has_them(tmp_path: Path):
    folder = tmp_path / "LaMP_2" / "new" / "dev"
    folder.mkdir(parents=True)
    row = {"id": "1", "input": Lamp2().instruction + " one", "profile": []}
    (folder / "dev_questions.json").write_text(json.dumps([row]))
    assert len(load(str(tmp_path), Lamp2(), "user", "dev").examples) == 1


def test_the_time_split_has_users_and_dates(data_dir):
    row = question(user_id=12, date="2020-01-02")
    row["profile"][0]["date"] = "2020-01-03"
    (example,) = read(data_dir, [row], time=True).examples
    assert example.user == "12"
    assert example.profile[0].date == datetime(2020, 1, 3)
    assert example.profile[0].fields["date"] == "2020-01-03"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2012", datetime(2012, 1, 1)),
        (2013, datetime(2013, 1, 1)),
        ("2013-5-9", datetime(2013, 5, 9)),
        ("2013-05-10", datetime(2013, 5, 10)),
        ("2013-05-10 08:00:00", datetime(2013, 5, 10, 8)),
        ("2013/05/11", datetime(2013, 5, 11)),
        ("2013-05-10T08:00:01Z", datetime(2013, 5, 10, 8, 0, 1)),
        ("2013.05.10", datetime(2013, 5, 10)),
        ("2013-05-10 08:00:01.5", datetime(2013, 5, 10, 8, 0, 1, 500_000)),
        ("2013-05-10 08:00:01.000001000", datetime(2013, 5, 10, 8, 0, 1, 1)),
        ("", None),
        (None, None),
    ],
)
def test_dates_in_their_many_spellings(text, expected):
    assert parse_date(text) == expected


def test_dates_sort_by_time_and_not_as_text(data_dir):
    dates = ["2012", 2013, "2013-5-9", "2013-05-10", "2013-05-10 08:00:00", "2013/05/11"]
    items = [{"id": str(n), "text": "", "title": "", "date": d} for n, d in enumerate(dates)]
    folder = data_dir("LaMP_4", "dev", [question(profile=items)], time=True)
    ((_, hits),) = ranked("split=time", "mode=rank", "retriever=recency", f"data_dir={folder}")
    assert [hit.id for hit in hits][:3] == ["5", "4", "3"]


def test_dates_are_ordered_to_their_last_digit(data_dir):
    digits = ["000002", "000001", "1", "000003"]
    items = [
        {"id": one, "text": "", "title": "", "date": f"9999-05-10 08:00:00.{one}"} for one in digits
    ]
    folder = data_dir("LaMP_4", "dev", [question(profile=items)], time=True)
    run = ["split=time", "mode=rank", f"data_dir={folder}"]
    ((_, hits),) = ranked(*run, "retriever=recency")
    assert [hit.id for hit in hits] == ["1", "000003", "000002", "000001"]
    ((example, _),) = ranked(*run, "profile.max_items=2")
    assert [item.id for item in example.profile] == ["1", "000003"]


@pytest.mark.parametrize("bad", ["last week", "2013-13-01", "05/11/2013", "2013-02-30", True])
def test_an_unreadable_date_names_the_item(data_dir, bad):
    items = [{"id": "x9", "text": "", "title": "", "date": bad}]
    with pytest.raises(InputError, match="question 1 .*profile item 1"):
        read(data_dir, [question(profile=items)], time=True)


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ({}, "a list of questions"),
        (5, "a list of questions"),
        (["x"], "question 1: a JSON object is expected"),
        ([question(None)], "`id`"),
        ([question(True)], "`id`"),
        ([question(1.5)], "`id`"),
        ([question(input=None)], "`input` must be text"),
        ([question(profile=None)], "`profile` must be a list"),
        ([question(profile=["x"])], "profile item 1 must be a JSON object"),
        ([question(profile=[{"id": "1", "text": "t"}])], "no `title`"),
        ([question(profile=[{"id": "1", "text": ["t"], "title": ""}])], "`text` must be text"),
        ([question("a"), question("a")], "'a' occur more than once"),
        ([question("1"), question(1)], "'1' occur more than once"),
    ],
)
def test_a_wrong_shape_is_named_with_its_place(data_dir, questions, words):
    with pytest.raises(InputError) as error:
        read(data_dir, questions)
    assert words in str(error.value)
    assert "dev_questions.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_golds_that_cannot_be_answers_are_refused(data_dir):
    row = {"id": "1", "input": Lamp3().instruction + " good", "profile": []}
    outputs = {"task": "LaMP_3", "golds": [{"id": "1", "output": "great"}]}
    folder = data_dir("LaMP_3", "dev", [row], outputs)
    with pytest.raises(InputError, match="'1' are no answers to LaMP_3"):
        load(str(folder), Lamp3(), "user", "dev")


def test_what_is_odd_in_golds_is_counted_too(data_dir):
    outputs = {"task": "LaMP_4", "golds": [{"id": "1", "output": "half \ud800"}]}
    part = read(data_dir, [question("1")], outputs)
    assert part.counts["texts_with_broken_characters"] == 1
    assert part.examples[0].target == "half \ufffd"


def test_outputs_of_another_task_are_refused(data_dir):
    with pytest.raises(InputError, match="of task LaMP_5, not LaMP_4"):
        read(data_dir, [question("1")], golds("1", task="LaMP_5"))


@pytest.mark.parametrize("content", [b"", b"[{", b"\xff\xfe[]", b"[" * 100_000])
def test_a_broken_file_is_one_clear_error(data_dir, content: bytes):
    folder = data_dir("LaMP_4", "dev", [])
    (folder / "LaMP_4" / "dev" / "dev_questions.json").write_bytes(content)
    with pytest.raises(InputError, match=r"dev_questions.json cannot be read as JSON"):
        load(str(folder), Lamp4(), "user", "dev")


def test_a_folder_without_the_part_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(InputError, match=r"no questions at .*LaMP_4/dev/dev_questions.json"):
        load(str(tmp_path), Lamp4(), "user", "dev")


def test_the_fingerprint_follows_the_content(data_dir):
    first = read(data_dir, [question("1")])
    assert read(data_dir, [question("1")]).fingerprint == first.fingerprint
    assert read(data_dir, [question("2")]).fingerprint != first.fingerprint
    assert read(data_dir, [question("1")], golds("1")).fingerprint != first.fingerprint


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "input", "profile", "text", "title", "date", "golds", "output"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(anything)
def test_whatever_json_is_read_or_refused_in_one_line(content):
    for read_it in (
        lambda: list(QuestionReader(RaiseFaults("file"), Lamp4()).questions([content])),
        lambda: list(QuestionReader(RaiseFaults("file"), Lamp4()).questions([content], {})),
        lambda: parse_outputs(content, "file"),
    ):
        try:
            read_it()
        except InputError as error:
            assert "file" in str(error)
            assert "\n" not in str(error)


# --- the made-up sample ------------------------------------------------------------------------


@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize("split", ["user", "time"])
@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_the_sample_has_every_task_split_and_part(task, split, part):
    chosen = experiment(f"task={task}", "mode=rank").task
    source = Sample(chosen, split, part, Size(questions=20))
    store = prepared(chosen, source, Path("cache"))
    view = StoreView.of(chosen, split, part, store, PartView())
    made = list(Examples(store, range(len(store)), view))
    assert len(made) == 20
    assert all(chosen.follows_template(example.input) for example in made)
    assert all(chosen.is_valid_output(example.target) for example in made)
    dates = [item.date for example in made for item in example.profile]
    assert all(date is not None for date in dates) == (split == "time")


def test_the_sample_is_the_same_each_time_and_grows_without_changing():
    whole = load(None, Lamp4(), "time", "dev")
    elsewhere = load(None, Lamp4(), "time", "dev", cache_dir=Path("other"))
    assert list(elsewhere.examples) == list(whole.examples)
    assert elsewhere.fingerprint == whole.fingerprint
    assert list(load(None, Lamp4(), "time", "dev", limit=7).examples) == whole.examples[:7]


def test_users_of_the_sample_are_new_in_the_user_split_and_the_same_in_the_time_split():
    def users(split: str, part: str) -> set[str]:
        return {example.user for example in load(None, Lamp4(), split, part, 50).examples}

    assert not users("user", "train") & users("user", "dev")
    assert users("time", "train") == users("time", "dev")


def test_in_the_sample_no_item_is_newer_than_its_question():
    for example in load(None, Lamp4(), "time", "test", 100).examples:
        assert all(item.date < example.date for item in example.profile)


def test_the_sample_has_empty_profiles_and_profiles_of_one_item():
    sizes = {len(example.profile) for example in load(None, Lamp4(), "user", "train").examples}
    assert {0, 1} < sizes


def test_the_profile_tells_what_the_question_does_not():
    """The most similar item has the answer mostly, a random one seldom."""
    found = {}
    for name in ("bm25", "random"):
        pairs, right = ranked("task=lamp2", "mode=rank", f"retriever={name}"), 0
        for example, ranking in pairs:
            tags = {item.id: item.fields["tag"] for item in example.profile}
            right += bool(ranking) and tags[ranking[0].id] == example.target
        found[name] = right / len(pairs)
    assert found["bm25"] > 0.8
    assert found["random"] < 0.4
