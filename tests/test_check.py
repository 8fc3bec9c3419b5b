"""The doctor for LaMP files: it finds what is wrong, nothing else, and survives any file."""

from __future__ import annotations

import argparse
import json
import tempfile
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lamp_exp.data import check, load, own_items
from lamp_exp.data.findings import ERROR, KINDS
from lamp_exp.errors import InputError
from lamp_exp.tasks import all_tasks
from lamp_exp.tasks.lamp1 import Lamp1
from lamp_exp.tasks.lamp2 import Lamp2
from lamp_exp.tasks.lamp2_news import Lamp2News
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.tasks.lamp7 import Lamp7
from lamp_exp.values import ProfileItem
from tests.conftest import TINY

TEXT = "some long article"
INPUT = f"{Lamp4.instruction} {TEXT}"


def item(id: object = "0", **changes: Any) -> dict[str, Any]:
    return {"id": id, "text": f"written text {id}", "title": f"A title {id}", **changes}


def items(*changed: dict[str, Any]) -> list[dict[str, Any]]:
    """Four items that are fine, and then those."""
    return [*(item(str(n)) for n in range(4)), *changed]


def question(id: object = "1", *changed: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"id": id, "input": INPUT, "profile": items(*changed), **changes}


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def dated(row: dict[str, Any], date: object = "2020-01-01", **changes: Any) -> dict[str, Any]:
    """A question of the time split."""
    profile = [{"date": date, **one} for one in row["profile"]]
    return {"user_id": "u", **row, "profile": profile, **changes}


def golds(*ids: object, task: object = "LaMP_4", output: object = "gold") -> dict[str, Any]:
    return {"task": task, "golds": [{"id": id, "output": output} for id in ids]}


def run(folder: Path | str, *words: str) -> int:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return check.run(parser.parse_args(["--data-dir", str(folder), *words]), all_tasks())


def report(folder: Path | str, *words: str) -> list[dict[str, Any]]:
    """What is found in each part, as the JSON says it; the exit code must fit."""
    code = run(folder, "--json", "report.json", *words)
    files = json.loads(Path("report.json").read_text(encoding="utf-8"))["files"]
    errors = [f for one in files for f in one["findings"] if f["severity"] == ERROR]
    assert code == (1 if errors else 0)
    return files


def counts(file: dict[str, Any]) -> dict[str, int]:
    """The findings but for the size, which small files never have."""
    return {
        found["code"]: found["count"]
        for found in file["findings"]
        if found["code"] != "size_differs"
    }


MAILS = [item(str(n), text=f"mail{n}") for n in range(4)]
CASES: dict[str, tuple[Any, Any, bool, int]] = {  # code: questions, outputs, time split?, count
    "no_questions": ([], golds(), False, 1),
    "question_ids_missing": ([question(None), question(True), question()], golds("1"), False, 2),
    "question_ids_repeated": ([question("1"), question(1)], golds("1"), False, 1),
    "questions_made_up": ([question(made_up_data=True)], golds("1"), False, 1),
    "inputs_missing": ([question(input=None)], golds("1"), False, 1),
    "inputs_misworded": ([question(input="Other words")], golds("1"), False, 1),
    "profiles_missing": ([question(profile="none")], golds("1"), False, 1),
    "items_malformed": ([question("1", 5, "x")], golds("1"), False, 2),
    "item_ids_missing": ([question("1", item(None))], golds("1"), False, 1),
    "fields_missing": ([question("1", without(item("4"), "title"))], golds("1"), False, 1),
    "fields_malformed": ([question("1", item("4", text=["x"]))], golds("1"), False, 1),
    "fields_null": ([question("1", item("4", title=None))], golds("1"), False, 1),
    "items_blank": ([question("1", item("4", text=" "))], golds("1"), False, 1),
    "characters_broken": ([question("1", item("4", text="\ud800 x"))], golds("1"), False, 1),
    "dates_unreadable": ([dated(question(date="last week"))], golds("1"), True, 1),
    "items_undated": ([dated(question("1", item("4", date=" ")))], golds("1"), True, 1),
    "items_dated": ([question("1", item("4", date="2020"))], golds("1"), False, 1),
    "items_later": ([dated(question(date="2019-12-31"))], golds("1"), True, 4),
    "items_identical": ([question("1", {**item("0"), "id": "4"})], golds("1"), False, 1),
    "item_ids_repeated": ([question("1", item("0", text="other"))], golds("1"), False, 1),
    "profiles_empty": ([question(profile=[])], golds("1"), False, 1),
    "profiles_short": ([question(profile=items()[:3])], golds("1"), False, 1),
    "profiles_repeated": ([question("1"), question("2")], golds("1", "2"), False, 1),
    "users_unknown": ([without(dated(question()), "user_id")], golds("1"), True, 1),
    "own_items": ([question("1", item("4", text=" Some  LONG article"))], golds("1"), False, 1),
    "golds_in_profile": ([question("1", item("4", title="GOLD"))], golds("1"), False, 1),
    "golds_absent": ([question()], None, False, 1),
    "golds_unreadable": ([question()], [], False, 1),
    "golds_of_other_task": ([question()], golds("1", task="LaMP_5"), False, 1),
    "golds_malformed": ([question()], {"golds": [{"id": "1", "output": "x"}, 5]}, False, 1),
    "golds_repeated": ([question()], golds("1", "1"), False, 1),
    "golds_missing": ([question("1"), question("2", item("5"))], golds("1"), False, 1),
    "golds_extra": ([question()], golds("1", "9"), False, 1),
    "texts_single_words": ([question(profile=MAILS)], golds("1"), False, 4),
}  # fmt: skip
ELSEWHERE = {  # each has a test of its own below
    "unreadable", "inputs_oddly_worded", "known_defects", "profiles_shared", "users_shared",
    "users_new", "golds_not_public", "golds_impossible", "size_differs", "size_unknown",
}  # fmt: skip


