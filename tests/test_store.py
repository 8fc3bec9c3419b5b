"""A part's store: what comes out is what went in, whoever makes it, whatever breaks off."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamp_exp.data import load
from lamp_exp.data.__main__ import main as data
from lamp_exp.data.official import QuestionReader, RaiseFaults
from lamp_exp.tasks.lamp3 import Lamp3
from lamp_exp.tasks.lamp4 import Lamp4
from lamp_exp.values import Example

INPUT = f"{Lamp4().instruction} some text"


def rows(count: int, items: int = 3) -> list[dict[str, object]]:
    """Questions whose items partly repeat, with text of every kind."""
    texts = ["plain", "", "naïve 你好", 'a "quoted"\n\tline', "\x1f\x1e", "\ud83d\ude00"]
    return [
        {
            "id": f"q{n}",
            "input": INPUT,
            "profile": [
                {"id": f"{n}-{i}", "text": texts[(n + i) % len(texts)], "title": str(n % 2)}
                for i in range(items if n % 5 else 0)
            ],
        }
        for n in range(count)
    ]


def store_folders() -> list[Path]:
    return [path for path in Path("outputs/.cache/data").glob("[!.]*")]


def test_what_comes_out_is_what_went_in(data_dir):
    content = rows(1203)  # more than one record batch
    part = load(str(data_dir("LaMP_4", "dev", content)), Lamp4(), "user", "dev")
    reader = QuestionReader(RaiseFaults("here"), Lamp4())
    expected = list(reader.questions(json.loads(json.dumps(content))))
    assert list(part.examples) == expected
    assert part.examples[700] == expected[700]
    assert part.examples[-1] == expected[-1]
    assert part.examples[5:9] == expected[5:9]
    assert len(part.examples) == 1203
    with pytest.raises(IndexError):
        part.examples[1203]


def test_half_a_character_is_replaced_and_counted(data_dir):
    row = {"id": "q", "input": INPUT + " \ud83d", "profile": []}
    part = load(str(data_dir("LaMP_4", "dev", [row])), Lamp4(), "user", "dev")
    assert part.examples[0].input == INPUT + " \ufffd"
    assert part.counts == {"empty_profiles": 1, "texts_with_broken_characters": 1}


def test_each_distinct_item_is_kept_once(data_dir):
    part = load(str(data_dir("LaMP_4", "dev", rows(500))), Lamp4(), "user", "dev")
    assert part.examples.store.items.num_rows == 12  # six texts under two titles


def test_what_a_writer_forgets_is_kept_again_and_read_alike(data_dir, monkeypatch):
    folder = str(data_dir("LaMP_4", "dev", rows(60)))
    whole = load(folder, Lamp4(), "user", "dev", None, Path("whole"))
    monkeypatch.setattr("lamp_exp.data.store.REMEMBERED", 2)
    part = load(folder, Lamp4(), "user", "dev", None, Path("part"))
    assert len(part.examples.store.items) > len(whole.examples.store.items)
    assert list(part.examples) == list(whole.examples)
    assert part.fingerprint == whole.fingerprint


def test_a_store_is_made_once_and_again_when_the_source_changes(data_dir):
    folder = data_dir("LaMP_4", "dev", rows(3))
    load(str(folder), Lamp4(), "user", "dev")
    (place,) = store_folders()
    made = (place / "store.json").stat().st_ino
    load(str(folder), Lamp4(), "user", "dev")
    assert (place / "store.json").stat().st_ino == made
    data_dir("LaMP_4", "dev", rows(4))
    assert len(load(str(folder), Lamp4(), "user", "dev").examples) == 4
    assert store_folders() == [place]


def test_golds_that_come_later_are_seen(data_dir):
    folder = data_dir("LaMP_4", "dev", rows(1))
    assert not load(str(folder), Lamp4(), "user", "dev").has_golds
    data_dir("LaMP_4", "dev", rows(1), {"golds": [{"id": "q0", "output": "gold"}]})
    assert load(str(folder), Lamp4(), "user", "dev").examples[0].target == "gold"


def test_a_store_of_another_format_is_made_again(data_dir):
    folder = data_dir("LaMP_4", "dev", rows(2))
    load(str(folder), Lamp4(), "user", "dev")
    (place,) = store_folders()
    meta = json.loads((place / "store.json").read_text())
    (place / "store.json").write_text(json.dumps({**meta, "format": 0}))
    assert len(load(str(folder), Lamp4(), "user", "dev").examples) == 2


@pytest.mark.parametrize("file", ["store.json", "items.arrow", "questions.arrow"])
@pytest.mark.parametrize("damage", ["cut off", "emptied", "grown", "removed", "overwritten"])
def test_a_damaged_store_is_told_and_made_again(data_dir, caplog, file, damage):
    if (file, damage) == ("store.json", "removed"):
        pytest.skip("without it there is no store")
    folder = data_dir("LaMP_4", "dev", rows(7))
    whole = list(load(str(folder), Lamp4(), "user", "dev").examples)
    (place,) = store_folders()
    content = (place / file).read_bytes()
    damaged = {
        "cut off": content[: len(content) // 2],
        "emptied": b"",
        "grown": content + b"more",
        "overwritten": b"\0" * len(content),
    }
    (place / file).unlink()
    if damage in damaged:
        (place / file).write_bytes(damaged[damage])
    assert list(load(str(folder), Lamp4(), "user", "dev").examples) == whole
    assert str(place) in caplog.text
    assert "it is not used, but made again" in caplog.text
    caplog.clear()
    assert list(load(str(folder), Lamp4(), "user", "dev").examples) == whole
    assert not caplog.records


def test_a_fault_in_the_source_leaves_no_store(data_dir):
    folder = data_dir("LaMP_4", "dev", [*rows(2), {"id": "x"}])
    with pytest.raises(ValueError, match="question 3"):
        load(str(folder), Lamp4(), "user", "dev")
    assert store_folders() == []


def test_two_that_prepare_at_once_make_one_store(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "lamp_exp.data",
        "prepare",
        "--data-dir",
        "made",
        "--task",
        "lamp4",
    ]
    assert data(["sample", "--out", "made", "--task", "lamp4", "--questions", "50"]) == 0
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert all(out.count("50 questions") == 6 for out in told)
    assert len(store_folders()) == 6


@pytest.mark.slow
def test_killed_at_ten_random_moments_nothing_is_read_as_whole(tmp_path: Path):
    assert data(["sample", "--out", "made", "--task", "lamp3", "--split", "user", "--part", "train",
                 "--questions", "3000", "--items", "60"]) == 0  # fmt: skip
    command = [sys.executable, "-m", "lamp_exp.data", "prepare", "--data-dir", "made"]
    chance = random.Random(0)
    kept = Path("outputs/.cache/data")
    for _ in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.3, 2.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for place in kept.glob("LaMP_3*") if kept.is_dir() else []:
            assert (place / "store.json").is_file()
    started = time.perf_counter()
    part = load("made", Lamp3(), "user", "train")
    assert len(part.examples) == 3000
    assert time.perf_counter() - started < 60
    assert sum(len(example.profile) for example in part.examples) > 100_000
    assert not list(kept.glob(".*.making-*"))


def test_the_sample_written_as_files_is_the_sample(tmp_path: Path):
    command = ["sample", "--out", "made", "--task", "lamp4", "--task", "lamp2", "--questions", "20"]
    assert data(command) == 0
    for split in ("user", "time"):
        for part in ("train", "dev"):
            written = load("made", Lamp4(), split, part)
            assert [strip(example) for example in written.examples] == [
                strip(example) for example in load(None, Lamp4(), split, part, 20).examples
            ]
    assert not load("made", Lamp4(), "user", "test").has_golds
    assert (tmp_path / "made" / "LaMP_2" / "new" / "dev" / "dev_questions.json").is_file()


def strip(example: Example) -> tuple[object, ...]:
    return example.id, example.input, example.profile, example.target


def test_the_sample_has_the_size_asked_for(tmp_path: Path):
    data(["sample", "--out", "made", "--task", "lamp3", "--split", "user", "--part", "dev",
          "--questions", "40", "--items", "30", "--words", "50"])  # fmt: skip
    part = load("made", Lamp3(), "user", "dev")
    sizes = [len(example.profile) for example in part.examples]
    assert len(sizes) == 40
    assert 20 < sum(sizes) / 40 < 40
    texts = [item.fields["text"] for example in part.examples for item in example.profile]
    assert {len(text.split()) for text in texts} == {50}


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", "--data-dir", "nowhere"],
        ["prepare", "--data-dir", "nowhere", "--task", "lamp9"],
        ["sample", "--out", "made", "--task", "lamp9"],
        ["sample", "--out", "made", "--words", "0"],
    ],
)
def test_a_mistake_ends_in_one_line(words, capsys):
    assert data(words) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert told.err.startswith(f"lamp_exp.data {words[0]}: ")


def test_every_verb_has_help(capsys):
    for verb in ("download", "check", "prepare", "avocado", "sample"):
        with pytest.raises(SystemExit, match="0"):
            data([verb, "--help"])
        assert "usage" in capsys.readouterr().out


def test_cached_stores_do_not_depend_on_the_working_directory(data_dir, tmp_path: Path):
    folder = data_dir("LaMP_4", "dev", rows(2))
    first = load(str(folder), Lamp4(), "user", "dev", cache_dir=tmp_path / "cache")
    os.chdir(tmp_path / "cache")
    again = load(str(folder), Lamp4(), "user", "dev", cache_dir=tmp_path / "cache")
    assert first.fingerprint == again.fingerprint
    assert len(list((tmp_path / "cache" / "data").glob("*/store.json"))) == 1