def test_every_kind_of_finding_has_a_test():
    assert set(CASES) | ELSEWHERE == set(KINDS)


@pytest.mark.parametrize("time", [False, True])
def test_in_a_file_that_is_fine_nothing_is_found(data_dir: Callable[..., Path], time: bool):
    row = dated(question(date="2020-01-01")) if time else question()
    (file,) = report(data_dir("LaMP_4", "dev", [row], golds("1"), time=time))
    assert counts(file) == {}
    assert (file["task"], file["split"], file["part"]) == (
        "lamp4",
        "time" if time else "user",
        "dev",
    )
    assert file["questions"] == 1


@pytest.mark.parametrize("code", CASES)
def test_each_finding_is_made_where_it_is_true_and_alone(data_dir: Callable[..., Path], code: str):
    questions, outputs, time, count = CASES[code]
    (file,) = report(data_dir("LaMP_4", "dev", questions, outputs, time=time))
    assert counts(file) == {code: count}
    (found,) = (one for one in file["findings"] if one["code"] == code)
    assert "{" not in found["meaning"].replace('{"', "")
    assert "\n" not in found["meaning"]


@pytest.mark.parametrize("code", CASES)
def test_what_loading_refuses_is_an_error_and_what_it_reads_is_none(
    data_dir: Callable[..., Path], code: str
):
    questions, outputs, time, _ = CASES[code]
    folder = data_dir("LaMP_4", "dev", questions, outputs, time=time)
    fine_without_recency = {"items_undated", "no_questions"}
    try:
        load(str(folder), Lamp4(), "time" if time else "user", "dev")
        assert KINDS[code][0] != ERROR or code in fine_without_recency
    except InputError:
        assert KINDS[code][0] == ERROR


def test_all_faults_of_a_file_are_found_at_once_with_their_first_places(
    data_dir: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    odd = [question(str(n), item("4", text=["x"]), input=None) for n in range(9)]
    folder = data_dir("LaMP_4", "dev", odd, golds("1"))
    (file,) = report(folder)
    assert counts(file).items() >= {
        "inputs_missing": 9, "fields_malformed": 9, "golds_missing": 8
    }.items()  # fmt: skip
    found = next(one for one in file["findings"] if one["code"] == "fields_malformed")
    assert found["first"] == [{"question": str(n), "item": "4"} for n in range(5)]
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "1 file checked; kinds of findings: 3 errors, 1 warning, 1 note" in told
    assert "question '0', '1', '2', '3', '4', ..." in told


def test_a_rare_oddity_of_wording_is_a_warning_and_a_known_one_a_note(
    data_dir: Callable[..., Path],
):
    item = {"id": "0", "description": "a film about a man", "tag": "comedy"}
    rows = [
        {"id": str(n), "input": f"{Lamp2.instruction} film {n}", "profile": [item]}
        for n in range(100, 200)
    ]
    rows[10]["input"] = "odd"  # id 110
    folder = data_dir("LaMP_2", "dev", rows)
    (file,) = report(folder)
    assert counts(file)["known_defects"] == 1
    assert "inputs_oddly_worded" not in counts(file)
    data_dir("LaMP_2", "train", rows)
    train, _ = report(folder)
    assert counts(train)["inputs_oddly_worded"] == 1
    rows[11]["input"] = rows[12]["input"] = "odd"
    data_dir("LaMP_2", "train", rows)
    train, _ = report(folder)
    assert counts(train)["inputs_misworded"] == 3


def test_golds_that_cannot_be_answers_are_found(data_dir: Callable[..., Path]):
    row = question(input=f"{Lamp3.instruction} good", profile=[])
    folder = data_dir("LaMP_3", "dev", [row], golds("1", task="LaMP_3", output="great"))
    assert counts(*report(folder)).keys() == {"golds_impossible", "profiles_empty"}


def test_a_label_that_the_profile_has_too_is_no_leak(data_dir: Callable[..., Path]):
    rated = [{"id": str(n), "text": f"quite good {n}", "score": "5"} for n in range(4)]
    row = question(input=f"{Lamp3.instruction} good", profile=rated)
    folder = data_dir("LaMP_3", "dev", [row], golds("1", task="LaMP_3", output="5"))
    assert counts(*report(folder)) == {}


def test_the_golds_of_test_need_not_be_there(data_dir: Callable[..., Path]):
    assert counts(*report(data_dir("LaMP_4", "test", [question()]))) == {"golds_not_public": 1}


def test_the_paper_asked_about_is_found_in_lamp_1_and_equal_ids_are_no_leak():
    task = Lamp1()
    input = (
        'For an author who has written the paper with the title "My "own" paper.", which reference '
        "is related? Just answer with [1] or [2] without explanation. "
        '[1]: "Another" [2]: "A third"'
    )
    for title, own in [
        ('my "OWN"  Paper. ', True),
        ("My own paper", False),  # punctuation counts
        ("Another", False),
    ]:
        fields = {"title": title, "abstract": "My own paper"}
        assert bool(own_items(task, input, [ProfileItem("1", fields)])) is own
    assert not own_items(task, "odd words", [ProfileItem("1", {"title": "", "abstract": ""})])
    long = "the same beginning " * 20
    for end in ("a", "b"):
        row = ProfileItem("1", {"text": f"{long} {end}"})
        found = own_items(Lamp7(), f"{Lamp7.instruction} {long} A", [row])
        assert bool(found) is (end == "a")


def test_a_size_other_than_the_published_is_told(data_dir: Callable[..., Path]):
    rows = [question(str(n), profile=[]) for n in range(1246)]
    for row in rows:
        row["input"] = "Generate a subject for the following email: some mail"
    (file,) = report(data_dir("LaMP_6", "test", rows))
    assert not [one for one in file["findings"] if one["code"].startswith("size")]
    (file,) = report(data_dir("LaMP_6", "test", rows[:-1]))
    (found,) = (one for one in file["findings"] if one["code"] == "size_differs")
    assert found["count"] == 1245 and "1246 are published" in found["meaning"]


def test_each_of_the_two_lamp_2_is_known_by_its_wording(data_dir: Callable[..., Path]):
    row = {"id": "0", "text": "some news", "title": "", "category": "sports"}
    news = [{"id": "1", "input": f"{Lamp2News.instruction} some news today", "profile": [row]}]
    folder = data_dir("LaMP_2", "test", news)
    (file,) = report(folder)
    assert file["task"] == "lamp2_news"
    assert counts(file).keys() == {"size_unknown", "golds_not_public", "profiles_short"}
    (file,) = report(folder, "--task", "lamp2")  # as asked for, and told which it may be
    assert counts(file).keys() > {"inputs_misworded", "fields_missing"}


def test_users_of_a_split_by_user_are_not_shared(data_dir: Callable[..., Path]):
    for part, ids in (("train", "12"), ("dev", "34"), ("test", "25")):
        rows = [question(id, profile=items(item(f"{part}{id}"))[4:]) for id in ids]
        folder = data_dir("LaMP_4", part, rows)
    train, dev, test = report(folder)
    assert "users_shared" not in counts(train) | counts(dev)
    assert counts(test)["users_shared"] == 1
    (found,) = (one for one in test["findings"] if one["code"] == "users_shared")
    assert found["first"] == [{"user": "2", "also in": "train"}]
    assert "users_shared" not in counts(*report(folder, "--part", "test"))


@pytest.mark.parametrize(("own", "shared"), [(0, True), (4, True), (5, False)])
def test_profiles_that_are_half_the_same_are_of_one_user(
    data_dir: Callable[..., Path], own: int, shared: bool
):
    theirs = [item(f"dev{n}") for n in range(own)]
    folder = data_dir("LaMP_4", "train", [question("1")], golds("1"))
    data_dir("LaMP_4", "dev", [question("2", *theirs)], golds("2"))
    train, dev = report(folder)
    assert counts(train) == {}
    assert counts(dev) == ({"profiles_shared": 1} if shared else {})


def test_one_item_in_common_is_chance(data_dir: Callable[..., Path]):
    folder = data_dir("LaMP_4", "train", [question("1", profile=items()[:1])])
    data_dir("LaMP_4", "dev", [question("2", profile=items()[:1])])
    assert "profiles_shared" not in counts(report(folder)[1])


def test_users_of_a_split_by_time_are_the_same(data_dir: Callable[..., Path]):
    folder = data_dir("LaMP_4", "train", [dated(question("1"))], golds("1"), time=True)
    rows = [dated(question("2")), dated(question("3", item("4")), user_id="new")]
    data_dir("LaMP_4", "dev", rows, golds("2", "3"), time=True)
    train, dev = report(folder)
    assert counts(train) == {}
    assert counts(dev) == {"users_new": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"5", b"[5]", b"[{", b"\xff\xfe[]", b"\xef\xbb\xbf", b"[" * 100_000,
        b'[{"id": ' + b"[" * 100_000, b'[{"id": ' + b"9" * 5000 + b"}]", b"[] {}", b'["\x00"]',
        '[{"id": "1"}]'.encode("utf-16"),
    ],
    ids=lambda content: repr(content[:9]),
)  # fmt: skip
@pytest.mark.parametrize("kind", ["questions", "outputs"])
def test_what_is_no_json_of_the_kind_is_one_error(
    data_dir: Callable[..., Path], content: bytes, kind: str
):
    folder = data_dir("LaMP_4", "dev", [question()], golds("1"))
    (folder / "LaMP_4" / "dev" / f"dev_{kind}.json").write_bytes(content)
    (file,) = report(folder)
    errors = [found["code"] for found in file["findings"] if found["severity"] == ERROR]
    assert errors == ["unreadable" if kind == "questions" else "golds_unreadable"]


def test_what_stands_before_the_break_is_examined(data_dir: Callable[..., Path]):
    folder = data_dir("LaMP_4", "dev", [question("1", input=None), question("2")], golds("1", "2"))
    path = folder / "LaMP_4" / "dev" / "dev_questions.json"
    path.write_bytes(path.read_bytes()[:-9])
    (file,) = report(folder)
    assert file["questions"] == 1
    assert counts(file) == {"unreadable": 1, "inputs_missing": 1}
    (found,) = (one for one in file["findings"] if one["code"] == "unreadable")
    assert "question 2" in found["meaning"]


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [deep(700), "x" * 10**6, {"a": [None] * 10}, 10**4000, "\n\ud800"]
)
@pytest.mark.parametrize(
    "place",
    ["id", "input", "profile", "user_id", "date", "item", "text", "output", "task", "gold id"],
)
def test_odd_values_anywhere_give_findings_or_one_line(
    data_dir: Callable[..., Path], place: str, value: Any, capsys: pytest.CaptureFixture[str]
):
    row, outputs = question(), golds("1")
    if place in ("id", "input", "profile", "user_id", "date"):
        row[place] = value
    elif place in ("item", "text"):
        row["profile"][1]["id" if place == "item" else "text"] = value
    elif place == "task":
        outputs["task"] = value
    else:
        outputs["golds"][0]["output" if place == "output" else "id"] = value
    folder = data_dir("LaMP_4", "dev", [row], outputs)
    survives(folder)
    assert len(capsys.readouterr().out) < 20_000


@pytest.mark.parametrize(
    ("row", "outputs"),
    [
        (question(), golds("1", output="\ud800")),
        (question(), golds("1", task="LaMP_4\n")),
        (question("1", {"id": "4", "a\nb": 1}), golds("1")),
    ],
    ids=["half a character in a gold", "line break in a task", "line break in a field"],
)
def test_loading_gives_one_line_for_foreign_names(data_dir: Callable[..., Path], row, outputs):
    survives(data_dir("LaMP_4", "dev", [row], outputs))


def survives(folder: Path) -> None:
    """No traceback from either; what loading refuses, checking has an error for."""
    (file,) = report(folder)
    errors = [found for found in file["findings"] if found["severity"] == ERROR]
    told = refused(folder)
    assert told is None or (errors and "\n" not in told), told


def refused(folder: Path) -> str | None:
    """What loading says against a part; None if it reads all of it."""
    with tempfile.TemporaryDirectory() as cache:
        try:
            list(load(str(folder), Lamp4(), "user", "dev", cache_dir=Path(cache)).examples)
        except InputError as error:
            return str(error)
    return None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
places = st.lists(st.integers(0, 200), min_size=1, max_size=8)


def changed(value: Any, place: list[int], new: Any, how: int) -> Any:
    """A copy with a new value at some place inside, or without what was there, or with it twice."""
    if not place or not isinstance(value, list | dict) or not value:
        return new
    copy = value.copy()
    keys = list(range(len(copy))) if isinstance(copy, list) else list(copy)
    key = keys[place[0] % len(keys)]
    if len(place) == 1 and how == 1:
        del copy[key]
    elif len(place) == 1 and how == 2 and isinstance(copy, list):
        copy.append(deepcopy(copy[key]))
    else:
        copy[key] = changed(copy[key], place[1:], new, how)
    return copy


def written(questions: bytes, outputs: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "LaMP_4" / "dev"
        part.mkdir(parents=True)
        (part / "dev_questions.json").write_bytes(questions)
        (part / "dev_outputs.json").write_bytes(outputs)
        survives(Path(folder))


many = hypothesis_settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.long
@many
@given(st.lists(st.tuples(places, anything, st.integers(0, 2)), min_size=1, max_size=3))
def test_malformed_values_give_findings_or_one_line(changes: list[tuple[list[int], Any, int]]):
    both: Any = [[question("1"), question("2", item("5"))], golds("1", "2")]
    for place, new, how in changes:
        both = changed(both, [place[0] % 2, *place[1:]], new, how)
    if not isinstance(both, list) or len(both) != 2:
        return
    written(*(json.dumps(one).encode() for one in both))


@many
@given(st.data())
def test_damaged_bytes_give_findings_or_one_line(data: st.DataObject):
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    files = []
    for content in ([question("é"), question("2", item("5"))], golds("é", "2")):
        raw = bytearray(json.dumps(content, ensure_ascii=False).encode(encoding))
        for _ in range(data.draw(st.integers(0, 2))):
            start = data.draw(st.integers(0, len(raw)))
            end = start + data.draw(st.sampled_from([0, 1, 5, 10**6]))
            raw[start:end] = data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b"]", b"{"]))
        files.append(bytes(raw))
    written(*files)


@pytest.mark.long
def test_a_large_file_is_checked_in_little_memory(tmp_path: Path):
    folder = tmp_path / "data" / "LaMP_4" / "train"
    folder.mkdir(parents=True)
    path = folder / "train_questions.json"
    with path.open("w", encoding="utf-8") as file:
        for n in range(200):
            rows = [item(str(k), text=f"{n} {k} " + "words " * 100) for k in range(100)]
            file.write("," if n else "[")
            json.dump(question(str(n), profile=rows), file)
        file.write("]")
    assert path.stat().st_size > 12e6
    tracemalloc.start()
    try:
        report(tmp_path / "data")
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()


# --- the command -------------------------------------------------------------------------------


def test_lengths_are_told_in_words_or_in_the_tokens_of_a_tokenizer(data_dir: Callable[..., Path]):
    profile = [item(str(n), text="word " * (n + 1)) for n in range(20)]
    folder = data_dir("LaMP_4", "dev", [question(profile=profile)], golds("1"))
    lengths = report(folder)[0]["lengths"]
    assert lengths == {
        "unit": "words",
        "input": {"mean": 10.0, "p95": 10, "max": 10},
        "item_body": {"mean": 10.5, "p95": 19, "max": 20},
        "items_per_profile": {"mean": 20.0, "p95": 20, "max": 20},
    }
    told = report(folder, "--tokenizer", str(TINY))[0]["lengths"]
    assert told["unit"] == "tokens"
    assert told["item_body"]["max"] > 20
    assert told["items_per_profile"] == lengths["items_per_profile"]


def test_no_numbers_are_made_up_for_an_empty_file(data_dir: Callable[..., Path]):
    lengths = report(data_dir("LaMP_4", "dev", [], golds()))[0]["lengths"]
    assert lengths == {"unit": "words", "input": None, "item_body": None, "items_per_profile": None}


def test_json_on_stdout_is_nothing_but_json(
    data_dir: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    folder = data_dir("LaMP_4", "dev", [question("\ud800[bold]\n")], golds("1"))
    assert run(folder, "--json", "-") == 1
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert counts(file).keys() > {"golds_missing"}
    run(folder)
    assert "[bold]" in capsys.readouterr().out


def test_only_what_is_asked_for_is_checked(data_dir: Callable[..., Path]):
    folder = data_dir("LaMP_4", "dev", [question()], golds("1"))
    data_dir("LaMP_4", "train", [question("2")], golds("2"))
    data_dir("LaMP_4", "dev", [dated(question())], golds("1"), time=True)
    assert len(report(folder)) == 3
    assert [file["split"] for file in report(folder, "--part", "dev")] == ["user", "time"]
    assert [file["part"] for file in report(folder, "--split", "user")] == ["train", "dev"]
    assert len(report(folder, "--task", "lamp4", "lamp5", "--task", "lamp7")) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "lamp9"], "lamp9: choose from lamp1"),
        (["--task", "lamp5"], "no part that was asked for is in .* download fetches the files"),
        (["--task", "lamp4", "--split", "user", "--part", "test"], "no questions at"),
        (["--tokenizer", "nowhere"], "--tokenizer nowhere"),
        (["--json", "no/such/folder/report.json"], "--json no/such/folder/report.json"),
    ],
)
def test_mistakes_of_the_user_are_one_line(data_dir: Callable[..., Path], words, said: str):
    folder = data_dir("LaMP_4", "dev", [question()], golds("1"))
    with pytest.raises(InputError, match=said) as error:
        run(folder, *words)
    assert "\n" not in str(error.value)


# --- the real data -----------------------------------------------------------------------------


def test_the_real_data_has_the_leaks_of_the_benchmark_and_no_errors(shared: Path):
    files = {(file["task"], file["part"]): file for file in report(shared / "data")}
    assert len(files) == 9
    found = {place: counts(file) for place, file in files.items()}
    assert all(KINDS[code][0] != ERROR for codes in found.values() for code in codes)
    own = {place: codes["own_items"] for place, codes in found.items() if "own_items" in codes}
    # 19 more in LaMP-1, and one in LaMP-5, differ by punctuation: not the same by the rule.
    assert own == {("lamp1", "train"): 44, ("lamp1", "dev"): 10}
    assert not any(
        "golds_in_profile" in codes or "users_shared" in codes for codes in found.values()
    )
    # The news has several questions of one author, in both parts.
    shared_profiles = [place for place, codes in found.items() if "profiles_shared" in codes]
    assert shared_profiles == [("lamp2_news", "dev")]
    assert found["lamp7", "dev"] == {"golds_absent": 1, "items_identical": 162}
    assert not any(f["code"].startswith("size") for f in files["lamp7", "dev"]["findings"])


def test_profiles_found_to_be_shared_really_are(shared: Path):
    """Compares all pairs, which the check itself avoids."""

    def contents(part: str) -> dict[str, set[tuple[str, ...]]]:
        text = (shared / "data" / "LaMP_2" / part / f"{part}_questions.json").read_text("utf-8")
        return {
            row["id"]: {(one["text"], one["title"], one["category"]) for one in row["profile"]}
            for row in json.loads(text)
        }

    train, dev = contents("train"), contents("dev")
    alike = {
        id for id, own in dev.items()
        if any(len(own & other) > 1 and 2 * len(own & other) >= len(own | other)
               for other in train.values())
    }  # fmt: skip
    files = report(shared / "data", "--task", "lamp2_news")
    assert counts(files[1])["profiles_shared"] == len(alike)
